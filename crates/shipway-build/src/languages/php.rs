//! PHP with Composer, behind Apache or nginx.
//!
//! The dependency layer is `vendor` as composer.lock has it. The autoloader and Composer's scripts read the app's own
//! files, so they are a build step of every build that has any; what that step writes in `vendor` goes into the app's
//! layer. PHP itself, Apache and nginx are the stack's; a small layer says which PHP and has what starts them.

mod composer;

use super::{Dependencies, Language, Plan, run_own, tail};
use crate::model::BuildError;
use crate::session::{Session, Show, Step};
use crate::slug;
use crate::toolchains::{Toolchains, toolchain_mount};
use crate::tree::Tree;
use crate::versions::Version;
use async_trait::async_trait;
use composer::Composer;
use std::path::Path;

pub(crate) struct Php;

/// How an operator gets all of it.
const WAY_OUT: &str = "Its operator installs it with `bin/up --with php`.";
const LAUNCHERS: [&str; 2] = ["heroku-php-apache2", "heroku-php-nginx"];

#[async_trait]
impl Language for Php {
    fn name(&self) -> &'static str {
        "heroku/php"
    }

    fn title(&self) -> &'static str {
        "PHP"
    }

    fn detect(&self, tree: &Tree) -> bool {
        tree.has("composer.json") || tree.has("index.php")
    }

    async fn plan(&self, tree: &Tree, session: &mut Session<'_>, tools: &Toolchains) -> Result<Plan, BuildError> {
        let composer = Composer::read(tree)?;
        let mut plan = Plan::default();
        let version = choose(composer.as_ref(), session, tools, &mut plan).await?;
        plan.versions.insert("php".into(), version.to_string());
        plan.toolchains.push(tools.php(&version).await?);
        plan.path = vec!["/app/.heroku/php/bin".into(), "/app/vendor/bin".into()];
        let procfile = tree.text("Procfile")?.unwrap_or_default();
        web_server(&procfile, &version, tools, &mut plan)?;
        let Some(composer) = composer.filter(Composer::does_something) else {
            if procfile.contains("vendor/bin/heroku-php-") {
                link_launchers(&tree.path)?;
            }
            return Ok(plan);
        };
        if !tools.has_program("composer") {
            return Err(BuildError::User(format!("This platform has no Composer. {WAY_OUT}")));
        }
        if composer.has_own_steps() {
            plan.own.insert("steps", String::new());
        }
        if composer.has_script("compile") {
            plan.own.insert("compile", String::new());
        }
        plan.dependencies = Some(Dependencies {
            path: "vendor",
            inputs: Some(composer.inputs(tree, session, &version)?),
            committed: false,
            needed_to_build: !plan.own.is_empty(),
            stripped: false,
            source: if composer.is_locked() { "composer.lock" } else { "composer.json" },
        });
        Ok(plan)
    }

    async fn install(&self, plan: &Plan, session: &mut Session<'_>) -> Result<(), BuildError> {
        /// Scripts read the app, which is not what this layer is made from.
        const INSTALL: &str = r#"composer install --no-dev --prefer-dist --optimize-autoloader --no-interaction --no-progress --no-scripts || exit
mkdir -p vendor/bin && cd vendor/bin || exit
for name in heroku-php-apache2 heroku-php-nginx; do ln -sfn "../../.heroku/php/bin/$name" "$name" || exit; done"#;
        session.report.header("Installing dependencies with Composer");
        composer_install(plan, session, INSTALL).await
    }

    async fn build(&self, plan: &Plan, _: &Tree, session: &mut Session<'_>) -> Result<(), BuildError> {
        if plan.own.contains_key("steps") {
            const AGAIN: &str =
                "composer install --no-dev --prefer-dist --optimize-autoloader --no-interaction --no-progress";
            session.report.header("Making the autoloader and running Composer's scripts");
            composer_install(plan, session, AGAIN).await?;
        }
        if plan.own.contains_key("compile") {
            session.report.header("Running the compile script");
            let step = step(plan, session, "exec composer run-script --no-dev --no-interaction compile");
            run_own(session, step, "The compile script of composer.json").await?;
        }
        Ok(())
    }
}

/// The PHP that fits the app and has every extension that it wants.
async fn choose(
    composer: Option<&Composer>,
    session: &mut Session<'_>,
    tools: &Toolchains,
    plan: &mut Plan,
) -> Result<Version, BuildError> {
    let found = tools.phps().await;
    let Some(newest) = found.first() else {
        return Err(BuildError::User(format!("This platform has no PHP. {WAY_OUT}")));
    };
    let wanted = composer.map(|c| c.wants("php")).unwrap_or_default();
    let before = session.request.previous.as_ref().and_then(|p| p.versions.get("php")).and_then(|v| Version::parse(v));
    let fits = |v: &&Version| wanted.iter().all(|want| want.allows(v));
    let same = found.iter().filter(|v| before.as_ref().is_some_and(|b| b.minor() == v.minor())).find(fits);
    let Some(version) = same.or_else(|| found.iter().find(fits)) else {
        let unmet: Vec<String> =
            wanted.iter().filter(|want| !found.iter().any(|v| want.allows(v))).map(ToString::to_string).collect();
        let unmet = if unmet.is_empty() { wanted.iter().map(ToString::to_string).collect() } else { unmet };
        let present: Vec<String> = found.iter().map(ToString::to_string).collect();
        return Err(BuildError::User(format!(
            "This app wants PHP {}. Present on this platform: {}.\nUse one that is present: `composer require 'php:^{}' --with-all-dependencies`, commit composer.json and composer.lock, and push again. Or the operator installs another.",
            unmet.join(" and "),
            present.join(", "),
            newest.minor()
        )));
    };
    let because = match (wanted.iter().find(|want| want.by == "composer.json"), same) {
        (Some(want), _) => format!("{} in composer.json", want.constraint),
        (None, Some(_)) => "the app's first build".into(),
        (None, None) => {
            plan.notes.push(
                "No version is named: it stays the one of this build. Name one with `composer require php:^8.2`".into(),
            );
            "the platform's newest".into()
        }
    };
    plan.notes.insert(0, format!("Using PHP {version} ({because})"));
    if let Some(composer) = composer {
        extensions(composer, version, &tools.php_extensions(version).await)?;
    }
    Ok(version.clone())
}

fn extensions(composer: &Composer, version: &Version, present: &[String]) -> Result<(), BuildError> {
    let missing: Vec<(String, String)> = composer
        .extensions()
        .into_iter()
        .filter(|(name, _)| !present.iter().any(|p| p.replace(' ', "-") == *name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> = missing.iter().map(|(name, by)| format!("ext-{name} ({by})")).collect();
    let mut packages: Vec<String> = missing.iter().map(|(name, _)| debian_package(name, version)).collect();
    packages.sort_unstable();
    packages.dedup();
    Err(BuildError::User(format!(
        "This app wants what PHP {version} of this platform lacks: {}.\nPresent: {}.\nIts operator installs it with `apt-get install {}`; then push again.",
        listed.join(", "),
        present.join(", "),
        packages.join(" ")
    )))
}

/// Debian's package of an extension: most are called as it is, some hold several.
fn debian_package(extension: &str, version: &Version) -> String {
    let name = match extension {
        "pdo_mysql" | "mysqli" => "mysql",
        "pdo_pgsql" => "pgsql",
        "pdo_sqlite" => "sqlite3",
        "dom" | "simplexml" | "xmlreader" | "xmlwriter" | "xsl" => "xml",
        other => other,
    };
    format!("php{}-{name}", version.minor())
}

/// Sees to it that what the Procfile starts is there, and chooses the web process for an app that names none.
fn web_server(procfile: &str, version: &Version, tools: &Toolchains, plan: &mut Plan) -> Result<(), BuildError> {
    let fpm = format!("php-fpm{}", version.minor());
    let lacks = |launcher: &str| {
        let server = launcher.trim_start_matches("heroku-php-");
        [fpm.as_str(), server].into_iter().find(|program| !tools.has_program(program)).map(String::from)
    };
    for launcher in LAUNCHERS.into_iter().filter(|launcher| procfile.contains(launcher)) {
        if let Some(program) = lacks(launcher) {
            return Err(BuildError::User(format!(
                "The Procfile starts {launcher}, which needs {program}, and this platform has none. {WAY_OUT}"
            )));
        }
    }
    let [apache2, nginx] = LAUNCHERS;
    let launcher = match (lacks(apache2), lacks(nginx)) {
        (None, _) => apache2,
        (Some(program), None) => {
            plan.notes.push(format!(
                "This platform has no {program}: the web process is {nginx} unless the Procfile names one"
            ));
            nginx
        }
        (Some(program), Some(_)) => {
            plan.notes.push(format!(
                "This platform has no {program}, so there is no web process unless the Procfile names one"
            ));
            return Ok(());
        }
    };
    plan.process_types.insert("web", launcher.into());
    Ok(())
}

/// `vendor/bin/heroku-php-*` of an app that has nothing for Composer to do.
fn link_launchers(app: &Path) -> Result<(), BuildError> {
    let linking = || BuildError::platform("linking what starts PHP");
    let bin = Path::new("vendor/bin");
    slug::make_parents(app, &bin.join("any")).map_err(linking())?;
    for launcher in LAUNCHERS {
        let link = app.join(bin).join(launcher);
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(format!("../../.heroku/php/bin/{launcher}"), link).map_err(linking())?;
        }
    }
    Ok(())
}

async fn composer_install(plan: &Plan, session: &mut Session<'_>, command: &'static str) -> Result<(), BuildError> {
    let step = step(plan, session, command);
    let finished = session.run(step).await?;
    if finished.status == 0 {
        return Ok(());
    }
    let help = if finished.output.contains("not present in the lock file") {
        "composer.json and composer.lock disagree. Run `composer update`, commit composer.lock, and push again."
    } else {
        "Fix what it names, commit, and push again."
    };
    Err(BuildError::User(format!(
        "`composer install` failed (exit status {}):\n{}\n{help}",
        finished.status,
        tail(&finished.output, 4)
    )))
}

fn step(plan: &Plan, session: &Session<'_>, command: &'static str) -> Step {
    let mut mounts = Session::app_mounts();
    let mut path = String::new();
    if let Some(name) = plan.toolchains.first() {
        mounts.push(toolchain_mount(name, "/toolchain"));
        path.push_str("/toolchain/.heroku/php/bin:");
    }
    path.push_str("/app/vendor/bin:");
    path.push_str(&session.path());
    let env = session.app_env(&[
        ("PATH", &path),
        ("COMPOSER_HOME", "/cache/composer"),
        ("COMPOSER_CACHE_DIR", "/cache/composer/cache"),
        // It asks whether plugins may run as root; which user this is, the sandbox has decided.
        ("COMPOSER_ALLOW_SUPERUSER", "1"),
        ("COMPOSER_PROCESS_TIMEOUT", "0"),
        ("COMPOSER_VENDOR_DIR", "vendor"),
        ("COMPOSER", "composer.json"),
    ]);
    Step { command, env, mounts, directory: "/app", show: Show::Indented }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_packages_of_debian() {
        let version = Version::parse("8.2.30").unwrap();
        for (extension, expected) in [("redis", "php8.2-redis"), ("pdo_pgsql", "php8.2-pgsql"), ("dom", "php8.2-xml")] {
            assert_eq!(debian_package(extension, &version), expected);
        }
    }
}
