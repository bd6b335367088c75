//! The router as a process: starts, serves, hands over, ends.
//!
//! Hand-over, seen from the successor: ask the router that serves for its listeners, take over the control socket by
//! rename, begin to accept, say `ready`. From then on the old one accepts nothing, answers with `Connection: close` for a
//! minute, closes what idles, and ends when its last stream does. Both hold the same listening sockets, so a connection
//! that comes in between waits in the kernel's queue. If the successor dies before it said `ready`, nothing has changed.

use crate::access::AccessLog;
use crate::control::{Call, Done, InFlight, Link, Reply, Status, socket_path};
use crate::proxy::{Backlog, Proxy, Timeouts};
use crate::table::Routes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shipway_domain::DynoId;
use shipway_domain::route::RouteTable;
use shipway_net::handover::{self, Listeners};
use shipway_net::{Ca, CertResolver, Lifecycle, Options, Phase, serve};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// How often idle connections to dynos are looked through.
const PRUNE_EVERY: Duration = Duration::from_secs(5);

/// Everything a router is told at its start.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// `SHIPWAY_HOME`.
    pub home: PathBuf,
    /// Certificates. `None` serves HTTP only.
    pub tls: Option<TlsFiles>,
    /// How long requests may take.
    pub timeouts: Timeouts,
    /// How many requests may be held.
    pub backlog: Backlog,
    /// How long a replaced router answers on kept-alive connections before it closes those that idle.
    pub retire: Duration,
    /// How long it waits for its last streams after that.
    pub linger: Duration,
}

impl RouterConfig {
    /// Heroku's times, our authority's certificates from `home/keys`.
    pub fn new(home: PathBuf) -> Self {
        let tls = TlsFiles { authority: home.join("keys"), own_names: Vec::new(), operator: None };
        let (retire, linger) = (Duration::from_secs(60), Duration::from_secs(600));
        Self { home, tls: Some(tls), timeouts: Timeouts::default(), backlog: Backlog::default(), retire, linger }
    }
}

/// Where certificates come from.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The authority's directory.
    pub authority: PathBuf,
    /// Names of the platform itself, besides localhost.
    pub own_names: Vec<String>,
    /// The operator's own certificate.
    pub operator: Option<CertificateFiles>,
}

/// A certificate chain and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub chain: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Serves until it is replaced or `stop` advances to [`Phase::Retiring`], and then until its connections are done.
///
/// `listeners` are inherited sockets; when empty, those of the router that serves now are taken over. A name ending in
/// `-plain` serves without TLS. Call it in a runtime with as many worker threads as the router may use.
/// Errors: no listeners, a `home` that cannot be written, certificates that cannot be used.
pub async fn run(config: RouterConfig, listeners: Listeners, stop: Lifecycle) -> io::Result<()> {
    let run_dir = config.home.join("run");
    DirBuilder::new().recursive(true).mode(0o750).create(&run_dir)?;
    let routes = Arc::new(Routes::load(run_dir.join("routes.json")));
    let log = Arc::new(AccessLog::start(config.home.join("logs"), &run_dir)?);
    let socket = socket_path(&config.home);
    let mut predecessor = Predecessor::find(&socket).await;
    let listeners = match (&mut predecessor, listeners.is_empty()) {
        (_, false) => listeners,
        (Some(predecessor), true) => std::mem::take(&mut predecessor.listeners),
        (None, true) => {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no listening sockets were given and no router is running",
            ));
        }
    };
    let tls = match &config.tls {
        Some(files) => Some(certificates(files, &routes)?.server_config()),
        None => None,
    };

    let proxy = Arc::new(Proxy {
        routes: routes.clone(),
        log: log.clone(),
        timeouts: config.timeouts,
        backlog: config.backlog,
        lifecycle: stop.clone(),
        waiting: AtomicUsize::new(0),
        started: Instant::now(),
        told: AtomicU64::new(0),
    });
    let kept: BTreeMap<_, _> =
        listeners.iter().map(|(n, fd)| Ok((n.clone(), fd.try_clone()?))).collect::<io::Result<_>>()?;
    let listeners: Vec<_> =
        listeners.into_iter().map(|(name, fd)| Ok((name, handover::into_tokio(fd)?))).collect::<io::Result<_>>()?;
    let control = bind_control(&socket)?;
    let shared = Arc::new(Shared {
        proxy,
        listeners: kept,
        predecessor: Mutex::new(None),
        pushing: Mutex::new(false),
        handed_over: Lifecycle::new(),
    });
    if let Some(predecessor) = predecessor {
        shared.succeed(predecessor).await;
    }
    // From here on nothing can fail, and the table is the newest: what came meanwhile waits in the sockets' queues.
    let options = Options { max_connections: connection_limit(), ..Options::default() };
    let mut tasks = JoinSet::new();
    for (name, listener) in listeners {
        let tls = tls.clone().filter(|_| !name.ends_with("-plain"));
        let proxy = shared.proxy.clone();
        let handler = move |request, conn| proxy.clone().handle(request, conn);
        tasks.spawn(serve(listener, tls, options.clone(), stop.clone(), handler));
    }
    tasks.spawn(accept_control(control, shared.clone()));
    tasks.spawn(prune(routes.clone()));
    tracing::info!(epoch = routes.epoch(), "the router serves");

    stop.reached(Phase::Retiring).await;
    if shared.handed_over.phase() >= Phase::Retiring {
        tokio::time::sleep(config.retire).await;
    }
    stop.advance(Phase::Closing);
    if tokio::time::timeout(config.linger, stop.empty()).await.is_err() {
        tracing::warn!(connections = stop.open_connections(), "streams are cut: they outlived the router by too much");
    }
    stop.advance(Phase::Aborting);
    tasks.shutdown().await;
    tokio::task::spawn_blocking(move || log.close()).await.map_err(io::Error::other)
}

/// Raises our own limit of open files as far as we may. Client connections may use half of it; each may need another to
/// a dyno.
fn connection_limit() -> usize {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, maximum: limits.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limits.maximum,
        Err(_) => limits.current,
    };
    let half = files.map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(usize::MAX));
    half.clamp(64, Options::default().max_connections)
}

fn certificates(files: &TlsFiles, routes: &Arc<Routes>) -> io::Result<Arc<CertResolver>> {
    let ca = Arc::new(Ca::load_or_create(&files.authority).map_err(io::Error::other)?);
    let routes = routes.clone();
    let known = Box::new(move |name: &str| routes.current().app(name).is_some());
    let mut resolver = CertResolver::new(ca, &files.own_names, known).map_err(io::Error::other)?;
    if let Some(operator) = &files.operator {
        resolver = resolver.with_operator(&operator.chain, &operator.key).map_err(io::Error::other)?;
    }
    Ok(Arc::new(resolver))
}

/// Binds beside the socket's place and renames over it, so that there is always a router to reach.
fn bind_control(socket: &Path) -> io::Result<UnixListener> {
    let draft = socket.with_extension(format!("sock.{}", std::process::id()));
    let _ = fs::remove_file(&draft);
    let listener = UnixListener::bind(&draft)?;
    fs::set_permissions(&draft, Permissions::from_mode(0o600))?;
    fs::rename(&draft, socket)?;
    Ok(listener)
}

async fn prune(routes: Arc<Routes>) {
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        let (table, now) = (routes.current().clone(), Instant::now());
        for target in table.targets() {
            target.prune_idle(now);
        }
    }
}

/// The router that served before this one, and the connection on which it passed its listeners.
struct Predecessor {
    link: Link,
    listeners: Listeners,
}

impl Predecessor {
    async fn find(socket: &Path) -> Option<Self> {
        let mut link = Link::connect(socket).await.ok()?;
        match link.take_listeners().await {
            Ok(listeners) => Some(Self { link, listeners }),
            Err(error) => {
                tracing::warn!(%error, "the running router does not hand over");
                None
            }
        }
    }
}

struct Shared {
    proxy: Arc<Proxy>,
    listeners: Listeners,
    predecessor: Mutex<Option<Link>>,
    /// Held for a push; true once another router serves.
    pushing: Mutex<bool>,
    handed_over: Lifecycle,
}

impl Shared {
    /// Tells the predecessor to retire and takes its last table, if that is newer than the stored one.
    async fn succeed(&self, mut predecessor: Predecessor) {
        match predecessor.link.call(&Call::Ready).await {
            Ok(Reply::Ok(Done::Retiring { table })) => {
                if let Err(error) = self.proxy.routes.push(table) {
                    tracing::error!(%error, "cannot store the route table of the router before");
                }
                *self.predecessor.lock().await = Some(predecessor.link);
            }
            other => tracing::warn!(?other, "the router before this one did not say that it retires"),
        }
    }

    async fn push(&self, table: RouteTable, from_successor: bool) -> Reply {
        let moved = self.pushing.lock().await;
        if *moved && !from_successor {
            return Reply::Moved;
        }
        let (proxy, own) = (self.proxy.clone(), table.clone());
        // Flushing to the disk takes milliseconds that requests must not wait for.
        let stored = tokio::task::spawn_blocking(move || proxy.routes.push_or_keep(own, !from_successor)).await;
        let epoch = match stored {
            Ok(Ok(epoch)) => epoch,
            Ok(Err(error)) => return Reply::Error(format!("cannot store the route table: {error}")),
            Err(error) => return Reply::Error(format!("cannot store the route table: {error}")),
        };
        self.relay(&Call::Push { table }).await;
        Reply::Ok(Done::Pushed { epoch })
    }

    async fn in_flight(&self, dynos: Vec<DynoId>) -> Reply {
        let mut counts: BTreeMap<DynoId, InFlight> = dynos
            .iter()
            .map(|dyno| {
                let (requests, streams) = self.proxy.routes.in_flight(*dyno);
                (*dyno, InFlight { requests, streams })
            })
            .collect();
        if let Some(Done::InFlight { dynos: theirs }) = self.relay(&Call::InFlight { dynos }).await {
            for (dyno, theirs) in theirs {
                let ours = counts.entry(dyno).or_default();
                ours.requests += theirs.requests;
                ours.streams += theirs.streams;
            }
        }
        Reply::Ok(Done::InFlight { dynos: counts })
    }

    async fn status(&self) -> Reply {
        Reply::Ok(Done::Status(Status {
            epoch: self.proxy.routes.epoch(),
            pid: std::process::id(),
            connections: self.proxy.lifecycle.open_connections(),
            logged: self.proxy.log.lines(),
            waiting: self.proxy.waiting.load(Ordering::Relaxed),
            predecessor: self.relay(&Call::Status).await.is_some(),
        }))
    }

    /// Asks the router before this one, while there is one.
    async fn relay(&self, call: &Call) -> Option<Done> {
        let mut predecessor = self.predecessor.lock().await;
        match predecessor.as_mut()?.call(call).await {
            Ok(Reply::Ok(done)) => Some(done),
            _ => {
                // It ended, or it hangs and must not hold up the switch.
                *predecessor = None;
                None
            }
        }
    }

    /// Serves one control connection until it ends.
    async fn converse(&self, stream: UnixStream) -> io::Result<()> {
        let mut link = Link::new(stream);
        let mut is_successor = false;
        while let Some(call) = link.read::<Call>().await? {
            let reply = match call {
                Call::Push { table } => self.push(table, is_successor).await,
                Call::Status => self.status().await,
                Call::InFlight { dynos } => self.in_flight(dynos).await,
                Call::Handover => {
                    link.write(&Reply::Ok(Done::Handover { listeners: self.listeners.len() })).await?;
                    let Some(Call::Status) = link.read::<Call>().await? else { return Ok(()) };
                    let listeners = handover::borrowed(&self.listeners);
                    let socket = link.socket();
                    socket.async_io(Interest::WRITABLE, || handover::send(socket.as_fd(), &listeners)).await?;
                    continue;
                }
                Call::Ready => {
                    is_successor = true;
                    *self.pushing.lock().await = true;
                    self.handed_over.advance(Phase::Retiring);
                    self.proxy.lifecycle.advance(Phase::Retiring);
                    Reply::Ok(Done::Retiring { table: self.proxy.routes.current().source().clone() })
                }
            };
            link.write(&reply).await?;
        }
        Ok(())
    }
}

async fn accept_control(listener: UnixListener, shared: Arc<Shared>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let shared = shared.clone();
                    links.spawn(async move {
                        if let Err(error) = shared.converse(stream).await {
                            tracing::warn!(%error, "a control connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection; trying again in 50 ms");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = links.join_next(), if !links.is_empty() => {}
        }
    }
}
