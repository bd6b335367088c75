//! A platform for one test: a data directory, and a runtime that starts build steps with bubblewrap.

use async_trait::async_trait;
use shipway_blobs::{Blobs, Layers};
use shipway_build::{BuildError, BuildOutcome, BuildRequest, Builder, BuilderConfig, Pins};
use shipway_domain::size::DynoSize;
use shipway_domain::{AppId, BuildId, CommitId, DynoId};
use shipway_runtime::{
    BuildSource, Capabilities, DynoPlan, Exit, ExitCause, MemoryLimit, Observation, Root, Runtime, RuntimeError,
    Stream, Usage,
};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Runs build steps in bubblewrap: the mounts of the plan over the host's `/usr`.
pub struct Bubblewrap {
    home: PathBuf,
    /// How many steps were started.
    pub started: AtomicUsize,
    running: Mutex<HashMap<DynoId, Running>>,
    /// What ends the steps that end: tests of limits that only a real sandbox keeps say which was broken.
    pub cause: Mutex<ExitCause>,
}

struct Running {
    child: Arc<tokio::sync::Mutex<tokio::process::Child>>,
    output: Option<OwnedFd>,
}

impl Bubblewrap {
    fn directory(&self, plan: &DynoPlan, source: &BuildSource) -> PathBuf {
        match source {
            BuildSource::Work(name) => self.home.join("work").join(build_of(plan).to_string()).join(name),
            BuildSource::Cache => self.home.join("cache").join(plan.app.to_string()),
            BuildSource::Buildpack(hex) => self.home.join("buildpacks").join(hex),
            BuildSource::Toolchain(name) => self.home.join("toolchains").join(name),
        }
    }
}

fn build_of(plan: &DynoPlan) -> BuildId {
    match &plan.root {
        Root::Build { build, .. } => *build,
        Root::Slug { .. } => panic!("a build starts nothing from a slug"),
    }
}

fn io(source: std::io::Error) -> RuntimeError {
    RuntimeError::Io { doing: "running bubblewrap".into(), source }
}

#[async_trait]
impl Runtime for Bubblewrap {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            tier: "bubblewrap for tests",
            own_network: false,
            neighbours_blocked: false,
            memory: MemoryLimit::None,
            pids: false,
            disk: false,
            uid_per_app: false,
            cpu: false,
            pty: false,
            files_hidden: true,
        }
    }

    async fn start(&self, plan: &DynoPlan) -> Result<Observation, RuntimeError> {
        self.started.fetch_add(1, Ordering::Relaxed);
        let Root::Build { mounts, working_directory, .. } = &plan.root else { panic!("not a build") };
        let mut command = tokio::process::Command::new("bwrap");
        command.args(["--unshare-pid", "--unshare-ipc", "--die-with-parent", "--new-session", "--clearenv"]);
        const SHOWN: &[&str] = &[
            "/usr",
            "/etc/ssl",
            "/etc/resolv.conf",
            "/etc/alternatives",
            "/etc/passwd",
            "/etc/ca-certificates",
            "/etc/php",
        ];
        for path in SHOWN {
            command.args(["--ro-bind-try", path, path]);
        }
        for (link, target) in [("/bin", "usr/bin"), ("/lib", "usr/lib"), ("/lib64", "usr/lib64"), ("/sbin", "usr/sbin")]
        {
            command.args(["--symlink", target, link]);
        }
        command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
        for mount in mounts {
            command.arg(if mount.writable { "--bind" } else { "--ro-bind" });
            command.arg(self.directory(plan, &mount.source)).arg(&mount.target);
        }
        command.args(["--chdir", working_directory]);
        for (name, value) in &plan.env {
            command.args(["--setenv", name, value]);
        }
        command.args(["--", "bash", "-c", &plan.command]);
        let (reader, writer) = std::io::pipe().map_err(io)?;
        command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(io)?).stderr(writer).kill_on_drop(true);
        let child = command.spawn().map_err(io)?;
        drop(command);
        let running = Running { child: Arc::new(tokio::sync::Mutex::new(child)), output: Some(reader.into()) };
        self.running.lock().unwrap().insert(plan.dyno, running);
        self.observe(plan.dyno).await
    }

    async fn list(&self) -> Result<Vec<Observation>, RuntimeError> {
        Ok(Vec::new())
    }

    async fn observe(&self, dyno: DynoId) -> Result<Observation, RuntimeError> {
        let app = AppId(uuid::Uuid::nil());
        Ok(Observation { dyno, app, name: "build.1".into(), endpoints: Vec::new(), exit: None })
    }

    async fn wait(&self, dyno: DynoId) -> Result<Exit, RuntimeError> {
        let child = self.running.lock().unwrap().get(&dyno).ok_or(RuntimeError::Unknown(dyno))?.child.clone();
        let status = child.lock().await.wait().await.map_err(io)?;
        let status =
            status.code().unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap());
        Ok(Exit { status, cause: *self.cause.lock().unwrap() })
    }

    async fn stop(&self, dyno: DynoId) -> Result<(), RuntimeError> {
        self.remove(dyno).await
    }

    async fn remove(&self, dyno: DynoId) -> Result<(), RuntimeError> {
        let running = self.running.lock().unwrap().remove(&dyno);
        if let Some(running) = running {
            running.child.lock().await.kill().await.map_err(io)?;
        }
        Ok(())
    }

    async fn listeners(&self, _: DynoId) -> Result<Vec<SocketAddr>, RuntimeError> {
        Ok(Vec::new())
    }

    async fn usage(&self, _: DynoId) -> Result<Usage, RuntimeError> {
        Ok(Usage::default())
    }

    async fn attach(&self, dyno: DynoId) -> Result<Box<dyn Stream>, RuntimeError> {
        let output = self.running.lock().unwrap().get_mut(&dyno).and_then(|r| r.output.take());
        let output = output.ok_or(RuntimeError::Unknown(dyno))?;
        let receiver = tokio::net::unix::pipe::Receiver::from_owned_fd(output).map_err(io)?;
        Ok(Box::new(tokio::io::join(receiver, tokio::io::sink())))
    }

    async fn resize(&self, _: DynoId, _: u16, _: u16) -> Result<(), RuntimeError> {
        Ok(())
    }
}

/// One data directory with one app.
pub struct Platform {
    pub home: tempfile::TempDir,
    pub runtime: Arc<Bubblewrap>,
    pub builder: Builder,
    pub blobs: Blobs,
    pub request: BuildRequest,
    pub cancel: CancellationToken,
}

/// What a build gave, and all it wrote.
pub struct Run {
    pub result: Result<BuildOutcome, BuildError>,
    pub output: String,
    /// How many processes were started for it.
    pub steps: usize,
}

impl Run {
    /// The outcome, or a panic with the output.
    pub fn ok(self) -> (BuildOutcome, String) {
        match self.result {
            Ok(outcome) => (outcome, self.output),
            Err(error) => panic!("{error}\n{}", self.output),
        }
    }

    /// What the user is told.
    pub fn refusal(self) -> String {
        match self.result {
            Err(error @ (BuildError::User(_) | BuildError::Limit { .. } | BuildError::Cancelled)) => error.to_string(),
            Err(error) => panic!("not the user's fault: {error}\n{}", self.output),
            Ok(_) => panic!("it was built:\n{}", self.output),
        }
    }
}

/// The fixtures that all tests of the workspace share.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/apps").join(name).canonicalize().unwrap()
}

pub fn platform() -> Platform {
    platform_with(&[])
}

/// With these of the operator's client settings besides those of the environment.
pub fn platform_with(settings: &[(&str, &str)]) -> Platform {
    let home = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(home.path()).unwrap();
    let runtime = Arc::new(Bubblewrap {
        home: home.path().into(),
        started: AtomicUsize::new(0),
        running: Mutex::default(),
        cause: Mutex::new(ExitCause::Exited),
    });
    let server = home.path().join("server");
    fs::write(&server, "the executable that serves static sites").unwrap();
    let mut client_settings = BuilderConfig::client_settings(std::env::vars());
    client_settings.extend(settings.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    let config = BuilderConfig {
        stack: "heroku-24".into(),
        stack_fingerprint: "test".into(),
        buildpack_roots: vec![fixture("classic"), home.path().join("packs")],
        client_settings,
        static_server: server,
        host_bin: "/usr/bin".into(),
        inputs_key: [7; 32],
        output_limit_bytes: 1 << 20,
    };
    let builder = Builder::new(home.path(), blobs.clone(), runtime.clone(), config).unwrap();
    let request = BuildRequest {
        build: BuildId(uuid::Uuid::nil()),
        app: AppId(uuid::Uuid::from_u128(1)),
        app_name: "shop".into(),
        uid_block: 1,
        commit: None,
        buildpacks: Vec::new(),
        env: BTreeMap::new(),
        size: DynoSize { name: "build".into(), memory_mib: 1024, cpu_weight: 100, pids: 512, disk_mib: 2048 },
        time_limit: Duration::from_secs(300),
        previous: None,
        clear_cache: false,
    };
    Platform { home, runtime, builder, blobs, request, cancel: CancellationToken::new() }
}

impl Platform {
    /// Checks `tree` out as a new build's source, lets `change` work on it, and builds it.
    pub async fn build_changed(&mut self, tree: &Path, change: impl FnOnce(&Path)) -> Run {
        self.request.build = BuildId(uuid::Uuid::new_v4());
        let source = self.builder.source_directory(self.request.build);
        fs::create_dir_all(source.parent().unwrap()).unwrap();
        assert!(Command::new("cp").arg("-a").arg(tree).arg(&source).status().unwrap().success());
        change(&source);
        let before = self.runtime.started.load(Ordering::Relaxed);
        let mut lines = Vec::new();
        let result = self.builder.build(&self.request, &mut lines, &self.cancel).await;
        assert_eq!(fs::read_dir(self.home.path().join("work")).unwrap().count(), 0, "the working directory is left");
        Run { result, output: lines.join("\n"), steps: self.runtime.started.load(Ordering::Relaxed) - before }
    }

    pub async fn build(&mut self, tree: &Path) -> Run {
        self.build_changed(tree, |_| {}).await
    }

    /// Builds a tree of these files.
    pub async fn build_files(&mut self, files: &[(&str, &str)]) -> Run {
        let empty = tempfile::tempdir().unwrap();
        let files: Vec<_> = files.iter().map(|(p, t)| (p.to_string(), t.to_string())).collect();
        self.build_changed(empty.path(), |source| {
            for (path, text) in files {
                fs::create_dir_all(source.join(&path).parent().unwrap()).unwrap();
                fs::write(source.join(path), text).unwrap();
            }
        })
        .await
    }

    /// Gives what a build chose to the next one.
    pub fn remember(&mut self, pins: &Pins) {
        self.request.previous = Some(pins.clone());
    }

    #[allow(dead_code, reason = "each test binary compiles this module, not each names commits")]
    pub fn commit(&mut self, digit: char) {
        self.request.commit = Some(CommitId::parse(&digit.to_string().repeat(40)).unwrap());
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.request.env.insert(name.into(), value.into());
    }

    /// The layers of a slug laid over one another in a directory, as a dyno sees `/app`.
    pub fn app(&self, outcome: &BuildOutcome) -> tempfile::TempDir {
        let app = tempfile::tempdir().unwrap();
        let layers = Layers::open(self.home.path(), self.blobs.clone()).unwrap();
        for layer in &outcome.slug.layers {
            let from = layers.path(&layer.digest).join(".");
            assert!(Command::new("cp").arg("-a").arg(from).arg(app.path()).status().unwrap().success());
        }
        app
    }

    /// Runs a command with these layers at `/app`, as a dyno would. Returns its output.
    #[allow(dead_code, reason = "each test binary compiles this module, not each runs an app")]
    pub fn run(&self, outcome: &BuildOutcome, command: &str, env: &[(&str, &str)]) -> String {
        let app = self.app(outcome);
        let mut bwrap = Command::new("bwrap");
        bwrap.args(["--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib"]);
        bwrap.args(["--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
        for path in ["/etc/alternatives", "/etc/php", "/etc/mime.types"] {
            bwrap.args(["--ro-bind-try", path, path]);
        }
        // As in a dyno, where nothing runs as root.
        bwrap.args(["--unshare-pid", "--unshare-user", "--uid", "1000", "--clearenv"]);
        bwrap.arg("--bind").arg(app.path()).args(["/app", "--chdir", "/app", "--setenv", "HOME", "/app"]);
        for (name, value) in outcome.slug.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).chain(env.iter().copied()) {
            bwrap.args(["--setenv", name, value]);
        }
        let output = bwrap.args(["--", "bash", "-c", command]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}
