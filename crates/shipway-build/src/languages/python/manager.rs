//! What installs the packages of a Python app: pip, uv, Poetry or Pipenv, by the file that is committed.

use crate::languages::tail;
use crate::model::BuildError;
use crate::session::Session;
use crate::toolchains::Toolchains;
use crate::tree::{Inputs, Tree};
use crate::versions::Range;
use std::collections::BTreeSet;

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    Pip,
    Uv,
    Poetry,
    Pipenv,
}

const ENVIRONMENT: &str = "/app/.heroku/python";
/// Known to work with our commands; a newer one is a change of ours, not a surprise of a build.
const POETRY_VERSION: &str = "2.5.1";
const PIPENV_VERSION: &str = "2026.10.3";

impl Manager {
    const ALL: [Self; 4] = [Self::Pipenv, Self::Pip, Self::Poetry, Self::Uv];

    /// The manager that an app's file is of. None: nothing is installed. Errors: files of several managers, or one that
    /// lacks the other that belongs to it.
    pub(super) fn choose(tree: &Tree) -> Result<Option<Self>, BuildError> {
        let found: Vec<Self> = Self::ALL.into_iter().filter(|manager| tree.has(manager.file())).collect();
        match found[..] {
            [] => not_locked(tree).map_or(Ok(None), |why| Err(BuildError::User(why))),
            [manager] => match manager.project_file().filter(|file| !tree.has(file)) {
                Some(missing) => Err(BuildError::User(format!(
                    "There is a {} but no {missing} beside it. Commit both, and push again.",
                    manager.file()
                ))),
                None => Ok(Some(manager)),
            },
            _ => {
                let files: Vec<String> = found.iter().map(|m| format!("{} ({})", m.file(), m.title())).collect();
                Err(BuildError::User(format!(
                    "This app has the files of several package managers: {}. Keep those of the one that you use, remove the others with `git rm`, commit, and push again. A buildpack that makes one of them of another is not needed.",
                    files.join(", ")
                )))
            }
        }
    }

    /// The file that decides what is installed.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Pip => "requirements.txt",
            Self::Uv => "uv.lock",
            Self::Poetry => "poetry.lock",
            Self::Pipenv => "Pipfile.lock",
        }
    }

    /// The manager whose [`Manager::file`] this is.
    pub(super) fn of(file: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|manager| manager.file() == file)
    }

    /// The file that its lock file is made from.
    fn project_file(self) -> Option<&'static str> {
        match self {
            Self::Pip => None,
            Self::Uv | Self::Poetry => Some("pyproject.toml"),
            Self::Pipenv => Some("Pipfile"),
        }
    }

    /// What people call it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Pip => "pip",
            Self::Uv => "uv",
            Self::Poetry => "Poetry",
            Self::Pipenv => "Pipenv",
        }
    }

    /// What its program is called.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Pip => "pip",
            Self::Uv => "uv",
            Self::Poetry => "poetry",
            Self::Pipenv => "pipenv",
        }
    }

    /// Fetches its program, unless that is there or the environment's own (pip). Returns the toolchain's name.
    pub(super) async fn fetch(
        self,
        tools: &Toolchains,
        session: &mut Session<'_>,
    ) -> Result<Option<String>, BuildError> {
        let (fetched, instead) = match self {
            Self::Pip => return Ok(None),
            Self::Uv => (tools.uv(session).await, "uv export --no-dev -o requirements.txt"),
            Self::Poetry => (
                tools.python_program(self.program(), POETRY_VERSION, session).await,
                "poetry export -o requirements.txt",
            ),
            Self::Pipenv => (
                tools.python_program(self.program(), PIPENV_VERSION, session).await,
                "pipenv requirements > requirements.txt",
            ),
        };
        fetched.map(Some).map_err(|why| {
            let (title, file) = (self.title(), self.file());
            BuildError::User(format!(
                "{title} could not be fetched for {file}: {why}\nTry again, or commit a requirements.txt in place of {file} (`{instead}`)."
            ))
        })
    }

    /// Whether its program belongs into dynos. Pipenv always does, as on Heroku.
    pub(super) fn runs_in_dynos(self, tree: &Tree) -> Result<bool, BuildError> {
        let started = match self {
            Self::Pip => return Ok(false),
            Self::Pipenv => return Ok(true),
            Self::Uv => "uv run",
            Self::Poetry => "poetry run",
        };
        for file in ["Procfile", "app.json"] {
            if tree.text(file)?.is_some_and(|text| text.contains(started)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What its program is told of the environment that was made, in builds and in dynos: what was built is what runs.
    pub(super) fn environment(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Pip => &[],
            Self::Uv => {
                &[("UV_NO_SYNC", "1"), ("UV_PROJECT_ENVIRONMENT", ENVIRONMENT), ("UV_PYTHON_DOWNLOADS", "never")]
            }
            Self::Poetry => &[("VIRTUAL_ENV", ENVIRONMENT), ("POETRY_VIRTUALENVS_CREATE", "false")],
            Self::Pipenv => &[("VIRTUAL_ENV", ENVIRONMENT), ("PIPENV_SYSTEM", "1"), ("PIPENV_VERBOSITY", "-1")],
        }
    }

    /// What it is told in builds besides: where its cache is, and that nobody sits before it.
    pub(super) fn build_environment(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // Where a Python is no virtual environment, pip would put sources under version control beside the app's own.
            Self::Pip => &[("PIP_SRC", "/app/.heroku/python/src")],
            Self::Uv => &[("UV_CACHE_DIR", "/cache/uv"), ("UV_LINK_MODE", "copy")],
            Self::Poetry => &[("POETRY_CACHE_DIR", "/cache/pypoetry"), ("POETRY_KEYRING_ENABLED", "false")],
            Self::Pipenv => &[
                ("PIP_SRC", "/app/.heroku/python/src"),
                ("PIP_CACHE_DIR", "/cache/pip"),
                ("PIPENV_CACHE_DIR", "/cache/pipenv"),
                ("PIPENV_PIPFILE", "/app/Pipfile"),
                ("PIPENV_IGNORE_VIRTUALENVS", "0"),
                ("PIPENV_NOSPIN", "1"),
                ("PIPENV_YES", "1"),
                // It breaks its lines at this width, also those that a failure is explained by.
                ("COLUMNS", "500"),
            ],
        }
    }

    /// The command that installs what the file says, and how it is shown to people.
    pub(super) fn install(self) -> (&'static str, &'static str) {
        match self {
            Self::Pip => (
                "python -m pip install --no-input --disable-pip-version-check --no-compile --progress-bar off --cache-dir /cache/pip -r requirements.txt",
                "`pip install -r requirements.txt`",
            ),
            Self::Uv => ("/manager/.heroku/uv/bin/uv sync --locked --no-default-groups --no-progress", "`uv sync`"),
            Self::Poetry => (
                "/manager/.heroku/poetry/bin/poetry sync --only main --no-ansi --no-interaction",
                "`poetry sync --only main`",
            ),
            Self::Pipenv => ("/manager/.heroku/pipenv/bin/pipenv install --deploy", "`pipenv install --deploy`"),
        }
    }

    /// What a failed installation's output says went wrong, in a few lines.
    pub(super) fn cause(self, output: &str) -> String {
        if self != Self::Pipenv {
            return tail(output, 3);
        }
        // It says where in its own program it gave up, and ends with what that program was about to do.
        let errors: Vec<&str> = output.lines().filter(|line| line.starts_with("ERROR: ")).take(3).collect();
        if !errors.is_empty() {
            return errors.join("\n");
        }
        let own = |line: &&str| !line.contains("Exception]:") && !line.starts_with("ERROR:: Aborting");
        tail(&output.lines().filter(own).collect::<Vec<_>>().join("\n"), 3)
    }

    /// What to do about an installation that failed with this output.
    pub(super) fn help(self, output: &str) -> String {
        const VERSION: &str = "Name a version of Python that it allows in .python-version, commit, and push again.";
        let (stale, command, versions): (&[&str], _, _) = match self {
            Self::Pip => (&[], "", "\0"),
            Self::Uv => (&["needs to be updated"], "uv lock", "the project's Python requirement"),
            Self::Poetry => (
                &["was last generated", "not compatible with the current version of Poetry"],
                "poetry lock",
                "is not allowed by the project",
            ),
            Self::Pipenv => (&["is out of date"], "pipenv lock", "Your Pipfile requires"),
        };
        let file = self.file();
        if stale.iter().any(|words| output.contains(words)) {
            return format!("Run `{command}`, commit {file}, and push again.");
        }
        if output.contains(versions) {
            return VERSION.into();
        }
        if self == Self::Poetry && output.contains("project could not be installed") {
            return "If it is no package, write `package-mode = false` below [tool.poetry] in pyproject.toml, commit, and push again.".into();
        }
        "Fix what it names, commit, and push again.".into()
    }

    /// The version of Python that its own files name, and which of them.
    pub(super) fn python(self, tree: &Tree) -> Result<Option<(String, &'static str)>, BuildError> {
        if self != Self::Pipenv {
            return Ok(None);
        }
        let text = tree.text(self.file())?.unwrap_or_default();
        let lock: serde_json::Value = serde_json::from_str(&text).map_err(|e| {
            BuildError::User(format!(
                "Pipfile.lock is not JSON: {e}. Run `pipenv lock`, commit Pipfile.lock, and push again."
            ))
        })?;
        let requires = &lock["_meta"]["requires"];
        let named = ["python_full_version", "python_version"].into_iter().find_map(|field| requires[field].as_str());
        Ok(named.map(|version| (version.to_string(), self.file())))
    }

    /// The versions of Python that the project allows. None: it does not say, or in a way that is the manager's to read.
    pub(super) fn pythons(self, tree: &Tree) -> Result<Option<Range>, BuildError> {
        if !matches!(self, Self::Uv | Self::Poetry) {
            return Ok(None);
        }
        let project = project(tree)?;
        let poetry = || project.get("tool")?.get("poetry")?.get("dependencies")?.get("python")?.as_str();
        let said = project.get("project").and_then(|p| p.get("requires-python")?.as_str()).or_else(poetry);
        Ok(said.and_then(Range::python))
    }

    /// Everything that decides what is installed, added to `inputs`, and whether Django is among it.
    pub(super) fn inputs(
        self,
        tree: &Tree,
        session: &Session<'_>,
        mut inputs: Inputs,
    ) -> Result<(Inputs, bool), BuildError> {
        let counts = |name: &str| {
            name.starts_with("PIP_")
                || name.starts_with("UV_")
                || (self == Self::Pipenv && name.starts_with("PIPENV_"))
                // Who asks does not change what a lock file says; a new password is no reason to install anew.
                || (self == Self::Poetry
                    && name.starts_with("POETRY_")
                    && !name.starts_with("POETRY_HTTP_BASIC_")
                    && !name.starts_with("POETRY_PYPI_TOKEN_"))
        };
        let settings = session.config.client_settings.iter().chain(&session.request.env);
        for (name, value) in settings.filter(|(name, _)| counts(name)) {
            inputs = inputs.with(name, value);
        }
        let (text, local) = match self {
            Self::Pip => {
                let (mut seen, mut text) = (BTreeSet::new(), String::new());
                let local = requirements(tree, self.file(), &mut seen, &mut text)?;
                inputs = inputs.with("requirements", &text);
                (text, local)
            }
            Self::Uv => {
                let lock = tree.text(self.file())?.unwrap_or_default();
                inputs =
                    inputs.with(self.file(), &lock).with_file(tree, "pyproject.toml")?.with_file(tree, "uv.toml")?;
                let local = |l: &str| {
                    ["directory = ", "path = ", "editable = \"", "virtual = \""].iter().any(|k| l.contains(k))
                        && !l.contains("= \".\"")
                };
                let local = lock.lines().any(|l| l.contains("source = {") && local(l));
                let local = local || (!lock.contains("virtual = \".\"") && built_from_the_tree(&project(tree)?));
                (lock, local)
            }
            Self::Poetry => {
                let lock = tree.text(self.file())?.unwrap_or_default();
                inputs = inputs
                    .with(self.file(), &lock)
                    .with_file(tree, "pyproject.toml")?
                    .with_file(tree, "poetry.toml")?;
                let local = lock.lines().any(|l| matches!(l, "type = \"directory\"" | "type = \"file\""));
                let local = local || built_from_the_tree(&project(tree)?);
                (lock, local)
            }
            Self::Pipenv => {
                let lock = tree.text(self.file())?.unwrap_or_default();
                inputs = inputs.with(self.file(), &lock).with_file(tree, "Pipfile")?;
                let local = lock
                    .lines()
                    .any(|l| l.trim_start().starts_with("\"path\"") || (l.contains("\"file\"") && !l.contains("://")));
                (lock, local)
            }
        };
        if matches!(self, Self::Pip | Self::Pipenv) && text.contains("${") {
            for (name, value) in &session.request.env {
                inputs = inputs.with(name, value);
            }
        }
        if local {
            inputs = inputs.with_tree(tree)?;
        }
        Ok((inputs, text.to_ascii_lowercase().contains("django")))
    }
}

/// What to do about an app that lists what it needs, but not in a file that is installed from.
fn not_locked(tree: &Tree) -> Option<String> {
    let project = tree.text("pyproject.toml").ok().flatten().filter(|text| text.contains("dependencies"));
    let (file, command) = if tree.has("Pipfile") {
        ("Pipfile", "pipenv lock")
    } else if let Some(text) = project {
        ("pyproject.toml", if text.contains("[tool.poetry") { "poetry lock" } else { "uv lock" })
    } else if tree.has("setup.py") {
        ("setup.py", "echo . > requirements.txt")
    } else {
        return None;
    };
    Some(format!(
        "Dependencies are installed from requirements.txt, uv.lock, poetry.lock or Pipfile.lock; this app has only {file}. Run `{command}`, commit its result, and push again."
    ))
}

fn project(tree: &Tree) -> Result<toml::Table, BuildError> {
    let text = tree.text("pyproject.toml")?.unwrap_or_default();
    text.parse().map_err(|e: toml::de::Error| {
        BuildError::User(format!("pyproject.toml is not TOML: {}. Fix it, commit, and push again.", e.message()))
    })
}

/// Whether the app is a package whose installation reads more of the tree than pyproject.toml: a version from elsewhere, a
/// script or a compiler that runs, or a builder of which that is not known.
fn built_from_the_tree(project: &toml::Table) -> bool {
    /// With these a package that is installed from where it lies is a line that says where it lies.
    const PURE: &[&str] = &["poetry.core", "uv_build", "hatchling.build", "flit_core.buildapi", "pdm.backend"];
    let Some(backend) = project.get("build-system") else { return false };
    let backend = backend.get("build-backend").and_then(|name| name.as_str()).unwrap_or_default();
    let poetry = project.get("tool").and_then(|tool| tool.get("poetry"));
    let said = |name: &str| poetry.and_then(|poetry| poetry.get(name));
    if said("package-mode").and_then(toml::Value::as_bool) == Some(false) {
        return false;
    }
    let dynamic = project.get("project").and_then(|p| p.get("dynamic")?.as_array()).is_some_and(|d| !d.is_empty());
    dynamic || said("build").is_some() || !PURE.iter().any(|name| backend.starts_with(name))
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
