//! A whole platform in one process, for tests: the real engine and store; dynos, repositories, builds, router and clock
//! are doubles that work, in memory.
//!
//! [`Ground`] is what outlives a server. [`Ground::server`] starts one on it, and again after it was stopped. A commit
//! is a Procfile, a build reads it, a dyno does what `shipway_runtime::fake` reads in its command: `listen`, `sleep`,
//! `exit 3`, `echo text`.

mod addons;
mod builder;
pub mod forge;
mod ground;
mod repositories;
mod router;
mod screen;
mod trial;
mod until;
mod world;

pub use addons::TextDatabases;
pub use builder::ProcfileBuilder;
pub use forge::ForgeDouble;
pub use ground::{Ground, OWNER, Server, get, settings};
pub use repositories::ProcfileRepositories;
pub use router::TableRouter;
pub use trial::{Point, Trial, Undisturbed};
pub use until::until;
pub use world::SetWorld;
