//! What runs: one file per role.

mod faults;
pub mod router;
pub mod server;
pub mod spawner;
pub mod static_site;

use crate::ports;
use crate::problem::{Doing, Problem};
use shipway_net::handover::{self, LISTENERS_VARIABLE, Listeners};
use std::future::Future;
use std::net::SocketAddr;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Sets up logging to standard error: `SHIPWAY_LOG` says how much (`info`, `debug`, `shipway_router=debug`).
pub fn log() {
    let filter = EnvFilter::try_from_env("SHIPWAY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A line that cannot be written (the log is on a full disk) must not end what wrote it: saying so on the same
    // standard error would panic.
    let lines = tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter);
    lines.with_writer(std::io::stderr).with_ansi(false).init();
}

/// The sockets that `up` gave, or a new one when somebody started the role by hand.
pub fn listeners(name: &str, address: SocketAddr, flag: &str) -> Result<Listeners, Problem> {
    match std::env::var(LISTENERS_VARIABLE) {
        Ok(given) => handover::inherit(&given).doing("taking the listening sockets over"),
        Err(_) => Ok(Listeners::from([(name.to_owned(), ports::listen_at(address, flag)?)])),
    }
}

/// Runs a role in a runtime with a thread for each processor.
pub fn in_runtime<T>(role: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.doing("starting the runtime")?.block_on(role)
}

/// Completes at the first SIGTERM, SIGINT or SIGHUP.
pub async fn asked_to_end() -> Result<(), Problem> {
    let of = |kind| signal(kind).doing("listening to signals");
    let (mut term, mut interrupt, mut hangup) =
        (of(SignalKind::terminate())?, of(SignalKind::interrupt())?, of(SignalKind::hangup())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}
