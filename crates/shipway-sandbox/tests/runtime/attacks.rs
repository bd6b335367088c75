//! Attacks from inside a dyno of the root tier, each with the control that shows that the attack itself works.

use crate::Case;
use crate::dynos::{listens, on};
use crate::rig::Rig;
use shipway_domain::AppId;
use shipway_runtime::{DynoPlan, ExitCause, Runtime};
use shipway_sandbox::Tier;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

pub fn all() -> Vec<Case> {
    vec![
        ("attack_11_environment_reaches_the_dyno_alone", || on(environment_reaches_the_dyno_alone())),
        ("attack_17_sockets_and_data_of_the_platform_are_hidden", || on(sockets_and_data_are_hidden())),
        ("attack_20_a_database_is_reached_by_its_own_apps_alone", || on(a_database_is_reached_by_its_own_apps_alone())),
        ("attack_29_a_dyno_cannot_leave_its_sandbox", || on(a_dyno_cannot_leave_its_sandbox())),
        ("attack_29_neighbours_and_host_are_out_of_reach", || on(neighbours_and_host_are_out_of_reach())),
        ("attack_41_secrets_are_in_no_list_and_no_record", || on(secrets_are_in_no_list_and_no_record())),
        ("attack_44_hogs_hurt_their_own_dyno_only", || on(hogs_hurt_their_own_dyno_only())),
        ("attack_44_a_flood_is_slowed_and_nothing_lost", || on(a_flood_loses_nothing(Tier::Root))),
    ]
}

pub fn another_app(rig: &Rig, command: &str) -> DynoPlan {
    rig.plan_of(AppId(uuid::Uuid::new_v4()), 2, command)
}

/// Runs a script in a dyno; the lines that it wrote. The script must succeed.
pub async fn says(rig: &Rig, script: &str) -> Vec<String> {
    let (exit, lines) = rig.outcome(&rig.shell(script)).await;
    assert_eq!((exit.status, exit.cause), (0, ExitCause::Exited), "{script}: {lines:?}");
    lines
}

async fn environment_reaches_the_dyno_alone() {
    for tier in crate::TIERS {
        let rig = Rig::new(tier).await;
        let mut plan = rig.shell(r#"echo "$LD_PRELOAD|$BASH_FUNC_x|$GIT_SSH_COMMAND|$PORT""#);
        for (name, value) in [
            ("LD_PRELOAD", "/app/evil.so"),
            ("BASH_FUNC_x", "() { :; }"),
            ("GIT_SSH_COMMAND", "touch /tmp/evil"),
            ("PORT", "1"),
        ] {
            plan.env.insert(name.into(), value.into());
        }
        let (exit, lines) = rig.outcome(&plan).await;
        assert_eq!(exit.status, 0);
        // The loader complains about the library, which is the dyno's own business.
        assert!(lines.iter().any(|l| l == "/app/evil.so|() { :; }|touch /tmp/evil|"), "{lines:?}");
        // What the platform's processes got: nothing of it.
        let mut bad = rig.shell("true");
        bad.env.insert("A=B".into(), "x".into());
        let refused = rig.embedded().start(&bad).await.expect_err("no such name");
        assert!(refused.to_string().contains("\"A=B\" cannot be in an environment"), "{refused}");
    }
}

async fn sockets_and_data_are_hidden() {
    let rig = Rig::new(Tier::Root).await;
    let home = rig.config.home.display().to_string();
    std::fs::write(rig.config.home.join("shipway.db"), "secret").expect("a file");
    let other = another_app(&rig, "echo mine >/app/file; echo mine >/tmp/file; echo there; exec sleep 1000");
    rig.embedded().start(&other).await.expect("it starts");
    rig.line(&other, |l| l == "there").await;
    let script = format!(
        r#"ls /; test ! -e '{home}' && test ! -e /app/file && test ! -e /tmp/file && test ! -e /var/lib && echo hidden
        find / -xdev -name '*.sock' -o -name shipway.db 2>/dev/null | grep . || echo nothing
        touch /usr/x /etc/x /x /dev/x 2>&1 | grep -c -e 'Read-only' -e denied
        id -u; id -g; id -G; ps -e --no-headers | wc -l"#
    );
    let lines = says(&rig, &script).await;
    let at = lines.iter().position(|l| l == "hidden").unwrap_or_else(|| panic!("{lines:?}"));
    let roots = "app bin dev etc home lib lib32 lib64 libx32 opt proc root run sbin tmp usr var";
    assert!(lines[..at].iter().all(|l| roots.split(' ').any(|r| r == l)), "{lines:?}");
    let expected = ["nothing", "4", "1000", "1000", "1000"];
    assert_eq!(&lines[at + 1..at + 6], expected, "{lines:?}");
    let processes: u32 = lines[at + 6].trim().parse().expect("a number");
    assert!(processes <= 4, "it sees {processes} processes");
}

async fn a_dyno_cannot_leave_its_sandbox() {
    let rig = Rig::new(Tier::Root).await;
    // Every line is an attempt that must fail.
    let attempts = [
        "unshare -U true",
        "unshare -n true",
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /",
        "umount /usr",
        "chroot / true",
        "nsenter -t 1 -m true",
        "cat /proc/1/environ",
        "readlink /proc/1/exe",
        "ls /proc/1/root/",
        "ls /proc/1/fd/",
        "kill -9 1",
        "mknod /tmp/disk b 7 0",
        "dmesg",
        "hostname elsewhere",
        "echo 1 >/proc/sys/kernel/sysrq",
        "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "cat /proc/kcore",
        "cat /proc/kmsg",
        "ls /sys/fs/cgroup/memory",
        "ls /proc/self/cwd/../../../../../home/*",
        "setpriv --reuid 0 true",
        "chown 0 /app",
        // bpf, by its number on this processor.
        if cfg!(target_arch = "x86_64") { "perl -e 'exit(syscall(321, 0, 0, 0) == -1)'" } else { "false" },
    ];
    let script = attempts.iter().fold(String::new(), |script, attempt| {
        let label = attempt.replace('\'', "");
        format!("{script}if ({attempt}) >/dev/null 2>&1; then echo 'worked: {label}'; fi\n")
    });
    assert_eq!(says(&rig, &format!("{script}echo done")).await, ["done"]);
    let status = says(&rig, "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'").await;
    assert_eq!(status, ["CapEff:0000000000000000", "CapBnd:0000000000000000", "NoNewPrivs:1", "Seccomp:2"]);
    // A set-user-id program of the app's own gains nothing.
    let own = "cp /usr/bin/id /app/id && chmod u+s /app/id && /app/id -u";
    assert_eq!(says(&rig, own).await, ["1000"]);
}

/// Attempts to connect from inside, as `yes` or `no` lines in order.
pub async fn reaches(rig: &Rig, targets: &[SocketAddr]) -> Vec<bool> {
    let script = targets.iter().fold(String::new(), |script, to| {
        let (ip, port) = (to.ip(), to.port());
        format!(
            "{script}if timeout 1 bash -c 'exec 3<>/dev/tcp/{ip}/{port}' 2>/dev/null; then echo yes; else echo no; fi\n"
        )
    });
    says(rig, &script).await.iter().map(|line| line == "yes").collect()
}

async fn neighbours_and_host_are_out_of_reach() {
    let everywhere = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = everywhere.local_addr().expect("an address").port();
    let rig = Rig::with(Tier::Root, |config| config.services = vec![port]).await;
    let services = rig.embedded().services().expect("an address");
    assert_eq!(services, shipway_sandbox::Embedded::services_of(&rig.config.home).unwrap());
    let mut neighbour = another_app(&rig, crate::rig::LISTEN);
    neighbour.port = true;
    let there = rig.embedded().start(&neighbour).await.expect("it starts").endpoints[0];
    listens(there).await;
    let mut sibling = rig.shell(crate::rig::LISTEN);
    sibling.port = true;
    let sibling = rig.embedded().start(&sibling).await.expect("it starts").endpoints[0];
    listens(sibling).await;
    // The outside, which knows no way back to a dyno's own address, is reached all the same.
    let outside = Outside::new();
    listens(outside.endpoint).await;
    assert_eq!(reaches(&rig, &[outside.endpoint]).await, [true], "the outside");
    drop(outside);
    // A dyno's own port, to know that the attempt works at all; then the one door that is open.
    let own = says(&rig, "perl -MIO::Socket::INET -e 'IO::Socket::INET->new(LocalAddr => \"127.0.0.1\", LocalPort => 7000, Listen => 1) && IO::Socket::INET->new(\"127.0.0.1:7000\") && print \"yes\\n\"'").await;
    assert_eq!(own, ["yes"]);
    let out_of_reach = |port| -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = vec![there, sibling];
        all.extend(host_addresses().into_iter().map(|ip| SocketAddr::from((ip, port))));
        all.extend(
            ["127.0.0.1", "127.0.0.53", "169.254.169.254", "169.254.1.1"]
                .map(|ip| SocketAddr::from((ip.parse::<Ipv4Addr>().expect("an address"), port))),
        );
        all
    };
    let check = async || {
        assert_eq!(reaches(&rig, &[(services, port).into()]).await, [true], "the router's door");
        let targets = out_of_reach(port);
        let reached = reaches(&rig, &targets).await;
        let wrong: Vec<_> = targets.iter().zip(reached).filter(|(_, yes)| *yes).collect();
        assert!(wrong.is_empty(), "reached {wrong:?}");
        let v6 = says(&rig, "grep -v ' lo$' /proc/net/if_inet6 || echo none").await;
        assert_eq!(v6, ["none"], "no IPv6 but the loopback's");
        listens(there).await;
    };
    check().await;
    rig.embedded().open_services(&[]).await.expect("it closes");
    assert_eq!(reaches(&rig, &[(services, port).into()]).await, [false], "a closed door");
    rig.embedded().open_services(&[port]).await.expect("it opens");
    // Another's firewall, and whatever bridges do with firewalls, change nothing of it.
    let foreign = "shipway_test_foreign";
    nft(&format!("table inet {foreign} {{ chain f {{ type filter hook forward priority 0; policy drop; }}; }}"));
    let settings = ["iptables", "ip6tables", "arptables"].map(|t| format!("/proc/sys/net/bridge/bridge-nf-call-{t}"));
    settings.iter().for_each(|setting| drop(std::fs::write(setting, "0")));
    let drops = shipway_sandbox::doctor::doctor();
    check().await;
    nft(&format!("delete table inet {foreign}"));
    let finding = drops.iter().find(|f| f.about == "forwarding").expect("doctor looks at forwarding");
    assert!(finding.says.contains(foreign) && finding.way_out.is_some(), "{finding:?}");
    // An address that is not one's own is not believed: the raw socket that this takes is not given out.
    let raw = says(&rig, "perl -MSocket -e 'print socket(my $s, PF_INET, SOCK_RAW, 1) ? \"raw\\n\" : \"no\\n\"'").await;
    assert_eq!(raw, ["no"]);
}

async fn a_database_is_reached_by_its_own_apps_alone() {
    let rig = Rig::new(Tier::Root).await;
    let services = rig.embedded().services().expect("an address");
    let database = TcpListener::bind((services, 0)).expect("a port");
    let port = database.local_addr().expect("an address").port();
    let knock = format!("timeout 1 bash -c 'exec 3<>/dev/tcp/{services}/{port}' 2>/dev/null && echo yes || echo no");
    let mut attached = rig.shell(&format!("{knock}; sleep 1000"));
    attached.services = vec![port];
    rig.embedded().start(&attached).await.expect("it starts");
    assert_eq!(rig.line(&attached, |_| true).await, "yes");
    assert_eq!(says(&rig, &knock).await, ["no"], "an app without it");
    // A new spawner gives what the old one gave; the dyno that has the address next gets nothing of it.
    let knocks = rig.shell(&format!("while :; do {knock}; sleep 0.1; done"));
    let knocks = shipway_runtime::DynoPlan { services: vec![port], ..knocks };
    rig.embedded().start(&knocks).await.expect("it starts");
    rig.restart_spawner().await;
    let before = rig.lines(&knocks).len();
    rig.line(&knocks, |_| rig.lines(&knocks).len() > before + 5).await;
    assert!(rig.lines(&knocks).iter().all(|line| line == "yes"), "{:?}", rig.lines(&knocks));
    for plan in [&attached, &knocks] {
        rig.embedded().remove(plan.dyno).await.expect("it goes");
    }
    for _ in 0..12 {
        assert_eq!(says(&rig, &knock).await, ["no"], "the next dyno at the address");
    }
}

/// A machine beyond ours: a network of its own behind a cable, with somebody who listens.
struct Outside {
    endpoint: SocketAddr,
    listener: std::process::Child,
}

impl Outside {
    const NAME: &str = "shipway-outside";

    fn new() -> Self {
        let name = Self::NAME;
        let ip = |line: &str| {
            assert!(Command::new("ip").args(line.split(' ')).status().expect("ip runs").success(), "ip {line}");
        };
        ip(&format!("netns add {name}"));
        ip(&format!("link add out-host type veth peer name out-there netns {name}"));
        ip("addr add 198.51.100.1/30 dev out-host");
        ip("link set out-host up");
        ip(&format!("-n {name} addr add 198.51.100.2/30 dev out-there"));
        ip(&format!("-n {name} link set out-there up"));
        let listener = Command::new("ip")
            .args(["netns", "exec", name, "bash", "-c", crate::rig::LISTEN])
            .env("PORT", "7001")
            .spawn()
            .expect("it listens");
        Self { endpoint: "198.51.100.2:7001".parse().expect("an address"), listener }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.listener.kill().and_then(|()| self.listener.wait());
        let _ = Command::new("ip").args(["link", "del", "out-host"]).status();
        let _ = Command::new("ip").args(["netns", "del", Self::NAME]).status();
    }
}

fn nft(rules: &str) {
    assert!(Command::new("nft").arg(rules).status().expect("nft runs").success(), "{rules}");
}

/// The host's addresses but its loopback's and the services addresses.
fn host_addresses() -> Vec<Ipv4Addr> {
    let listed = Command::new("ip").args(["-4", "-o", "addr", "show", "scope", "global"]).output().expect("ip runs");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let words = text.lines().filter(|l| !l.contains(": lo ")).filter_map(|l| l.split_whitespace().nth(3));
    words.filter_map(|cidr| cidr.split('/').next()?.parse().ok()).collect()
}

async fn secrets_are_in_no_list_and_no_record() {
    for tier in crate::TIERS {
        let rig = Rig::new(tier).await;
        let secret = uuid::Uuid::new_v4().to_string();
        let mut plan = rig.shell("echo up; exec sleep 1000");
        plan.env.insert("SECRET".into(), secret.clone());
        rig.embedded().start(&plan).await.expect("it starts");
        rig.line(&plan, |l| l == "up").await;
        let listed = Command::new("ps").args(["-eww", "-o", "args"]).output().expect("ps runs").stdout;
        assert!(!String::from_utf8_lossy(&listed).contains(&secret), "in the list of processes");
        let found = Command::new("grep").args(["-r", "-l", "-s", "-D", "skip", &secret]).arg(&rig.config.home).output();
        assert_eq!(String::from_utf8_lossy(&found.expect("grep runs").stdout), "", "in a file");
    }
}

async fn hogs_hurt_their_own_dyno_only() {
    let rig = Rig::new(Tier::Root).await;
    let mut well = another_app(&rig, crate::rig::LISTEN);
    well.port = true;
    let endpoint = rig.embedded().start(&well).await.expect("it starts").endpoints[0];
    listens(endpoint).await;
    let hogs = [
        ("memory", r#"exec perl -e 'push @a, "x" x 1000000 while 1'"#),
        ("shared memory", "cat /dev/zero >/dev/shm/full; echo full; exec sleep 1000"),
        ("forks", "f() { f | f & }; f; exec sleep 1000"),
        ("disk", "cat /dev/zero >/app/full; cat /dev/zero >/tmp/full; echo full; exec sleep 1000"),
        (
            "inodes",
            "cd /tmp; perl -e 'for (my $i = 0; open(my $f, \">\", $i); $i++) {} print \"full\\n\"'; exec sleep 1000",
        ),
        ("log", "exec yes flood"),
        ("processor", "while :; do :; done"),
    ];
    for (name, command) in hogs {
        // What floods its app's log leaves room for the other hogs' neighbours in theirs.
        let hog = if name == "log" { another_app(&rig, command) } else { rig.shell(command) };
        rig.embedded().start(&hog).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        // Neighbours answer, and dynos start, while it does its worst.
        let until = Instant::now() + Duration::from_millis(700);
        let mut slowest = Duration::ZERO;
        while Instant::now() < until {
            let asked = Instant::now();
            listens(endpoint).await;
            slowest = slowest.max(asked.elapsed());
        }
        assert!(slowest < Duration::from_secs(2), "{name}: a neighbour took {slowest:?}");
        assert_eq!(says(&rig, "echo well >/app/x && cat /app/x").await, ["well"], "{name}: a dyno beside it");
        rig.embedded().remove(hog.dyno).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(says(&rig, "echo well >/app/x && cat /app/x").await, ["well"], "{name}: the next dyno");
    }
}

pub async fn a_flood_loses_nothing(tier: Tier) {
    let rig = Rig::with(tier, |config| config.log_burst_bytes = 4 << 20).await;
    // Nearly as many as the reader looks at.
    let lines = 99_000;
    let plan = rig.shell(&format!("exec seq -f %09.0f-{} 1 {lines}", "x".repeat(89)));
    let begun = Instant::now();
    rig.embedded().start(&plan).await.expect("it starts");
    rig.embedded().wait(plan.dyno).await.expect("it ends");
    // 5 MiB beyond the burst at 8 MiB per second, of which one may wait in the pipe.
    assert!(begun.elapsed() > Duration::from_millis(400), "it was not slowed: {:?}", begun.elapsed());
    let (told, all): (Vec<String>, Vec<String>) = rig.lines(&plan).into_iter().partition(|l| l.starts_with("Error"));
    let expected = "Error L10 (log flood) -> The dyno writes faster than its log may grow (8 MiB per second).";
    assert!(told.first().is_some_and(|line| line.starts_with(expected)), "{told:?}");
    for (n, line) in all.iter().enumerate() {
        assert!(line.starts_with(&format!("{:09}-", n + 1)), "line {} is {line}", n + 1);
    }
    assert_eq!(all.len(), lines);
}
