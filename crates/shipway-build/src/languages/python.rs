//! Python with pip or uv; Django's static files.
//!
//! The dependency layer is a virtual environment at `/app/.heroku/python`, the path at which it also lies in dynos, over the
//! stack's Python; or a whole Python there when the version is not the stack's. Its bytecode is compiled with unchecked
//! hashes: a layer has no times that could be compared.

mod django;
mod manager;

use super::{Dependencies, Language, Plan, run_own, tail};
use crate::model::BuildError;
use crate::session::{Session, Show, Step};
use crate::toolchains::{Place, Toolchains, present, toolchain_mount};
use crate::tree::{Inputs, Tree};
use crate::versions::Version;
use async_trait::async_trait;
use django::{collect_static, find_manage};
use manager::manager;

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
            inputs: inputs.hex(),
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
}
