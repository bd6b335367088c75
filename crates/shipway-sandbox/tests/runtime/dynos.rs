//! Dynos that mean well.

use crate::rig::Rig;
use crate::{Case, TIERS};
use shipway_domain::{BuildId, Digest};
use shipway_runtime::{BuildMount, BuildSource, ExitCause, Io, Root, Runtime, RuntimeError, conformance};
use shipway_sandbox::Tier;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs a case to its end.
pub fn on(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(case);
}

pub fn bwrap() -> Vec<Case> {
    vec![
        ("bwrap_conforms", || on(conforms(TIERS[0]))),
        ("bwrap_slug_is_a_stack_of_layers", || on(a_slug_is_a_stack_of_layers(TIERS[0]))),
        ("bwrap_build_writes_what_the_server_owns", || on(a_build_writes_what_the_server_owns(TIERS[0]))),
        ("bwrap_attack_44_build_that_breaks_a_limit_is_named", || on(a_build_that_breaks_a_limit_is_named(TIERS[0]))),
        ("bwrap_lost_dyno_is_named", || on(a_lost_dyno_is_named(TIERS[0]))),
        ("bwrap_forgets_who_stopped_waiting", || on(who_stopped_waiting_is_forgotten(TIERS[0]))),
    ]
}

pub fn root() -> Vec<Case> {
    vec![
        ("root_conforms", || on(conforms(Tier::Root))),
        ("root_slug_is_a_stack_of_layers", || on(a_slug_is_a_stack_of_layers(Tier::Root))),
        ("root_build_writes_what_the_server_owns", || on(a_build_writes_what_the_server_owns(Tier::Root))),
        ("root_attack_44_build_that_breaks_a_limit_is_named", || on(a_build_that_breaks_a_limit_is_named(Tier::Root))),
        ("root_lost_dyno_is_named", || on(a_lost_dyno_is_named(Tier::Root))),
        ("root_forgets_who_stopped_waiting", || on(who_stopped_waiting_is_forgotten(Tier::Root))),
        ("root_build_gives_way_and_goes_on", || on(a_build_gives_way_and_goes_on())),
        ("root_leaves_nothing_behind", || on(nothing_is_left_behind())),
        ("root_measures", || on(measures())),
    ]
}

/// Waits until somebody accepts connections at `endpoint`.
pub async fn listens(endpoint: SocketAddr) {
    let patience = Instant::now() + Duration::from_secs(20);
    while tokio::net::TcpStream::connect(endpoint).await.is_err() {
        assert!(Instant::now() < patience, "nobody listens at {endpoint}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn conforms(tier: Tier) {
    let rig = Rig::new(tier).await;
    conformance::run(&rig).await;
}

fn layer(rig: &Rig, digit: char, files: &[(&str, &str)]) -> Digest {
    let digest: Digest = format!("sha256:{}", digit.to_string().repeat(64)).parse().expect("a digest");
    for (name, text) in files {
        let path = rig.config.home.join("layers").join(digest.hex()).join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(&path, text).expect("a file");
    }
    own(rig, "layers");
    digest
}

/// Gives a part of the data directory to the server's user.
fn own(rig: &Rig, name: &str) {
    let owner = format!("{}:{}", rig.config.uid, rig.config.gid);
    let path = rig.config.home.join(name);
    assert!(Command::new("chown").arg("-R").arg(owner).arg(path).status().expect("chown runs").success());
}

async fn a_slug_is_a_stack_of_layers(tier: Tier) {
    let rig = Rig::new(tier).await;
    let low = layer(&rig, 'a', &[("file", "low"), ("lib/dependency", "low")]);
    let high = layer(&rig, 'b', &[("file", "high"), (".profile.d/x.sh", "export FROM_PROFILE=yes")]);
    let script = "cat file lib/dependency; echo $FROM_PROFILE $(pwd); stat -c %u file; echo mine >file; rm lib/dependency; ls lib | wc -l; cat file";
    let mut plan = rig.shell(script);
    plan.root = Root::Slug { layers: vec![low.clone(), high.clone()] };
    for _ in 0..2 {
        plan.dyno = shipway_domain::DynoId(uuid::Uuid::new_v4());
        let (exit, lines) = rig.outcome(&plan).await;
        assert_eq!(exit.status, 0, "{lines:?}");
        assert_eq!(lines, ["highlowyes /app", "1000", "0", "mine"], "the same for every dyno");
    }
    let missing: Digest = format!("sha256:{}", "c".repeat(64)).parse().expect("a digest");
    let mut plan = rig.shell("true");
    plan.root = Root::Slug { layers: vec![low, missing.clone()] };
    let error = rig.embedded().start(&plan).await.expect_err("a layer is missing");
    assert!(matches!(error, RuntimeError::MissingLayer(layer) if layer == missing));
    assert!(rig.embedded().list().await.expect("a list").is_empty(), "a dyno that did not start is not listed");
}

async fn a_build_writes_what_the_server_owns(tier: Tier) {
    let rig = Rig::new(tier).await;
    let build = BuildId(uuid::Uuid::new_v4());
    let work = format!("work/{build}/app");
    let cache = format!("cache/{}", rig.app);
    let buildpack = format!("buildpacks/{}", "d".repeat(64));
    for name in [&work, &cache, &buildpack] {
        std::fs::create_dir_all(rig.config.home.join(name)).expect("a directory");
    }
    std::fs::write(rig.config.home.join(&work).join("Procfile"), "web: x").expect("a file");
    for name in ["work", "cache", "buildpacks"] {
        own(&rig, name);
    }
    let mount = |source, target: &str, writable| BuildMount { source, target: target.into(), writable };
    let mut plan = rig.shell(
        "stat -c %u Procfile; echo built >built && echo kept >/cache/kept && echo t >/tmp/t; touch /buildpack/x 2>/dev/null || echo shared; pwd >/dev/stdout; echo error >/dev/stderr",
    );
    plan.name = "build.1".into();
    plan.io = Io::Pipe;
    plan.root = Root::Build {
        build,
        mounts: vec![
            mount(BuildSource::Work("app".into()), "/build/app", true),
            mount(BuildSource::Cache, "/cache", true),
            mount(BuildSource::Buildpack("d".repeat(64)), "/buildpack", false),
        ],
        working_directory: "/build/app".into(),
    };
    rig.embedded().start(&plan).await.unwrap_or_else(|e| panic!("start: {e}"));
    let mut stream = rig.embedded().attach(plan.dyno).await.expect("a stream");
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await.expect("text");
    assert_eq!(text, "1000\nshared\n/build/app\nerror\n");
    for name in [format!("{work}/built"), format!("{cache}/kept")] {
        let owner = std::fs::metadata(rig.config.home.join(&name)).unwrap_or_else(|e| panic!("{name}: {e}")).uid();
        assert_eq!(owner, rig.config.uid, "{name}");
    }
    // Places and names that an honest builder does not use.
    for bad in ["/etc", "/usr/x", "/a/../etc", "relative", "/", "/build//x"] {
        let mut plan = plan.clone();
        plan.dyno = shipway_domain::DynoId(uuid::Uuid::new_v4());
        plan.root =
            Root::Build { build, mounts: vec![mount(BuildSource::Cache, bad, true)], working_directory: "/tmp".into() };
        assert!(rig.embedded().start(&plan).await.is_err(), "{bad}");
    }
    for bad in ["../x", "..", "", "a/b", ".hidden", "missing"] {
        let mut plan = plan.clone();
        plan.dyno = shipway_domain::DynoId(uuid::Uuid::new_v4());
        plan.root = Root::Build {
            build,
            mounts: vec![mount(BuildSource::Work(bad.into()), "/x", true)],
            working_directory: "/x".into(),
        };
        assert!(rig.embedded().start(&plan).await.is_err(), "{bad}");
    }
}

/// The command that breaks the limit is not the build's first process, which ends in words of its own, or goes on.
async fn a_build_that_breaks_a_limit_is_named(tier: Tier) {
    const HOG: &str = r#"perl -e 'push @a, "x" x 1000000 while 1'; "#;
    const FORKS: &str = r#"perl -e 'for (1..200) { my $p = fork // last; if (!$p) { sleep 60; exit } }'; "#;
    let rig = Rig::new(tier).await;
    let build = BuildId(uuid::Uuid::new_v4());
    std::fs::create_dir_all(rig.config.home.join(format!("work/{build}/app"))).expect("a directory");
    own(&rig, "work");
    let check = async |command: String, expected: ExitCause| {
        let mut plan = rig.shell(&command);
        plan.name = "build.1".into();
        plan.io = Io::Pipe;
        // Without a control group, what processes share counts for each of them.
        plan.size.memory_mib = if expected == ExitCause::Memory { 48 } else { 512 };
        let app = BuildMount { source: BuildSource::Work("app".into()), target: "/app".into(), writable: true };
        plan.root = Root::Build { build, mounts: vec![app], working_directory: "/app".into() };
        let (exit, _) = rig.outcome(&plan).await;
        assert_eq!(exit.cause, expected, "{command}: {exit:?}");
    };
    check(format!("{HOG} sleep 60"), ExitCause::Memory).await;
    check(format!("{FORKS} sleep 60"), ExitCause::Processes).await;
    // Nearly as many as it may have.
    check("for i in $(seq 60); do sleep 0.7 & done; wait; exit 1".into(), ExitCause::Exited).await;
    if tier == Tier::Root {
        // The kernel counts, so that nothing that is over before anybody looks is missed.
        check(format!("{HOG} echo failed; exit 1"), ExitCause::Memory).await;
        check(format!("{FORKS} echo failed; exit 1"), ExitCause::Processes).await;
    }
    check("exit 1".into(), ExitCause::Exited).await;
}

/// Dynos that burn every processor: a build has none of it by right, and comes to its end all the same.
async fn a_build_gives_way_and_goes_on() {
    const BURN: &str = "for i in $(seq $((2 * $(nproc)))); do while :; do :; done & done; echo burning; wait";
    let rig = Rig::new(Tier::Root).await;
    let tag = std::fs::read_to_string(rig.config.home.join("run/network")).expect("a tag");
    let builds = format!("/sys/fs/cgroup/*shipway-{tag}-builds");
    let found = Command::new("find").args(["/sys/fs/cgroup", "-path", &format!("{builds}/cpu.idle")]).output();
    let found = String::from_utf8(found.expect("it runs").stdout).expect("text");
    for file in found.lines() {
        assert_eq!(std::fs::read_to_string(file).expect("a file").trim(), "1", "{file}");
    }
    assert_eq!(found.lines().count(), 1, "{found}");

    let mut hog = rig.plan_of(shipway_domain::AppId(uuid::Uuid::new_v4()), 2, BURN);
    hog.size.cpu_weight = 1000;
    rig.embedded().start(&hog).await.expect("it starts");
    rig.line(&hog, |line| line == "burning").await;
    let build = BuildId(uuid::Uuid::new_v4());
    std::fs::create_dir_all(rig.config.home.join(format!("work/{build}/app"))).expect("a directory");
    own(&rig, "work");
    // A third of a second of a processor: if it only ever gave way, it would take minutes.
    let mut plan = rig.shell("perl -e 'while ((times)[0] < 0.33) {}'");
    plan.name = "build.1".into();
    let app = BuildMount { source: BuildSource::Work("app".into()), target: "/app".into(), writable: true };
    plan.root = Root::Build { build, mounts: vec![app], working_directory: "/app".into() };
    let (exit, _) = rig.outcome(&plan).await;
    assert_eq!((exit.status, exit.cause), (0, ExitCause::Exited));
    rig.embedded().remove(hog.dyno).await.expect("it is removed");
}

async fn a_lost_dyno_is_named(tier: Tier) {
    let rig = Rig::new(tier).await;
    let plan = rig.shell("echo up; exec sleep 1000");
    rig.embedded().start(&plan).await.expect("it starts");
    rig.line(&plan, |l| l == "up").await;
    let record = rig.config.home.join("run/dynos").join(plan.dyno.to_string()).join("record.json");
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(record).expect("a record")).expect("JSON");
    let shim = record["shim"].as_u64().expect("a pid").to_string();
    let waiting = tokio::spawn({
        let (runtime, dyno) = (rig.embedded(), plan.dyno);
        async move { runtime.wait(dyno).await }
    });
    assert!(Command::new("kill").args(["-9", &shim]).status().expect("kill runs").success());
    let exit = waiting.await.expect("a task").expect("an exit");
    assert_eq!((exit.status, exit.cause), (137, ExitCause::Lost));
    assert_eq!(rig.embedded().observe(plan.dyno).await.expect("it is known").exit, Some(exit));
    rig.embedded().stop(plan.dyno).await.expect("nothing to stop is no error");
    rig.embedded().remove(plan.dyno).await.expect("it can be removed");
    let again = rig.shell("echo well");
    assert_eq!(rig.outcome(&again).await.1, ["well"]);
}

async fn who_stopped_waiting_is_forgotten(tier: Tier) {
    let rig = Rig::new(tier).await;
    let plan = rig.shell("echo up; exec sleep 1000");
    rig.embedded().start(&plan).await.expect("it starts");
    rig.line(&plan, |l| l == "up").await;
    // More than a shim listens to at a time, each for long enough to be heard.
    for _ in 0..100 {
        let waited = tokio::time::timeout(Duration::from_millis(5), rig.embedded().wait(plan.dyno)).await;
        assert!(waited.is_err(), "it runs on");
    }
    rig.embedded().usage(plan.dyno).await.expect("it answers");
    rig.embedded().stop(plan.dyno).await.expect("it stops");
    assert_eq!(rig.embedded().wait(plan.dyno).await.expect("an exit").cause, ExitCause::Stopped);
}

/// What the kernel and the disk hold for a data directory.
fn held(home: &std::path::Path) -> Vec<String> {
    let text = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().expect("it runs").stdout;
        String::from_utf8_lossy(&output).into_owned()
    };
    let home = home.display().to_string();
    let mut held: Vec<String> = Vec::new();
    for listing in [text("cat", &["/proc/self/mountinfo"]), text("losetup", &["-a"])] {
        held.extend(listing.lines().filter(|l| l.contains(&home)).map(str::to_owned));
    }
    let groups = text("find", &["/sys/fs/cgroup", "-maxdepth", "2", "-type", "d", "-name", "shipway-*"]);
    held.extend(groups.lines().map(str::to_owned));
    held.extend(text("nft", &["list", "tables"]).lines().filter(|l| l.contains("shipway_")).map(str::to_owned));
    held.extend(text("ip", &["-o", "link"]).lines().filter(|l| l.contains(": sw")).map(str::to_owned));
    held.extend(text("ip", &["-4", "-o", "addr", "show", "dev", "lo"]).lines().skip(1).map(str::to_owned));
    held
}

async fn nothing_is_left_behind() {
    let rig = Rig::new(Tier::Root).await;
    let home = rig.config.home.clone();
    let mut plan = rig.shell(crate::rig::LISTEN);
    plan.port = true;
    listens(rig.embedded().start(&plan).await.expect("it starts").endpoints[0]).await;
    let before = held(&home);
    assert!(!before.is_empty());
    drop(rig);
    // Networks are taken down by the kernel in its own time.
    let patience = Instant::now() + Duration::from_secs(20);
    let group = before.iter().find_map(|l| l.split("shipway-").nth(1)).expect("a control group");
    let tag = group.trim_end_matches("-builds").to_owned();
    while held(&home).iter().any(|l| l.contains(&tag) || l.contains(&home.display().to_string())) {
        assert!(Instant::now() < patience, "left: {:?}", held(&home));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Prints what a dyno costs: the time that the sandbox adds to a bare process, and what its shim holds.
async fn measures() {
    let rig = Rig::new(Tier::Root).await;
    let low = layer(&rig, 'a', &[("file", "low")]);
    let mut added = Vec::new();
    for _ in 0..20 {
        let mut plan = rig.shell("true");
        plan.root = Root::Slug { layers: vec![low.clone()] };
        let begun = Instant::now();
        rig.embedded().start(&plan).await.expect("it starts");
        rig.embedded().wait(plan.dyno).await.expect("it ends");
        let sandboxed = begun.elapsed();
        let begun = Instant::now();
        Command::new("/bin/bash").args(["-c", "true"]).status().expect("bash runs");
        added.push(sandboxed.saturating_sub(begun.elapsed()));
        rig.embedded().remove(plan.dyno).await.expect("it goes");
        // A burst would measure how fast the pool is filled.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    added.sort();
    println!("a dyno adds {:.1} ms to a bare process (median; worst {:.1})", ms(added[10]), ms(added[19]));
    let plan = rig.shell("echo up; exec sleep 1000");
    rig.embedded().start(&plan).await.expect("it starts");
    rig.line(&plan, |l| l == "up").await;
    let listed = Command::new("pgrep").args(["-f", "^/proc/self/exe shim"]).output().expect("pgrep runs").stdout;
    for pid in String::from_utf8_lossy(&listed).lines() {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let anon = status.lines().find(|l| l.starts_with("RssAnon")).unwrap_or_default().to_owned();
        println!("shim or init {pid}: {anon}");
    }
    let lines = 1_000_000;
    let plan =
        rig.shell(&format!("exec perl -e '$l = \"{}\\n\" x 1000; print $l for 1..{}'", "x".repeat(99), lines / 1000));
    let begun = Instant::now();
    rig.embedded().start(&plan).await.expect("it starts");
    rig.embedded().wait(plan.dyno).await.expect("it ends");
    println!("{:.2} million lines of 100 bytes per second", lines as f64 / 1e6 / begun.elapsed().as_secs_f64());
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
