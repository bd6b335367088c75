//! What every listener shares: HTTP and TLS on one port, certificates, early answers, listener hand-over.
//!
//! A connection goes through four small stations, each a module:
//!
//! 1. [`serve`](mod@serve) accepts it, looks at its first byte (0x16 is TLS, anything else HTTP/1) and finishes the handshake;
//! 2. [`watch`] drives it, HTTP/2 in [turns](turn), closes it when it idles or stalls, and ends it politely when the process retires;
//! 3. [`body`] makes sure that an early answer is seen by a client that is still sending;
//! 4. the caller's handler answers one request.
//!
//! [`ca`] and [`resolver`] decide which certificate a client gets; [`handover`] passes listening sockets from one process
//! to the next, so that no connection is ever refused. [`outward`] is the other way: requests of ours to servers elsewhere.

pub mod body;
pub mod ca;
pub mod handover;
pub mod lifecycle;
pub mod outward;
mod pieces;
pub mod resolver;
pub mod rewind;
pub mod serve;
mod turn;
pub mod watch;

pub use body::{ActiveBody, RequestBody};
pub use ca::Ca;
pub use lifecycle::{Lifecycle, Phase};
pub use resolver::CertResolver;
pub use rewind::Rewind;
pub use serve::{ConnInfo, Options, RawHandler, serve};
