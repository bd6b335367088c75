//! What the dependency layer of a Node.js app is made from.

use super::manager::{self, Manager};
use super::{script, yarn};
use crate::model::BuildError;
use crate::session::Session;
use crate::tree::{Inputs, Tree, literal_directory};
use crate::versions::Version;
use serde_json::Value;

/// Digest of everything that `node_modules` is made from.
pub(super) fn inputs(
    tree: &Tree,
    package: &Value,
    session: &Session<'_>,
    version: &Version,
    manager: Manager,
    options: &[(&str, bool)],
) -> Result<String, BuildError> {
    const FIELDS: &[&str] = &[
        "name",
        "dependencies",
        "devDependencies",
        "optionalDependencies",
        "peerDependencies",
        "bundleDependencies",
        "bundledDependencies",
        "overrides",
        "resolutions",
        "engines",
        "workspaces",
        "bin",
        "packageManager",
        "dependenciesMeta",
    ];
    let mut inputs = Inputs::of_language("nodejs 2", version, session.config).with("manager", manager.name());
    for (name, value) in options {
        inputs = inputs.with(name, value.to_string());
    }
    for field in FIELDS {
        inputs = inputs.with(field, package[*field].to_string());
    }
    for file in ["package-lock.json", "npm-shrinkwrap.json", "yarn.lock", ".npmrc", ".yarnrc"] {
        inputs = inputs.with_file(tree, file)?;
    }
    if manager == Manager::Pnpm {
        inputs = inputs.with("pnpm", package["pnpm"].to_string());
        for file in ["pnpm-lock.yaml", "pnpm-workspace.yaml"] {
            inputs = inputs.with_file(tree, file)?;
        }
    }
    if matches!(manager, Manager::LaterYarn(_)) {
        inputs = inputs.with_file(tree, ".yarnrc.yml")?;
        if tree.has_directory(".yarn") {
            inputs = inputs.with_directory(tree, ".yarn")?;
        }
    }
    let settings = session.config.client_settings.iter().chain(&session.request.env);
    let relevant = |k: &str| {
        let k = k.to_ascii_uppercase();
        k.starts_with("NPM_") || k.starts_with("YARN_") || k.starts_with("PNPM_")
    };
    for (name, value) in settings.filter(|(k, _)| relevant(k)) {
        inputs = inputs.with(name, value);
    }
    let more = match manager {
        Manager::Pnpm => manager::patches(tree, package)?,
        Manager::LaterYarn(_) => yarn::reads_the_app(tree)?,
        Manager::Npm(_) | Manager::Yarn => false,
    };
    if more || hooks(package) {
        // What they read is not known, so everything counts.
        return Ok(inputs.with_tree(tree)?.hex());
    }
    for spec in local_packages(package) {
        inputs = match local_directory(tree, spec)? {
            Some(directory) => inputs.with_directory(tree, &directory)?,
            None => inputs.with_tree(tree)?,
        };
    }
    Ok(inputs.hex())
}

/// Whether npm runs something of the package when it is installed.
fn hooks(package: &Value) -> bool {
    const HOOKS: &[&str] =
        &["preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare"];
    HOOKS.iter().any(|hook| script(package, hook))
}

/// What a package asks for by a path.
fn local_packages(package: &Value) -> impl Iterator<Item = &str> {
    const PATHS: &[&str] = &["file:", "link:", ".", "/", "~/", "workspace:"];
    ["dependencies", "devDependencies", "optionalDependencies"]
        .into_iter()
        .filter_map(|field| package[field].as_object())
        .flat_map(|all| all.values().filter_map(Value::as_str))
        .filter(|spec| PATHS.iter().any(|prefix| spec.starts_with(prefix)))
}

/// The directory of a package of the app's own; none when what is installed depends on more than that.
fn local_directory(tree: &Tree, spec: &str) -> Result<Option<String>, BuildError> {
    let path = ["file:", "link:"].iter().find_map(|prefix| spec.strip_prefix(prefix)).unwrap_or(spec);
    let Some(directory) = literal_directory(path) else { return Ok(None) };
    let text = tree.text(&format!("{directory}/package.json"))?.unwrap_or_default();
    let plain = |package: &Value| !hooks(package) && local_packages(package).next().is_none();
    Ok(serde_json::from_str(&text).ok().filter(plain).map(|_| directory))
}
