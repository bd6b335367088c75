//! What installs the packages of a Node.js app: npm, yarn 1 or pnpm, by the lock file that is committed.

use crate::languages::tail;
use crate::model::BuildError;
use crate::tree::Tree;
use crate::versions::Range;
use serde_json::Value;

/// yarn with these options, from the app's cache.
macro_rules! yarn {
    ($options:literal) => {
        concat!(
            "yarn install --frozen-lockfile ",
            $options,
            " --non-interactive --no-progress --cache-folder /cache/yarn"
        )
    };
}

/// pnpm with these options, from the app's cache. Copied: a build that changes a file in node_modules must not change it
/// in the cache.
macro_rules! pnpm {
    ($options:literal) => {
        concat!(
            "pnpm install --frozen-lockfile ",
            $options,
            " --store-dir /cache/pnpm --package-import-method=copy --reporter=append-only"
        )
    };
}

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    /// With the lock file that is committed, if one is.
    Npm(Option<&'static str>),
    Yarn,
    Pnpm,
}

const NPM_LOCKS: [&str; 2] = ["package-lock.json", "npm-shrinkwrap.json"];
const YARN_LOCK: &str = "yarn.lock";
const PNPM_LOCK: &str = "pnpm-lock.yaml";

impl Manager {
    /// The manager that an app's lock file is of; npm without one. None: nothing is installed. Errors: lock files of two
    /// managers, or what a manager is asked for that it is not run for here.
    pub(super) fn choose(tree: &Tree, package: &Value) -> Result<Option<Self>, BuildError> {
        let npm = NPM_LOCKS.into_iter().find(|file| tree.has(file)).map(|file| Self::Npm(Some(file)));
        let yarn = tree.has(YARN_LOCK).then_some(Self::Yarn);
        let pnpm = tree.has(PNPM_LOCK).then_some(Self::Pnpm);
        let locked: Vec<Self> = [npm, yarn, pnpm].into_iter().flatten().collect();
        if locked.len() > 1 {
            let files: Vec<&str> = locked.iter().map(|manager| manager.file()).collect();
            return Err(BuildError::User(format!(
                "There are {} lock files, {}. Keep the one that you use, remove the rest, and push again.",
                if files.len() == 2 { "two" } else { "three" },
                files.join(" and ")
            )));
        }
        if yarn.is_some() && tree.has(".yarnrc.yml") {
            return Err(BuildError::User("Only yarn 1 is supported, and .yarnrc.yml belongs to a later one. Commit a package-lock.json (`npm install`) in place of yarn.lock.".into()));
        }
        if pnpm.is_some() && pnpm_workspace(tree)?.lines().any(|line| line.starts_with("packages:")) {
            return Err(BuildError::User("A pnpm workspace of several packages is not supported yet (pnpm-workspace.yaml names packages). Commit a package-lock.json (`npm install`, with `workspaces` in package.json) in place of pnpm-lock.yaml.".into()));
        }
        let asks = ["dependencies", "devDependencies", "optionalDependencies", "workspaces"];
        let asks = asks.iter().any(|f| super::filled(package, f) || package[*f].is_array());
        Ok(asks.then(|| locked.first().copied().unwrap_or(Self::Npm(None))))
    }

    /// The file that decides what is installed.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Npm(lock) => lock.unwrap_or("package.json"),
            Self::Yarn => YARN_LOCK,
            Self::Pnpm => PNPM_LOCK,
        }
    }

    /// The manager whose [`Manager::file`] this is.
    pub(super) fn of(file: &str) -> Self {
        match file {
            YARN_LOCK => Self::Yarn,
            PNPM_LOCK => Self::Pnpm,
            _ => Self::Npm(NPM_LOCKS.into_iter().find(|lock| *lock == file)),
        }
    }

    /// The program that is run for it, and the range of its versions. None: the stack's own npm, whichever it is.
    /// Errors: package.json wants a version that is none.
    pub(super) fn program(self, tree: &Tree, package: &Value) -> Result<Option<(&'static str, String)>, BuildError> {
        Ok(match self {
            Self::Npm(_) => match package["engines"]["npm"].as_str() {
                Some(range) => Some(("npm", version_range("npm", "engines.npm", range)?)),
                None => None,
            },
            // The last of its line.
            Self::Yarn => Some(("yarn", "1.22.22".into())),
            Self::Pnpm => Some(("pnpm", pnpm_range(tree, package)?)),
        })
    }

    /// The command that installs what the lock file says, and how it is shown to people. `everything`: what only builds
    /// need as well.
    pub(super) fn install(self, everything: bool) -> (&'static str, &'static str) {
        match (self, everything) {
            (Self::Yarn, true) => (yarn!("--production=false"), "`yarn install --frozen-lockfile`"),
            (Self::Yarn, false) => (yarn!("--production=true"), "`yarn install --frozen-lockfile`"),
            (Self::Pnpm, true) => (pnpm!("--prod=false"), "`pnpm install --frozen-lockfile`"),
            (Self::Pnpm, false) => (pnpm!("--prod"), "`pnpm install --frozen-lockfile`"),
            (Self::Npm(None), true) => ("npm install --no-package-lock --include=dev", "`npm install`"),
            (Self::Npm(None), false) => ("npm install --no-package-lock --omit=dev", "`npm install`"),
            (Self::Npm(_), true) => ("npm ci --include=dev", "`npm ci`"),
            (Self::Npm(_), false) => ("npm ci --omit=dev", "`npm ci`"),
        }
    }

    /// The command that removes what only builds need.
    pub(super) fn prune(self) -> &'static str {
        match self {
            Self::Yarn => yarn!("--production=true --ignore-scripts"),
            Self::Pnpm => pnpm!("--prod --offline --ignore-scripts"),
            Self::Npm(None) => "npm prune --omit=dev --no-package-lock",
            Self::Npm(_) => "npm prune --omit=dev",
        }
    }

    /// What a failed installation's output says went wrong, in a few lines. npm says it first, and then how it is used.
    pub(super) fn cause(self, output: &str) -> String {
        let said = |line: &&str| line.strip_prefix("npm error").is_some_and(|rest| !rest.trim().is_empty());
        let lines: Vec<&str> = match self {
            Self::Npm(_) => output.lines().filter(said).take(5).collect(),
            Self::Yarn | Self::Pnpm => Vec::new(),
        };
        if lines.is_empty() { tail(output, 3) } else { lines.join("\n") }
    }

    /// What to do about an installation that failed with this output.
    pub(super) fn help(self, output: &str) -> String {
        let (disagree, command) = match self {
            Self::Npm(_) => ("can only install packages when your package.json and package-lock.json", "npm install"),
            Self::Yarn => ("Your lockfile needs to be updated", "yarn install"),
            Self::Pnpm => ("ERR_PNPM_OUTDATED_LOCKFILE", "pnpm install"),
        };
        if output.contains(disagree) {
            let file = self.file();
            return format!("package.json and {file} disagree. Run `{command}`, commit {file}, and push again.");
        }
        "Fix what it names, commit, and push again.".into()
    }
}

fn pnpm_workspace(tree: &Tree) -> Result<String, BuildError> {
    Ok(tree.text("pnpm-workspace.yaml")?.unwrap_or_default())
}

/// Whether what pnpm installs depends on files of the app that its lock file does not hold.
pub(super) fn patches(tree: &Tree, package: &Value) -> Result<bool, BuildError> {
    let named = !package["pnpm"]["patchedDependencies"].is_null();
    Ok(named || tree.has(".pnpmfile.cjs") || pnpm_workspace(tree)?.contains("patchedDependencies"))
}

/// The versions of pnpm that may read this lock file: what package.json says, or the line that writes such files.
fn pnpm_range(tree: &Tree, package: &Value) -> Result<String, BuildError> {
    let named = package["packageManager"].as_str().and_then(|named| named.strip_prefix("pnpm@"));
    let exact = named.map(|version| version.split('+').next().unwrap_or_default());
    let (wanted, because) = match (exact, package["engines"]["pnpm"].as_str()) {
        (Some(version), _) => (version, "packageManager"),
        (None, Some(range)) => (range, "engines.pnpm"),
        (None, None) => return Ok(line_of(&tree.text(PNPM_LOCK)?.unwrap_or_default()).into()),
    };
    version_range("pnpm", because, wanted)
}

fn version_range(program: &str, because: &str, wanted: &str) -> Result<String, BuildError> {
    let wanted = wanted.trim();
    if Range::parse(wanted).is_none() {
        return Err(BuildError::User(format!(
            "package.json: {because} is {:?}, which is not a version of {program}. Write one like \"10.2.0\", commit, and push again.",
            wanted.chars().take(60).collect::<String>()
        )));
    }
    Ok(wanted.into())
}

/// The newest line of pnpm that writes lock files of this version.
fn line_of(lock: &str) -> &'static str {
    let version = lock.lines().find_map(|line| line.strip_prefix("lockfileVersion:")).unwrap_or_default();
    match version.trim().trim_matches(['\'', '"']).split('.').next() {
        Some("5") => "7.x",
        Some("6") => "8.x",
        _ => "10.x",
    }
}

#[cfg(test)]
mod tests {
    use super::{Manager, line_of};

    #[test]
    fn the_cause_of_a_failed_installation() {
        let npm = "npm warn old\nnpm error code E404\nnpm error\nnpm error 404 Not Found - GET https://x/y\nadded 0";
        let said = "npm error code E404\nnpm error 404 Not Found - GET https://x/y";
        assert_eq!(Manager::Npm(None).cause(npm), said);
        assert_eq!(Manager::Npm(None).cause("killed\n"), "killed");
        assert_eq!(Manager::Pnpm.cause("a\n\nb\nc\nd\n"), "b\nc\nd");
    }

    #[test]
    fn the_line_of_pnpm_that_wrote_a_lock_file() {
        let check = |lock: &str, expected: &str| assert_eq!(line_of(lock), expected, "{lock:?}");
        check("lockfileVersion: 5.4\n\nspecifiers:\n", "7.x");
        check("lockfileVersion: '6.0'\n", "8.x");
        check("lockfileVersion: '9.0'\n\nsettings:\n", "10.x");
        check("", "10.x");
    }
}
