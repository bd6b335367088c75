//! The embedded runtime as a server sees it: conformance of both tiers, restarts, attacks from inside a dyno,
//! and the table of what parts an app from the rest.
//!
//! A harness of its own, because this executable is spawner and shim too, as the one binary is. Cases run one after
//! another (under cargo-nextest by `.config/nextest.toml`); an argument chooses those whose names contain it. It lists them,
//! and runs one alone, as that runner asks it to: a harness that did not would run nothing there, and pass.
//! Source: nextest, "Custom test harnesses".

mod attacks;
mod dynos;
mod isolation;
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
    let given = |flag: &str| arguments.iter().any(|a| a == flag);
    let mut failed = 0;
    let mut cases: Vec<Case> = [dynos::bwrap(), isolation::bwrap(), isolation::table()].concat();
    if nix::unistd::geteuid().is_root() {
        cases.extend([dynos::root(), attacks::all(), isolation::root()].concat());
    } else if !given("--list") {
        println!("not root: the cases of the root tier are skipped");
    }
    if given("--list") {
        // None is ignored, and those are asked for apart.
        cases.iter().filter(|_| !given("--ignored")).for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let wanted: Vec<&str> = arguments.iter().map(String::as_str).filter(|a| !a.starts_with('-')).collect();
    let is_wanted = |name: &str| match given("--exact") {
        true => wanted.contains(&name),
        false => wanted.is_empty() || wanted.iter().any(|w| name.contains(w)),
    };
    for (name, case) in cases.into_iter().filter(|(name, _)| is_wanted(name)) {
        let begun = std::time::Instant::now();
        let well = std::panic::catch_unwind(case).is_ok();
        failed += usize::from(!well);
        println!("test {name} ... {} ({:.2} s)", if well { "ok" } else { "FAILED" }, begun.elapsed().as_secs_f64());
    }
    assert_eq!(failed, 0, "cases failed");
}

/// Both tiers, in the order in which they are tried.
const TIERS: [Tier; 2] = [Tier::Bwrap, Tier::Root];
