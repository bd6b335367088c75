//! One build under way: runs its steps through the runtime and keeps its limits.

use crate::model::{BuildError, BuildRequest, BuilderConfig, Limit};
use crate::output::{Report, seconds};
use shipway_domain::DynoId;
use shipway_runtime::{BuildMount, BuildSource, DynoPlan, Exit, ExitCause, Io, Root, Runtime, remove_tree};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

/// A step that writes nothing for this long gets a line that says it is still running.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often a build's directories are measured, at least this far apart and never more than 5 % of the time.
const DISK_CHECK: Duration = Duration::from_secs(2);
/// An app's build cache may hold this many times what one build may.
pub(crate) const CACHE_DISKS: u64 = 2;
/// Longest line that is passed on, in bytes; a longer one is broken.
const MAX_LINE: usize = 16 * 1024;
/// Most output that is kept of a step, in bytes.
const MAX_KEPT: usize = 1 << 20;

/// One command inside the sandbox. Its text is a constant of ours: what comes from a user goes through `env`.
pub(crate) struct Step {
    pub(crate) command: &'static str,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) mounts: Vec<BuildMount>,
    pub(crate) directory: &'static str,
    pub(crate) show: Show,
}

/// What becomes of a step's output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Passed on as it is: buildpacks write headers themselves.
    AsIs,
    /// Passed on below the present header.
    Indented,
    /// Only kept.
    Hidden,
}

/// How a step ended.
pub(crate) struct Finished {
    pub(crate) status: i32,
    /// The last [`MAX_KEPT`] bytes of its output.
    pub(crate) output: String,
}

pub(crate) struct Session<'a> {
    pub(crate) request: &'a BuildRequest,
    pub(crate) config: &'a BuilderConfig,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) report: Report<'a>,
    pub(crate) cancel: &'a CancellationToken,
    pub(crate) started: Instant,
    /// `work/<build-id>`
    pub(crate) work: PathBuf,
    pub(crate) home: &'a Path,
    /// What the buildpacks before this one give to its steps.
    pub(crate) earlier: Earlier,
}

/// What a buildpack leaves to those after it: the programs that it brought, and what it exports.
#[derive(Default)]
pub(crate) struct Earlier {
    /// Before the stack's own in `PATH`.
    pub(crate) path: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    /// Toolchains, which lie in `/app` only in dynos.
    pub(crate) mounts: Vec<BuildMount>,
}

impl Session<'_> {
    /// `work/<build-id>/app`
    pub(crate) fn app(&self) -> PathBuf {
        self.work.join("app")
    }

    /// The app at `/app` and its cache at `/cache`, both writable.
    pub(crate) fn app_mounts() -> Vec<BuildMount> {
        vec![
            work_mount("app", "/app"),
            BuildMount { source: BuildSource::Cache, target: "/cache".into(), writable: true },
        ]
    }

    /// The environment of every step: nothing of the server's own, the operator's client settings, then `own`.
    pub(crate) fn base_env(&self, own: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut env = self.config.client_settings.clone();
        for (name, value) in [("HOME", "/app"), ("LANG", "C.UTF-8"), ("PATH", DEFAULT_PATH), ("TMPDIR", "/tmp")] {
            env.insert(name.into(), value.into());
        }
        env.insert("STACK".into(), self.config.stack.clone());
        env.insert("REQUEST_ID".into(), self.request.build.to_string());
        if let Some(commit) = &self.request.commit {
            env.insert("SOURCE_VERSION".into(), commit.to_string());
        }
        env.extend(own.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        env
    }

    /// The search path after what a step has of its own.
    pub(crate) fn path(&self) -> String {
        let earlier = self.earlier.path.iter().map(String::as_str);
        earlier.chain([DEFAULT_PATH]).collect::<Vec<_>>().join(":")
    }

    /// The base environment with the app's config vars, for build steps of the app's own. What the step needs wins.
    pub(crate) fn app_env(&self, own: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut env = self.base_env(&[("PATH", &self.path())]);
        env.extend(self.earlier.env.clone());
        // As Heroku's buildpacks: these would break the tools of the build itself.
        const KEPT_OUT: &[&str] = &[
            "PATH",
            "HOME",
            "STACK",
            "REQUEST_ID",
            "SOURCE_VERSION",
            "GIT_DIR",
            "CPATH",
            "CPPATH",
            "LD_PRELOAD",
            "LIBRARY_PATH",
            "BASH_ENV",
            "PYTHONHOME",
            "DYNO",
            "PORT",
        ];
        env.extend(
            self.request
                .env
                .iter()
                .filter(|(k, _)| !KEPT_OUT.contains(&k.as_str()))
                .map(|(k, v)| (k.clone(), v.clone())),
        );
        env.extend(own.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        env
    }

    pub(crate) fn cancelled(&self) -> Result<(), BuildError> {
        if self.cancel.is_cancelled() { Err(BuildError::Cancelled) } else { Ok(()) }
    }

    /// Runs a step to its end. Errors: a broken limit, cancellation, or a fault of the platform; not the step's status.
    pub(crate) async fn run(&mut self, step: Step) -> Result<Finished, BuildError> {
        self.cancelled()?;
        let time_left = self.request.time_limit.saturating_sub(self.started.elapsed());
        if time_left.is_zero() {
            return Err(self.broken(Limit::Time));
        }
        let dyno = DynoId(uuid::Uuid::new_v4());
        let (mut env, mut mounts) = (step.env, step.mounts);
        env.insert("DYNO".into(), "build.1".into());
        let temporary = self.work.join("tmp");
        // Steps that see no app are the platform's own: no buildpack has a say in them.
        if mounts.iter().any(|mount| mount.target == "/app") {
            mounts.extend(self.earlier.mounts.iter().cloned());
            // What is written there counts for the build's disk, on every tier, like what is written to /app.
            std::fs::create_dir_all(&temporary).map_err(BuildError::platform("making the build's /tmp"))?;
            mounts.push(work_mount("tmp", "/tmp"));
        }
        let plan = DynoPlan {
            dyno,
            app: self.request.app,
            uid_block: self.request.uid_block,
            name: "build.1".into(),
            root: Root::Build { build: self.request.build, mounts, working_directory: step.directory.into() },
            command: step.command.into(),
            profile: false,
            env,
            port: false,
            size: self.request.size.clone(),
            io: Io::Pipe,
            grace_seconds: 5,
            time_limit_seconds: Some(u32::try_from(time_left.as_secs() + 1).unwrap_or(u32::MAX)),
            hosts: Vec::new(),
            services: Vec::new(),
        };
        self.runtime.start(&plan).await?;
        let result = self.follow(dyno, step.show, time_left).await;
        // Kills what is left of it, and gives back what it held, whatever happened.
        let removed = self.runtime.remove(dyno).await;
        let (exit, output) = result?;
        removed?;
        let emptied = move || remove_tree(&temporary).map_err(BuildError::platform("emptying the build's /tmp"));
        crate::slug::blocking(emptied).await?;
        match exit.cause {
            ExitCause::Exited | ExitCause::Stopped | ExitCause::Killed => Ok(Finished { status: exit.status, output }),
            ExitCause::Memory => Err(self.broken(Limit::Memory)),
            ExitCause::Processes => Err(self.broken(Limit::Processes)),
            ExitCause::Time => Err(self.broken(Limit::Time)),
            ExitCause::Lost => Err(BuildError::Platform("the build's process was lost: its shim is gone".into())),
        }
    }

    async fn follow(&mut self, dyno: DynoId, show: Show, time_left: Duration) -> Result<(Exit, String), BuildError> {
        let mut stream = self.runtime.attach(dyno).await?;
        let mut lines = Lines { show, partial: Vec::new(), kept: String::new() };
        let mut buffer = vec![0; 32 * 1024];
        let began = Instant::now();
        let mut spoke = Instant::now();
        let mut disk = Disk::new(vec![self.work.clone(), self.home.join("cache").join(self.request.app.to_string())]);
        let deadline = tokio::time::sleep(time_left);
        tokio::pin!(deadline);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                read = stream.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(n) => {
                        spoke = Instant::now();
                        lines.take(&buffer[..n], &mut self.report);
                        if self.report.bytes > self.config.output_limit_bytes {
                            return Err(self.broken(Limit::Output));
                        }
                    }
                },
                () = self.cancel.cancelled() => return Err(BuildError::Cancelled),
                () = &mut deadline => return Err(self.broken(Limit::Time)),
                _ = tick.tick() => {
                    if spoke.elapsed() >= HEARTBEAT {
                        spoke = Instant::now();
                        self.report.detail(&format!("... still running ({})", seconds(began.elapsed())));
                    }
                    let limit = self.request.size.disk_mib << 20;
                    if disk.used().await.iter().zip([limit, limit * CACHE_DISKS]).any(|(used, limit)| *used > limit) {
                        return Err(self.broken(Limit::Disk));
                    }
                }
            }
        }
        lines.end(&mut self.report);
        // Its output has ended; a process that closed it and stays is still under the clock.
        let exit = tokio::select! {
            exit = self.runtime.wait(dyno) => exit?,
            () = self.cancel.cancelled() => return Err(BuildError::Cancelled),
            () = &mut deadline => return Err(self.broken(Limit::Time)),
        };
        Ok((exit, lines.kept))
    }

    fn broken(&self, which: Limit) -> BuildError {
        let size = &self.request.size;
        let (broke, next) = match which {
            Limit::Memory => (
                format!("used more than {} MiB of memory", size.memory_limit_bytes() >> 20),
                "Build with less at once (fewer parallel jobs), or have the operator raise `--build-memory`.",
            ),
            Limit::Processes => (
                format!("wanted more than {} processes and threads at once", size.pids),
                "Build with fewer parallel jobs (such as `make -j 2`), or have the operator raise `--build-processes`.",
            ),
            Limit::Time => (
                format!("took longer than {}", seconds(self.request.time_limit)),
                "Look at the last line above for what hung, or have the operator raise `--build-seconds`.",
            ),
            Limit::Output => (
                format!("wrote more than {} MiB of output", self.config.output_limit_bytes >> 20),
                "Look for a loop that prints, or have the operator raise `--build-output`.",
            ),
            Limit::Disk => (
                format!("filled more than {} MiB of disk", size.disk_mib),
                "Remove large files from the repository, make fewer in the build, or have the operator raise `--build-disk`.",
            ),
        };
        BuildError::Limit { which, broke, next }
    }
}

/// The search path of the stack.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A writable directory of the build.
pub(crate) fn work_mount(name: &str, target: &str) -> BuildMount {
    BuildMount { source: BuildSource::Work(name.into()), target: target.into(), writable: true }
}

struct Lines {
    show: Show,
    partial: Vec<u8>,
    kept: String,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], report: &mut Report<'_>) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() >= MAX_LINE {
                self.end(report);
            }
        }
    }

    fn end(&mut self, report: &mut Report<'_>) {
        if self.partial.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(&self.partial);
        let line = line.strip_suffix('\n').unwrap_or(&line);
        self.kept.push_str(line);
        self.kept.push('\n');
        if self.kept.len() > MAX_KEPT {
            let mut cut = self.kept.len() - MAX_KEPT / 2;
            while !self.kept.is_char_boundary(cut) {
                cut += 1;
            }
            self.kept.drain(..cut);
        }
        match self.show {
            Show::AsIs => report.raw(line),
            Show::Indented => report.raw(&format!("       {line}")),
            Show::Hidden => report.bytes += line.len() as u64 + 1,
        }
        self.partial.clear();
    }
}

/// Measures directories now and then.
struct Disk {
    paths: Vec<PathBuf>,
    next: Instant,
    used: Vec<u64>,
}

impl Disk {
    fn new(paths: Vec<PathBuf>) -> Self {
        Self { used: vec![0; paths.len()], paths, next: Instant::now() + DISK_CHECK }
    }

    /// Bytes in each of them.
    async fn used(&mut self) -> &[u64] {
        if Instant::now() < self.next {
            return &self.used;
        }
        let (paths, began) = (self.paths.clone(), Instant::now());
        let measured =
            tokio::task::spawn_blocking(move || paths.iter().map(|path| used_bytes(path)).collect::<Vec<_>>());
        for (used, measured) in self.used.iter_mut().zip(measured.await.unwrap_or_default()) {
            // Files come and go meanwhile; a measurement that fails is repeated at the next turn.
            *used = measured.unwrap_or(*used);
        }
        self.next = Instant::now() + DISK_CHECK.max(began.elapsed() * 20);
        &self.used
    }
}

/// Bytes that a directory takes on disk, links not followed. None when it changed under the walk.
pub(crate) fn used_bytes(path: &Path) -> Option<u64> {
    let mut used = 0;
    let spec = shipway_blobs::PackSpec {
        root: path,
        subtree: Path::new(""),
        exclude: &|_, _| false,
        limits: shipway_blobs::PackLimits { entries: u64::MAX, bytes: u64::MAX, depth: 256 },
    };
    let walked = shipway_blobs::walk(&spec, &mut |_, stat| used += u64::try_from(stat.st_blocks).unwrap_or(0) * 512);
    match walked {
        Ok(_) => Some(used),
        // Deeper than can be measured, or closed again and again, is more than anybody may have.
        Err(shipway_blobs::PackError::TooLarge { .. }) => Some(u64::MAX),
        Err(shipway_blobs::PackError::Read { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Some(u64::MAX)
        }
        Err(_) => None,
    }
}
