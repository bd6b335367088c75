//! The spawner: starts shims, lays cables, makes disks. On the `root` tier it is the one part that runs as root and
//! listens; it takes plans from root and the server's user alone, and never a path.

use crate::builds::Builds;
use crate::cgroup::{Controllers, Group, Kind};
use crate::config::{Config, Network, Tier};
use crate::disk::Disk;
use crate::network::{Cable, Grants};
use crate::record::Directory;
use crate::wire::{self, Answer, Can, Doing, Failure, Greeting, Launch, Order, Prepare, Request};
use shipway_domain::DynoId;
use shipway_runtime::{DynoPlan, Observation, Root};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The port that a dyno with a network of its own listens on.
const PORT: u16 = 5000;

/// How many shims, networks, and disks of each size in use, wait for their dynos.
const READY: usize = 4;

/// How many shims wait for a build's steps, which come one after the other.
const READY_FOR_BUILDS: usize = 2;

/// More sizes than this do not have disks waiting.
const MAX_SIZES: usize = 4;

/// How long a dyno may take to be gone once it was killed.
const DEATH: Duration = Duration::from_secs(15);

/// Serves until the process is killed; dynos do not mind.
///
/// Errors: what is missing of the machine, or the socket `SHIPWAY_HOME/run/spawner.sock`.
pub fn main(config: Config) -> io::Result<()> {
    let spawner = Arc::new(Spawner::new(config).map_err(io::Error::other)?);
    let config = &spawner.config;
    std::fs::create_dir_all(config.home.join("run/dynos"))?;
    wire::own(&config.home.join("run/dynos"), config.uid, config.gid)?;
    let listener = wire::listen(&config.home.join("run/spawner.sock"), config.uid, config.gid)?;
    let pool = spawner.clone();
    std::thread::Builder::new().name("pool".into()).spawn(move || pool.keep_ready())?;
    if config.tier == Tier::Root {
        let spawner = spawner.clone();
        let keep = move || spawner.builds.keep_going(&spawner.controllers, spawner.network);
        std::thread::Builder::new().name("builds".into()).spawn(keep)?;
    }
    for socket in listener.incoming() {
        let socket = socket?;
        if !wire::peer_is(&socket, config.uid) {
            continue;
        }
        let spawner = spawner.clone();
        std::thread::Builder::new().name("order".into()).spawn(move || spawner.serve(&socket))?;
    }
    Ok(())
}

struct Spawner {
    config: Config,
    network: Network,
    controllers: Controllers,
    shims: Mutex<Vec<Child>>,
    pool: Mutex<Pool>,
    pool_changed: Condvar,
    /// One cable is laid at a time, because each looks for a free address.
    laying: Mutex<()>,
    /// Dynos that an order is being carried out for.
    busy: Mutex<BTreeSet<DynoId>>,
    not_busy: Condvar,
    /// Ports of the host that were given to dynos lately (`bwrap` tier).
    ports: Mutex<VecDeque<u16>>,
    /// What was given to the dynos at these addresses; those of a dyno that is gone are taken back when the next has
    /// its address (`root` tier).
    grants: Mutex<Grants>,
    builds: Builds,
}

#[derive(Default)]
struct Pool {
    /// Shims that wait for a dyno's launch.
    shims: Vec<UnixStream>,
    /// Shims that wait for a build's; on the `bwrap` tier any shim is as good.
    build_shims: Vec<UnixStream>,
    cables: Vec<Cable>,
    /// By size in MiB; a size is kept once it was asked for.
    disks: BTreeMap<u64, Vec<Disk>>,
}

impl Spawner {
    fn new(config: Config) -> Result<Self, Failure> {
        let mut network = config.network();
        let controllers = Controllers::find();
        let mut grants = Grants::new();
        let builds = Builds::default();
        if config.tier == Tier::Root {
            network = Network::claim(&config.home).doing(|| "choosing addresses for dynos".into())?;
            controllers.prepare(network)?;
            controllers.sweep(network);
            std::fs::create_dir_all(config.home.join("run")).doing(|| "making the data directory".into())?;
            grants = Self::grants_of_running(&config)?;
            for build in Self::running_builds(&config)? {
                builds.begin(build);
            }
            network.prepare(&config.home, &config.services, &grants)?;
        }
        let new = Self {
            config,
            network,
            controllers,
            shims: Mutex::default(),
            pool: Mutex::default(),
            pool_changed: Condvar::new(),
            laying: Mutex::default(),
            busy: Mutex::default(),
            not_busy: Condvar::new(),
            ports: Mutex::default(),
            grants: Mutex::new(grants),
            builds,
        };
        new.forget_failed_starts()?;
        Ok(new)
    }

    /// What the dynos that run may reach, as an earlier spawner gave it to them.
    fn grants_of_running(config: &Config) -> Result<Grants, Failure> {
        let all = Directory::all(&config.home).doing(|| "listing the dynos".into())?;
        let grants = all.iter().filter_map(|dyno| dyno.grants().transpose());
        grants.collect::<io::Result<_>>().doing(|| "reading what dynos may reach".into())
    }

    /// The builds that an earlier spawner started.
    fn running_builds(config: &Config) -> Result<Vec<DynoId>, Failure> {
        let all = Directory::all(&config.home).doing(|| "listing the dynos".into())?;
        let builds = all.iter().filter_map(|dyno| dyno.running_build().transpose());
        builds.collect::<io::Result<_>>().doing(|| "reading which builds run".into())
    }

    /// Removes what a spawner or shim that was killed in the middle of a start left.
    fn forget_failed_starts(&self) -> Result<(), Failure> {
        for directory in Directory::all(&self.config.home).doing(|| "listing the dynos".into())? {
            if matches!(directory.observe(), Ok(None)) && wire::connect(&directory.socket()).is_err() {
                directory.remove().doing(|| format!("removing {}", directory.0.display()))?;
            }
        }
        Ok(())
    }

    fn serve(&self, socket: &UnixStream) {
        let answer = match wire::hear(socket) {
            Ok(Order::Hello) => Answer::Hello(self.greeting()),
            Ok(Order::Start(plan)) => {
                let _turn = self.turn(plan.dyno);
                self.start(*plan).map_or_else(Answer::Failed, Answer::Started)
            }
            Ok(Order::Remove(dyno)) => {
                let _turn = self.turn(dyno);
                self.remove(dyno).map_or_else(Answer::Failed, |()| Answer::Done)
            }
            Ok(Order::Services(ports)) => self.open_services(&ports).map_or_else(Answer::Failed, |()| Answer::Done),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return,
            Err(e) => Answer::Failed(Failure::new("reading the order", e)),
        };
        // Who has hung up asks again.
        let _ = wire::say(socket, &answer);
    }

    fn greeting(&self) -> Greeting {
        let (services, can) = match self.config.tier {
            Tier::Root => (Some(self.network.services()), self.controllers.can()),
            Tier::Bwrap => {
                // Root's processes are counted by nobody.
                let pids = !nix::unistd::geteuid().is_root();
                (None, Can { memory: false, pids, cpu: false })
            }
        };
        Greeting { config: self.config.clone(), services, can }
    }

    fn open_services(&self, ports: &[u16]) -> Result<(), Failure> {
        match self.config.tier {
            Tier::Root => self.network.open_services(ports),
            Tier::Bwrap => Ok(()),
        }
    }

    /// One order per dyno at a time; the turn ends when the guard is dropped.
    fn turn(&self, dyno: DynoId) -> Turn<'_> {
        let mut busy = lock(&self.busy);
        while !busy.insert(dyno) {
            busy = self.not_busy.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { spawner: self, dyno }
    }

    fn start(&self, plan: DynoPlan) -> Result<Observation, Failure> {
        lock(&self.shims).retain_mut(|shim| matches!(shim.try_wait(), Ok(None)));
        check(&plan)?;
        let directory = Directory::new(&self.config.home, plan.dyno);
        if let Some(seen) = directory.observe().doing(|| format!("reading the record of dyno {}", plan.dyno))? {
            return Ok(seen);
        }
        let doing = || format!("making the directory of dyno {}", plan.dyno);
        directory.make(self.config.uid, self.config.gid).doing(doing)?;
        let dyno = plan.dyno;
        let started = self.start_in(plan);
        if started.is_err() {
            self.builds.end(dyno);
            let _ = directory.remove();
        }
        started
    }

    fn start_in(&self, plan: DynoPlan) -> Result<Observation, Failure> {
        let kind = match (self.config.tier, &plan.root) {
            (Tier::Root, Root::Build { .. }) => Kind::Build,
            _ => Kind::Dyno,
        };
        let mut fds: Vec<OwnedFd> = Vec::new();
        let (mut address, mut port) = (None, PORT);
        match self.config.tier {
            Tier::Root => {
                let cable = self.take_cable()?;
                address = Some(cable.address);
                self.grant(cable.address, &plan.services)?;
                fds.push(cable.namespace);
                fds.push(self.take_disk(plan.size.disk_mib)?.mount);
            }
            Tier::Bwrap if plan.port => port = self.free_port()?,
            Tier::Bwrap => {}
        }
        let doing = || format!("starting the shim of {}", plan.name);
        if kind == Kind::Build {
            // What it is started by gives way too.
            self.builds.begin(plan.dyno);
        }
        let ours = self.take_shim(kind)?;
        let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        wire::send_fds(&ours, &raw).doing(doing)?;
        drop(fds);
        let launch = Launch { plan: plan.clone(), address, port };
        wire::say(&ours, &launch).doing(|| "handing over the plan".into())?;
        match wire::hear(&ours) {
            Ok(Answer::Started(seen)) => Ok(seen),
            Ok(Answer::Failed(failure)) => Err(failure),
            Ok(_) => Err(Failure::new("starting the shim", "it answers something else")),
            Err(e) => Err(Failure::new("starting the shim", format!("it died before the dyno ran ({e})"))),
        }
    }

    fn remove(&self, dyno: DynoId) -> Result<(), Failure> {
        self.builds.end(dyno);
        let directory = Directory::new(&self.config.home, dyno);
        if !directory.0.exists() {
            return Ok(());
        }
        if let Ok(shim) = wire::connect(&directory.socket()) {
            let doing = || format!("ending dyno {dyno}");
            shim.set_read_timeout(Some(DEATH)).doing(doing)?;
            let asked = wire::say(&shim, &Request::Kill);
            // It may say how the dyno ended; what matters is that it hangs up, because it is gone.
            let gone = asked.and_then(|()| io::copy(&mut &shim, &mut io::sink()));
            match gone {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Failure::new(doing(), "its processes do not die; is the machine's disk stuck?"));
                }
                _ => {}
            }
        }
        if let Some(group) = directory.group().doing(|| format!("reading the record of dyno {dyno}"))? {
            let group = Group::of(self.network, &group);
            let patience = Instant::now() + DEATH;
            // After a shim's own death the kernel still ends the dyno's processes.
            while let Err(e) = group.remove() {
                if Instant::now() > patience {
                    return Err(Failure::new(format!("removing the control group of dyno {dyno}"), e));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        directory.remove().doing(|| format!("removing {}", directory.0.display()))?;
        lock(&self.shims).retain_mut(|shim| matches!(shim.try_wait(), Ok(None)));
        Ok(())
    }

    fn take_shim(&self, kind: Kind) -> Result<UnixStream, Failure> {
        let ready = lock(&self.pool).shims(kind).pop();
        self.pool_changed.notify_all();
        ready.map_or_else(|| self.prepare_shim(kind), Ok)
    }

    /// Starts a shim that waits for a launch at the other end of the returned socket.
    fn prepare_shim(&self, kind: Kind) -> Result<UnixStream, Failure> {
        let doing = || "starting a shim".to_owned();
        let (ours, theirs) = UnixStream::pair().doing(doing)?;
        let mut shim = Command::new("/proc/self/exe");
        // Its name in process lists.
        shim.arg0("shipway");
        shim.args(&self.config.shim).stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        // None of the platform's own settings reach a shim, let alone a dyno.
        shim.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let child = shim.current_dir("/").spawn().doing(doing)?;
        // Our copy of its end: the answer must end when the shim does.
        drop(shim);
        // Never one that another dyno had: pids come again.
        let made = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let group = format!("{}{made}-{}", kind.prefix(), child.id());
        lock(&self.shims).push(child);
        wire::say(&ours, &Prepare { config: self.config.clone(), group }).doing(doing)?;
        match wire::hear(&ours).doing(doing)? {
            Answer::Done => Ok(ours),
            Answer::Failed(failure) => Err(failure),
            _ => Err(Failure::new(doing(), "it answers something else")),
        }
    }

    /// Lets the next dyno at this address reach these ports and no others. It does not run yet.
    fn grant(&self, address: Ipv4Addr, ports: &[u16]) -> Result<(), Failure> {
        let mut grants = lock(&self.grants);
        let before = grants.remove(&address).unwrap_or_default();
        if before != ports {
            self.network.grant(address, &before, ports)?;
        }
        if !ports.is_empty() {
            grants.insert(address, ports.to_vec());
        }
        Ok(())
    }

    fn take_cable(&self) -> Result<Cable, Failure> {
        let ready = lock(&self.pool).cables.pop();
        self.pool_changed.notify_all();
        ready.map_or_else(|| self.lay_cable(), Ok)
    }

    fn lay_cable(&self) -> Result<Cable, Failure> {
        let _alone = lock(&self.laying);
        self.network.cable()
    }

    fn take_disk(&self, mib: u64) -> Result<Disk, Failure> {
        let ready = {
            let mut pool = lock(&self.pool);
            if !pool.disks.contains_key(&mib) && pool.disks.len() >= MAX_SIZES {
                pool.disks.pop_first();
            }
            pool.disks.entry(mib).or_default().pop()
        };
        self.pool_changed.notify_all();
        ready.map_or_else(|| self.make_disk(mib), Ok)
    }

    fn make_disk(&self, mib: u64) -> Result<Disk, Failure> {
        Disk::make(&self.config.home.join("run/disks"), mib)
    }

    /// Fills the pool whenever something was taken. What fails here fails again, with an answer, at the next start.
    fn keep_ready(&self) {
        loop {
            let missing = {
                let mut pool = lock(&self.pool);
                loop {
                    if let Some(missing) = pool.missing(self.config.tier) {
                        break missing;
                    }
                    pool = self.pool_changed.wait(pool).unwrap_or_else(PoisonError::into_inner);
                }
            };
            let made = match missing {
                Missing::Shim(kind) => self.prepare_shim(kind).map(|shim| lock(&self.pool).shims(kind).push(shim)),
                Missing::Cable => self.lay_cable().map(|cable| lock(&self.pool).cables.push(cable)),
                Missing::Disk(mib) => self.make_disk(mib).map(|disk| {
                    if let Some(disks) = lock(&self.pool).disks.get_mut(&disk.mib) {
                        disks.push(disk);
                    }
                }),
            };
            if let Err(failure) = made {
                tracing::warn!(%failure, "nothing can be kept ready for the next dyno");
                std::thread::sleep(Duration::from_secs(5));
            }
        }
    }

    /// A port of the host that nobody listens on, and that was not given to the last few dynos either: they may need
    /// a while to bind theirs.
    fn free_port(&self) -> Result<u16, Failure> {
        let mut recent = lock(&self.ports);
        for _ in 0..1000 {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).doing(|| "finding a free port".into())?;
            let port = listener.local_addr().doing(|| "finding a free port".into())?.port();
            if !recent.contains(&port) {
                recent.push_back(port);
                if recent.len() > 500 {
                    recent.pop_front();
                }
                return Ok(port);
            }
        }
        Err(Failure::new("finding a free port", "the machine gave out only ports that dynos have"))
    }
}

enum Missing {
    Shim(Kind),
    Cable,
    Disk(u64),
}

impl Pool {
    fn shims(&mut self, kind: Kind) -> &mut Vec<UnixStream> {
        match kind {
            Kind::Dyno => &mut self.shims,
            Kind::Build => &mut self.build_shims,
        }
    }

    fn missing(&self, tier: Tier) -> Option<Missing> {
        if self.shims.len() < READY {
            return Some(Missing::Shim(Kind::Dyno));
        }
        if tier == Tier::Bwrap {
            return None;
        }
        if self.build_shims.len() < READY_FOR_BUILDS {
            return Some(Missing::Shim(Kind::Build));
        }
        if self.cables.len() < READY {
            return Some(Missing::Cable);
        }
        self.disks.iter().find(|(_, disks)| disks.len() < READY).map(|(mib, _)| Missing::Disk(*mib))
    }
}

struct Turn<'a> {
    spawner: &'a Spawner,
    dyno: DynoId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.spawner.busy).remove(&self.dyno);
        self.spawner.not_busy.notify_all();
    }
}

/// Refuses a plan that no honest server writes, before anything is made.
fn check(plan: &DynoPlan) -> Result<(), Failure> {
    let refuse = |what: String| Err(Failure::new(format!("reading the plan of {:?}", plan.name), what));
    if crate::config::UidBlock::new(plan.uid_block).is_none() {
        return refuse(format!("there is no block of uids {}", plan.uid_block));
    }
    let is_name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    if plan.name.is_empty() || plan.name.len() > 100 || !plan.name.bytes().all(is_name) {
        return refuse("a dyno's name is made of letters, digits, dots and dashes".into());
    }
    if let Some(host) = plan.hosts.iter().find(|h| h.is_empty() || h.len() > 253 || !h.bytes().all(is_name)) {
        return refuse(format!("{host:?} is not a host's name"));
    }
    if let Some((name, _)) = plan.env.iter().find(|(n, v)| n.is_empty() || n.contains(['=', '\0']) || v.contains('\0'))
    {
        return refuse(format!("{name:?} cannot be in an environment"));
    }
    if plan.command.contains('\0') || plan.command.trim().is_empty() {
        return refuse("its command is empty or has a NUL in it".into());
    }
    let (smallest, largest) = (8, 1 << 20);
    if !(smallest..=largest).contains(&plan.size.disk_mib) || !(smallest..=largest).contains(&plan.size.memory_mib) {
        return refuse(format!("memory and disk are from {smallest} to {largest} MiB"));
    }
    if let Root::Build { mounts, working_directory, .. } = &plan.root {
        // What a build may cover: nothing of the system's.
        let system = ["dev", "etc", "proc", "usr", "bin", "sbin", "lib", "lib64", ".disk", ".layers"];
        for target in mounts.iter().map(|m| &m.target).chain([working_directory]) {
            let mut segments = target.strip_prefix('/').unwrap_or("..").split('/');
            let first = segments.clone().next().unwrap_or_default();
            if segments.any(|s| s.is_empty() || s == "." || s == ".." || s.contains('\0')) || system.contains(&first) {
                return refuse(format!("{target:?} is not a place for a build's directory"));
            }
        }
    }
    Ok(())
}

/// No holder of these locks runs code that can panic half way, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
