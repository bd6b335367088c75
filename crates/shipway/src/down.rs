//! `shipway down`: ends everything of a data directory and gives the machine back what it was changed by.

use crate::options;
use crate::problem::{Doing, Problem};
use crate::process::{self, Process};
use crate::up::{self, Lock};
use shipway_client::Place;
use shipway_postgres::Cluster;
use shipway_runtime::Runtime;
use shipway_sandbox::Embedded;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// What `up` may take: the server's own time, and a little.
const UP_PATIENCE: Duration = Duration::from_secs(35);
/// How often a lock is looked at whose holder is not known yet.
const LOOK: Duration = Duration::from_millis(5);
/// What apps get between SIGTERM and SIGKILL, as at any stop.
const DYNO_PATIENCE: Duration = Duration::from_secs(30);
/// What a router may take for requests that nobody can answer any more.
const ROUTER_PATIENCE: Duration = Duration::from_secs(2);

/// What an operator types.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Stop the server alone: the apps and their router run on, and the data stays as it is until the next `up`
    #[arg(long)]
    keep_apps: bool,
}

/// Stops server, apps, router, spawner and databases, in this order: nobody is left who could start a dyno again.
///
/// Errors: it belongs to another user; something could not be removed. Can be repeated.
pub fn run(place: &Place, arguments: &Arguments) -> Result<(), Vec<Problem>> {
    let home = options::home(place)?;
    let Ok(meta) = std::fs::metadata(&home) else {
        return Err(Problem::new(format!("there is no data directory {}", home.display()))
            .hint("name the one that is meant with --home DIR")
            .into());
    };
    let ourselves = nix::unistd::geteuid();
    if !ourselves.is_root() && ourselves.as_raw() != meta.uid() {
        return Err(Problem::new(format!("{} belongs to another user", home.display()))
            .hint(format!("sudo shipway --home {} down", home.display()))
            .into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing("starting the runtime")?;
    runtime.block_on(stop_server(&home, meta.uid()));
    if arguments.keep_apps {
        return Ok(());
    }
    runtime.block_on(stop_apps(&home, meta.uid()));
    let purged = shipway_sandbox::purge(&home);
    Ok(purged.doing("removing what dynos had of this machine")?)
}

async fn stop_server(home: &Path, owner: u32) {
    // One that has just begun may not have said yet which process it is.
    let patience = Instant::now() + UP_PATIENCE;
    while Lock::is_held(home) && Instant::now() < patience {
        match Lock::holder(home).and_then(|pid| Process::of_pid(pid).ok()) {
            Some(mut up) => up.end(UP_PATIENCE).await,
            None => sleep(LOOK).await,
        }
    }
    up::end_servers(home, owner).await;
}

async fn stop_apps(home: &Path, owner: u32) {
    up::keeper::end(home, owner).await;
    if let Ok(embedded) = Embedded::connect(home).await {
        stop_dynos(embedded).await;
    }
    for (role, patience) in [("spawner", Duration::ZERO), ("router", ROUTER_PATIENCE)] {
        for mut process in process::playing(role, home, &[0, owner]).into_iter().filter_map(|p| Process::of_pid(p).ok())
        {
            process.end(patience).await;
        }
    }
    // After the spawner, which would start it again.
    let databases = Cluster::new(home, Ipv4Addr::LOCALHOST.into(), owner);
    // It cannot fail, and only ends early when this process does.
    let _ = tokio::task::spawn_blocking(move || databases.stop()).await;
}

/// Ends all dynos as a stop would; what is left after their time is the purge's to kill.
async fn stop_dynos(embedded: Embedded) {
    let mut ending = JoinSet::new();
    for seen in embedded.list().await.unwrap_or_default() {
        let embedded = embedded.clone();
        ending.spawn(async move {
            if embedded.stop(seen.dyno).await.is_ok() {
                // An answer of any kind means that it is over.
                let _ = embedded.wait(seen.dyno).await;
            }
        });
    }
    let _ = tokio::time::timeout(DYNO_PATIENCE, async { while ending.join_next().await.is_some() {} }).await;
}
