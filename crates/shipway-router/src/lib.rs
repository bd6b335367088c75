//! The HTTP data plane: hosts to targets, nothing else.
//!
//! A request goes through the modules in this order:
//!
//! 1. [`proxy`] checks it, finds the app by its host in the [`table`] and rewrites its [`headers`];
//! 2. it picks a [`target`], takes one of that target's connections ([`upstream`]) and sends it;
//! 3. the answer streams back as an [`answer`], or becomes a [`tunnel`] after a 101;
//! 4. whatever went wrong has a [`fault`] code and a [`page`];
//! 5. the [`access`] log gets its line when the last byte is through.
//!
//! The table is pushed over a socket by the server ([`control`]) and kept in a file, so the router serves on, and starts
//! again, without the server. [`process`] runs it all and hands over to a successor.

pub mod access;
mod alarm;
pub mod answer;
pub mod control;
pub mod fault;
pub mod headers;
pub mod page;
pub mod process;
pub mod proxy;
pub mod table;
pub mod target;
mod text;
pub mod tunnel;
pub mod upload;
pub mod upstream;

pub use control::RouterClient;
pub use process::{CertificateFiles, RouterConfig, TlsFiles, run};
