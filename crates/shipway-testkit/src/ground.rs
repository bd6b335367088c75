//! The ground under a platform, and servers on it.

use crate::{ProcfileBuilder, ProcfileRepositories, SetWorld, TableRouter, TextDatabases};
use shipway_domain::admission::{Actor, Scope};
use shipway_domain::lifecycle::DynoState;
use shipway_domain::size::DynoSizes;
use shipway_domain::{Email, NameOrId, OperationId};
use shipway_engine::ports::{AddonProvider, Caller};
use shipway_engine::{Faults, NewApp, Outcome, Parts, Platform, Settings};
use shipway_forges::HttpForges;
use shipway_logs::{Filter, Reader, Source};
use shipway_runtime::fake::Fake;
use shipway_store::{App, Dyno, Release};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Whose platform it is: the first administrator.
pub const OWNER: &str = "owner@example.org";

/// Settings of a platform on this data directory, with waits that are short enough for tests.
pub fn settings(home: &Path) -> Settings {
    let sizes = DynoSizes::default();
    Settings {
        home: home.into(),
        domain: "localhost".into(),
        api_hosts: Vec::new(),
        router_port: Some(8080),
        router_scheme: "http",
        build_size: sizes.default_size().clone(),
        builds_at_once: 4,
        sizes,
        stack: "heroku-24".into(),
        stack_fingerprint: "debian-12-x86_64".into(),
        boot_seconds: 2,
        drain_seconds: 2,
        grace_seconds: 1,
        attach_seconds: 60,
        memory_seconds: 20,
        script_seconds: 60,
        keep_releases: 20,
    }
}

/// An empty directory in memory, where the system has one for that: the store waits for the disk at each commit, and a
/// trial has thousands of them. No test of a platform in one process cuts the power.
fn quick_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What outlives a "server" in a test: the data directory, the dynos, the repositories, the router.
#[derive(Clone)]
pub struct Ground {
    /// The data directory.
    pub home: Arc<tempfile::TempDir>,
    /// The dynos.
    pub runtime: Fake,
    /// The router.
    pub router: Arc<TableRouter>,
    /// The repositories.
    pub repositories: Arc<ProcfileRepositories>,
    /// The builder.
    pub builder: Arc<ProcfileBuilder>,
    /// The databases, where no others are.
    pub addons: Arc<TextDatabases>,
    /// What makes databases instead of [`Self::addons`].
    pub databases: Option<Arc<dyn AddonProvider>>,
    /// The clock.
    pub world: Arc<SetWorld>,
}

impl Default for Ground {
    fn default() -> Self {
        Self::new()
    }
}

impl Ground {
    /// An empty data directory, and nothing running.
    pub fn new() -> Self {
        Self {
            home: Arc::new(quick_directory()),
            runtime: Fake::default(),
            router: Arc::default(),
            repositories: Arc::default(),
            builder: Arc::default(),
            addons: Arc::default(),
            databases: None,
            world: Arc::default(),
        }
    }

    /// The parts of a platform on this ground.
    pub fn parts(&self) -> Parts {
        Parts {
            runtime: Arc::new(self.runtime.clone()),
            router: self.router.clone(),
            repositories: self.repositories.clone(),
            histories: self.repositories.clone(),
            builder: self.builder.clone(),
            forges: Arc::new(HttpForges::new(&["127.0.0.1".to_string()])),
            addons: self.databases.clone().unwrap_or_else(|| self.addons.clone()),
            world: self.world.clone(),
            faults: None,
        }
    }

    /// Starts a server on this ground, with the faults that a test wants.
    pub async fn server(&self, faults: Option<Faults>) -> Server {
        self.server_as(settings(self.home.path()), faults).await
    }

    /// The same with settings of the test's own.
    pub async fn server_as(&self, settings: Settings, faults: Option<Faults>) -> Server {
        let parts = Parts { faults, ..self.parts() };
        let platform = Platform::open(settings, parts).unwrap();
        let email = Email::parse(OWNER).unwrap();
        let _ = platform.first_admin(&email).await.unwrap();
        platform.start().await.unwrap();
        let account = platform.store().read(|c| c.account(&NameOrId::Name(email.to_string()))).unwrap().unwrap();
        let actor = Actor { account: account.id, email: email.to_string(), admin: true, scope: Scope::Global };
        Server { platform, caller: Caller { actor, via: "api" }, ground: self.clone() }
    }
}

/// A server that has started.
pub struct Server {
    /// The platform.
    pub platform: Platform,
    /// Its owner, who may do everything.
    pub caller: Caller,
    /// What it stands on.
    pub ground: Ground,
}

impl Server {
    /// Creates an app.
    pub async fn create(&self, name: &str) -> App {
        let new = NewApp { name: Some(name.into()), ..NewApp::default() };
        self.platform.create_app(&self.caller, new).await.unwrap()
    }

    /// An app by its name, which must be there.
    pub fn app(&self, name: &str) -> App {
        self.platform.app(&self.caller, &NameOrId::parse(name)).unwrap()
    }

    /// Pushes a Procfile and waits for the outcome, as text: `v2` or the error.
    pub async fn push(&self, app: &App, procfile: &str) -> Result<String, String> {
        let commit = self.ground.repositories.commit(procfile);
        let (_, operation) = self.platform.deploy(&self.caller, app, commit).await.map_err(|e| e.to_string())?;
        self.outcome(operation).await
    }

    /// Waits until an operation has ended: the version of its release (empty without one), or why it failed.
    pub async fn outcome(&self, operation: OperationId) -> Result<String, String> {
        match self.platform.live(operation).await.unwrap() {
            Outcome::Live { release } => Ok(release.map_or(String::new(), |r| format!("v{}", r.version))),
            Outcome::Failed { message } => Err(message),
        }
    }

    /// Waits until no operation is open and every dyno is where its formation wants it.
    pub async fn settled(&self, app: &App) -> String {
        let mut last = String::new();
        for _ in 0..1500 {
            let (open, dynos) =
                self.platform.store().read(|c| Ok((c.open_operations()?.len(), c.dynos(app.id)?))).unwrap();
            let wanted: u32 =
                self.platform.store().read(|c| c.formation(app.id)).unwrap().iter().map(|f| f.quantity).sum();
            let up = dynos.iter().filter(|d| d.state == DynoState::Up && d.operation.is_none()).count();
            last = screen(&dynos);
            if open == 0 && up == dynos.len() && up == wanted as usize {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} did not settle: {last}", app.name);
    }

    /// An app's releases, newest first.
    pub fn releases(&self, app: &App) -> Vec<Release> {
        self.platform.store().read(|c| c.releases(app.id)).unwrap()
    }

    /// `v2 succeeded Deploy 7c1f0de`, newest first, without the commit.
    pub fn release_list(&self, app: &App) -> String {
        let lines: Vec<String> = self
            .releases(app)
            .iter()
            .map(|r| {
                let what = if r.description.starts_with("Deploy") { "Deploy" } else { &r.description };
                format!("v{} {} {what}", r.version, r.status)
            })
            .collect();
        lines.join("\n")
    }

    /// What the router serves of an app: `v2 v2`, one word a target.
    pub async fn served(&self, app: &App) -> String {
        let table = self.ground.router.table();
        let Some(route) = table.apps.iter().find(|a| a.app == app.id) else { return "unknown host".into() };
        if route.targets.is_empty() {
            return format!("{:?}", route.mode);
        }
        let mut seen = Vec::new();
        for target in &route.targets {
            seen.push(get(target.address).await.unwrap_or_else(|| "dead".into()));
        }
        seen.join(" ")
    }

    /// Waits until the router serves this.
    pub async fn serves(&self, app: &App, expected: &str) {
        let mut last = String::new();
        for _ in 0..1000 {
            last = self.served(app).await;
            if last == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} serves {last}, not {expected}", app.name);
    }

    /// What the platform wrote of a dyno to its app's log, oldest first; the last 1,000 lines.
    pub fn said_of(&self, app: &App, dyno: &str) -> Vec<String> {
        let filter = Filter { source: Some(Source::Heroku), dyno: Some(dyno.into()) };
        let directory = self.platform.log_dir(app.id);
        let entries = Reader::last(&directory, filter, 1_000).map(|(entries, _)| entries).unwrap_or_default();
        entries.iter().map(|entry| String::from_utf8_lossy(&entry.message).into_owned()).collect()
    }

    /// What the pusher of the newest build read.
    pub fn transcript(&self, app: &App) -> String {
        let build = self.platform.store().read(|c| c.builds(app.id)).unwrap().pop().unwrap();
        std::fs::read_to_string(self.ground.home.path().join("outputs").join(build.id.to_string())).unwrap()
    }
}

pub(crate) fn screen(dynos: &[Dyno]) -> String {
    dynos.iter().map(|d| format!("{} {}", d.name(), d.state)).collect::<Vec<_>>().join(", ")
}

/// The release that a dyno says it runs, by HTTP.
pub async fn get(address: std::net::SocketAddr) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ok()?;
    // The fake keeps connections open: the answer ends where its length says.
    let mut answer = String::new();
    let mut piece = [0; 1024];
    loop {
        let n = stream.read(&mut piece).await.ok()?;
        answer.push_str(std::str::from_utf8(&piece[..n]).ok()?);
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase().split("content-length: ").nth(1)?.split_whitespace().next()?.parse();
        if n == 0 || body.len() >= length.ok()? {
            break;
        }
    }
    answer.split_whitespace().last().map(String::from)
}
