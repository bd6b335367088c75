//! `shipway up`: brings the roles up, holds their sockets, and starts again what dies.
//!
//! What runs from an earlier `up` is found and kept: a spawner and a router of this very binary with the same flags stay;
//! of another one they are replaced, the router by hand-over. A server is always started anew: it keeps nothing that is
//! not on disk. When `up` ends, the server ends with it; router, spawner and dynos go on, and a [`keeper`] watches the
//! router.
//!
//! SIGUSR2 upgrades: `up` becomes the program that lies at its own path by now, under the same process id and with the
//! API's socket open, so that whoever comes in between waits in its queue.

pub mod keeper;
mod lock;
mod replace;
mod role;

pub use lock::Lock;

use crate::home;
use crate::options::{self, Options};
use crate::ports;
use crate::preflight::{self, Machine};
use crate::problem::{Doing, Problem};
use crate::process::{self, Launch, Process};
use crate::roles::{self, spawner};
use replace::Successor;
use role::Role;
use shipway_client::Place;
use shipway_net::handover::Listeners;
use shipway_router::RouterClient;
use shipway_sandbox::{Config, Embedded, Tier};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// What a server may take to end: requests and pushes in flight get this long.
const SERVER_PATIENCE: Duration = Duration::from_secs(30);

/// What an operator types.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Which sandbox apps get (root, bwrap); the best that this machine can have, when it is not said
    #[arg(long, value_parser = spawner::tier, value_name = "TIER")]
    tier: Option<Tier>,
    /// A directory outside /usr that apps see at the same path, such as a Python under /opt; may be repeated
    #[arg(long, value_name = "DIR")]
    toolchain: Vec<PathBuf>,
    /// A user of this machine who is the administrator on the server's socket, beside root; may be repeated
    #[arg(long, value_name = "UID")]
    trusted_uid: Vec<u32>,
}

/// Runs until it is told to end.
///
/// Errors: everything that is in the way of a start; a role that ends before it was ready, with the end of its log.
pub fn run(place: &Place, arguments: Arguments) -> Result<(), Vec<Problem>> {
    // Before anything else: the descriptors are numbers until they are owned, and the path is what we were started by.
    let kept = replace::kept()?;
    let successor = replace::Successor::at_our_path()?;
    roles::log();
    let named = options::home(place)?;
    let options = arguments.options.absolute()?;
    let (machine, _lock) = preflight::check(&named, arguments.tier)?;
    // The same directory by the name that it has for everybody, now that it is there.
    let home = named.canonicalize().doing(format!("finding {}", named.display()))?;
    let mut toolchains = Vec::new();
    for directory in &arguments.toolchain {
        let real = directory.canonicalize();
        toolchains.push(real.doing(format!("the toolchain {}", directory.display()))?);
    }
    let mut trusted_uids = arguments.trusted_uid;
    // Whoever may start us as root is the administrator anyway.
    trusted_uids.extend(std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse::<u32>().ok()));
    let up = Up { home, options, machine, toolchains, trusted_uids };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing("starting the runtime")?.block_on(up.run(&successor, kept)).map_err(Vec::from)
}

struct Up {
    home: PathBuf,
    options: Options,
    machine: Machine,
    toolchains: Vec<PathBuf>,
    trusted_uids: Vec<u32>,
}

impl Up {
    async fn run(&self, successor: &Successor, mut kept: Listeners) -> Result<(), Problem> {
        let mut told = std::pin::pin!(roles::asked_to_end());
        let mut upgrades = signal(SignalKind::user_defined2()).doing("listening to signals")?;
        end_servers(&self.home, self.machine.owner.uid).await;
        keeper::end(&self.home, self.machine.owner.uid).await;
        // First of all, because it is what is most often in the way.
        let fits = |fd: &_| ports::address_of(fd).is_ok_and(|is| is_at(is, self.options.listen));
        let api = match kept.remove("api").filter(fits) {
            Some(api) => api,
            None => ports::listen_at(self.options.listen, "--listen")?,
        };
        let listeners = Listeners::from([("api".to_owned(), api)]);
        let upgrade = async {
            while upgrades.recv().await.is_some() {
                let problem = successor.take_over(&listeners);
                tracing::error!(why = problem.what(), "the upgrade failed; what runs goes on");
            }
        };
        let ran = tokio::select! {
            biased;
            told = &mut told => told,
            () = upgrade => Ok(()),
            failed = self.start_and_keep(&listeners) => failed,
        };
        end_servers(&self.home, self.machine.owner.uid).await;
        self.leave_the_router().await.and(ran)
    }

    /// Leaves a router that runs to somebody who starts it again when it dies.
    async fn leave_the_router(&self) -> Result<(), Problem> {
        let Ok(listeners) = RouterClient::new(&self.home).listeners().await else { return Ok(()) };
        let router = self.router_launch(&listeners)?.arguments;
        let mut launch = self.launch("keeper", keeper::flags(router), &listeners)?;
        // It starts the router as its user, and writes its log.
        launch.owner = None;
        launch.start().map(drop)
    }

    /// Starts everything, says so, and keeps it running. Never returns but with what was in the way.
    async fn start_and_keep(&self, api: &Listeners) -> Result<(), Problem> {
        let (mut spawner, services) = self.spawner().await?;
        let (running, kept) = self.router_listeners(services).await?;
        let mut router = self.router(&running, kept).await?;
        let options = Options {
            listen: address_of(&api["api"])?,
            router_listen: address_of(&running["router"])?,
            ..self.options.clone()
        };
        let mut server = self.server(&options, api).await?;
        self.greet(&options);
        tokio::join!(spawner.keep(), router.keep(), server.keep());
        Ok(())
    }

    async fn spawner(&self) -> Result<(Role, Option<IpAddr>), Problem> {
        let Machine { owner, tier, .. } = self.machine;
        let mut config = Config::new(&self.home, tier, owner.uid, owner.gid);
        config.services = vec![self.options.router_listen.port()];
        config.toolchains.clone_from(&self.toolchains);
        let mut launch = self.launch("spawner", spawner::flags(&config), &Listeners::new())?;
        // Only the root tier needs root; dynos of the other belong to whoever runs the spawner.
        launch.owner = launch.owner.filter(|_| tier == Tier::Bwrap);
        let adopted = match socket_owner(&self.home.join("run/spawner.sock")).and_then(|pid| Process::of_pid(pid).ok())
        {
            Some(running) if launch.is(running.pid()) => Some(running),
            Some(mut other) => {
                other.kill().await;
                None
            }
            None => None,
        };
        let mut role = Role::begin("spawner", launch, adopted)?;
        let embedded = role.ready(async |_| Embedded::connect(&self.home).await.ok()).await?;
        Ok((role, embedded.services().map(IpAddr::from)))
    }

    /// The apps' sockets: those of a router that runs, where it has the wanted ones, else new ones. Says whether they all
    /// were the running router's.
    async fn router_listeners(&self, services: Option<IpAddr>) -> Result<(Listeners, bool), Problem> {
        let mut running = RouterClient::new(&self.home).listeners().await.unwrap_or_default();
        let mut wanted = vec![("router", self.options.router_listen)];
        let mut listeners = Listeners::new();
        let mut kept = true;
        while let Some((name, address)) = wanted.pop() {
            let fits = |fd: &_| ports::address_of(fd).is_ok_and(|is| is_at(is, address));
            let socket = match running.remove(name).filter(fits) {
                Some(socket) => socket,
                None => {
                    kept = false;
                    ports::listen_at(address, "--router-listen")?
                }
            };
            if let (Some(ip), "router") = (services, name)
                && !address.ip().is_unspecified()
            {
                // Apps reach each other by the router too, at the one address of the host that dynos can reach.
                wanted.push(("services", SocketAddr::new(ip, address_of(&socket)?.port())));
            }
            listeners.insert(name.to_owned(), socket);
        }
        Ok((listeners, kept && running.is_empty()))
    }

    async fn router(&self, listeners: &Listeners, kept: bool) -> Result<Role, Problem> {
        let launch = self.router_launch(listeners)?;
        let client = RouterClient::new(&self.home);
        let running = client.status().await.ok().and_then(|status| Process::of_pid(status.pid).ok());
        let (adopted, other) = match running {
            Some(running) if kept && launch.is(running.pid()) => (Some(running), None),
            other => (None, other),
        };
        if let Some(mut other) = other {
            // It is succeeded by ours, and retires. It may be our child, from before an upgrade: somebody must see it end.
            tokio::spawn(async move { other.ended().await });
        }
        let mut role = Role::begin("router", launch, adopted)?;
        role.ready(async |pid| client.status().await.ok().filter(|status| status.pid == pid)).await?;
        Ok(role)
    }

    fn router_launch(&self, listeners: &Listeners) -> Result<Launch, Problem> {
        let mut flags = vec!["--domain".into(), self.options.domain.clone().into()];
        flags.extend(self.options.certificate.arguments());
        self.launch("router", flags, listeners)
    }

    async fn server(&self, options: &Options, listeners: &Listeners) -> Result<Role, Problem> {
        let mut flags = options.arguments();
        flags.extend(self.trusted_uids.iter().flat_map(|uid| ["--trusted-uid".into(), uid.to_string().into()]));
        let launch = self.launch("server", flags, listeners)?;
        let mut role = Role::begin("server", launch, None)?;
        let socket = self.home.join("run/api.sock");
        role.ready(async |pid| socket_owner(&socket).filter(|owner| *owner == pid)).await?;
        Ok(role)
    }

    fn launch(&self, role: &str, flags: Vec<std::ffi::OsString>, listeners: &Listeners) -> Result<Launch, Problem> {
        let mut arguments = vec![role.into(), "--home".into(), self.home.clone().into()];
        arguments.extend(flags);
        let copies = listeners.iter().map(|(name, fd)| Ok((name.clone(), fd.try_clone()?)));
        let listeners = copies.collect::<std::io::Result<_>>().doing("keeping the sockets")?;
        Ok(Launch {
            arguments,
            listeners,
            owner: nix::unistd::geteuid().is_root().then_some(self.machine.owner),
            log: self.home.join("run").join(format!("{role}.log")),
            home: self.home.clone(),
        })
    }

    fn greet(&self, options: &Options) {
        let mut text = format!(
            "Shipway is up.\n  API, git, dashboard  http://{}\n  apps                 http://<app>.{}:{}\n  logs of its parts    {}\n",
            options.listen,
            options.domain,
            options.router_listen.port(),
            self.home.join("run/*.log").display(),
        );
        let token = home::first_token_file(&self.home);
        if token.exists() {
            text.push_str(&format!(
                "  the admin's token    in {}; keep it elsewhere and remove the file\n",
                token.display()
            ));
        }
        if self.machine.tier == Tier::Bwrap {
            text.push_str(
                "Apps are not kept from each other's ports, and not limited in disk: they run on the bwrap tier.\n",
            );
            for lack in &self.machine.why {
                text.push_str(&format!("  {lack}\n"));
            }
        }
        // Whoever started us may have stopped reading.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}

/// Ends every server of the data directory: one that lost its `up` too, which still has its socket.
pub async fn end_servers(home: &Path, owner: u32) {
    for pid in process::playing("server", home, &[owner]) {
        if let Ok(mut server) = Process::of_pid(pid) {
            server.end(SERVER_PATIENCE).await;
        }
    }
}

/// The process that listens at a Unix socket; none when nobody does.
fn socket_owner(path: &Path) -> Option<u32> {
    let socket = std::os::unix::net::UnixStream::connect(path).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&socket).ok()?;
    Some(peer.pid.as_raw_nonzero().get().unsigned_abs())
}

fn address_of(socket: &std::os::fd::OwnedFd) -> Result<SocketAddr, Problem> {
    ports::address_of(socket).doing("asking a socket for its address")
}

/// Whether a socket is where it was wanted; port 0 is any.
fn is_at(is: SocketAddr, wanted: SocketAddr) -> bool {
    is.ip() == wanted.ip() && (wanted.port() == 0 || is.port() == wanted.port())
}
