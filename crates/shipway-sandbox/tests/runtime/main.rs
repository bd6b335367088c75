//! The embedded runtime as a server sees it: conformance of both tiers, restarts, and attacks from inside a dyno.
//!
//! A harness of its own, because this executable is spawner and shim too, as the one binary is. Cases run one after
//! another; an argument chooses those whose names contain it.

mod attacks;
mod dynos;
mod rig;

use shipway_sandbox::{Config, Tier, shim, spawner};

type Case = (&'static str, fn());

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["shim"] => std::process::exit(shim::main()),
        ["spawner", config] => {
            let config: Config = serde_json::from_str(config).expect("a configuration");
            let error = spawner::main(config).expect_err("it serves for ever");
            eprintln!("spawner: {error}");
            std::process::exit(1)
        }
        _ => {}
    }
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let mut failed = 0;
    let root = nix::unistd::geteuid().is_root();
    let mut cases: Vec<Case> = dynos::bwrap();
    if root {
        cases.extend(dynos::root());
        cases.extend(attacks::all());
    } else {
        println!("not root: the cases of the root tier are skipped");
    }
    for (name, case) in cases {
        if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w.as_str())) {
            continue;
        }
        let begun = std::time::Instant::now();
        let well = std::panic::catch_unwind(case).is_ok();
        failed += usize::from(!well);
        println!("test {name} ... {} ({:.2} s)", if well { "ok" } else { "FAILED" }, begun.elapsed().as_secs_f64());
    }
    assert_eq!(failed, 0, "cases failed");
}

/// Both tiers, in the order in which they are tried.
const TIERS: [Tier; 2] = [Tier::Bwrap, Tier::Root];
