//! What `shipway doctor` says about this machine, before what the client half says about this shell.

use crate::options::{self, Options};
use crate::problem::Problem;
use crate::up::Lock;
use crate::{home, ports, preflight, stack};
use clap::Parser;
use shipway_client::{Finding, Level, Place};
use shipway_sandbox::doctor::{self, ISOLATION};

/// Less free space than this is worth a word.
const LITTLE_BYTES: u64 = 2 << 30;

/// Everything that was looked at; nothing when the server is elsewhere.
pub fn findings(place: &Place) -> Vec<Finding> {
    if place.server.is_some() {
        return Vec::new();
    }
    let mut findings = vec![git()];
    findings.extend(doctor::doctor().iter().map(machine));
    match options::home(place) {
        Ok(home) => {
            findings.extend(disk(&home));
            if Lock::holder(&home).is_none() {
                findings.extend(ports());
            }
        }
        Err(problem) => findings.push(bad(&problem)),
    }
    findings.push(Finding::new(Level::Good, format!("stack: builds find {}", stack::fingerprint())));
    findings.push(databases());
    findings.push(isolation());
    findings
}

fn git() -> Finding {
    match preflight::git() {
        Ok(version) => Finding::new(Level::Good, version),
        Err(problem) => bad(&problem),
    }
}

fn machine(finding: &doctor::Finding) -> Finding {
    let level = match finding.level {
        doctor::Level::Ok => Level::Good,
        doctor::Level::Warn | doctor::Level::Fail => Level::Warning,
    };
    let what = format!("{}: {}", finding.about, finding.says.trim_end_matches('.'));
    finding.way_out.iter().fold(Finding::new(level, what), |f, way| f.next(way))
}

fn databases() -> Finding {
    match shipway_postgres::cluster::newest_installed() {
        Some(version) => Finding::new(Level::Good, format!("databases: PostgreSQL {version} is installed")),
        None => Finding::new(Level::Warning, "databases: PostgreSQL is not installed, so that there are no add-ons")
            .next("apt-get install postgresql"),
    }
}

fn disk(home: &std::path::Path) -> Option<Finding> {
    let existing = home.ancestors().find(|path| path.exists())?;
    let free = home::free_bytes(existing).ok()?;
    let what = format!("disk: {} MiB are free for {}", free >> 20, home.display());
    Some(match free < LITTLE_BYTES {
        false => Finding::new(Level::Good, what),
        true => Finding::new(Level::Warning, what).next("make room: builds and logs need it"),
    })
}

/// Whether the usual ports can be had; asked only while nothing of ours has them.
fn ports() -> Vec<Finding> {
    #[derive(Parser)]
    struct Defaults {
        #[command(flatten)]
        options: Options,
    }
    let Defaults { options } = Defaults::parse_from([""]);
    let try_one = |(address, flag)| match ports::listen_at(address, flag) {
        Ok(_) => Finding::new(Level::Good, format!("port: {address} is free")),
        Err(problem) => bad(&problem),
    };
    [(options.listen, "--listen"), (options.router_listen, "--router-listen")].map(try_one).into()
}

fn bad(problem: &Problem) -> Finding {
    problem.hints().iter().fold(Finding::new(Level::Warning, problem.what()), |f, hint| f.next(hint))
}

/// Protection by tier, as a table.
fn isolation() -> Finding {
    let widths = ISOLATION.iter().fold((0, 0), |(a, b), (what, root, _)| (a.max(what.len()), b.max(root.len())));
    let row = |what: &str, root: &str, bwrap: &str| format!("{what:<0$}  {root:<1$}  {bwrap}", widths.0, widths.1);
    let head = Finding::new(Level::Note, "what parts an app from the rest, by tier").next(row("", "root", "bwrap"));
    ISOLATION.iter().fold(head, |f, (what, root, bwrap)| f.next(row(what, root, bwrap)))
}
