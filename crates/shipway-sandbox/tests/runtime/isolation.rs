//! The table of what parts an app from the rest, by tier: each cell, and the cases that try it.
//!
//! Without root the spawner and the dynos run as a user that nobody has, beside a root that started this.

use crate::attacks::{a_flood_loses_nothing, another_app, reaches, says};
use crate::dynos::{listens, on};
use crate::rig::{LISTEN, Rig};
use crate::{Case, attacks, dynos};
use shipway_runtime::{Capabilities, DynoPlan, Exit, ExitCause, MemoryLimit, Runtime};
use shipway_sandbox::Tier;
use shipway_sandbox::doctor::ISOLATION;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What a tier's cell says, and the cases that hold it to that.
type Cell = (&'static str, &'static [&'static str]);

/// The table again: the protection, the `root` tier, the `bwrap` tier.
const TRIED: &[(&str, Cell, Cell)] = &[
    (
        "Other apps' files, the platform's data and sockets",
        ("hidden", &["attack_17_sockets_and_data_of_the_platform_are_hidden"]),
        ("hidden", &["bwrap_attack_17_files_and_processes_are_hidden"]),
    ),
    (
        "Other apps' processes",
        (
            "hidden",
            &["attack_17_sockets_and_data_of_the_platform_are_hidden", "attack_29_a_dyno_cannot_leave_its_sandbox"],
        ),
        ("hidden", &["bwrap_attack_17_files_and_processes_are_hidden"]),
    ),
    (
        "Users",
        ("a block of 65,536 uids per app", &["root_apps_have_users_and_shares_of_their_own"]),
        ("one user for all apps", &["bwrap_is_one_user_without_capabilities"]),
    ),
    (
        "Capabilities, new privileges",
        ("none", &["attack_29_a_dyno_cannot_leave_its_sandbox"]),
        ("none", &["bwrap_is_one_user_without_capabilities"]),
    ),
    (
        "System calls",
        ("an administrator's and new namespaces refused", &["attack_29_a_dyno_cannot_leave_its_sandbox"]),
        ("all", &["bwrap_is_one_user_without_capabilities"]),
    ),
    (
        "Other dynos' ports",
        ("out of reach", &["attack_29_neighbours_and_host_are_out_of_reach"]),
        ("within reach", &["bwrap_shares_network_disk_and_processor"]),
    ),
    (
        "The host's loopback, gateway, link-local addresses",
        ("out of reach", &["attack_29_neighbours_and_host_are_out_of_reach"]),
        ("within reach", &["bwrap_shares_network_disk_and_processor"]),
    ),
    (
        "Memory",
        ("limited by the kernel", &["root_apps_have_users_and_shares_of_their_own", "root_conforms"]),
        ("watched five times a second", &["bwrap_attack_44_memory_and_processes_are_bounded", "bwrap_conforms"]),
    ),
    (
        "Processes",
        ("limited by the kernel", &["root_apps_have_users_and_shares_of_their_own", "root_conforms"]),
        (
            "limited by the kernel (RLIMIT_NPROC)",
            &["bwrap_attack_44_memory_and_processes_are_bounded", "bwrap_conforms"],
        ),
    ),
    (
        "Disk",
        ("a file system of its own", &["root_conforms", "attack_44_hogs_hurt_their_own_dyno_only"]),
        ("the host's", &["bwrap_shares_network_disk_and_processor"]),
    ),
    (
        "Processor",
        (
            "shares by weight; builds have what nobody else wants",
            &["root_apps_have_users_and_shares_of_their_own", "root_build_gives_way_and_goes_on"],
        ),
        ("shared", &["bwrap_shares_network_disk_and_processor"]),
    ),
    (
        "A log flood",
        ("slows the dyno that writes", &["attack_44_a_flood_is_slowed_and_nothing_lost"]),
        ("slows the dyno that writes", &["bwrap_attack_44_a_flood_is_slowed_and_nothing_lost"]),
    ),
];

pub fn table() -> Vec<Case> {
    vec![("isolation_has_cases_for_every_cell", every_cell_has_cases)]
}

pub fn bwrap() -> Vec<Case> {
    vec![
        ("bwrap_attack_17_files_and_processes_are_hidden", || on(files_and_processes_are_hidden())),
        ("bwrap_is_one_user_without_capabilities", || on(one_user_without_capabilities())),
        ("bwrap_shares_network_disk_and_processor", || on(network_disk_and_processor_are_shared())),
        ("bwrap_attack_44_memory_and_processes_are_bounded", || on(memory_and_processes_are_bounded())),
        ("bwrap_attack_44_a_flood_is_slowed_and_nothing_lost", || on(a_flood_loses_nothing(Tier::Bwrap))),
    ]
}

pub fn root() -> Vec<Case> {
    vec![("root_apps_have_users_and_shares_of_their_own", || on(users_and_shares_of_their_own()))]
}

fn every_cell_has_cases() {
    let said: Vec<_> = TRIED.iter().map(|(what, root, bwrap)| (*what, root.0, bwrap.0)).collect();
    assert_eq!(said, ISOLATION, "what `shipway doctor` prints, and what is tried here");
    let on_root = [dynos::root(), attacks::all(), root()].concat();
    let on_bwrap = [dynos::bwrap(), bwrap()].concat();
    for (what, root, bwrap) in TRIED {
        for (tier, cell, there) in [("root", root, &on_root), ("bwrap", bwrap, &on_bwrap)] {
            assert!(!cell.1.is_empty(), "{what}, {tier}: nothing tries it");
            for name in cell.1 {
                assert!(there.iter().any(|(case, _)| case == name), "{what}, {tier}: there is no case {name}");
            }
        }
    }
}

/// What a shell of the server's user finds outside of every sandbox.
fn outside(rig: &Rig, script: &str) -> String {
    let mut shell = Command::new("bash");
    if nix::unistd::geteuid().is_root() {
        shell.uid(rig.config.uid).gid(rig.config.gid);
    }
    let output = shell.args(["-c", script]).current_dir("/").output().expect("bash runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The pid of a dyno's shim.
fn shim(rig: &Rig, plan: &DynoPlan) -> String {
    record(rig, plan)["shim"].to_string()
}

fn record(rig: &Rig, plan: &DynoPlan) -> serde_json::Value {
    let file = rig.config.home.join("run/dynos").join(plan.dyno.to_string()).join("record.json");
    serde_json::from_slice(&fs::read(file).expect("a record")).expect("JSON")
}

async fn runs(rig: &Rig, plan: &DynoPlan) {
    rig.embedded().start(plan).await.unwrap_or_else(|e| panic!("start: {e}"));
}

async fn files_and_processes_are_hidden() {
    let rig = Rig::new(Tier::Bwrap).await;
    let home = rig.config.home.display().to_string();
    fs::write(rig.config.home.join("shipway.db"), "secret").expect("a file");
    let other = another_app(&rig, "echo mine >/app/file; echo mine >/tmp/file; echo there; exec sleep 4321");
    runs(&rig, &other).await;
    rig.line(&other, |line| line == "there").await;
    // All of it would be there for the same user without a sandbox.
    let shim = shim(&rig, &other);
    let script =
        format!("cat {home}/shipway.db {home}/run/dynos/*/app/file; kill -0 {shim} && pgrep -fc '^sleep 4321$'");
    assert_eq!(outside(&rig, &script), "secretmine\n1");
    let script = format!(
        r#"for place in '{home}' /app/file /tmp/file /var/lib /etc/shadow; do test -e "$place" && echo "$place is there"; done
        find / /app /tmp /run /var /home /root -xdev '(' -name '*.sock' -o -name shipway.db -o -name record.json ')' 2>/dev/null
        touch /usr/x /etc/x 2>&1 | grep -c Read-only
        pgrep -fc '^sleep 4321$'
        kill -0 {shim} 2>/dev/null && echo 'its shim is there'
        cat /proc/[0-9]*/environ | tr '\0' '\n' | grep SHIPWAY
        test "$(ps -e --no-headers | wc -l)" -le 6 && echo alone"#
    );
    assert_eq!(says(&rig, &script).await, ["2", "0", "alone"]);
}

async fn one_user_without_capabilities() {
    let rig = Rig::new(Tier::Bwrap).await;
    let (one, two) = (
        rig.shell("touch /app/made && echo made && exec sleep 1000"),
        another_app(&rig, "touch /app/made && echo made && exec sleep 1000"),
    );
    for plan in [&one, &two] {
        runs(&rig, plan).await;
        rig.line(plan, |line| line == "made").await;
        let made = rig.config.home.join("run/dynos").join(plan.dyno.to_string()).join("app/made");
        assert_eq!(fs::metadata(made).expect("a file").uid(), rig.config.uid, "the server's own user");
    }
    let status = says(&rig, "id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs):' /proc/self/status | tr -d '\\t'").await;
    assert_eq!(status, ["1000", "CapEff:0000000000000000", "CapBnd:0000000000000000", "NoNewPrivs:1"]);
    let own = "cp /usr/bin/id /app/id && chmod u+s /app/id && /app/id -u";
    assert_eq!(says(&rig, own).await, ["1000"], "a set-user-id program of the app's own gains nothing");
    let filters = "grep -E '^Seccomp' /proc/self/status";
    assert_eq!(says(&rig, filters).await.join("\n"), outside(&rig, filters), "no system call is filtered");
}

async fn network_disk_and_processor_are_shared() {
    let rig = Rig::new(Tier::Bwrap).await;
    let can = rig.embedded().capabilities();
    assert_eq!((can.own_network, can.neighbours_blocked, can.disk, can.cpu), (false, false, false, false));
    let mut neighbour = another_app(&rig, LISTEN);
    neighbour.port = true;
    let there = rig.embedded().start(&neighbour).await.expect("it starts").endpoints[0];
    listens(there).await;
    let loopback = TcpListener::bind("127.0.0.1:0").expect("a port");
    assert_eq!(reaches(&rig, &[there, loopback.local_addr().expect("an address")]).await, [true, true]);
    // The gateway, link-local addresses: whatever the host reaches.
    let network = "readlink /proc/self/ns/net";
    assert_eq!(says(&rig, network).await, [outside(&rig, network)]);
    let device = fs::metadata(&rig.config.home).expect("a directory").dev().to_string();
    assert_eq!(says(&rig, "stat -c %d /app /tmp").await, [device.clone(), device]);
    // The same control groups and the same niceness as whoever started the platform.
    let groups = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its groups");
    let first = outside(&rig, &format!("pgrep -P {}", shim(&rig, &neighbour)));
    assert_eq!(groups(&first), groups("self"));
    let nice = "ps -o ni= -p $$";
    assert_eq!(says(&rig, nice).await.concat().trim(), outside(&rig, nice));
}

async fn memory_and_processes_are_bounded() {
    let rig = Rig::new(Tier::Bwrap).await;
    let can = rig.embedded().capabilities();
    assert_eq!((can.memory, can.pids), (MemoryLimit::Watched, true));
    let mut neighbour = another_app(&rig, LISTEN);
    neighbour.port = true;
    let there = rig.embedded().start(&neighbour).await.expect("it starts").endpoints[0];
    listens(there).await;
    // Not the process that the dyno begins with.
    let (exit, _) = rig.outcome(&rig.shell(r#"perl -e 'push @a, "x" x 1000000 while 1'; sleep 60"#)).await;
    assert_eq!(exit, Exit { status: 137, cause: ExitCause::Memory });
    listens(there).await;
    // Its own processes alone count, though all apps are one user.
    let forks = rig.shell(
        r#"ulimit -u; perl -e 'for (1..200) { my $p = fork; if (!defined $p) { print "bounded\n"; last } if (!$p) { sleep 60; exit } }'; exec sleep 60"#,
    );
    runs(&rig, &forks).await;
    rig.line(&forks, |line| line == "bounded").await;
    assert_eq!(rig.lines(&forks), [forks.size.pids.to_string(), "bounded".into()]);
    listens(there).await;
    let (exit, lines) = rig.outcome(&another_app(&rig, "(echo well)")).await;
    assert_eq!((exit.status, lines), (0, vec!["well".to_owned()]), "an app beside it");
}

async fn users_and_shares_of_their_own() {
    let rig = Rig::new(Tier::Root).await;
    let all = Capabilities {
        tier: "root",
        own_network: true,
        neighbours_blocked: true,
        memory: MemoryLimit::Hard,
        pids: true,
        disk: true,
        uid_per_app: true,
        cpu: true,
        pty: true,
        files_hidden: true,
    };
    assert_eq!(rig.embedded().capabilities(), all, "on a machine that has every controller");
    let block = r#"read -r inside outside count </proc/self/uid_map; echo "$inside $outside $count"; exec sleep 1000"#;
    let (mut one, mut two) = (rig.shell(block), another_app(&rig, block));
    (one.size.cpu_weight, two.size.cpu_weight) = (100, 1000);
    let mut weights = Vec::new();
    for (plan, expected) in [(&one, "0 1065536 65536"), (&two, "0 1131072 65536")] {
        runs(&rig, plan).await;
        assert_eq!(rig.line(plan, |_| true).await, expected);
        let group = record(&rig, plan)["group"].as_str().expect("a group").to_owned();
        let files = ["cpu.weight", "cpu.shares"]
            .map(|name| format!("find /sys/fs/cgroup -path '*/{group}/{name}' -exec cat {{}} +"));
        let found = Command::new("bash").args(["-c", &files.join("; ")]).output().expect("find runs").stdout;
        weights.push(String::from_utf8_lossy(&found).trim().parse::<u64>().expect("one weight"));
    }
    assert_eq!(weights[0] * 10, weights[1], "{weights:?}");
}
