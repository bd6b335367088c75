//! A whole platform in one process: the real engine and store, dynos in memory, commits that are Procfiles.

#![allow(dead_code)]

use async_trait::async_trait;
use shipway_domain::admission::Actor;
use shipway_domain::lifecycle::DynoState;
use shipway_domain::route::{RouteMode, RouteTable};
use shipway_domain::size::{DynoSize, DynoSizes};
use shipway_domain::{AppId, CommitId, Digest, DynoId, Email, NameOrId, OperationId, procfile};
use shipway_engine::ports::*;
use shipway_engine::{CrashPoint, NewApp, Outcome, Parts, Platform, Settings};
use shipway_runtime::fake::Fake;
use shipway_store::{App, Dyno, Release, hex, sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What outlives a "server" in a test: the data directory, the dynos, the repositories, the router.
#[derive(Clone)]
pub struct Ground {
    pub home: Arc<tempfile::TempDir>,
    pub runtime: Fake,
    pub router: Arc<TestRouter>,
    pub repositories: Arc<TestRepositories>,
    pub builder: Arc<TestBuilder>,
}

impl Ground {
    pub fn new() -> Self {
        Self {
            home: Arc::new(tempfile::tempdir().unwrap()),
            runtime: Fake::default(),
            router: Arc::default(),
            repositories: Arc::default(),
            builder: Arc::default(),
        }
    }

    /// The names of the dynos that the runtime has, once those that are being seen out are gone.
    pub async fn runtime_names(&self) -> std::collections::BTreeSet<String> {
        use shipway_runtime::Runtime;
        let list = self.runtime.list().await.unwrap();
        let names: Vec<String> = list.into_iter().map(|o| o.name).collect();
        let set = names.iter().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(set.len(), names.len(), "two dynos in one slot: {names:?}");
        set
    }

    pub fn settings(&self) -> Settings {
        Settings {
            home: self.home.path().into(),
            domain: "localhost".into(),
            router_port: Some(8080),
            router_scheme: "http",
            sizes: DynoSizes::default(),
            stack: "heroku-24".into(),
            build_size: DynoSizes::default().0[2].clone(),
            boot_seconds: 2,
            drain_seconds: 2,
            grace_seconds: 1,
            keep_releases: 20,
        }
    }

    /// Starts a server on this ground; with a crash point it dies there.
    pub async fn server(&self, crash_point: Option<CrashPoint>) -> Server {
        let parts = Parts {
            runtime: Arc::new(self.runtime.clone()),
            router: self.router.clone(),
            repositories: self.repositories.clone(),
            builder: self.builder.clone(),
            world: Arc::new(RealWorld),
            crash_point,
        };
        let platform = Platform::open(self.settings(), parts).unwrap();
        let email = Email::parse("owner@example.org").unwrap();
        let _ = platform.first_admin(&email).await.unwrap();
        platform.start().await.unwrap();
        let account = platform.store().read(|c| c.account(&NameOrId::Name(email.to_string()))).unwrap().unwrap();
        let actor = Actor {
            account: account.id,
            email: email.to_string(),
            admin: true,
            scope: shipway_domain::admission::Scope::Global,
        };
        Server { platform, caller: Caller { actor, via: "api" }, ground: self.clone() }
    }
}

pub struct Server {
    pub platform: Platform,
    pub caller: Caller,
    pub ground: Ground,
}

impl Server {
    pub async fn create(&self, name: &str) -> App {
        let new = NewApp { name: Some(name.into()), ..NewApp::default() };
        self.platform.create_app(&self.caller, new).await.unwrap()
    }

    pub fn app(&self, name: &str) -> App {
        self.platform.app(&self.caller, &NameOrId::parse(name)).unwrap()
    }

    /// Pushes a Procfile and waits for the outcome, as text: `v2` or the error.
    pub async fn push(&self, app: &App, procfile: &str) -> Result<String, String> {
        let commit = self.ground.repositories.commit(procfile);
        let (_, operation) = self.platform.deploy(&self.caller, app, commit).await.map_err(|e| e.to_string())?;
        self.outcome(operation).await
    }

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

    pub fn transcript(&self, app: &App) -> String {
        let build = self.platform.store().read(|c| c.builds(app.id)).unwrap().pop().unwrap();
        std::fs::read_to_string(self.ground.home.path().join("outputs").join(build.id.to_string())).unwrap()
    }
}

fn screen(dynos: &[Dyno]) -> String {
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

/// A router that takes every table, and counts what it was told.
#[derive(Default)]
pub struct TestRouter {
    table: Mutex<RouteTable>,
    modes: Mutex<Vec<RouteMode>>,
}

impl TestRouter {
    pub fn table(&self) -> RouteTable {
        self.table.lock().unwrap().clone()
    }

    /// What visitors of the first app met with since the last call, one entry a change.
    pub fn modes(&self) -> Vec<RouteMode> {
        std::mem::take(&mut self.modes.lock().unwrap())
    }
}

#[async_trait]
impl Router for TestRouter {
    async fn push(&self, table: &RouteTable) -> Result<u64, PortError> {
        let mut mine = self.table.lock().unwrap();
        if table.epoch >= mine.epoch {
            let mut modes = self.modes.lock().unwrap();
            let mode = table.apps.first().map(|app| app.mode).filter(|mode| modes.last() != Some(mode));
            modes.extend(mode);
            *mine = table.clone();
        }
        Ok(mine.epoch)
    }
    async fn epoch(&self) -> Result<u64, PortError> {
        Ok(self.table().epoch)
    }
    async fn in_flight(&self, _: &[DynoId]) -> Result<BTreeMap<DynoId, InFlight>, PortError> {
        Ok(BTreeMap::new())
    }
}

/// Repositories whose commits are Procfiles.
#[derive(Default)]
pub struct TestRepositories {
    commits: Mutex<HashMap<CommitId, String>>,
    branches: Mutex<HashMap<AppId, CommitId>>,
    pins: Mutex<HashMap<OperationId, CommitId>>,
}

impl TestRepositories {
    pub fn commit(&self, procfile: &str) -> CommitId {
        let id = CommitId::parse(&hex(&sha256(procfile.as_bytes()))[..40]).unwrap();
        self.commits.lock().unwrap().insert(id.clone(), procfile.into());
        id
    }
    /// What main points at, as its Procfile.
    pub fn branch(&self, app: AppId) -> Option<String> {
        let commit = self.branches.lock().unwrap().get(&app).cloned()?;
        self.commits.lock().unwrap().get(&commit).cloned()
    }
    pub fn pins(&self) -> usize {
        self.pins.lock().unwrap().len()
    }
}

#[async_trait]
impl Repositories for TestRepositories {
    async fn create(&self, _: AppId) -> Result<(), PortError> {
        Ok(())
    }
    async fn remove(&self, app: AppId) -> Result<(), PortError> {
        self.branches.lock().unwrap().remove(&app);
        Ok(())
    }
    async fn pin(&self, _: AppId, operation: OperationId, commit: &CommitId) -> Result<(), PortError> {
        self.pins.lock().unwrap().insert(operation, commit.clone());
        Ok(())
    }
    async fn unpin(&self, _: AppId, operation: OperationId) -> Result<(), PortError> {
        self.pins.lock().unwrap().remove(&operation);
        Ok(())
    }
    async fn set_branch(&self, app: AppId, commit: &CommitId) -> Result<(), PortError> {
        self.branches.lock().unwrap().insert(app, commit.clone());
        Ok(())
    }
    async fn keep_release(&self, _: AppId, _: u64, _: &CommitId) -> Result<(), PortError> {
        Ok(())
    }
    async fn checkout(&self, _: AppId, commit: &CommitId, into: &Path) -> Result<(), PortError> {
        let procfile = self.commits.lock().unwrap().get(commit).cloned();
        let procfile = procfile.ok_or(PortError("no such commit".into()))?;
        std::fs::write(into.join("Procfile"), procfile).map_err(|e| PortError::new("writing", e))
    }
    async fn import(&self, _: AppId, archive: &Path, _: Option<&str>, _: &str) -> Result<CommitId, PortError> {
        let text = std::fs::read_to_string(archive).map_err(|e| PortError::new("reading", e))?;
        Ok(self.commit(&text))
    }
    async fn commit_info(&self, _: AppId, _: &CommitId) -> Result<CommitInfo, PortError> {
        Ok(CommitInfo { subject: "A change".into(), author: "A. Person".into() })
    }
    async fn size_bytes(&self, _: AppId) -> Result<u64, PortError> {
        Ok(1)
    }
}

/// Reads a Procfile and is done; a Procfile that holds `broken-build` is refused.
#[derive(Default)]
pub struct TestBuilder {
    pub builds: AtomicU32,
}

#[async_trait]
impl Builder for TestBuilder {
    async fn inputs(&self, order: &BuildOrder) -> Result<String, BuildFailure> {
        Ok(order.commit.to_string())
    }
    async fn build(
        &self,
        order: &BuildOrder,
        out: Arc<dyn Lines>,
        _: CancellationToken,
    ) -> Result<Built, BuildFailure> {
        self.builds.fetch_add(1, Ordering::Relaxed);
        out.line("-----> Procfile app detected");
        let text = std::fs::read_to_string(order.source.join("Procfile")).unwrap();
        if text.contains("broken-build") {
            return Err(BuildFailure::User("The build is broken on purpose.".into()));
        }
        let types = procfile::parse(&text).map_err(|e| BuildFailure::User(e.to_string()))?;
        let manifest = serde_json::to_value(&types).unwrap();
        let digest = Digest::parse(&format!("sha256:{}", hex(&sha256(text.as_bytes())))).unwrap();
        Ok(Built { digest, manifest, size_bytes: 1, language: None, buildpacks: vec![] })
    }
    fn runnable(&self, manifest: &serde_json::Value, _: &DynoSize) -> Result<Runnable, PortError> {
        let process_types =
            serde_json::from_value(manifest.clone()).map_err(|e| PortError::new("reading a manifest", e))?;
        Ok(Runnable { process_types, ..Runnable::default() })
    }
    async fn ensure(&self, _: &serde_json::Value) -> Result<(), PortError> {
        Ok(())
    }
    async fn collect(&self, _: &[serde_json::Value]) -> Result<u64, PortError> {
        Ok(0)
    }
    async fn purge_cache(&self, _: AppId) -> Result<(), PortError> {
        Ok(())
    }
}
