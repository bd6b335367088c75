//! The add-on `heroku-postgresql`: databases in one PostgreSQL server that Shipway runs from the machine's packages.
//!
//! Two halves. [`keeper`] runs in the spawner's process, which may become another user: it makes the cluster in
//! `SHIPWAY_HOME/postgres` when the first add-on is wanted, starts it, and starts it again when it dies. PostgreSQL is a
//! process of its own that outlives spawner and server; a new keeper finds it by its pid file. [`provider`] runs in the
//! server: it asks the keeper for the cluster, makes roles and databases over the cluster's Unix socket, and runs
//! `pg_dump` and `pg_restore` in sandboxes.
//!
//! Who may what: the platform's own role is superuser, over the Unix socket, for the server's uid alone (`peer`), and
//! has no password. An add-on's role is never superuser, reaches its own database over TCP with SCRAM, and nothing else.

pub mod cluster;
mod ident;
pub mod keeper;
pub mod provider;
mod sql;
mod tools;
pub mod wire;

pub use cluster::Cluster;
pub use keeper::Keeper;
pub use provider::Provider;
