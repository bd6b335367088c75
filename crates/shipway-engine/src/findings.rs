//! What an operator would want to know without being asked: dynos that crash, releases that failed, code that would not
//! start again, databases that do not answer, and what the machine is short of.

use crate::dynos::STEADY;
use crate::ports::{AddonFailure, Caller};
use crate::{Platform, Result};
use shipway_domain::addon::AddonState;
use shipway_domain::lifecycle::{DynoState, ReleaseStatus};
use shipway_store::{Addon, App, Dyno};
use std::time::Duration;

/// As often a dyno has to crash in a row: the first time it is started again at once, and may be well then.
const LOOP: u32 = 2;
/// How long a server of databases may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gravity {
    /// It will surprise somebody.
    Warning,
    /// Something does not work.
    Problem,
}

impl Gravity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// Something to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub gravity: Gravity,
    /// What it is about: `dyno`, `release`, `slug`, `add-on`; of the machine: `disk`, `certificate`.
    pub about: &'static str,
    /// What was found, of which thing: a sentence without its full stop.
    pub what: String,
    /// What to type or do, line by line.
    pub next: Vec<String>,
}

/// Says what the machine is short of: its disk, its certificates.
pub type Machine = Box<dyn Fn() -> Vec<Finding> + Send + Sync>;

impl Platform {
    /// Has the machine looked at as well when somebody asks for findings. Once.
    pub fn look_at_machine_by(&self, machine: Machine) {
        let _ = self.inner.machine.set(machine);
    }

    /// What there is to know of the apps that the caller may see; of all of them, and of the machine, for administrators.
    pub async fn findings(&self, caller: &Caller) -> Result<Vec<Finding>> {
        let operates = caller.actor.admin && caller.actor.scope.reads_widely();
        let mut findings = Vec::new();
        if let Some(machine) = self.inner.machine.get().filter(|_| operates) {
            findings.extend(machine());
        }
        let mut databases = Vec::new();
        for app in self.apps(caller, operates)? {
            databases.extend(self.store().read(|c| c.addons(app.id))?.into_iter().map(|addon| (app.clone(), addon)));
            self.crashing(&app, &mut findings)?;
            self.failed_release(&app, &mut findings)?;
            self.unstartable(&app, &mut findings).await?;
        }
        let there = |(_, addon): &&(App, Addon)| addon.state == AddonState::Provisioned;
        if let Some((app, addon)) = databases.iter().find(there) {
            findings.extend(self.silent_databases(app, addon, operates).await);
        }
        Ok(findings)
    }

    fn crashing(&self, app: &App, findings: &mut Vec<Finding>) -> Result<()> {
        let now = self.now();
        let fell = |dyno: &Dyno| match dyno.state {
            DynoState::Crashed | DynoState::Starting => true,
            DynoState::Up => now.duration_since(dyno.updated_at) < STEADY,
            DynoState::Stopping | DynoState::Down => false,
        };
        let dynos = self.store().read(|c| c.dynos(app.id))?;
        for dyno in dynos.into_iter().filter(|d| d.one_off.is_none() && d.crashes >= LOOP && fell(d)) {
            let known = self.inner.failures.lock().expect("no panic while noted").get(&dyno.id).cloned();
            let why = known.map_or_else(String::new, |f| format!(": {}", f.text.trim_end_matches('.')));
            let name = dyno.name();
            findings.push(Finding {
                gravity: Gravity::Warning,
                about: "dyno",
                what: format!("{}: {name} has crashed {} times in a row{why}", app.name, dyno.crashes),
                next: vec![format!("heroku logs -a {} -d {name}", app.name)],
            });
        }
        Ok(())
    }

    fn failed_release(&self, app: &App, findings: &mut Vec<Finding>) -> Result<()> {
        let (newest, current) = self.store().read(|c| {
            let current = c.current_release(&c.app_by_id(app.id)?)?;
            Ok((c.releases(app.id)?.into_iter().next(), current))
        })?;
        let Some(newest) = newest.filter(|release| release.status == ReleaseStatus::Failed) else { return Ok(()) };
        let reason = newest.failure.as_deref().and_then(|text| text.lines().next()).unwrap_or("it gave no reason");
        let serving = current.filter(|release| release.slug.is_some());
        let runs = serving.map_or_else(String::new, |release| format!("; v{} runs on", release.version));
        let what = format!(
            "{}: v{} ({}) failed{runs}: {}",
            app.name,
            newest.version,
            newest.description,
            reason.trim_end_matches('.')
        );
        let next = match newest.has_output {
            true => format!("heroku releases:output v{} -a {}", newest.version, app.name),
            false => format!("heroku releases -a {}", app.name),
        };
        findings.push(Finding { gravity: Gravity::Warning, about: "release", what, next: vec![next] });
        Ok(())
    }

    /// Code that runs, and would not start again: something of it is gone from the disk, or was found damaged there.
    async fn unstartable(&self, app: &App, findings: &mut Vec<Finding>) -> Result<()> {
        let running = self.store().read(|c| {
            let current = c.current_release(&c.app_by_id(app.id)?)?;
            current.map_or(Ok(None), |release| Ok(c.slug_of(&release)?.map(|slug| (release, slug))))
        })?;
        let Some((release, slug)) = running else { return Ok(()) };
        if self.inner.parts.builder.whole(&slug.manifest).await? {
            return Ok(());
        }
        let what = slug.commit.as_ref().map_or("its code".into(), |c| format!("commit {}", c.short()));
        findings.push(Finding {
            gravity: Gravity::Problem,
            about: "slug",
            what: format!(
                "{}: what was built of {what} (v{}) is damaged on the platform's disk: its dynos do not start again",
                app.name, release.version
            ),
            next: vec![crate::starts::BUILD_AGAIN.into()],
        });
        Ok(())
    }

    /// One stands for all: they are in one server.
    async fn silent_databases(&self, app: &App, addon: &Addon, operates: bool) -> Option<Finding> {
        let asked = tokio::time::timeout(ANSWER, self.inner.parts.addons.size_bytes(addon.id)).await;
        let why = match asked {
            Ok(Ok(_)) => return None,
            Ok(Err(AddonFailure::Missing(what))) => what,
            Ok(Err(e)) => e.to_string(),
            Err(_) => format!("no answer within {} s", ANSWER.as_secs()),
        };
        let (what, next) = match operates {
            true => {
                let log = self.settings().home.join("run/spawner.log");
                let what = format!("add-ons: the server of databases does not answer: {}", why.trim_end_matches('.'));
                (what, vec![format!("tail {}", log.display())])
            }
            false => (format!("{}: the database {} does not answer", app.name, addon.name), Vec::new()),
        };
        Some(Finding { gravity: Gravity::Problem, about: "add-on", what, next })
    }
}
