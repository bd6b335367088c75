//! A spawner on a data directory of its own, and the words of dynos that are shells.

use async_trait::async_trait;
use shipway_domain::size::DynoSize;
use shipway_domain::{AppId, DynoId};
use shipway_logs::{Filter, Reader};
use shipway_runtime::conformance::{Bench, Words};
use shipway_runtime::{DynoPlan, Exit, Io, Root, Runtime};
use shipway_sandbox::{Config, Embedded, Tier};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A user that nobody has.
const SOMEBODY: u32 = 54_321;

/// A running spawner. Everything it made is gone when this is dropped.
pub struct Rig {
    pub config: Config,
    pub app: AppId,
    runtime: Mutex<Option<Arc<Embedded>>>,
    spawner: Mutex<Child>,
    _home: tempfile::TempDir,
}

impl Rig {
    pub async fn new(tier: Tier) -> Self {
        Self::with(tier, |_| ()).await
    }

    pub async fn with(tier: Tier, change: impl FnOnce(&mut Config)) -> Self {
        let home = tempfile::Builder::new().prefix("shipway-").tempdir().expect("a directory");
        // Dynos' own uids must be able to pass through on the bwrap tier.
        std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
        // The server is not root, even where the spawner is.
        let (uid, gid) = match nix::unistd::geteuid() {
            root if root.is_root() => (SOMEBODY, SOMEBODY),
            user => (user.as_raw(), nix::unistd::getegid().as_raw()),
        };
        std::os::unix::fs::chown(home.path(), Some(uid), Some(gid)).expect("an owner");
        let mut config = Config::new(home.path(), tier, uid, gid);
        change(&mut config);
        let spawner = Mutex::new(spawner(&config));
        let rig = Self { config, app: AppId(uuid::Uuid::new_v4()), runtime: Mutex::default(), spawner, _home: home };
        rig.greet().await;
        rig
    }

    /// Connects once the spawner answers.
    async fn greet(&self) {
        let patience = Instant::now() + Duration::from_secs(20);
        let embedded = loop {
            match Embedded::connect(&self.config.home).await {
                Ok(embedded) => break embedded,
                Err(e) => assert!(Instant::now() < patience, "the spawner does not come up: {e}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        *self.runtime.lock().expect("a lock") = Some(Arc::new(embedded));
    }

    pub fn embedded(&self) -> Arc<Embedded> {
        self.runtime.lock().expect("a lock").clone().expect("greeted")
    }

    /// `kill -9` of the spawner, and a new one.
    pub async fn restart_spawner(&self) {
        {
            let mut spawner = self.spawner.lock().expect("a lock");
            spawner.kill().and_then(|()| spawner.wait()).expect("it dies");
            *spawner = self::spawner(&self.config);
        }
        self.greet().await;
    }

    pub fn plan_of(&self, app: AppId, uid_block: u32, command: &str) -> DynoPlan {
        let path = "/usr/local/bin:/usr/bin:/bin";
        DynoPlan {
            dyno: DynoId(uuid::Uuid::new_v4()),
            app,
            uid_block,
            name: "web.1".into(),
            root: Root::Slug { layers: Vec::new() },
            command: command.into(),
            profile: true,
            env: [("PATH", path), ("HOME", "/app")].map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
            port: false,
            size: DynoSize { name: "test".into(), memory_mib: 48, cpu_weight: 100, pids: 64, disk_mib: 64 },
            io: Io::Log,
            grace_seconds: 1,
            time_limit_seconds: None,
            hosts: Vec::new(),
            services: Vec::new(),
        }
    }

    pub fn shell(&self, command: &str) -> DynoPlan {
        self.plan_of(self.app, 1, command)
    }

    /// Runs a dyno to its end: its exit and its lines.
    pub async fn outcome(&self, plan: &DynoPlan) -> (Exit, Vec<String>) {
        let runtime = self.embedded();
        runtime.start(plan).await.unwrap_or_else(|e| panic!("start: {e}"));
        let exit = tokio::time::timeout(Duration::from_secs(60), runtime.wait(plan.dyno)).await;
        let exit = exit.expect("it ends").unwrap_or_else(|e| panic!("wait: {e}"));
        let lines = self.lines(plan);
        runtime.remove(plan.dyno).await.unwrap_or_else(|e| panic!("remove: {e}"));
        (exit, lines)
    }

    /// What a dyno wrote to its log so far.
    pub fn lines(&self, plan: &DynoPlan) -> Vec<String> {
        lines(self.config.home.join("logs").join(plan.app.to_string()), plan.dyno)
    }

    /// Waits until a line satisfies `wanted`.
    pub async fn line(&self, plan: &DynoPlan, wanted: impl Fn(&str) -> bool) -> String {
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            let lines = self.lines(plan);
            if let Some(line) = lines.iter().find(|line| wanted(line)) {
                return line.clone();
            }
            assert!(Instant::now() < patience, "the line does not come: {lines:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Ok(mut spawner) = self.spawner.lock() {
            let _ = spawner.kill().and_then(|()| spawner.wait());
        }
        let purged = shipway_sandbox::purge(&self.config.home);
        if !std::thread::panicking() {
            purged.expect("everything can be removed");
        }
    }
}

fn spawner(config: &Config) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("an executable"));
    command.arg("spawner").arg(serde_json::to_string(config).expect("JSON"));
    if config.tier == Tier::Bwrap && nix::unistd::geteuid().is_root() {
        command.uid(config.uid).gid(config.gid);
    }
    command.spawn().expect("the spawner starts")
}

fn lines(app_dir: PathBuf, dyno: DynoId) -> Vec<String> {
    let Ok((entries, _)) = Reader::last(&app_dir, Filter::default(), 100_000) else { return Vec::new() };
    let own = entries.iter().filter(|entry| *entry.id.writer == *dyno.to_string());
    own.map(|entry| String::from_utf8_lossy(&entry.message).into_owned()).collect()
}

/// Listens on `$PORT` and answers every request.
pub const LISTEN: &str = r#"exec perl -MIO::Socket::INET -e '
  my $s = IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => $ENV{PORT}, Listen => 64, ReuseAddr => 1) or die $!;
  while (my $c = $s->accept) {
    while (my $l = <$c>) { last if $l =~ /^\r?\n$/ }
    print $c "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"; close $c;
  }'"#;

#[async_trait]
impl Bench for Rig {
    fn runtime(&self) -> Arc<dyn Runtime> {
        self.embedded()
    }

    async fn restarted(&self) -> Arc<dyn Runtime> {
        self.restart_spawner().await;
        self.runtime()
    }

    fn plan(&self) -> DynoPlan {
        self.shell("true")
    }

    fn words(&self) -> Words {
        let root = self.config.tier == Tier::Root;
        Words {
            listen: LISTEN,
            lines: "echo one; echo two >&1; printf three",
            exit_3: "exit 3",
            sleep: "exec sleep 1000",
            deaf: "trap '' TERM; echo deaf; while :; do sleep 1000; done",
            cat: "exec cat",
            by_name: Some("echo out >/dev/stdout && echo err >/dev/stderr"),
            greeting: r#"printf '%s\n' "$GREETING""#,
            missing: "no-such-program",
            terminal: Some("stty size; read line; stty size"),
            long_line: Some(r#"exec perl -e 'print "\xc3\xa4" x 12000, "\n"'"#),
            memory_hog: Some(r#"exec perl -e 'push @a, "x" x 1000000 while 1'"#),
            fork_bomb: Some(
                r#"perl -e 'for (1..200) { my $p = fork; if (!defined $p) { print "bounded\n"; last } if (!$p) { sleep 60; exit } }'; exec sleep 60"#,
            ),
            disk_filler: Some("cat /dev/zero >/app/full; cat /dev/zero >/tmp/full; echo full; exec sleep 60"),
            grandchild: root.then_some(
                r#"((trap 'sleep 0.2; echo "child gone"; exit' TERM; echo ready; while :; do sleep 0.05; done) &); exec sleep 1000"#,
            ),
        }
    }

    async fn log(&self, plan: &DynoPlan) -> Vec<String> {
        self.lines(plan)
    }
}
