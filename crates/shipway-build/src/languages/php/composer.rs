//! What composer.json and composer.lock ask for.

use crate::model::BuildError;
use crate::session::Session;
use crate::tree::{Inputs, Tree, literal_directory};
use crate::versions::{Range, Version};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

pub(super) struct Composer {
    json: Value,
    lock: Option<Value>,
    lock_text: String,
}

/// A version that something of the app wants.
pub(super) struct Want {
    pub(super) constraint: String,
    /// `composer.json`, or the package that wants it.
    pub(super) by: String,
}

impl Want {
    /// A constraint that is not understood is left to Composer to refuse.
    pub(super) fn allows(&self, version: &Version) -> bool {
        Range::composer(&self.constraint).is_none_or(|range| range.contains(version))
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (from {})", self.constraint, self.by)
    }
}

impl Composer {
    /// None: there is no composer.json.
    ///
    /// Errors: files that are not JSON objects, packages without a lock file, directories that are not where they are
    /// everywhere.
    pub(super) fn read(tree: &Tree) -> Result<Option<Self>, BuildError> {
        let Some(json) = object(tree, "composer.json")? else { return Ok(None) };
        let (json, _) = json;
        let (lock, lock_text) = object(tree, "composer.lock")?.map_or((None, String::new()), |(l, t)| (Some(l), t));
        let composer = Self { json, lock, lock_text };
        if composer.lock.is_none() && composer.requires_packages() {
            return Err(BuildError::User(
                "composer.json asks for packages, and there is no composer.lock beside it. Run `composer update`, commit composer.lock (is it in .gitignore?), and push again.".into(),
            ));
        }
        let directory = |name: &str| composer.json["config"][name].as_str().map(|d| d.trim_matches(['.', '/']));
        if directory("vendor-dir").is_some_and(|d| d != "vendor") {
            return Err(BuildError::User(
                "composer.json: config.vendor-dir is another directory than `vendor`. Dependencies are a layer of their own and lie there: run `composer config --unset vendor-dir`, commit, and push again.".into(),
            ));
        }
        if directory("bin-dir").is_some_and(|d| d != "vendor/bin") {
            return Err(BuildError::User(
                "composer.json: config.bin-dir is another directory than `vendor/bin`. Run `composer config --unset bin-dir`, commit, and push again.".into(),
            ));
        }
        Ok(Some(composer))
    }

    /// Whether `composer install` would do anything.
    pub(super) fn does_something(&self) -> bool {
        self.lock.is_some() || self.has_own_steps() || self.has_script("compile")
    }

    pub(super) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Whether Composer reads the app's own files: for its autoloader, its scripts, or plugins that put packages elsewhere
    /// than in `vendor`.
    pub(super) fn has_own_steps(&self) -> bool {
        const HOOKS: &[&str] = &["pre-install-cmd", "post-install-cmd", "pre-autoload-dump", "post-autoload-dump"];
        filled(&self.json["autoload"])
            || HOOKS.iter().any(|hook| self.has_script(hook))
            || self.packages().any(|p| p["type"] == "composer-plugin")
    }

    pub(super) fn has_script(&self, name: &str) -> bool {
        let script = &self.json["scripts"][name];
        script.as_str().is_some_and(|s| !s.trim().is_empty()) || filled(script)
    }

    fn packages(&self) -> impl Iterator<Item = &Value> {
        self.lock.iter().filter_map(|lock| lock["packages"].as_array()).flatten()
    }

    fn requires_packages(&self) -> bool {
        self.json["require"].as_object().is_some_and(|all| all.keys().any(|name| name.contains('/')))
    }

    /// Everything that is required at run time: what, which version, by whom.
    fn requirements(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let own = [("composer.json", &self.json["require"])].into_iter();
        let theirs = self.packages().map(|p| (p["name"].as_str().unwrap_or("a package"), &p["require"]));
        own.chain(theirs).flat_map(|(by, require)| {
            let all = require.as_object().into_iter().flatten();
            all.filter_map(move |(name, constraint)| Some((name.as_str(), constraint.as_str()?, by)))
        })
    }

    /// Who wants which version of `name`, each constraint once.
    pub(super) fn wants(&self, name: &str) -> Vec<Want> {
        let mut found: Vec<Want> = Vec::new();
        for (_, constraint, by) in self.requirements().filter(|(what, ..)| *what == name) {
            if !found.iter().any(|want| want.constraint == constraint) {
                found.push(Want { constraint: constraint.into(), by: by.into() });
            }
        }
        found
    }

    /// The extensions that are wanted, in small letters, with the first who wants them. Those that a package of the app
    /// stands in for (`symfony/polyfill-mbstring`) are not.
    pub(super) fn extensions(&self) -> BTreeMap<String, String> {
        let provided =
            |name: &str| self.packages().any(|p| ["provide", "replace"].iter().any(|field| !p[*field][name].is_null()));
        let mut found = BTreeMap::new();
        for (name, _, by) in self.requirements() {
            if let Some(extension) = name.strip_prefix("ext-").filter(|_| !provided(name)) {
                found.entry(extension.to_lowercase()).or_insert_with(|| by.to_string());
            }
        }
        found
    }

    /// Hex digest of everything that `vendor` is made from.
    pub(super) fn inputs(&self, tree: &Tree, session: &Session<'_>, version: &Version) -> Result<String, BuildError> {
        const FIELDS: &[&str] = &[
            "require",
            "repositories",
            "config",
            "extra",
            "replace",
            "provide",
            "conflict",
            "minimum-stability",
            "prefer-stable",
        ];
        let mut inputs = Inputs::of_language("php 1", version, session.config).with("composer.lock", &self.lock_text);
        for field in FIELDS {
            inputs = inputs.with(field, self.json[*field].to_string());
        }
        let settings = session.config.client_settings.iter().chain(&session.request.env);
        // What opens a repository says nothing about what is in it.
        for (name, value) in settings.filter(|(k, _)| k.starts_with("COMPOSER_") && *k != "COMPOSER_AUTH") {
            inputs = inputs.with(name, value);
        }
        for path in self.local_repositories() {
            inputs = match path {
                Some(path) => inputs.with_directory(tree, &path)?,
                None => inputs.with_tree(tree)?,
            };
        }
        Ok(inputs.hex())
    }

    /// The directories of the app that packages come from; none for one that can only be known by looking at all.
    fn local_repositories(&self) -> Vec<Option<String>> {
        let repositories = &self.json["repositories"];
        let all: Vec<&Value> = match repositories {
            Value::Array(all) => all.iter().collect(),
            Value::Object(all) => all.values().collect(),
            _ => Vec::new(),
        };
        let local = all.into_iter().filter(|r| r["type"] == "path" || r["type"] == "artifact");
        local.map(|r| literal_directory(r["url"].as_str().unwrap_or_default())).collect()
    }
}

fn filled(value: &Value) -> bool {
    value.as_object().is_some_and(|o| !o.is_empty()) || value.as_array().is_some_and(|a| !a.is_empty())
}

/// A JSON object of the tree and its text. None: there is no such file.
fn object(tree: &Tree, path: &str) -> Result<Option<(Value, String)>, BuildError> {
    let Some(text) = tree.text(path)? else { return Ok(None) };
    match serde_json::from_str::<Value>(text.trim_start_matches('\u{feff}')) {
        Ok(value) if value.is_object() => Ok(Some((value, text))),
        Ok(_) => Err(BuildError::User(format!("{path} is not a JSON object."))),
        Err(e) => Err(BuildError::User(format!("{path} is not JSON: {e}. Fix it, commit, and push again."))),
    }
}
