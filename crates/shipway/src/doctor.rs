//! What `shipway doctor` says about this machine, before what the client half says about this shell.

use crate::machine::LITTLE_BYTES;
use crate::options::{self, Options};
use crate::problem::Problem;
use crate::up::Lock;
use crate::{home, ports, preflight, stack};
use clap::Parser;
use shipway_client::{Finding, Level, Place};
use shipway_sandbox::doctor::{self, ISOLATION};

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

#[cfg(test)]
mod tests {
    use super::*;

    /// The cells of a line, without the stars that mark what is missing.
    fn cells(line: &str) -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('*').to_owned()).collect()
    }

    #[test]
    fn the_readme_has_the_table_that_doctor_prints() {
        let readme = include_str!("../../../README.md");
        let table = readme.lines().skip_while(|line| !line.starts_with("| protection | root tier"));
        let rows: Vec<Vec<String>> = table.take_while(|line| line.starts_with('|')).skip(2).map(cells).collect();
        let known: Vec<Vec<String>> = ISOLATION
            .iter()
            .map(|(what, root, bwrap)| [what, root, bwrap].map(|cell| cell.to_string()).into())
            .collect();
        assert_eq!(rows, known);
        let printed = isolation();
        for (row, line) in rows.iter().zip(printed.next.iter().skip(1)) {
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(words(line), words(&row.join(" ")));
        }
        assert_eq!(printed.next.len(), rows.len() + 1, "a head and every row");
    }
}
