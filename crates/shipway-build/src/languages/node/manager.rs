//! What installs the packages of a Node.js app: npm, Yarn or pnpm, by the lock file that is committed.

use super::yarn::{self, Layout};
use crate::languages::tail;
use crate::model::BuildError;
use crate::tree::Tree;
use crate::versions::Range;
use serde_json::Value;
use std::collections::BTreeMap;

/// yarn 1 with these options, from the app's cache.
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
/// in the cache. What it notes of when it ran goes, so that the same packages are the same layer.
macro_rules! pnpm {
    ($options:literal) => {
        concat!(
            "pnpm install --frozen-lockfile ",
            $options,
            " --store-dir /cache/pnpm --package-import-method=copy --reporter=append-only || exit $?\n",
            "sed -i '/prunedAt/d' node_modules/.modules.yaml\n",
            "rm -rf node_modules/.pnpm-*-state*"
        )
    };
}

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    /// With the lock file that is committed, if one is.
    Npm(Option<&'static str>),
    /// The first.
    Yarn,
    /// 2 and later.
    LaterYarn(Layout),
    Pnpm,
}

/// The program of a manager.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: &'static str,
    /// What the registry calls it.
    pub(super) package: &'static str,
    /// The versions that may be run.
    pub(super) range: String,
    /// What people are told of it, when that is not its version.
    pub(super) said: Option<String>,
}

/// What [`Manager::prune`] gives to a later Yarn.
pub(super) const PRUNE: &str = include_str!("prune.cjs");

/// Where a later Yarn has archives, those of zero-installs among them.
pub(super) const YARN_CACHE: &str = ".yarn/cache";

const NPM_LOCKS: [&str; 2] = ["package-lock.json", "npm-shrinkwrap.json"];
const YARN_LOCK: &str = "yarn.lock";
const PNPM_LOCK: &str = "pnpm-lock.yaml";

impl Manager {
    const ALL: [Self; 8] = [
        Self::Npm(None),
        Self::Npm(Some(NPM_LOCKS[0])),
        Self::Npm(Some(NPM_LOCKS[1])),
        Self::Yarn,
        Self::LaterYarn(Layout::Archives),
        Self::LaterYarn(Layout::Modules),
        Self::LaterYarn(Layout::ModulesOfArchives),
        Self::Pnpm,
    ];

    /// The manager that an app's lock file is of; npm without one. None: nothing is installed. Errors: lock files of two
    /// managers, or settings that cannot be read.
    pub(super) fn choose(
        tree: &Tree,
        package: &Value,
        env: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, BuildError> {
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
        let chosen = locked.first().copied().unwrap_or(Self::Npm(None));
        if chosen == Self::Yarn
            && let Some(layout) = yarn::layout(tree, package, env)?
        {
            // It runs no script before it has installed, be it nothing.
            return Ok(Some(Self::LaterYarn(layout)));
        }
        let asks = ["dependencies", "devDependencies", "optionalDependencies"];
        let asks = asks.iter().any(|f| super::filled(package, f)) || workspace(tree, package, chosen)?;
        Ok(asks.then_some(chosen))
    }

    /// The file that decides what is installed.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Npm(lock) => lock.unwrap_or("package.json"),
            Self::Yarn | Self::LaterYarn(_) => YARN_LOCK,
            Self::Pnpm => PNPM_LOCK,
        }
    }

    /// Tells it from all others.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LaterYarn(Layout::Archives) => "later yarn, archives",
            Self::LaterYarn(Layout::Modules) => "later yarn, modules",
            Self::LaterYarn(Layout::ModulesOfArchives) => "later yarn, modules of archives",
            Self::Npm(_) | Self::Yarn | Self::Pnpm => self.file(),
        }
    }

    /// The manager whose [`Manager::name`] this is.
    pub(super) fn of(name: &str) -> Self {
        Self::ALL.into_iter().find(|manager| manager.name() == name).unwrap_or(Self::Npm(None))
    }

    /// The directory below `/app` that becomes a layer.
    pub(super) fn directory(self) -> &'static str {
        match self {
            Self::LaterYarn(Layout::Archives) => YARN_CACHE,
            _ => "node_modules",
        }
    }

    /// What only the installation needs.
    pub(super) fn left_out(self) -> Option<&'static str> {
        (self == Self::LaterYarn(Layout::ModulesOfArchives)).then_some(YARN_CACHE)
    }

    /// The program that is run for it. None: the stack's own npm, whichever it is. Errors: package.json wants a version
    /// that is none, or that the lock file is not for.
    pub(super) fn program(self, tree: &Tree, package: &Value) -> Result<Option<Program>, BuildError> {
        let (name, range) = match self {
            Self::Npm(_) => match package["engines"]["npm"].as_str() {
                Some(range) => ("npm", version_range("npm", "engines.npm", range)?),
                None => return Ok(None),
            },
            Self::Yarn => ("yarn", yarn::first_range(package)?),
            Self::LaterYarn(_) => return yarn::later_program(tree, package).map(Some),
            Self::Pnpm => ("pnpm", pnpm_range(tree, package)?),
        };
        Ok(Some(Program { name, package: name, range, said: None }))
    }

    /// The command that installs what the lock file says, and how it is shown to people. `everything`: what only builds
    /// need as well, which a later Yarn always installs.
    pub(super) fn install(self, everything: bool) -> (&'static str, &'static str) {
        match (self, everything) {
            (Self::Yarn, true) => (yarn!("--production=false"), "`yarn install --frozen-lockfile`"),
            (Self::Yarn, false) => (yarn!("--production=true"), "`yarn install --frozen-lockfile`"),
            (Self::LaterYarn(_), _) => ("yarn install --immutable", "`yarn install --immutable`"),
            // Some of pnpm 12 take no value for it.
            (Self::Pnpm, true) => (pnpm!("--no-prod"), "`pnpm install --frozen-lockfile`"),
            (Self::Pnpm, false) => (pnpm!("--prod"), "`pnpm install --frozen-lockfile`"),
            (Self::Npm(None), true) => ("npm install --no-package-lock --include=dev", "`npm install`"),
            (Self::Npm(None), false) => ("npm install --no-package-lock --omit=dev", "`npm install`"),
            (Self::Npm(_), true) => ("npm ci --include=dev", "`npm ci`"),
            (Self::Npm(_), false) => ("npm ci --omit=dev", "`npm ci`"),
        }
    }

    /// The command that removes what only builds need. It has [`PRUNE`] in `$PRUNE`.
    pub(super) fn prune(self) -> &'static str {
        match self {
            Self::Yarn => yarn!("--production=true --ignore-scripts"),
            Self::LaterYarn(_) => {
                r#"printf %s "$PRUNE" >/tmp/prune.cjs && YARN_PLUGINS=/tmp/prune.cjs yarn shipway prune"#
            }
            // Else it keeps the files of what it has unlinked for a week.
            Self::Pnpm => pnpm!("--prod --offline --ignore-scripts --config.modules-cache-max-age=0"),
            Self::Npm(None) => "npm prune --omit=dev --no-package-lock",
            Self::Npm(_) => "npm prune --omit=dev",
        }
    }

    /// The command that runs the script of package.json that `$SCRIPT` names.
    pub(super) fn run(self) -> &'static str {
        match self {
            Self::Npm(_) => r#"exec npm run --if-present "$SCRIPT""#,
            Self::Yarn | Self::LaterYarn(_) => r#"exec yarn run "$SCRIPT""#,
            Self::Pnpm => r#"exec pnpm run --if-present "$SCRIPT""#,
        }
    }

    /// The command of a web dyno. `script`: package.json has a start script; otherwise it has a server.js.
    pub(super) fn start(self, script: bool) -> &'static str {
        match (self, script) {
            // Without it Node.js does not find the packages.
            (Self::LaterYarn(_), true) => "yarn start",
            (Self::LaterYarn(_), false) => "yarn node server.js",
            _ => "npm start",
        }
    }

    /// What it finds in a dyno's environment.
    pub(super) fn dyno_env(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::LaterYarn(_) => &[("YARN_ENABLE_TELEMETRY", "false")],
            // What has been pruned is not what pnpm 11 and later would install before they run a script.
            Self::Pnpm => &[("PNPM_CONFIG_VERIFY_DEPS_BEFORE_RUN", "false")],
            Self::Npm(_) | Self::Yarn => &[],
        }
    }

    /// Adds what it is told in every step of a build.
    pub(super) fn set_up(self, env: &mut BTreeMap<String, String>) {
        let mut set = |name: &str, value: &str| env.insert(name.into(), value.into());
        for (name, value) in self.dyno_env() {
            set(name, value);
        }
        let Self::LaterYarn(layout) = self else { return };
        set("YARN_GLOBAL_FOLDER", "/cache/later-yarn");
        set("YARN_ENABLE_PROGRESS_BARS", "false");
        set("YARN_ENABLE_COLORS", "false");
        if layout == Layout::Modules {
            set("YARN_ENABLE_GLOBAL_CACHE", "true");
        } else {
            set("YARN_ENABLE_GLOBAL_CACHE", "false");
            set("YARN_CACHE_FOLDER", "/app/.yarn/cache");
        }
        // It does not look at what the other programs are told by.
        for (from, to) in [
            ("NPM_CONFIG_REGISTRY", "YARN_NPM_REGISTRY_SERVER"),
            ("npm_config_registry", "YARN_NPM_REGISTRY_SERVER"),
            ("HTTP_PROXY", "YARN_HTTP_PROXY"),
            ("http_proxy", "YARN_HTTP_PROXY"),
            ("HTTPS_PROXY", "YARN_HTTPS_PROXY"),
            ("https_proxy", "YARN_HTTPS_PROXY"),
        ] {
            if let Some(value) = env.get(from).filter(|_| !env.contains_key(to)) {
                env.insert(to.into(), value.clone());
            }
        }
    }

    /// The config var because of which nothing is pruned. Source: Heroku's Node.js buildpack, `prune_devdependencies`.
    pub(super) fn keeps_everything(self, env: &BTreeMap<String, String>) -> Option<&'static str> {
        let is = |name: &str, value: &str| env.get(name).is_some_and(|v| v == value);
        let own = match self {
            Self::LaterYarn(_) => Some("YARN2_SKIP_PRUNING"),
            Self::Pnpm => Some("PNPM_SKIP_PRUNING"),
            Self::Npm(_) | Self::Yarn => None,
        };
        let skipped = own.filter(|name| is(name, "true"));
        let not_production = ["NPM_CONFIG_PRODUCTION", "YARN_PRODUCTION"].into_iter().find(|name| is(name, "false"));
        let other = env.get("NODE_ENV").filter(|value| *value != "production").map(|_| "NODE_ENV");
        skipped.or(not_production).or(other)
    }

    /// What a failed installation's output says went wrong, in a few lines. npm says it first, and then how it is used;
    /// the last that a later Yarn says is how long it took.
    pub(super) fn cause(self, output: &str) -> String {
        let lines: Vec<&str> = match self {
            Self::Npm(_) => {
                let said = |line: &&str| line.strip_prefix("npm error").is_some_and(|rest| !rest.trim().is_empty());
                output.lines().filter(said).take(5).collect()
            }
            Self::LaterYarn(_) => {
                let lines: Vec<&str> = output.lines().filter(|line| yarn::tells(line)).collect();
                lines[lines.len().saturating_sub(5)..].to_vec()
            }
            Self::Yarn | Self::Pnpm => Vec::new(),
        };
        if lines.is_empty() { tail(output, 3) } else { lines.join("\n") }
    }

    /// What to do about an installation that failed with this output.
    pub(super) fn help(self, output: &str) -> String {
        let (disagree, command) = match self {
            Self::Npm(_) => ("can only install packages when your package.json and package-lock.json", "npm install"),
            Self::Yarn => ("Your lockfile needs to be updated", "yarn install"),
            Self::LaterYarn(_) => ("The lockfile would have been", "yarn install"),
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

/// Whether the app is several packages that are installed together.
pub(super) fn workspace(tree: &Tree, package: &Value, manager: Manager) -> Result<bool, BuildError> {
    Ok(match manager {
        Manager::Pnpm => settings::<Packages>("pnpm-workspace.yaml", &pnpm_workspace(tree)?)?
            .packages
            .is_some_and(|packages| !packages.is_empty()),
        _ => match &package["workspaces"] {
            Value::Array(packages) => !packages.is_empty(),
            other => other.is_object(),
        },
    })
}

#[derive(Default, serde::Deserialize)]
struct Packages {
    packages: Option<Vec<String>>,
}

/// Reads a file of settings; an empty one has none of them.
pub(super) fn settings<T: Default + serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, BuildError> {
    serde_yaml_ng::from_str::<Option<T>>(text)
        .map(Option::unwrap_or_default)
        .map_err(|e| BuildError::User(format!("{file}: {e}. Fix it, commit, and push again.")))
}

/// Whether what pnpm installs depends on files of the app that its lock file does not hold.
pub(super) fn patches(tree: &Tree, package: &Value) -> Result<bool, BuildError> {
    let named = !package["pnpm"]["patchedDependencies"].is_null();
    Ok(named || tree.has(".pnpmfile.cjs") || pnpm_workspace(tree)?.contains("patchedDependencies"))
}

/// The versions of pnpm that may read this lock file: what package.json says, or the line that writes such files.
fn pnpm_range(tree: &Tree, package: &Value) -> Result<String, BuildError> {
    let (reads, line) = line_of(&tree.text(PNPM_LOCK)?.unwrap_or_default());
    Ok(match named("pnpm", package)? {
        Some(Named { exact: true, range, .. }) => range,
        // One that does not read the lock file is there only when nothing else will do.
        Some(Named { range, .. }) => Range::both(&range, reads).unwrap_or(range),
        None => line.into(),
    })
}

/// The versions of a manager that package.json names.
pub(super) struct Named {
    /// Where.
    pub(super) because: &'static str,
    pub(super) range: String,
    /// One version, which is to be run whatever the lock file is of.
    pub(super) exact: bool,
}

/// What package.json says of a manager's versions. Errors: it is no version.
pub(super) fn named(program: &'static str, package: &Value) -> Result<Option<Named>, BuildError> {
    let manager = package["packageManager"].as_str().and_then(|named| named.strip_prefix(program)?.strip_prefix('@'));
    if let Some(version) = manager {
        let version = version.split('+').next().unwrap_or_default();
        let range = version_range(program, "packageManager", version)?;
        return Ok(Some(Named { because: "packageManager", range, exact: true }));
    }
    let because = if program == "pnpm" { "engines.pnpm" } else { "engines.yarn" };
    let Some(range) = package["engines"][program].as_str() else { return Ok(None) };
    Ok(Some(Named { because, range: version_range(program, because, range)?, exact: false }))
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

/// The versions of pnpm that read lock files of this version, and the newest line of those that write them.
fn line_of(lock: &str) -> (&'static str, &'static str) {
    let version = lock.lines().find_map(|line| line.strip_prefix("lockfileVersion:")).unwrap_or_default();
    match version.trim().trim_matches(['\'', '"']).split('.').next() {
        Some("5") => ("<8.0.0", "7.x"),
        Some("6") => ("8.x", "8.x"),
        _ => (">=9.0.0", "10.x"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_failed_installation() {
        let npm = "npm warn old\nnpm error code E404\nnpm error\nnpm error 404 Not Found - GET https://x/y\nadded 0";
        let said = "npm error code E404\nnpm error 404 Not Found - GET https://x/y";
        assert_eq!(Manager::Npm(None).cause(npm), said);
        assert_eq!(Manager::Npm(None).cause("killed\n"), "killed");
        assert_eq!(Manager::Pnpm.cause("a\n\nb\nc\nd\n"), "b\nc\nd");
        let yarn = "➤ YN0000: ┌ Resolution step\n➤ YN0035: │ ms@npm:9.9.9: The remote server failed\n➤ YN0000: └ Completed\n➤ YN0000: · Failed with errors in 1s";
        let said = "➤ YN0035: │ ms@npm:9.9.9: The remote server failed";
        assert_eq!(Manager::LaterYarn(Layout::Modules).cause(yarn), said);
    }

    #[test]
    fn every_manager_is_known_by_its_name() {
        for manager in Manager::ALL {
            assert_eq!(Manager::of(manager.name()), manager);
        }
    }

    #[test]
    fn the_line_of_pnpm_that_wrote_a_lock_file() {
        let check = |lock: &str, expected: &str| assert_eq!(line_of(lock).1, expected, "{lock:?}");
        check("lockfileVersion: 5.4\n\nspecifiers:\n", "7.x");
        check("lockfileVersion: '6.0'\n", "8.x");
        check("lockfileVersion: '9.0'\n\nsettings:\n", "10.x");
        check("", "10.x");
    }

    #[test]
    fn what_keeps_development_dependencies() {
        let check = |manager: Manager, name: &str, value: &str, kept: bool| {
            let env = BTreeMap::from([(name.into(), value.into())]);
            assert_eq!(manager.keeps_everything(&env), kept.then_some(name), "{manager:?} {name}={value}");
        };
        let later = Manager::LaterYarn(Layout::Modules);
        for manager in [Manager::Npm(None), Manager::Yarn, later, Manager::Pnpm] {
            check(manager, "NPM_CONFIG_PRODUCTION", "false", true);
            check(manager, "YARN_PRODUCTION", "true", false);
            check(manager, "NODE_ENV", "staging", true);
            check(manager, "NODE_ENV", "production", false);
            check(manager, "YARN2_SKIP_PRUNING", "true", manager == later);
            check(manager, "PNPM_SKIP_PRUNING", "true", manager == Manager::Pnpm);
        }
    }
}
