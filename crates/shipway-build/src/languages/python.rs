//! Python with pip or uv; Django's static files.
//!
//! The dependency layer is a virtual environment at `/app/.heroku/python`, the path at which it also lies in dynos, over the
//! stack's Python; or a whole Python there when the version is not the stack's. Its bytecode is compiled with unchecked
//! hashes: a layer has no times that could be compared.

use super::{Dependencies, Language, Plan, run_own, tail};
use crate::model::BuildError;
use crate::session::{Session, Show, Step};
use crate::toolchains::{Place, Toolchains, present, toolchain_mount};
use crate::tree::{Inputs, Tree};
use crate::versions::Version;
use async_trait::async_trait;
use std::collections::BTreeSet;

pub(crate) struct Python;

const PLACE: &str = ".heroku/python";
const BIN: &str = "/app/.heroku/python/bin";
const COMPILE: &str = "python -m compileall -q -j 2 --invalidation-mode unchecked-hash /app/.heroku/python/lib || true";

#[async_trait]
impl Language for Python {
    fn name(&self) -> &'static str {
        "heroku/python"
    }

    fn title(&self) -> &'static str {
        "Python"
    }

    fn detect(&self, tree: &Tree) -> bool {
        const SIGNS: &[&str] = &[
            "requirements.txt",
            "uv.lock",
            "pyproject.toml",
            "Pipfile",
            "poetry.lock",
            "manage.py",
            "setup.py",
            "runtime.txt",
            ".python-version",
        ];
        SIGNS.iter().any(|name| tree.has(name))
            || (!tree.has("package.json") && tree.names(".").iter().any(|name| name.ends_with(".py")))
    }

    async fn plan(&self, tree: &Tree, session: &mut Session<'_>, tools: &Toolchains) -> Result<Plan, BuildError> {
        let mut plan = Plan::default();
        let (version, place) = choose(tree, session, tools, &mut plan).await?;
        plan.versions.insert("python".into(), version.to_string());
        for (name, value) in [
            ("PYTHONUNBUFFERED", "true"),
            ("PYTHONHASHSEED", "random"),
            ("PYTHONPATH", "/app"),
            ("LANG", "C.UTF-8"),
            ("FORWARDED_ALLOW_IPS", "*"),
            ("GUNICORN_CMD_ARGS", "--access-logfile -"),
        ] {
            plan.env.insert(name.into(), value.into());
        }
        let (command, whole) = match &place {
            Place::Host(command) => (command.clone(), None),
            Place::Toolchain(name) => ("/toolchain/.heroku/python/bin/python3".into(), Some(name.clone())),
        };
        plan.own.insert("python", command);
        let inputs = Inputs::new("python 1")
            .with("version", version.to_string())
            .with("place", whole.as_deref().unwrap_or("stack"))
            .with("stack", &session.config.stack_fingerprint)
            .with("platform", std::env::consts::ARCH);
        if let Some(name) = whole {
            plan.own.insert("toolchain", name);
        }
        let Some((source, inputs, django)) = manager(tree, session, inputs, plan.own.contains_key("toolchain"))? else {
            return Ok(plan);
        };
        if source == "uv.lock" {
            let uv = tools.uv(session).await.map_err(|why| {
                BuildError::User(format!(
                    "uv could not be fetched for uv.lock: {why}\nTry again, or commit a requirements.txt instead (`uv export --no-dev -o requirements.txt`)."
                ))
            })?;
            if starts_by_uv(tree)? {
                plan.path.push("/app/.heroku/uv/bin".into());
                // What was built is what runs: `uv run` installs nothing in a dyno.
                for (name, value) in [
                    ("UV_NO_SYNC", "1"),
                    ("UV_PROJECT_ENVIRONMENT", "/app/.heroku/python"),
                    ("UV_PYTHON_DOWNLOADS", "never"),
                ] {
                    plan.env.insert(name.into(), value.into());
                }
                plan.toolchains.push(uv.clone());
            }
            plan.own.insert("uv", uv);
        }
        if django
            && !disabled(session)
            && let Some(manage) = find_manage(tree)
        {
            plan.own.insert("manage", manage);
        }
        plan.path.push(BIN.into());
        plan.dependencies = Some(Dependencies {
            path: PLACE,
            inputs: Some(inputs.hex()),
            committed: false,
            needed_to_build: plan.own.contains_key("manage") || tree.has("bin/post_compile"),
            stripped: false,
            source,
        });
        Ok(plan)
    }

    async fn before(&self, _: &Plan, tree: &Tree, session: &mut Session<'_>) -> Result<(), BuildError> {
        if !tree.has("bin/pre_compile") {
            return Ok(());
        }
        session.report.header("Running bin/pre_compile");
        let env = session.app_env(&[]);
        let step = Step {
            command: "exec bash bin/pre_compile",
            env,
            mounts: Session::app_mounts(),
            directory: "/app",
            show: Show::Indented,
        };
        run_own(session, step, "bin/pre_compile").await
    }

    async fn install(&self, plan: &Plan, session: &mut Session<'_>) -> Result<(), BuildError> {
        let Some(dependencies) = &plan.dependencies else { return Ok(()) };
        let base = if plan.own.contains_key("toolchain") {
            "mkdir -p /app/.heroku/python && cp -a /toolchain/.heroku/python/. /app/.heroku/python/ && rm -f /app/.heroku/python/lib/python3*/EXTERNALLY-MANAGED"
        } else if dependencies.source == "uv.lock" {
            r#""$PYTHON" -m venv --without-pip /app/.heroku/python"#
        } else {
            r#""$PYTHON" -m venv /app/.heroku/python"#
        };
        self.step(plan, session, base, "making the Python environment (is python3-venv installed on the platform?)")
            .await?;
        match dependencies.source {
            "uv.lock" => {
                session.report.header("Installing dependencies with uv");
                self.step(
                    plan,
                    session,
                    "/uv/.heroku/uv/bin/uv sync --locked --no-default-groups --no-progress",
                    "`uv sync`",
                )
                .await?;
            }
            "requirements.txt" => {
                session.report.header("Installing requirements with pip");
                const PIP: &str = "python -m pip install --no-input --disable-pip-version-check --no-compile --progress-bar off --cache-dir /cache/pip -r requirements.txt";
                self.step(plan, session, PIP, "`pip install -r requirements.txt`").await?;
            }
            _ => {}
        }
        self.step(plan, session, COMPILE, "compiling the dependencies").await
    }

    async fn build(&self, plan: &Plan, tree: &Tree, session: &mut Session<'_>) -> Result<(), BuildError> {
        if let Some(manage) = plan.own.get("manage") {
            collect_static(plan, manage, session).await?;
        } else if disabled(session) {
            session.report.detail("DISABLE_COLLECTSTATIC is set: static files are not collected");
        }
        if tree.has("bin/post_compile") {
            session.report.header("Running bin/post_compile");
            let step = app_step(plan, session, "exec bash bin/post_compile", &[]);
            run_own(session, step, "bin/post_compile").await?;
        }
        Ok(())
    }
}

impl Python {
    async fn step(
        &self,
        plan: &Plan,
        session: &mut Session<'_>,
        command: &'static str,
        what: &str,
    ) -> Result<(), BuildError> {
        let python = plan.own.get("python").map_or("python3", String::as_str);
        let mut step = app_step(plan, session, command, &[("PYTHON", python)]);
        if let Some(name) = plan.own.get("toolchain") {
            step.mounts.push(toolchain_mount(name, "/toolchain"));
        }
        if let Some(name) = plan.own.get("uv") {
            step.mounts.push(toolchain_mount(name, "/uv"));
            let project_python =
                if plan.own.contains_key("toolchain") { "/app/.heroku/python/bin/python3" } else { python };
            for (name, value) in [
                ("UV_PROJECT_ENVIRONMENT", "/app/.heroku/python"),
                ("UV_CACHE_DIR", "/cache/uv"),
                ("UV_PYTHON", project_python),
                ("UV_PYTHON_DOWNLOADS", "never"),
                ("UV_LINK_MODE", "copy"),
            ] {
                step.env.insert(name.into(), value.into());
            }
        }
        let finished = session.run(step).await?;
        if finished.status == 0 {
            return Ok(());
        }
        Err(BuildError::User(format!(
            "{what} failed (exit status {}):\n{}\nFix what it names, commit, and push again.",
            finished.status,
            tail(&finished.output, 3)
        )))
    }
}

fn app_step(plan: &Plan, session: &Session<'_>, command: &'static str, own: &[(&str, &str)]) -> Step {
    let path = format!("{BIN}:{}", session.path());
    let mut env = session.app_env(own);
    for (name, value) in [
        ("PATH", path.as_str()),
        ("PYTHONUNBUFFERED", "1"),
        // Compiled once, at the end, in a form that survives the layer.
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("XDG_CACHE_HOME", "/cache"),
    ] {
        env.insert(name.into(), value.into());
    }
    let mut mounts = Session::app_mounts();
    if let Some(name) = plan.own.get("toolchain") {
        mounts.push(toolchain_mount(name, "/toolchain"));
    }
    mounts.dedup_by(|a, b| a.target == b.target);
    Step { command, env, mounts, directory: "/app", show: Show::Indented }
}

/// Whether the app wants uv in its dynos too.
fn starts_by_uv(tree: &Tree) -> Result<bool, BuildError> {
    for file in ["Procfile", "app.json"] {
        if tree.text(file)?.is_some_and(|text| text.contains("uv run")) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn disabled(session: &Session<'_>) -> bool {
    session.request.env.get("DISABLE_COLLECTSTATIC").is_some_and(|v| !v.is_empty() && v != "0")
}

/// The version that the app asks for, or had before, or the stack's; and where it lies.
async fn choose(
    tree: &Tree,
    session: &mut Session<'_>,
    tools: &Toolchains,
    plan: &mut Plan,
) -> Result<(Version, Place), BuildError> {
    let before =
        session.request.previous.as_ref().and_then(|p| p.versions.get("python")).and_then(|v| Version::parse(v));
    let (wanted, because) = if let Some(text) = tree.text(".python-version")? {
        (read_version(&text, ".python-version")?, ".python-version")
    } else if let Some(text) = tree.text("runtime.txt")? {
        (read_version(&text, "runtime.txt")?, "runtime.txt")
    } else if let Some(version) = before {
        (version.minor(), "the app's first build")
    } else {
        let Some(version) = tools.default_python().await else {
            return Err(BuildError::User(
                "This platform has no Python. Its operator installs one with `apt-get install python3 python3-venv`."
                    .into(),
            ));
        };
        plan.notes.push("No version is named: it stays the one of this build. Name one in .python-version".into());
        (version.minor(), "the platform's default")
    };
    let found = tools.pythons().await;
    let fits = |v: &Version| v.to_string() == wanted || v.minor() == wanted;
    let chosen = match found.iter().find(|(v, _)| fits(v)) {
        Some(chosen) => chosen.clone(),
        None => {
            session.report.detail(&format!("Fetching Python {wanted} for all apps of this platform"));
            tools.fetch_python(&wanted, session).await.map_err(|why| {
                let way_out = match found.first() {
                    Some((v, _)) => {
                        format!("Use one that is present: `echo {} > .python-version`, commit, and push again.", v.minor())
                    }
                    None => "The operator installs one: `apt-get install python3 python3-venv`.".into(),
                };
                BuildError::User(format!(
                    "This app wants Python {wanted} (from {because}). Present on this platform: {}.\nFetching it failed: {why}\n{way_out} Or the operator sets UV_PYTHON_INSTALL_MIRROR to a mirror of Python builds.",
                    present(&found)
                ))
            })?
        }
    };
    plan.notes.insert(0, format!("Using Python {} ({because})", chosen.0));
    Ok(chosen)
}

fn read_version(text: &str, file: &str) -> Result<String, BuildError> {
    let line = text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#')).unwrap_or_default();
    let version = line.strip_prefix("python-").unwrap_or(line);
    let parts: Vec<&str> = version.split('.').collect();
    let digits = |p: &&str| !p.is_empty() && p.len() < 5 && p.bytes().all(|b| b.is_ascii_digit());
    if (2..=3).contains(&parts.len()) && parts.iter().all(digits) && parts[0] == "3" {
        return Ok(version.to_string());
    }
    Err(BuildError::User(format!(
        "{file}: {:?} is not a version of Python 3. Write a line like `{}`, commit, and push again.",
        line.chars().take(40).collect::<String>(),
        if file == "runtime.txt" { "python-3.12.4" } else { "3.12" }
    )))
}

/// Which file lists the dependencies, their inputs, and whether Django is among them. None: there are none.
fn manager(
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

fn find_manage(tree: &Tree) -> Option<String> {
    if tree.has("manage.py") {
        return Some("manage.py".into());
    }
    let folders = tree.names(".").into_iter().filter(|n| !n.starts_with('.') && tree.has_directory(n));
    folders.map(|folder| format!("{folder}/manage.py")).find(|path| tree.has(path))
}

async fn collect_static(plan: &Plan, manage: &str, session: &mut Session<'_>) -> Result<(), BuildError> {
    /// With the app's own bytecode in the same sandbox: compared by hash, so an edit in a one-off dyno counts.
    const COLLECT: &str = r#"python "$MANAGE" collectstatic --noinput || exit
python -m compileall -q --invalidation-mode checked-hash -x '/app/(\.heroku|\.git|node_modules)/' /app > /dev/null
exit 0"#;
    session.report.header("Collecting Django's static files");
    let step = app_step(plan, session, COLLECT, &[("MANAGE", &format!("./{manage}"))]);
    let finished = session.run(step).await?;
    if finished.status == 0 {
        return Ok(());
    }
    if finished.output.contains("Unknown command: 'collectstatic'") {
        session.report.detail("django.contrib.staticfiles is not among INSTALLED_APPS: there is nothing to collect");
        return Ok(());
    }
    Err(BuildError::User(explain_collectstatic(&finished.output, &session.request.app_name)))
}

/// Says why `collectstatic` failed and which command helps.
fn explain_collectstatic(output: &str, app: &str) -> String {
    let last = tail(output, 1);
    let set = |name: &str| {
        let value = if name.contains("SECRET") { "\"$(openssl rand -base64 48)\"" } else { "<value>" };
        format!(
            "collectstatic failed: the settings need {name}, which is not set.\n{last}\nSet it and push again: heroku config:set {name}={value} -a {app}"
        )
    };
    let missing = output.lines().rev().find_map(|line| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("KeyError: ") {
            return Some(name.trim_matches(['\'', '"']).to_string());
        }
        if line.contains("SECRET_KEY setting must not be empty") {
            return Some("SECRET_KEY".into());
        }
        let name = line.strip_prefix("decouple.UndefinedValueError: ")?.split_whitespace().next()?;
        Some(name.to_string())
    });
    if let Some(name) = missing.filter(|n| shipway_domain::ConfigKey::parse(n).is_ok()) {
        return set(&name);
    }
    if let Some(line) = output.lines().rev().find(|l| l.contains("ImproperlyConfigured: ")) {
        let environment = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).find(|word| {
            word.len() > 3
                && word.contains('_')
                && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_' || b.is_ascii_digit())
        });
        if line.contains("environment variable")
            && let Some(name) = environment
        {
            return set(name);
        }
        if line.contains("STATIC_ROOT") {
            return format!(
                "collectstatic failed: STATIC_ROOT is not set in the settings.\nAdd `STATIC_ROOT = BASE_DIR / \"staticfiles\"`, or go without: heroku config:set DISABLE_COLLECTSTATIC=1 -a {app}"
            );
        }
    }
    format!(
        "collectstatic failed: {last}\nFix what it names and push again, or go without: heroku config:set DISABLE_COLLECTSTATIC=1 -a {app}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_strictly() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(read_version(text, ".python-version").ok().as_deref(), expected, "{text}");
        };
        check("# comment\n3.12\n", Some("3.12"));
        check("python-3.11.9", Some("3.11.9"));
        for bad in ["", "2.7", "3", "3.x", "pypy3.10", "--help", "3.12; id", "$(id)"] {
            check(bad, None);
        }
    }

    #[test]
    fn why_collectstatic_failed() {
        let check = |output: &str, expected: &str| {
            let text = explain_collectstatic(output, "shop");
            assert!(text.contains(expected), "{text}");
        };
        check(
            "Traceback\nKeyError: 'SECRET_KEY'\n",
            "heroku config:set SECRET_KEY=\"$(openssl rand -base64 48)\" -a shop",
        );
        check(
            "django.core.exceptions.ImproperlyConfigured: The SECRET_KEY setting must not be empty.",
            "needs SECRET_KEY".replace("needs", "need").as_str(),
        );
        check("decouple.UndefinedValueError: API_TOKEN not found. Declare it", "config:set API_TOKEN=<value> -a shop");
        check(
            "django.core.exceptions.ImproperlyConfigured: Set the MAIL_URL environment variable",
            "config:set MAIL_URL=",
        );
        check(
            "ImproperlyConfigured: You're using the staticfiles app without having set the STATIC_ROOT setting",
            "STATIC_ROOT = BASE_DIR",
        );
        check("KeyError: 'a; rm -rf /'", "DISABLE_COLLECTSTATIC=1");
        check("", "DISABLE_COLLECTSTATIC=1");
    }
}
