//! Nobody reaches the real Heroku by accident: every name of Heroku's leads to a trap on loopback, and nothing falls in.
//!
//! The session runs in a network and a mount namespace of its own, with a hosts file of its own, so that the trap can
//! hold the ports that matter. Needs root and the Heroku CLI; says so when it is skipped.

use crate::stage::{Stage, assert_done, heroku, texts};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const INSIDE: &str = "SHIPWAY_TRAP_INSIDE";
const TRAP: &str = "127.0.0.9";
/// Every host that the Heroku CLI has built in, and its git hosts.
const NAMES: [&str; 14] = [
    "api.heroku.com",
    "git.heroku.com",
    "heroku.com",
    "kolkrabbi.heroku.com",
    "particleboard.heroku.com",
    "telex.heroku.com",
    "api.metrics.heroku.com",
    "cli-auth.heroku.com",
    "backboard.heroku.com",
    "dashboard.heroku.com",
    "registry.heroku.com",
    "postgres-api.heroku.com",
    "api.data.heroku.com",
    "api.paas.herokudev.com",
];

/// Runs this test again, alone, in namespaces of its own. False inside.
fn entered_namespaces(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    if heroku().is_none() {
        eprintln!("skipped: SHIPWAY_TEST_HEROKU does not name the Heroku CLI");
        return true;
    }
    let mut probe = Command::new("unshare");
    if !probe.args(["--mount", "--net", "true"]).status().is_ok_and(|s| s.success()) {
        eprintln!("skipped: namespaces of our own need root");
        return true;
    }
    let scratch = tempfile::tempdir().unwrap();
    let hosts = scratch.path().join("hosts");
    let lines: Vec<String> = NAMES.iter().map(|name| format!("{TRAP} {name}\n")).collect();
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n{}", lines.concat())).unwrap();
    let script = r#"ip link set lo up && mount --bind "$1" /etc/hosts && exec "$2" --exact "$3" --nocapture"#;
    let output = Command::new("unshare")
        .args(["--mount", "--net", "sh", "-ec", script, "sh"])
        .args([hosts.as_os_str(), std::env::current_exe().unwrap().as_os_str(), name.as_ref()])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    assert_done(output);
    true
}

/// Counts the connections to every port of the trap that a program here could try.
fn set_trap(stage: &Stage) -> Arc<AtomicUsize> {
    let caught = Arc::new(AtomicUsize::new(0));
    for port in [22, 80, 443, stage.port] {
        let listener = TcpListener::bind((TRAP, port)).unwrap();
        let caught = caught.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                caught.fetch_add(1, Ordering::SeqCst);
                drop(stream);
            }
        });
    }
    caught
}

#[test]
fn a_mover_with_the_same_names_there_reaches_us_or_stops() {
    if entered_namespaces("trap::a_mover_with_the_same_names_there_reaches_us_or_stops") {
        return;
    }
    let stage = Stage::open();
    let caught = set_trap(&stage);
    stage.checkout();
    let repoint = "git remote add heroku https://git.heroku.com/shop.git";
    assert_done(stage.command("sh", &["-ec", repoint]).output().unwrap());

    // A shell in which the environment was evaluated.
    for line in ["heroku create shop", "heroku config:set A=1 -a shop", "heroku apps:destroy -a shop --confirm shop"] {
        assert_done(stage.shell(line).output().unwrap());
    }
    let (remote, _) = assert_done(stage.command("git", &["remote", "get-url", "heroku"]).output().unwrap());
    assert_eq!(remote.trim(), "https://git.heroku.com/shop.git", "the remote of the app there was not ours to remove");
    let push = stage.shell("git push heroku main").output().unwrap();
    assert!(!push.status.success(), "{:?}", texts(&push));

    // A new shell with a mistyped host, and the wrapper.
    assert_done(stage.shipway(&["env", "--install"]).output().unwrap());
    stage.seen();
    let wrapped = |line: &str, variables: &[(&str, &str)]| {
        let mut command = stage.command("sh", &["-ec", line]);
        let path = format!("{}:{}", stage.path("home/.shipway/bin").display(), std::env::var("PATH").unwrap());
        let cli = heroku().unwrap();
        command.env("PATH", format!("{path}:{}", cli.parent().unwrap().display()));
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let mistyped = [("HEROKU_HOST", "http://127.0.0.l:5000"), ("HEROKU_API_KEY", "the-real-one"), ("NO_PROXY", "*")];
    for line in ["heroku create shop", "heroku config:set A=1 -a shop", "heroku apps:destroy -a shop --confirm shop"] {
        assert_done(wrapped(line, &mistyped));
    }
    let seen = stage.seen();
    for line in ["POST /apps", "PATCH /apps/shop/config-vars", "DELETE /apps/shop"] {
        assert!(seen.iter().any(|s| s.line == line), "{line} did not reach us: {seen:?}");
    }
    assert!(!seen.iter().any(|s| s.authorization.contains("the-real-one")), "a token of another account was sent");

    // A new shell, and git by itself.
    for line in ["git push heroku main", "git fetch heroku", "git push git@heroku.com:shop.git main"] {
        let stopped = wrapped(line, &[]);
        assert!(!stopped.status.success(), "{line}: {:?}", texts(&stopped));
        assert!(texts(&stopped).1.contains("shipway-refuses-the-real-heroku"), "{line}: {:?}", texts(&stopped));
    }
    assert_done(wrapped(&format!("git push {}/shop.git main", stage.https()), &[]));

    // Hosts that no variable moves: they come to us by the bridge.
    for line in ["heroku notifications", "heroku apps:favorites", "heroku container:release web -a shop"] {
        wrapped(line, &[]);
    }
    let seen: Vec<String> = stage.seen().into_iter().map(|s| format!("{} {}", s.host, s.line)).collect();
    for asked in
        ["GET /user/notifications", "GET /favorites?type=app", "registry.paas.herokudev.com GET /v2/shop/web/manifests"]
    {
        assert!(seen.iter().any(|s| s.contains(asked)), "{asked} did not reach us: {seen:#?}");
    }

    let stopped =
        stage.shipway(&["--server", "https://paas.exampel.invalid", "heroku", "create", "shop"]).output().unwrap();
    assert!(!stopped.status.success(), "{:?}", texts(&stopped));
    assert_eq!(caught.load(Ordering::SeqCst), 0, "something reached the real Heroku");
}

/// What git is set to, by file and line.
fn settings_of_git(stage: &Stage) -> String {
    let listed =
        stage.command("git", &["config", "--global", "--list", "--show-origin", "--includes"]).output().unwrap();
    texts(&listed).0
}

#[test]
fn what_was_installed_is_taken_back_whole() {
    let stage = Stage::open();
    assert_done(stage.command("git", &["config", "--global", "include.path", "~/mine"]).output().unwrap());
    let before = settings_of_git(&stage);
    for _ in 0..2 {
        let (_, said) = assert_done(stage.shipway(&["env", "--install"]).output().unwrap());
        assert!(said.contains("git.heroku.com") && said.contains("env --uninstall"), "{said}");
    }
    let (doctor, _) = texts(&stage.shipway(&["doctor"]).output().unwrap());
    assert!(doctor.contains("git stops before the real Heroku in every shell"), "{doctor}");
    assert_eq!(settings_of_git(&stage).matches("include.path").count(), 2, "{}", settings_of_git(&stage));
    for _ in 0..2 {
        assert_done(stage.shipway(&["env", "--uninstall"]).output().unwrap());
    }
    assert_eq!(settings_of_git(&stage), before);
    assert!(!stage.path("home/.shipway/bin/heroku").exists());
}
