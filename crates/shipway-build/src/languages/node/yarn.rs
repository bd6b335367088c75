//! Yarn: which of its lines an app is of, and how a later one than the first lays out what it installs.

use super::manager::{Named, Program, YARN_CACHE, named, settings};
use crate::model::BuildError;
use crate::tree::Tree;
use crate::versions::{Range, Version};
use serde_json::Value;
use std::collections::BTreeMap;

/// How Yarn 2 and later lay out what they install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Plug'n'Play: archives in `.yarn/cache`, and `.pnp.cjs`, which says where Node.js finds what.
    Archives,
    /// `node_modules`.
    Modules,
    /// `node_modules`, unpacked from archives that are committed: a zero-install.
    ModulesOfArchives,
}

/// The last version of Yarn 1.
const LAST_FIRST: &str = "1.22.22";

/// What is read of `.yarnrc.yml`.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    node_linker: Option<String>,
    yarn_path: Option<String>,
}

fn read_settings(tree: &Tree) -> Result<Settings, BuildError> {
    settings(".yarnrc.yml", &tree.text(".yarnrc.yml")?.unwrap_or_default())
}

fn read_lock(tree: &Tree) -> Result<String, BuildError> {
    Ok(tree.text("yarn.lock")?.unwrap_or_default())
}

/// How the app's packages are laid out. None: it is one of Yarn 1.
pub(super) fn layout(
    tree: &Tree,
    package: &Value,
    env: &BTreeMap<String, String>,
) -> Result<Option<Layout>, BuildError> {
    let later = match (lock_version(&read_lock(tree)?), named("yarn", package)?) {
        (Some(_), _) => true,
        // Its lock file is still the other's, which Yarn itself has the words for.
        (None, Some(named)) => Range::both(&named.range, "1.x").is_none(),
        (None, None) => tree.has(".yarnrc.yml"),
    };
    if !later {
        return Ok(None);
    }
    let linker = match env.get("YARN_NODE_LINKER") {
        Some(linker) => Some(linker.clone()),
        None => read_settings(tree)?.node_linker,
    };
    Ok(Some(match linker.as_deref() {
        None | Some("pnp") => Layout::Archives,
        Some(_) if tree.has_directory(YARN_CACHE) => Layout::ModulesOfArchives,
        Some(_) => Layout::Modules,
    }))
}

/// The versions of Yarn 1 that may be run. Errors: package.json names what is no version.
pub(super) fn first_range(package: &Value) -> Result<String, BuildError> {
    let Some(Named { range, .. }) = named("yarn", package)? else { return Ok(LAST_FIRST.into()) };
    let lasts = Range::both(&range, LAST_FIRST).is_some();
    Ok(if lasts { LAST_FIRST.into() } else { Range::both(&range, "1.x").unwrap_or(range) })
}

/// The program of a later Yarn. Errors: package.json names versions of the first alone, or the app's own Yarn is not
/// there.
pub(super) fn later_program(tree: &Tree, package: &Value) -> Result<Program, BuildError> {
    const LATER: &str = ">=2.0.0";
    let program = |range: String, said| Program { name: "yarn", package: "@yarnpkg/cli-dist", range, said };
    if let Some(path) = read_settings(tree)?.yarn_path {
        if !path.starts_with('/') && !tree.has(&path) {
            return Err(BuildError::User(format!(
                ".yarnrc.yml: yarnPath is {path}, which is not in the repository. Commit it (`git add -f {path}`), or remove the line, and push again."
            )));
        }
        // Any of them runs it.
        return Ok(program(LATER.into(), Some(format!("Using the app's own yarn, {path}"))));
    }
    let line = line_of(lock_version(&read_lock(tree)?));
    let Some(named) = named("yarn", package)? else { return Ok(program(line.into(), None)) };
    let Some(later) = Range::both(&named.range, LATER) else {
        return Err(BuildError::User(format!(
            "package.json: {} is {:?}, and yarn.lock is of a later Yarn. Name the one that you use (`yarn --version`), commit, and push again.",
            named.because, named.range
        )));
    };
    if named.exact && Version::parse(&named.range).is_some() {
        return Ok(program(named.range, None));
    }
    // One that writes another lock file is there only when nothing else will do.
    Ok(program(Range::both(&named.range, line).unwrap_or(later), None))
}

/// The version of a lock file that Yarn 2 or later wrote.
fn lock_version(lock: &str) -> Option<u32> {
    let mut lines = lock.lines().skip_while(|line| line.trim_end() != "__metadata:").skip(1);
    let version = lines.find_map(|line| line.strip_prefix("  version:"))?;
    Some(version.trim().trim_matches('"').parse().unwrap_or(0))
}

/// The versions of Yarn that write lock files of this version. With another one `--immutable` fails.
fn line_of(version: Option<u32>) -> &'static str {
    match version {
        Some(..=4) => "2.x",
        Some(5) => "~3.1.0",
        Some(6 | 7) => ">=3.2.0 <4.0.0",
        Some(8) => ">=4.0.0 <4.14.0",
        Some(9) => "~4.14.0",
        Some(_) => ">=4.15.0",
        None => "4.x",
    }
}

/// Whether what is installed depends on files of the app that yarn.lock does not hold.
pub(super) fn reads_the_app(tree: &Tree) -> Result<bool, BuildError> {
    const PATHS: &[&str] = &["file:", "link:", "portal:", "exec:", "#./", "#~/"];
    let lock = read_lock(tree)?;
    Ok(PATHS.iter().any(|path| lock.contains(path)))
}

/// Whether a line of a later Yarn's output says what went wrong, and is not about its steps, peers or disabled scripts, or
/// a checksum.
pub(super) fn tells(line: &str) -> bool {
    const TALK: &[&str] = &["0000", "0002", "0004", "0007", "0013", "0019", "0060", "0085", "0086"];
    let code = line.strip_prefix("➤ YN").and_then(|rest| rest.get(..4));
    code.is_some_and(|code| !TALK.contains(&code)) && !line.contains(" checksum: ")
}

/// The warning about a config var that only Yarn 1 knows.
pub(super) fn warning(env: &BTreeMap<String, String>) -> Option<&'static str> {
    env.contains_key("YARN_PRODUCTION").then_some(
        "YARN_PRODUCTION is a config var, with which Yarn 2 and later starts nothing in a dyno.\nRemove it with `heroku config:unset YARN_PRODUCTION`; development dependencies stay with YARN2_SKIP_PRUNING=true.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_yarn_that_wrote_a_lock_file() {
        let check = |lock: &str, expected: Option<&str>| {
            assert_eq!(lock_version(lock).map(|version| line_of(Some(version))), expected, "{lock:?}");
        };
        check("# yarn lockfile v1\n\n\nms@2:\n  version \"2.1.3\"\n", None);
        check("", None);
        check("# generated\n\n__metadata:\n  version: 4\n", Some("2.x"));
        check("__metadata:\n  version: 6\n  cacheKey: 8\n", Some(">=3.2.0 <4.0.0"));
        check("__metadata:\r\n  version: 8\r\n  cacheKey: 10c0\r\n", Some(">=4.0.0 <4.14.0"));
        check("__metadata:\n  version: 10\n", Some(">=4.15.0"));
    }

    #[test]
    fn the_yarn_that_is_run() {
        let check = |lock: &str, settings: &str, package: &str, expected: &str| {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("yarn.lock"), lock).unwrap();
            std::fs::write(directory.path().join("yarn-3.8.7.cjs"), "").unwrap();
            if !settings.is_empty() {
                std::fs::write(directory.path().join(".yarnrc.yml"), settings).unwrap();
            }
            let tree = Tree::open(directory.path()).unwrap();
            let package: Value = serde_json::from_str(package).unwrap();
            let said = match layout(&tree, &package, &BTreeMap::new()).unwrap() {
                None => first_range(&package).map(|range| format!("first: {range}")),
                Some(_) => later_program(&tree, &package).map(|program| program.said.unwrap_or(program.range)),
            };
            let said = said.unwrap_or_else(|error| error.to_string());
            assert!(said.starts_with(expected), "{lock:?} {settings:?} {package}: {said}");
        };
        let first = "# yarn lockfile v1\n";
        check(first, "", "{}", "first: 1.22.22");
        check(first, "", r#"{"engines":{"yarn":">=1.10"}}"#, "first: 1.22.22");
        check(first, "", r#"{"engines":{"yarn":"1.19.x"}}"#, "first: 1.19.x 1.x");
        check(
            first,
            "",
            r#"{"packageManager":"yarn@1.22.19+sha1.4ba7fc5c6e704fce2066ecbfb0b0d8976fe62447"}"#,
            "first: 1.22.19 1.x",
        );
        check(first, "enableTelemetry: false\n", "{}", "4.x");
        check(first, "", r#"{"packageManager":"yarn@4.5.0"}"#, "4.5.0");
        let eight = "__metadata:\n  version: 8\n";
        check(eight, "", "{}", ">=4.0.0 <4.14.0");
        check(eight, "", r#"{"engines":{"yarn":">=3"}}"#, ">=3 >=4.0.0 <4.14.0");
        check(eight, "", r#"{"engines":{"yarn":"3.x"}}"#, "3.x >=2.0.0");
        check(eight, "", r#"{"packageManager":"yarn@4.16.0"}"#, "4.16.0");
        check(
            eight,
            "",
            r#"{"engines":{"yarn":"1.x"}}"#,
            "package.json: engines.yarn is \"1.x\", and yarn.lock is of a later",
        );
        check(
            eight,
            "yarnPath: ./yarn-3.8.7.cjs\n",
            r#"{"engines":{"yarn":"1.x"}}"#,
            "Using the app's own yarn, ./yarn-3.8.7",
        );
        check(
            eight,
            "yarnPath: .yarn/releases/yarn-4.cjs\n",
            "{}",
            ".yarnrc.yml: yarnPath is .yarn/releases/yarn-4.cjs, which",
        );
        let other = "package.json: engines.yarn is \"berry\", which is not a version of yarn";
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        let package = serde_json::json!({"engines": {"yarn": "berry"}});
        assert!(layout(&tree, &package, &BTreeMap::new()).unwrap_err().to_string().starts_with(other));
    }
}
