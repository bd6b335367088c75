//! What installs the packages of a Python app, by the file that is committed.

use crate::model::BuildError;
use crate::session::Session;
use crate::tree::{Inputs, Tree};
use std::collections::BTreeSet;

/// Which file lists the dependencies, their inputs, and whether Django is among them. None: there are none.
pub(super) fn manager(
    tree: &Tree,
    session: &Session<'_>,
    mut inputs: Inputs,
    whole: bool,
) -> Result<Option<(&'static str, Inputs, bool)>, BuildError> {
    let settings = session.config.client_settings.iter().chain(&session.request.env);
    for (name, value) in settings.filter(|(k, _)| k.starts_with("PIP_") || k.starts_with("UV_")) {
        inputs = inputs.with(name, value);
    }
    let mentions_django = |text: &str| text.to_ascii_lowercase().contains("django");
    if let Some(lock) = tree.text("uv.lock")? {
        if !tree.has("pyproject.toml") {
            return Err(BuildError::User("There is a uv.lock but no pyproject.toml beside it. Commit both.".into()));
        }
        inputs = inputs.with("uv.lock", &lock).with_file(tree, "pyproject.toml")?.with_file(tree, "uv.toml")?;
        let local = |l: &str| {
            ["directory = ", "path = ", "editable = \"", "virtual = \""].iter().any(|k| l.contains(k))
                && !l.contains("= \".\"")
        };
        if lock.lines().any(|l| l.contains("source = {") && local(l)) {
            inputs = inputs.with_tree(tree)?;
        }
        return Ok(Some(("uv.lock", inputs, mentions_django(&lock))));
    }
    if tree.has("requirements.txt") {
        let mut seen = BTreeSet::new();
        let mut text = String::new();
        let local = requirements(tree, "requirements.txt", &mut seen, &mut text)?;
        inputs = inputs.with("requirements", &text);
        if text.contains("${") {
            for (name, value) in &session.request.env {
                inputs = inputs.with(name, value);
            }
        }
        if local {
            inputs = inputs.with_tree(tree)?;
        }
        return Ok(Some(("requirements.txt", inputs, mentions_django(&text))));
    }
    for (file, command) in [
        ("Pipfile", "pipenv requirements > requirements.txt"),
        ("poetry.lock", "poetry export -o requirements.txt"),
        ("pyproject.toml", "uv lock"),
        ("setup.py", "echo . > requirements.txt"),
    ] {
        if tree.has(file) {
            let asks = file != "pyproject.toml" || tree.text(file)?.is_some_and(|t| t.contains("dependencies"));
            if asks {
                return Err(BuildError::User(format!(
                    "Dependencies are installed from requirements.txt or uv.lock; this app has only {file}. Run `{command}`, commit its result, and push again."
                )));
            }
        }
    }
    // A Python that is not the stack's travels with the app even when nothing is installed into it.
    Ok(whole.then_some((".python-version", inputs, false)))
}

/// Collects a requirements file and those that it names. Returns whether something of the tree itself is installed.
fn requirements(tree: &Tree, path: &str, seen: &mut BTreeSet<String>, text: &mut String) -> Result<bool, BuildError> {
    if seen.len() > 100 || !seen.insert(path.to_string()) {
        return Ok(false);
    }
    let Some(content) = tree.text(path)? else {
        return Err(BuildError::User(format!(
            "requirements.txt names {path}, which is not in the tree. Commit it, or remove the line."
        )));
    };
    let mut local = false;
    for line in content.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let included = ["-r", "--requirement", "-c", "--constraint"].iter().find_map(|option| {
            let rest = line.strip_prefix(option)?;
            rest.starts_with([' ', '\t', '=']).then(|| rest.trim_start_matches(['=', ' ', '\t']))
        });
        match included {
            Some(name) if name.contains("://") => {}
            Some(name) => {
                let name = name.split([' ', '\t']).next().unwrap_or_default();
                let below = path.rsplit_once('/').map_or(name.to_string(), |(folder, _)| format!("{folder}/{name}"));
                local |= requirements(tree, &below, seen, text)?;
            }
            None => {
                local |= line.starts_with(['.', '/'])
                    || line.starts_with("-e")
                    || line.starts_with("--editable")
                    || line.starts_with("--find-links")
                    || line.starts_with("-f ")
                    || line.contains("file:")
                    || (line.contains(".whl") && !line.contains("://"));
            }
        }
    }
    text.push_str(&format!("{path}\n{}\n{content}\n", content.len()));
    Ok(local)
}
