//! Who watches the router while there is no `up`.
//!
//! `up` ends with the server, at Ctrl-C or `down --keep-apps`, and the apps go on: a router that crashes then must come
//! back all the same. So `up` leaves this process behind, with the router's sockets; the next `up` ends it.

use super::role::Role;
use crate::home::Owner;
use crate::options;
use crate::problem::{Doing, Problem};
use crate::process::{self, Launch, Process};
use crate::roles;
use shipway_client::Place;
use shipway_router::RouterClient;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// It has nothing to finish.
const PATIENCE: Duration = Duration::from_secs(1);

/// What `up` tells it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How the router is started
    #[arg(last = true, required = true)]
    router: Vec<OsString>,
}

/// The arguments that make a keeper of a router which is started by `router`.
pub fn flags(router: Vec<OsString>) -> Vec<OsString> {
    std::iter::once("--".into()).chain(router).collect()
}

/// Starts the router again whenever it ends, until told to end.
pub fn run(place: &Place, arguments: Arguments) -> Result<(), Problem> {
    // Before anything else: the descriptors are numbers until they are owned.
    let listeners = super::replace::kept()?;
    roles::log();
    let home = options::home(place)?;
    let meta = home.metadata().doing(format!("finding {}", home.display()))?;
    let owner = Owner { uid: meta.uid(), gid: meta.gid() };
    let launch = Launch {
        arguments: arguments.router,
        listeners,
        owner: nix::unistd::geteuid().is_root().then_some(owner),
        log: home.join("run/router.log"),
        home: home.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing("starting the runtime")?.block_on(async {
        let running = RouterClient::new(&home).status().await.ok();
        let running = running.and_then(|status| Process::of_pid(status.pid).ok());
        let mut router = Role::begin("router", launch, running)?;
        tokio::select! {
            told = roles::asked_to_end() => told,
            () = router.keep() => Ok(()),
        }
    })
}

/// Ends those of the data directory.
pub async fn end(home: &Path, owner: u32) {
    for pid in process::playing("keeper", home, &[0, owner]) {
        if let Ok(mut keeper) = Process::of_pid(pid) {
            keeper.end(PATIENCE).await;
        }
    }
}
