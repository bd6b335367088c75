//! `shipway up` and `shipway down` as an operator meets them: the real binary, a data directory and ports of its own.

use shipway_router::RouterClient;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_shipway");

/// A data directory; everything of it is gone when this is dropped.
struct Stage {
    place: tempfile::TempDir,
}

/// A running `up`: its process, and what it said.
struct Up {
    child: Child,
    said: BTreeMap<String, String>,
}

impl Stage {
    /// None where the platform cannot run: root without the user `shipway`, nobody without bubblewrap.
    fn new() -> Option<Self> {
        let is_root = rustix::process::geteuid().is_root();
        let needed = if is_root { ["id", "shipway"] } else { ["bwrap", "--version"] };
        let there = Command::new(needed[0]).arg(needed[1]).output().is_ok_and(|output| output.status.success());
        if !there {
            eprintln!("skipped: this machine has no {}", needed.join(" "));
            return None;
        }
        let place = tempfile::Builder::new().prefix("shipway-up-").tempdir().unwrap();
        fs::set_permissions(place.path(), PermissionsExt::from_mode(0o711)).unwrap();
        Some(Self { place })
    }

    fn home(&self) -> PathBuf {
        self.place.path().join("data")
    }

    fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        command.arg("--home").arg(self.home()).env_remove("SHIPWAY_SERVER").env("HOME", self.place.path());
        command
    }

    fn up(&self) -> Up {
        self.up_by(Path::new(BINARY))
    }

    fn up_by(&self, binary: &Path) -> Up {
        let mut command = self.command(binary);
        command.args(["up", "--listen", "127.0.0.1:0", "--router-listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BTreeMap::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((name, value)) = line.trim().split_once("  ") {
                said.insert(name.to_owned(), value.trim().to_owned());
            }
            if line.contains("logs of its parts") {
                return Up { child, said };
            }
        }
        panic!("it is not up: {}", child.wait().unwrap());
    }

    /// Runs a command that is to fail, and returns what it wrote to standard error.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.command(Path::new(BINARY)).args(arguments).output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn down(&self) -> Output {
        self.command(Path::new(BINARY)).arg("down").output().unwrap()
    }

    /// The processes of this data directory, by role. A child that has not become its program yet looks like its parent, and
    /// is none.
    fn roles(&self) -> BTreeMap<String, u32> {
        let home = self.home().into_os_string().into_string().unwrap();
        let role = |pid: u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            let mut words = line.split('\0').skip(1);
            let role = words.next()?.to_owned();
            (words.next()? == "--home" && words.next()? == home).then_some(role)
        };
        let parent = |pid: u32| -> Option<u32> {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
        };
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
        let own = pids.filter_map(|pid| Some((role(pid)?, pid)));
        own.filter(|(own, pid)| parent(*pid).and_then(role).as_ref() != Some(own)).collect()
    }

    fn router(&self) -> shipway_router::control::Status {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(RouterClient::new(&self.home()).status()).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.home().exists() {
            let output = self.down();
            assert!(output.status.success() || std::thread::panicking(), "{output:?}");
        }
    }
}

impl Up {
    /// Where the apps are, as a connection is made.
    fn apps(&self) -> String {
        format!("127.0.0.1:{}", self.said["apps"].rsplit(':').next().unwrap())
    }

    fn api(&self) -> String {
        self.said["API, git, dashboard"].trim_start_matches("http://").to_owned()
    }

    /// Ends it as Ctrl-C would.
    fn interrupt(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

/// Asks for a host that no app has and returns the status line.
fn ask(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: nobody.localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

/// Waits for a condition.
fn until(what: &str, condition: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < patience, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(pid: u32) {
    send(pid, rustix::process::Signal::KILL);
}

fn send(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn ctrl_c_leaves_the_router_and_the_next_up_finds_it() {
    let Some(stage) = Stage::new() else { return };
    let up = stage.up();
    assert_eq!(ask(&up.apps()), "HTTP/1.1 404 Not Found");
    let (apps, before) = (up.apps(), stage.roles());
    assert_eq!(before.keys().collect::<Vec<_>>(), ["router", "server", "spawner"]);
    let second = stage.refused(&["up"]);
    assert!(second.contains("is up already on") && second.contains("hint: "), "{second}");

    up.interrupt();
    assert_eq!(stage.roles().keys().collect::<Vec<_>>(), ["keeper", "router", "spawner"]);
    assert_eq!(ask(&apps), "HTTP/1.1 404 Not Found");

    let up = stage.up();
    let after = stage.roles();
    assert_eq!(up.apps(), apps, "the same socket");
    assert_eq!((after["router"], after["spawner"]), (before["router"], before["spawner"]));
    assert!(stage.down().status.success());
    assert!(stage.roles().is_empty(), "{:?}", stage.roles());
    assert!(stage.down().status.success(), "a second time does nothing");
    drop(up);
}

#[test]
fn a_router_that_dies_without_an_up_comes_back() {
    let Some(stage) = Stage::new() else { return };
    let up = stage.up();
    let apps = up.apps();
    let mut command = stage.command(Path::new(BINARY));
    assert!(command.args(["down", "--keep-apps"]).status().unwrap().success());
    assert!(!stage.roles().contains_key("server"));
    let victim = stage.roles()["router"];
    kill(victim);
    assert_eq!(ask(&apps), "HTTP/1.1 404 Not Found", "whoever comes meanwhile waits");
    until("there is another router", || stage.roles().get("router").is_some_and(|pid| *pid != victim));

    let kept = stage.router().pid;
    let up = stage.up();
    assert_eq!((up.apps(), stage.router().pid), (apps, kept), "the next up finds it");
    assert!(!stage.roles().contains_key("keeper"));
}

#[test]
fn what_dies_comes_back_and_nobody_is_refused() {
    let Some(stage) = Stage::new() else { return };
    let up = stage.up();
    for role in ["router", "server", "spawner"] {
        let victim = stage.roles()[role];
        kill(victim);
        // At once: whoever comes meanwhile waits in the socket's queue.
        match role {
            "router" => assert_eq!(ask(&up.apps()), "HTTP/1.1 404 Not Found"),
            "server" => assert!(ask(&up.api()).starts_with("HTTP/1.1 ")),
            _ => {}
        }
        until(&format!("there is another {role}"), || stage.roles().get(role).is_some_and(|pid| *pid != victim));
    }
}

#[test]
fn after_up_was_killed_the_next_one_takes_over() {
    let Some(stage) = Stage::new() else { return };
    let up = stage.up();
    let (apps, before) = (up.apps(), stage.roles());
    kill(up.child.id());
    until("it is gone", || !Path::new(&format!("/proc/{}/exe", up.child.id())).exists());
    assert_eq!(ask(&apps), "HTTP/1.1 404 Not Found", "the apps do not mind");
    let up = stage.up();
    let after = stage.roles();
    assert_eq!((up.apps(), after["router"]), (apps, before["router"]));
    assert_ne!(after["server"], before["server"], "the one that nobody watched has ended");
    assert!(!Path::new(&format!("/proc/{}/exe", before["server"])).exists());
}

#[test]
fn down_ends_an_up_that_has_just_begun() {
    let Some(stage) = Stage::new() else { return };
    // The first program that it asks for its version does not answer yet.
    let programs = stage.place.path().join("programs");
    fs::create_dir(&programs).unwrap();
    let git = programs.join("git");
    fs::write(
        &git,
        format!("#!/bin/sh\ncd {}; >asked; until [ -e answer ]; do sleep 0.01; done\n", programs.display()),
    )
    .unwrap();
    fs::set_permissions(&git, PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = stage.command(Path::new(BINARY));
    command.args(["up", "--listen", "127.0.0.1:0", "--router-listen", "127.0.0.1:0"]);
    let mut up = command.env("PATH", format!("{}:{path}", programs.display())).spawn().unwrap();
    until("it looks at the machine", || programs.join("asked").exists());
    let output = stage.down();
    fs::write(programs.join("answer"), "").unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!up.wait().unwrap().success());
    assert_eq!(stage.roles(), BTreeMap::new());
}

#[test]
fn a_newer_binary_takes_the_router_over() {
    let Some(stage) = Stage::new() else { return };
    stage.up().interrupt();
    let before = stage.router().pid;
    let newer = stage.place.path().join("shipway");
    fs::copy(BINARY, &newer).unwrap();
    let up = stage.up_by(&newer);
    assert_eq!(ask(&up.apps()), "HTTP/1.1 404 Not Found");
    assert_ne!(stage.router().pid, before);
}

#[test]
fn an_upgrade_refuses_nobody() {
    let Some(stage) = Stage::new() else { return };
    let program = stage.place.path().join("shipway");
    fs::copy(BINARY, &program).unwrap();
    let up = stage.up_by(&program);
    let (api, apps, before) = (up.api(), up.apps(), stage.roles());
    let upgrade_to = |content: &[u8]| {
        let draft = program.with_extension("new");
        fs::write(&draft, content).unwrap();
        fs::set_permissions(&draft, PermissionsExt::from_mode(0o755)).unwrap();
        fs::rename(&draft, &program).unwrap();
        send(up.child.id(), rustix::process::Signal::USR2);
    };
    // What cannot be run changes nothing.
    upgrade_to(b"not a program");
    assert!(ask(&api).starts_with("HTTP/1.1 "));

    let done = Arc::new(AtomicBool::new(false));
    let visitors = [api.clone(), apps].map(|address| {
        let done = done.clone();
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                assert!(ask(&address).starts_with("HTTP/1.1 "), "{address}");
            }
        })
    });
    upgrade_to(&fs::read(BINARY).unwrap());
    let newer = fs::metadata(&program).unwrap().ino();
    let is_newer = |pid: u32| fs::metadata(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ino() == newer);
    until("all parts are the newer program's", || {
        let roles = stage.roles();
        // The router that retires is one of them for a while yet.
        roles.len() == 3 && is_newer(roles["server"]) && is_newer(stage.router().pid) && is_newer(up.child.id())
    });
    assert!(ask(&api).starts_with("HTTP/1.1 "));
    done.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor.join().unwrap();
    }
    let after = stage.roles();
    assert_ne!(after["server"], before["server"]);
    assert_ne!(after["spawner"], before["spawner"]);
}

#[test]
fn attack_17_two_fresh_platforms_share_no_secret() {
    let (Some(one), Some(two)) = (Stage::new(), Stage::new()) else { return };
    let secrets = |stage: &Stage| {
        stage.up().interrupt();
        let token = stage.home().join("run/first-admin-token");
        let keys = fs::read_dir(stage.home().join("keys")).unwrap().map(|entry| entry.unwrap().path());
        let mut all = BTreeMap::new();
        for path in keys.chain([token]).filter(|path| path.is_file()) {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{}", path.display());
            let text = fs::read(&path).unwrap();
            assert!(text.len() >= 32, "{} is short", path.display());
            all.insert(path.file_name().unwrap().to_owned(), text);
        }
        all
    };
    let (one, two) = (secrets(&one), secrets(&two));
    assert!(one.len() >= 3 && one.keys().eq(two.keys()), "{:?} {:?}", one.keys(), two.keys());
    assert!(one.iter().all(|(name, secret)| two[name] != *secret));
}

#[test]
fn a_damaged_database_leads_to_the_backup() {
    let Some(stage) = Stage::new() else { return };
    stage.up().interrupt();
    let check = |damage: &[u8], at: u64| {
        for rest in ["-wal", "-shm"] {
            let _ = fs::remove_file(stage.home().join(format!("shipway.db{rest}")));
        }
        let mut file = fs::File::options().write(true).open(stage.home().join("shipway.db")).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(damage).unwrap();
        let said = stage.refused(&["up", "--listen", "127.0.0.1:0", "--router-listen", "127.0.0.1:0"]);
        assert!(said.contains("shipway.db is damaged: "), "{said}");
        assert!(said.contains("hint: put the last backup in its place: docs/operating.md, \"Restore\""), "{said}");
    };
    check(&[7; 4096], 100);
    check(&[7; 100], 0);
}

#[test]
fn lost_keys_are_not_made_anew() {
    let Some(stage) = Stage::new() else { return };
    stage.up().interrupt();
    stage.down();
    let (keys, kept) = (stage.home().join("keys"), stage.home().join("kept"));
    fs::rename(&keys, &kept).unwrap();
    let said = stage.refused(&["up", "--listen", "127.0.0.1:0", "--router-listen", "127.0.0.1:0"]);
    assert!(said.contains("keys/master.key is missing") && said.contains("restore it"), "{said}");
    assert!(stage.roles().is_empty(), "{:?}", stage.roles());
    let made: Vec<_> = fs::read_dir(&keys).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(made.is_empty(), "{made:?}");
    // With what was kept elsewhere all is as it was.
    fs::remove_dir(&keys).unwrap();
    fs::rename(&kept, &keys).unwrap();
    stage.up().interrupt();
}

#[test]
fn what_is_in_the_way_is_named_all_at_once_with_a_way_out() {
    let Some(stage) = Stage::new() else { return };
    let check = |listen: &str, change: &dyn Fn(&mut Command), words: &[&str]| {
        let mut command = stage.command(Path::new(BINARY));
        command.args(["up", "--listen", listen, "--router-listen", "127.0.0.1:0"]);
        change(&mut command);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && words.iter().all(|word| said.contains(word)), "{words:?} not in: {said}");
    };
    let file = stage.place.path().join("file");
    fs::write(&file, "").unwrap();
    let in_the_way = file.join("data");
    let without_git = |up: &mut Command| {
        up.env("PATH", "").arg("--home").arg(&in_the_way);
    };
    check("127.0.0.1:0", &without_git, &["git cannot be run", "apt-get install git", "file", "--home DIR"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check(&address, &|_| {}, &["is taken by", "--listen ADDRESS:PORT"]);
}
