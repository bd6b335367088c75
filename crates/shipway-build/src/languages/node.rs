//! Node.js with npm, yarn 1 or pnpm.
//!
//! The dependency layer is `node_modules` without development dependencies. When a build script needs those, the whole
//! directory is kept in the app's cache beside the layer, so an unchanged lock file costs no installation either way.

mod manager;

use super::{Dependencies, Language, Plan, run_own, tail};
use crate::model::BuildError;
use crate::session::{Session, Show, Step};
use crate::toolchains::{Place, Toolchains, present, toolchain_mount};
use crate::tree::{Inputs, Tree, literal_directory};
use crate::versions::{Range, Version};
use async_trait::async_trait;
use manager::Manager;
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
        let manager = Manager::choose(tree, &package)?;
        let program = manager.map(|m| m.program(tree, &package)).transpose()?.flatten();
        if let Some((program, range)) = program
            && !(program == "npm" && tools.has_npm(&range).await)
        {
            let name = tools.npm_program(program, &range, session).await.map_err(|why| {
                BuildError::User(format!(
                    "{program} {range} could not be fetched: {why}\nTry again, or commit a package-lock.json (`npm install`) instead."
                ))
            })?;
            plan.notes.push(format!("Using {}", name.replacen('-', " ", 1)));
            // A Procfile may start the app by it.
            plan.path.push(format!("/app/{}", programs(&name)));
            plan.toolchains.push(name);
        }
        plan.path.push("/app/node_modules/.bin".into());
        if script(&package, "start") || tree.has("server.js") {
            plan.process_types.insert("web", "npm start".into());
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
        let Some(manager) = manager else { return Ok(plan) };
        plan.own.insert("manager", manager.file().into());
        let building = plan.own.contains_key("build");
        let keep_all = ["NPM_CONFIG_PRODUCTION", "YARN_PRODUCTION"]
            .iter()
            .any(|name| session.request.env.get(*name).is_some_and(|v| v == "false"));
        let stripped = building && !keep_all && filled(&package, "devDependencies");
        if building || keep_all {
            plan.own.insert("everything", String::new());
        }
        plan.dependencies = Some(Dependencies {
            path: "node_modules",
            inputs: inputs(tree, &package, session, &version, manager, building || keep_all)?,
            needed_to_build: building,
            stripped,
            source: manager.file(),
        });
        Ok(plan)
    }

    async fn before(&self, plan: &Plan, _: &Tree, session: &mut Session<'_>) -> Result<(), BuildError> {
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
        run_script(plan, "cleanup", session).await
    }

    async fn strip(&self, plan: &Plan, session: &mut Session<'_>) -> Result<(), BuildError> {
        session.report.header("Pruning development dependencies");
        let finished = session.run(step(plan, session, manager_of(plan).prune(), &[])).await?;
        if finished.status == 0 {
            return Ok(());
        }
        Err(BuildError::User(format!(
            "Pruning failed (exit status {}):\n{}",
            finished.status,
            tail(&finished.output, 3)
        )))
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

/// The manager that the plan was made for.
fn manager_of(plan: &Plan) -> Manager {
    plan.own.get("manager").map_or(Manager::Npm(None), |file| Manager::of(file))
}

/// Where a toolchain that Node.js apps are built with has its programs, below the directory it is put into.
fn programs(toolchain: &str) -> String {
    match toolchain.split('-').next() {
        Some("node") | None => ".heroku/node/bin".into(),
        Some(program) => format!(".heroku/{program}/node_modules/.bin"),
    }
}

fn inputs(
    tree: &Tree,
    package: &Value,
    session: &Session<'_>,
    version: &Version,
    manager: Manager,
    everything: bool,
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
    ];
    let mut inputs = Inputs::new("nodejs 1")
        .with("version", version.to_string())
        .with("stack", &session.config.stack_fingerprint)
        .with("platform", std::env::consts::ARCH)
        .with("manager", manager.file())
        .with("everything", everything.to_string());
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
    let settings = session.config.client_settings.iter().chain(&session.request.env);
    let relevant = |k: &str| {
        let k = k.to_ascii_uppercase();
        k.starts_with("NPM_") || k.starts_with("YARN_") || k.starts_with("PNPM_")
    };
    for (name, value) in settings.filter(|(k, _)| relevant(k)) {
        inputs = inputs.with(name, value);
    }
    let patched = manager == Manager::Pnpm && manager::patches(tree, package)?;
    if patched || hooks(package) || !package["workspaces"].is_null() {
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
    env.entry("NODE_ENV".into()).or_insert_with(|| "production".into());
    // The options of the commands decide; these would contradict them.
    env.remove("NPM_CONFIG_PRODUCTION");
    env.remove("YARN_PRODUCTION");
    Step { command, env, mounts, directory: "/app", show: Show::Indented }
}

async fn run_script(plan: &Plan, which: &str, session: &mut Session<'_>) -> Result<(), BuildError> {
    let Some(name) = plan.own.get(which) else { return Ok(()) };
    session.report.header(&format!("Running the {name} script"));
    let step = step(plan, session, r#"exec npm run --if-present "$SCRIPT""#, &[("SCRIPT", name)]);
    run_own(session, step, &format!("The {name} script of package.json")).await
}
