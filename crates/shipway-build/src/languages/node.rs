//! Node.js with npm, Yarn or pnpm.
//!
//! The dependency layer is `node_modules` without development dependencies. When a build script needs those, the whole
//! directory is kept in the app's cache beside the layer, so an unchanged lock file costs no installation either way.
//!
//! Two kinds of app are installed in every build, from the manager's own cache: a workspace, whose packages have a
//! `node_modules` each and may be built by being installed, and one of Yarn's Plug'n'Play, which has archives in
//! `.yarn/cache` and a map of them in their place.

mod cached;
mod inputs;
mod manager;
mod yarn;

use super::{Dependencies, Language, Plan, run_own};
use crate::model::BuildError;
use crate::session::{Session, Show, Step};
use crate::toolchains::{Place, Toolchains, present, toolchain_mount};
use crate::tree::Tree;
use crate::versions::{Range, Version};
use async_trait::async_trait;
use manager::{Manager, Program};
use serde_json::Value;

pub(crate) struct Node;

#[async_trait]
impl Language for Node {
    fn name(&self) -> &'static str {
        "heroku/nodejs"
    }

    fn title(&self) -> &'static str {
        "Node.js"
    }

    fn detect(&self, tree: &Tree) -> bool {
        tree.has("package.json")
    }

    async fn plan(&self, tree: &Tree, session: &mut Session<'_>, tools: &Toolchains) -> Result<Plan, BuildError> {
        let package = read_package(tree)?;
        let mut plan = Plan::default();
        let version = choose(&package, session, tools, &mut plan).await?;
        plan.versions.insert("node".into(), version.to_string());
        plan.env.insert("NODE_ENV".into(), "production".into());
        plan.path.push("/app/.heroku/node/bin".into());
        let manager = Manager::choose(tree, &package, &session.request.env)?;
        if let Some(manager) = manager {
            bring(manager, tree, &package, session, tools, &mut plan).await?;
        }
        plan.path.push("/app/node_modules/.bin".into());
        if script(&package, "start") || tree.has("server.js") {
            let command = manager.map_or("npm start", |manager| manager.start(script(&package, "start")));
            plan.process_types.insert("web", command.into());
        }
        if script(&package, "heroku-prebuild") {
            plan.own.insert("prebuild", "heroku-prebuild".into());
        }
        if let Some(name) = ["heroku-postbuild", "build"].into_iter().find(|name| script(&package, name)) {
            plan.own.insert("build", name.into());
        }
        if script(&package, "heroku-cleanup") {
            plan.own.insert("cleanup", "heroku-cleanup".into());
        }
        let directories = cached::directories(&package);
        if !directories.is_empty() {
            plan.own.insert("cached", directories);
        }
        let Some(manager) = manager else { return Ok(plan) };
        if let Some(warning) = yarn::warning(&session.request.env).filter(|_| matches!(manager, Manager::LaterYarn(_)))
        {
            session.report.warning(warning);
        }
        plan.own.insert("manager", manager.name().into());
        plan.env.extend(manager.dyno_env().iter().map(|(name, value)| (name.to_string(), value.to_string())));
        plan.left_out.extend(manager.left_out());
        let building = plan.own.contains_key("build");
        let workspace = manager::workspace(tree, &package, manager)?;
        let keep_all = manager.keeps_everything(&session.request.env);
        let everything = building || keep_all.is_some() || matches!(manager, Manager::LaterYarn(_));
        let stripped = everything && keep_all.is_none() && (workspace || filled(&package, "devDependencies"));
        if everything {
            plan.own.insert("everything", String::new());
        }
        if let Some(name) = keep_all {
            plan.notes.push(format!("Development dependencies are kept, because of the config var {name}"));
        }
        let anew = workspace || manager.directory() != "node_modules";
        let options = [("everything", everything), ("stripped", stripped)];
        plan.dependencies = Some(Dependencies {
            path: manager.directory(),
            inputs: match anew {
                true => None,
                false => Some(inputs::inputs(tree, &package, session, &version, manager, &options)?),
            },
            committed: manager.directory() != "node_modules",
            needed_to_build: building || stripped,
            stripped,
            source: manager.file(),
        });
        Ok(plan)
    }

    async fn before(&self, plan: &Plan, _: &Tree, session: &mut Session<'_>) -> Result<(), BuildError> {
        cached_directories(plan, "Restoring cacheDirectories", cached::RESTORE, session).await?;
        run_script(plan, "prebuild", session).await
    }

    async fn install(&self, plan: &Plan, session: &mut Session<'_>) -> Result<(), BuildError> {
        let manager = manager_of(plan);
        let (command, what) = manager.install(plan.own.contains_key("everything"));
        session.report.header(&format!("Installing node modules ({})", manager.file()));
        let finished = session.run(step(plan, session, command, &[])).await?;
        if finished.status == 0 {
            return Ok(());
        }
        Err(BuildError::User(format!(
            "{what} failed (exit status {}):\n{}\n{}",
            finished.status,
            manager.cause(&finished.output),
            manager.help(&finished.output)
        )))
    }

    async fn build(&self, plan: &Plan, _: &Tree, session: &mut Session<'_>) -> Result<(), BuildError> {
        run_script(plan, "build", session).await?;
        cached_directories(plan, "Saving cacheDirectories", cached::SAVE, session).await
    }

    async fn strip(&self, plan: &Plan, session: &mut Session<'_>) -> Result<(), BuildError> {
        session.report.header("Pruning development dependencies");
        let finished = session.run(step(plan, session, manager_of(plan).prune(), &[("PRUNE", manager::PRUNE)])).await?;
        if finished.status == 0 {
            return Ok(());
        }
        Err(BuildError::User(format!(
            "Pruning failed (exit status {}):\n{}",
            finished.status,
            manager_of(plan).cause(&finished.output)
        )))
    }

    async fn after(&self, plan: &Plan, session: &mut Session<'_>) -> Result<(), BuildError> {
        run_script(plan, "cleanup", session).await
    }
}

fn read_package(tree: &Tree) -> Result<Value, BuildError> {
    let Some(text) = tree.text("package.json")? else {
        return Err(BuildError::User(
            "There is no package.json at the top of the tree. Run `npm init`, commit it, and push again.".into(),
        ));
    };
    match serde_json::from_str::<Value>(text.trim_start_matches('\u{feff}')) {
        Ok(package) if package.is_object() => Ok(package),
        Ok(_) => Err(BuildError::User("package.json is not a JSON object.".into())),
        Err(e) => Err(BuildError::User(format!("package.json is not JSON: {e}. Fix it, commit, and push again."))),
    }
}

fn script(package: &Value, name: &str) -> bool {
    package["scripts"][name].as_str().is_some_and(|s| !s.trim().is_empty())
}

fn filled(package: &Value, field: &str) -> bool {
    package[field].as_object().is_some_and(|o| !o.is_empty())
}

async fn choose(
    package: &Value,
    session: &mut Session<'_>,
    tools: &Toolchains,
    plan: &mut Plan,
) -> Result<Version, BuildError> {
    let before = session.request.previous.as_ref().and_then(|p| p.versions.get("node")).cloned();
    let found = tools.nodes().await;
    let (wanted, because) = match (package["engines"]["node"].as_str(), before.and_then(|v| Version::parse(&v))) {
        (Some(range), _) => (range.trim().to_string(), "engines in package.json"),
        (None, Some(version)) => (format!("{}.x", version.0[0]), "the app's first build"),
        (None, None) => {
            plan.notes.push(
                "No version is named: it stays the one of this build. Name one as engines.node in package.json".into(),
            );
            ("*".into(), "the platform's default")
        }
    };
    let Some(range) = Range::parse(&wanted) else {
        return Err(BuildError::User(format!(
            "package.json: engines.node is {:?}, which is not a range of versions. Write one like \"20.x\", commit, and push again.",
            wanted.chars().take(60).collect::<String>()
        )));
    };
    // The stack's own costs no layer, so it goes first.
    let fits = |place: fn(&Place) -> bool| found.iter().find(|(v, p)| place(p) && range.contains(v)).cloned();
    let chosen = fits(|p| matches!(p, Place::Host(_))).or_else(|| fits(|p| matches!(p, Place::Toolchain(_))));
    let (version, place) = match chosen {
        Some(chosen) => chosen,
        None => {
            session.report.detail(&format!("Fetching Node.js {wanted} for all apps of this platform"));
            tools.fetch_node(&wanted, session).await.map_err(|why| {
                let way_out = match found.first() {
                    Some((v, _)) => format!(
                        "Use one that is present: `npm pkg set engines.node={}.x`, commit, and push again.",
                        v.0[0]
                    ),
                    None => "The operator installs one: `apt-get install nodejs npm`.".into(),
                };
                BuildError::User(format!(
                    "This app wants Node.js {wanted} (from {because}). Present on this platform: {}.\nFetching it failed: {why}\n{way_out}",
                    present(&found)
                ))
            })?
        }
    };
    if let Place::Toolchain(name) = place {
        plan.toolchains.push(name);
    }
    plan.notes.insert(0, format!("Using Node.js {version} ({because})"));
    Ok(version)
}

/// Has the program that a manager is run by in reach, unless it is the stack's own npm.
async fn bring(
    manager: Manager,
    tree: &Tree,
    package: &Value,
    session: &mut Session<'_>,
    tools: &Toolchains,
    plan: &mut Plan,
) -> Result<(), BuildError> {
    let Some(Program { name, package, range, said }) = manager.program(tree, package)? else { return Ok(()) };
    if name == "npm" && tools.has_npm(&range).await {
        return Ok(());
    }
    let toolchain = tools.npm_program(name, package, &range, session).await.map_err(|why| {
        BuildError::User(format!(
            "{name} {range} could not be fetched: {why}\nTry again, or name a version that there is as packageManager or engines.{name} in package.json."
        ))
    })?;
    plan.notes.push(said.unwrap_or_else(|| format!("Using {}", toolchain.replacen('-', " ", 1))));
    // A Procfile may start the app by it.
    plan.path.push(format!("/app/{}", programs(&toolchain)));
    plan.toolchains.push(toolchain);
    Ok(())
}

/// The manager that the plan was made for.
fn manager_of(plan: &Plan) -> Manager {
    plan.own.get("manager").map_or(Manager::Npm(None), |name| Manager::of(name))
}

/// Where a toolchain that Node.js apps are built with has its programs, below the directory it is put into.
fn programs(toolchain: &str) -> String {
    match toolchain.split('-').next() {
        Some("node") | None => ".heroku/node/bin".into(),
        Some(program) => format!(".heroku/{program}/node_modules/.bin"),
    }
}

fn step(plan: &Plan, session: &Session<'_>, command: &'static str, own: &[(&str, &str)]) -> Step {
    let mut mounts = Session::app_mounts();
    let mut path = String::new();
    for name in &plan.toolchains {
        let target = format!("/toolchains/{name}");
        path.push_str(&format!("{target}/{}:", programs(name)));
        mounts.push(toolchain_mount(name, &target));
    }
    path.push_str("/app/node_modules/.bin:");
    path.push_str(&session.path());
    let mut env = session.app_env(own);
    for (name, value) in [
        ("PATH", path.as_str()),
        ("npm_config_cache", "/cache/npm"),
        ("npm_config_audit", "false"),
        ("npm_config_fund", "false"),
        ("npm_config_update_notifier", "false"),
        ("npm_config_progress", "false"),
        ("CI", "true"),
    ] {
        env.insert(name.into(), value.into());
    }
    manager_of(plan).set_up(&mut env);
    env.entry("NODE_ENV".into()).or_insert_with(|| "production".into());
    // The options of the commands decide; these would contradict them.
    env.remove("NPM_CONFIG_PRODUCTION");
    env.remove("YARN_PRODUCTION");
    Step { command, env, mounts, directory: "/app", show: Show::Indented }
}

async fn cached_directories(
    plan: &Plan,
    title: &str,
    command: &'static str,
    session: &mut Session<'_>,
) -> Result<(), BuildError> {
    let Some(directories) = plan.own.get("cached") else { return Ok(()) };
    session.report.header(title);
    let step = step(plan, session, command, &[("DIRECTORIES", directories)]);
    run_own(session, step, title).await
}

async fn run_script(plan: &Plan, which: &str, session: &mut Session<'_>) -> Result<(), BuildError> {
    let Some(name) = plan.own.get(which) else { return Ok(()) };
    let command = match manager_of(plan) {
        // It runs nothing before it has installed.
        Manager::LaterYarn(_) if which == "prebuild" => Manager::Npm(None).run(),
        manager => manager.run(),
    };
    session.report.header(&format!("Running the {name} script"));
    let step = step(plan, session, command, &[("SCRIPT", name)]);
    run_own(session, step, &format!("The {name} script of package.json")).await
}
