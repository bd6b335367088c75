//! Python with pip, uv, Poetry or Pipenv; Django's static files.
//!
//! The dependency layer is a virtual environment at `/app/.heroku/python`, the path at which it also lies in dynos, over the
//! stack's Python; or a whole Python there when the version is not the stack's. Its bytecode is compiled with unchecked
//! hashes: a layer has no times that could be compared.

mod django;
mod manager;

use super::{Dependencies, Language, Plan, run_own, tail};
use crate::model::BuildError;
use crate::session::{Finished, Session, Show, Step};
use crate::toolchains::{Place, Toolchains, present, toolchain_mount};
use crate::tree::{Inputs, Tree};
use crate::versions::{Range, Version};
use async_trait::async_trait;
use django::{collect_static, find_manage};
use manager::Manager;

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
            "Pipfile.lock",
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
        let manager = Manager::choose(tree)?;
        let (version, place) = choose(tree, manager, session, tools, &mut plan).await?;
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
        let inputs = Inputs::of_language("python 2", &version, session.config)
            .with("place", whole.as_deref().unwrap_or("stack"));
        if let Some(name) = whole {
            plan.own.insert("toolchain", name);
        }
        let source = match manager {
            Some(manager) => manager.file(),
            // A Python that is not the stack's travels with the app even when nothing is installed into it.
            None if plan.own.contains_key("toolchain") => ".python-version",
            None => return Ok(plan),
        };
        let (inputs, django) = match manager {
            Some(manager) => manager.inputs(tree, session, inputs)?,
            None => (inputs, false),
        };
        if let Some(manager) = manager
            && let Some(name) = manager.fetch(tools, session).await?
        {
            if manager.runs_in_dynos(tree)? {
                plan.path.push(format!("/app/.heroku/{}/bin", manager.program()));
                plan.env.extend(manager.environment().iter().map(|(k, v)| (k.to_string(), v.to_string())));
                plan.toolchains.push(name.clone());
            }
            plan.own.insert("manager", name);
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
        let manager = manager_of(plan);
        let base = if plan.own.contains_key("toolchain") {
            "mkdir -p /app/.heroku/python && cp -a /toolchain/.heroku/python/. /app/.heroku/python/ && rm -f /app/.heroku/python/lib/python3*/EXTERNALLY-MANAGED"
        } else if matches!(manager, Some(Manager::Pip)) {
            r#""$PYTHON" -m venv /app/.heroku/python"#
        } else {
            r#""$PYTHON" -m venv --without-pip /app/.heroku/python"#
        };
        let made = run(plan, session, base).await?;
        if made.status != 0 {
            return Err(BuildError::User(format!(
                "Making the Python environment failed (is python3-venv installed on the platform?):\n{}",
                tail(&made.output, 3)
            )));
        }
        if let Some(manager) = manager {
            session.report.header(&match manager {
                Manager::Pip => "Installing requirements with pip".into(),
                _ => format!("Installing dependencies with {}", manager.title()),
            });
            let (command, what) = manager.install();
            let Finished { status, output } = run(plan, session, command).await?;
            if status != 0 {
                return Err(BuildError::User(format!(
                    "{what} failed (exit status {status}):\n{}\n{}",
                    manager.cause(&output),
                    manager.help(&output)
                )));
            }
        }
        // A file that does not compile is compiled by nobody who does not import it.
        run(plan, session, COMPILE).await.map(|_| ())
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

/// What installs the app's packages, if it has some.
fn manager_of(plan: &Plan) -> Option<Manager> {
    plan.dependencies.as_ref().and_then(|dependencies| Manager::of(dependencies.source))
}

/// A command of ours that works on the environment.
async fn run(plan: &Plan, session: &mut Session<'_>, command: &'static str) -> Result<Finished, BuildError> {
    let python = plan.own.get("python").map_or("python3", String::as_str);
    let mut step = app_step(plan, session, command, &[("PYTHON", python)]);
    let project = if plan.own.contains_key("toolchain") { "/app/.heroku/python/bin/python3" } else { python };
    step.env.insert("UV_PYTHON".into(), project.into());
    session.run(step).await
}

fn app_step(plan: &Plan, session: &Session<'_>, command: &'static str, own: &[(&str, &str)]) -> Step {
    let mut path = vec![BIN.to_string()];
    let mut env = session.app_env(own);
    let mut mounts = Session::app_mounts();
    if let Some(name) = plan.own.get("toolchain") {
        mounts.push(toolchain_mount(name, "/toolchain"));
    }
    if let Some(manager) = manager_of(plan) {
        for (name, value) in manager.environment().iter().chain(manager.build_environment()) {
            env.insert(name.to_string(), value.to_string());
        }
        if let Some(name) = plan.own.get("manager") {
            mounts.push(toolchain_mount(name, "/manager"));
            path.push(format!("/manager/.heroku/{}/bin", manager.program()));
        }
    }
    path.push(session.path());
    for (name, value) in [
        ("PATH", path.join(":").as_str()),
        ("PYTHONUNBUFFERED", "1"),
        // Compiled once, at the end, in a form that survives the layer.
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("XDG_CACHE_HOME", "/cache"),
    ] {
        env.insert(name.into(), value.into());
    }
    Step { command, env, mounts, directory: "/app", show: Show::Indented }
}

fn disabled(session: &Session<'_>) -> bool {
    session.request.env.get("DISABLE_COLLECTSTATIC").is_some_and(|v| !v.is_empty() && v != "0")
}

/// The version that the app asks for, or had before, or the stack's, or one that the project allows; and where it lies.
async fn choose(
    tree: &Tree,
    manager: Option<Manager>,
    session: &mut Session<'_>,
    tools: &Toolchains,
    plan: &mut Plan,
) -> Result<(Version, Place), BuildError> {
    const REQUIRES: &str = "requires-python in pyproject.toml";
    let own = manager.map(|m| m.python(tree)).transpose()?.flatten();
    let range = manager.map(|m| m.pythons(tree)).transpose()?.flatten();
    let allowed = |version: &Version| range.as_ref().is_none_or(|range| range.contains(version));
    let found = tools.pythons().await;
    let before = session.request.previous.as_ref().and_then(|p| p.versions.get("python"));
    let (wanted, because) = if let Some(text) = tree.text("runtime.txt")? {
        if tree.text(".python-version")?.is_some() {
            plan.notes.push(
                "runtime.txt comes before .python-version, as at Heroku: `git rm runtime.txt` lets that be".into(),
            );
        }
        (read_version(&text, "runtime.txt")?, "runtime.txt")
    } else if let Some(text) = tree.text(".python-version")? {
        (read_version(&text, ".python-version")?, ".python-version")
    } else if let Some((text, file)) = own {
        (read_version(&text, file)?, file)
    } else if let Some(version) = before.and_then(|v| Version::parse(v)).filter(|v| allowed(v)) {
        (version.minor(), "the app's first build")
    } else {
        let default = tools.default_python().await;
        if default.is_none() && found.is_empty() {
            return Err(BuildError::User(
                "This platform has no Python. Its operator installs one with `apt-get install python3 python3-venv`."
                    .into(),
            ));
        }
        plan.notes.push("No version is named: it stays the one of this build. Name one in .python-version".into());
        match (default.filter(|v| allowed(v)), found.iter().find(|(v, _)| allowed(v)), &range) {
            (Some(version), _, _) => (version.minor(), "the platform's default"),
            (None, Some((version, _)), Some(_)) => (version.to_string(), REQUIRES),
            (None, Some((version, _)), None) => (version.to_string(), "the platform's newest"),
            (None, None, range) => (range.as_ref().map(Range::lowest).unwrap_or_default().minor(), REQUIRES),
        }
    };
    let fits = |v: &Version| v.to_string() == wanted || v.minor() == wanted;
    let chosen = match found.iter().find(|(v, _)| fits(v)) {
        Some(chosen) => chosen.clone(),
        None => {
            session.report.detail(&format!("Fetching Python {wanted} for all apps of this platform"));
            tools.fetch_python(&wanted, session).await.map_err(|why| {
                let way_out = match found.first().map(|(v, _)| v.minor()) {
                    None => "The operator installs one: `apt-get install python3 python3-venv`.".into(),
                    Some(v) if because == REQUIRES => {
                        format!("Use one that is present: let requires-python include {v}, lock again, commit, and push again.")
                    }
                    Some(v) if because == "Pipfile.lock" => format!(
                        "Use one that is present: write `python_version = \"{v}\"` below [requires] in Pipfile, run `pipenv lock`, commit, and push again."
                    ),
                    Some(v) if because == "runtime.txt" => format!(
                        "Use one that is present: `git rm runtime.txt`, `echo {v} > .python-version`, commit, and push again."
                    ),
                    Some(v) => {
                        format!("Use one that is present: `echo {v} > .python-version`, commit, and push again.")
                    }
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
    let example = match file {
        "runtime.txt" => "a line like `python-3.12.4`",
        "Pipfile.lock" => "one like `python_version = \"3.12\"` below [requires] in Pipfile, run `pipenv lock`",
        _ => "a line like `3.12`",
    };
    Err(BuildError::User(format!(
        "{file}: {:?} is not a version of Python 3. Write {example}, commit, and push again.",
        line.chars().take(40).collect::<String>()
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
