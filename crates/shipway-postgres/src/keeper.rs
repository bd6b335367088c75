//! Keeps the cluster running. Lives in the spawner's process, because only root can become another user.

use crate::cluster::{Cluster, ClusterError, Running};
use crate::wire::{self, Answer, MAX_LINE, Order};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The pause before a PostgreSQL that died is started again; doubled each time it dies soon after.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// One that ran for this long is well.
const STEADY: Duration = Duration::from_secs(20);

/// The cluster's keeper.
pub struct Keeper {
    cluster: Cluster,
    home: PathBuf,
    owner: (u32, u32),
    /// Whether a thread watches over PostgreSQL. Held while it is being started.
    watched: Mutex<bool>,
}

impl Keeper {
    /// The keeper of `home`: its cluster listens at `address` and obeys the user and group `owner`.
    pub fn new(home: &Path, address: IpAddr, owner: (u32, u32)) -> Arc<Self> {
        let cluster = Cluster::new(home, address, owner.0);
        Arc::new(Self { cluster, home: home.to_path_buf(), owner, watched: Mutex::default() })
    }

    /// Takes orders on threads of its own from here on. A cluster that was made before is started at once.
    ///
    /// Errors: the socket cannot be made.
    pub fn begin(self: &Arc<Self>) -> io::Result<()> {
        let path = wire::socket(&self.home);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        if nix::unistd::geteuid().is_root() {
            chown(&path, Some(self.owner.0), Some(self.owner.1))?;
        }
        let keeper = self.clone();
        std::thread::Builder::new().name("postgres".into()).spawn(move || {
            if keeper.cluster.exists() {
                let mut watched = lock(&keeper.watched);
                if let Err(error) = keeper.cluster.reconfigure().and_then(|()| keeper.watch(&mut watched)) {
                    tracing::error!(%error, "PostgreSQL is not running");
                }
            }
            for socket in listener.incoming().flatten() {
                keeper.serve(socket);
            }
        })?;
        Ok(())
    }

    fn serve(self: &Arc<Self>, mut socket: UnixStream) {
        let peer = rustix::net::sockopt::socket_peercred(&socket);
        if !peer.is_ok_and(|peer| peer.uid.is_root() || peer.uid.as_raw() == self.owner.0) {
            return;
        }
        let mut line = String::new();
        let read = BufReader::new((&socket).take(MAX_LINE)).read_line(&mut line);
        let answer = match (read, serde_json::from_str::<Order>(&line)) {
            (Ok(_), Ok(order)) => self.carry_out(&order),
            _ => Answer::Failed("the order cannot be read".into()),
        };
        // Who has hung up asks again.
        let text = serde_json::to_string(&answer).unwrap_or_default();
        let _ = writeln!(socket, "{text}");
    }

    fn carry_out(self: &Arc<Self>, order: &Order) -> Answer {
        let mut watched = lock(&self.watched);
        let ready = self.cluster.prepare(order);
        match ready.and_then(|endpoint| self.watch(&mut watched).map(|()| endpoint)) {
            Ok(endpoint) => Answer::Ready(endpoint),
            Err(ClusterError::Missing(what)) => Answer::Missing(what),
            Err(e) => Answer::Failed(e.to_string()),
        }
    }

    /// Has PostgreSQL running, and a thread that starts it again.
    fn watch(self: &Arc<Self>, watched: &mut bool) -> Result<(), ClusterError> {
        let running = self.cluster.start()?;
        if *watched {
            return Ok(());
        }
        let keeper = self.clone();
        let spawned = std::thread::Builder::new().name("watch".into()).spawn(move || keeper.keep(running));
        *watched = spawned.is_ok();
        Ok(())
    }

    fn keep(&self, mut running: Running) {
        let mut pause = PAUSE;
        loop {
            let since = Instant::now();
            let how = running.wait();
            pause = if since.elapsed() > STEADY { PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            tracing::warn!(how, "PostgreSQL ended; starting it again");
            running = loop {
                std::thread::sleep(pause);
                let _turn = lock(&self.watched);
                match self.cluster.start() {
                    Ok(running) => break running,
                    Err(error) => {
                        tracing::error!(%error, "PostgreSQL cannot be started; trying again");
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            };
        }
    }
}

/// What the lock guards stays whole whoever panics.
fn lock(watched: &Mutex<bool>) -> MutexGuard<'_, bool> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}
