//! What must be there before anything starts, asked all at once.

use crate::home::{self, Owner};
use crate::problem::Problem;
use crate::up::Lock;
use shipway_sandbox::Tier;
use shipway_sandbox::doctor::{Finding, Level};
use shipway_store::Keys;
use std::path::Path;
use std::process::Command;

/// The oldest git with everything that our repositories are set up with.
const GIT: (u32, u32) = (2, 36);

/// What was found out about this machine.
#[derive(Debug)]
pub struct Machine {
    /// As whom the server and the router run.
    pub owner: Owner,
    /// Which sandbox dynos get.
    pub tier: Tier,
    /// Why it is not the better one; empty when it is.
    pub why: Vec<String>,
}

/// Makes the data directory, takes it for this `up`, and looks at the machine. In this order: looking takes a while, in
/// which a `down` must find whom to end. Errors: everything that is in the way, not the first thing alone.
pub fn check(home: &Path, wanted: Option<Tier>) -> Result<(Machine, Lock), Vec<Problem>> {
    let mut problems = Vec::new();
    let owner = Owner::choose().map_err(|problem| problems.push(problem)).ok();
    let prepared = owner.map(|owner| home::prepare(home, owner).and_then(|()| Lock::take(home)));
    let lock = prepared.and_then(|lock| lock.map_err(|problem| problems.push(problem)).ok());
    // Router and server would make a certificate authority anew beside it, which clients do not know.
    problems.extend(Keys::expect_in(home).err().map(|lost| Problem::new(lost.to_string())));
    problems.extend(git().err());
    let tier = tier(wanted).map_err(|problem| problems.push(problem)).ok();
    match (owner, lock, tier) {
        (Some(owner), Some(lock), Some((tier, why))) if problems.is_empty() => Ok((Machine { owner, tier, why }, lock)),
        _ => Err(problems),
    }
}

/// Whether the machine's git is there and new enough; its version.
pub fn git() -> Result<String, Problem> {
    let missing = |what: String| Problem::new(what).hint("apt-get install git");
    let output = Command::new("git").arg("--version").output();
    let output = output.map_err(|e| missing(format!("git cannot be run, and every push needs it: {e}")))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match version(&text) {
        Some(found) if found >= GIT => Ok(text),
        Some((major, minor)) => {
            Err(missing(format!("git {major}.{minor} is too old: {}.{} or newer is needed", GIT.0, GIT.1)))
        }
        None => Err(missing(format!("git does not say its version: {text:?}"))),
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("git version ")?.split(['.', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The best sandbox that this machine can have, and what is missing for a better one.
fn tier(wanted: Option<Tier>) -> Result<(Tier, Vec<String>), Problem> {
    let findings = shipway_sandbox::doctor::doctor();
    let lacks: Vec<String> = lacks_of_root(&findings);
    match wanted {
        Some(Tier::Root) if !lacks.is_empty() => {
            let problem = Problem::new("the root tier was asked for, and this machine cannot have it");
            Err(lacks.into_iter().fold(problem, Problem::hint))
        }
        Some(Tier::Root) => Ok((Tier::Root, Vec::new())),
        None if lacks.is_empty() => Ok((Tier::Root, Vec::new())),
        _ => {
            let bwrap = findings.iter().find(|f| f.about == "bwrap");
            match bwrap.filter(|f| f.level != Level::Ok) {
                None => Ok((Tier::Bwrap, lacks)),
                Some(missing) => {
                    let why = missing.says.trim_end_matches('.');
                    let problem = Problem::new(format!("there is no sandbox to run apps in: {why}"));
                    let problem = missing.way_out.iter().fold(problem, Problem::hint);
                    Err(lacks.into_iter().fold(problem, Problem::hint))
                }
            }
        }
    }
}

fn lacks_of_root(findings: &[Finding]) -> Vec<String> {
    let is_root = nix::unistd::geteuid().is_root();
    findings.iter().filter(|f| f.level == Level::Fail || (!is_root && f.about == "root")).map(sentence).collect()
}

fn sentence(finding: &Finding) -> String {
    let way_out = finding.way_out.as_ref().map(|way| format!(" {way}")).unwrap_or_default();
    format!("{}: {}{way_out}", finding.about, finding.says)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_git() {
        let check = |text: &str, expected: Option<(u32, u32)>| assert_eq!(version(text), expected, "{text}");
        check("git version 2.39.5", Some((2, 39)));
        check("git version 2.39.5 (Apple Git-154)", Some((2, 39)));
        check("git version 2.50.windows.1", Some((2, 50)));
        check("hub 1.0", None);
    }
}
