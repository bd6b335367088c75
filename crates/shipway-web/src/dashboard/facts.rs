//! What several pages say: an app's head and state, releases, dynos, failures.

use super::visit::Viewer;
use super::words;
use crate::Result;
use shipway_dashboard::model::{AppHead, AppState, DynoRow, Failure, ReleaseRow, Running};
use shipway_dashboard::path;
use shipway_domain::admission::Trigger;
use shipway_domain::lifecycle::{DynoState, OperationStatus, ReleaseStatus};
use shipway_domain::{AccountId, AppId, CommitId, SlugId};
use shipway_engine::{Ending, Platform};
use shipway_store::{App, Build, Dyno, Operation, Release, Slug};
use std::collections::HashMap;

/// What an app's pages are made from, read once.
pub(super) struct Facts {
    pub(super) app: App,
    pub(super) release: Option<Release>,
    pub(super) dynos: Vec<Dyno>,
    pub(super) under_way: Option<Operation>,
    wants_web: bool,
}

impl Facts {
    pub(super) fn of(platform: &Platform, app: App) -> Result<Self> {
        let formation = platform.formation(&app)?;
        let wants_web = formation.iter().any(|(f, _)| f.process_type.is_web() && f.quantity > 0);
        let (release, dynos, open) = platform.store().read(|c| {
            let release = app.current_release.map(|id| c.release(id)).transpose()?.flatten();
            Ok((release, c.dynos(app.id)?, c.open_operations()?))
        })?;
        let under_way = open.into_iter().find(|operation| operation.apps.contains(&app.id));
        Ok(Self { app, release, dynos, under_way, wants_web })
    }

    /// The release that runs code.
    fn serving(&self) -> Option<u64> {
        self.release.as_ref().filter(|release| release.slug.is_some()).map(|release| release.version)
    }

    /// What the app does now.
    pub(super) fn state(&self, platform: &Platform) -> AppState {
        let serving = self.serving();
        if let Some(operation) = &self.under_way {
            let steps = platform.steps(operation.id).unwrap_or_default();
            let step = words::at_work(&steps).unwrap_or_else(|| words::title(operation));
            return AppState::Deploying { serving, step };
        }
        let Some(version) = serving else {
            let failed = self.newest_failure(platform).ok().flatten();
            return failed.map_or(AppState::NeverDeployed, |it| AppState::NeverServed { tried: words::title(&it) });
        };
        if self.app.maintenance {
            return AppState::Maintenance { version };
        }
        let up = |dyno: &&Dyno| dyno.state == DynoState::Up && dyno.one_off.is_none();
        let web: Vec<&Dyno> = self.dynos.iter().filter(|d| d.process_type.is_web() && d.one_off.is_none()).collect();
        let count = |dynos: usize| u32::try_from(dynos).unwrap_or(u32::MAX);
        if !self.wants_web {
            return AppState::NoWeb { version, others: count(self.dynos.iter().filter(up).count()) };
        }
        match web.iter().copied().filter(|dyno| up(dyno)).count() {
            0 if !web.is_empty() && web.iter().all(|dyno| dyno.state == DynoState::Crashed) => {
                AppState::Crashed { version, cause: format!("{} has crashed", web[0].name()) }
            }
            0 => AppState::Starting { version },
            up => AppState::Serving { version, web: count(up) },
        }
    }

    /// The release that one goes back to first.
    pub(super) fn previous(&self, platform: &Platform) -> Result<Option<u64>> {
        let Some(current) = &self.release else { return Ok(None) };
        let releases = platform.store().read(|c| c.releases(self.app.id))?;
        let mut older = releases.iter().filter(|release| release.version < current.version);
        Ok(older.find(|release| platform.eligible_for_rollback(release)).map(|release| release.version))
    }

    /// The newest attempt to change it, when that failed and nobody had asked it to stop.
    pub(super) fn failed(&self, viewer: &Viewer) -> Result<Option<Failure>> {
        Ok(self.newest_failure(viewer.platform())?.map(|operation| {
            let url = path("operation", &[&operation.id.to_string()]);
            Failure { output_url: Some(url), ..self.failure_of(viewer, &operation) }
        }))
    }

    fn newest_failure(&self, platform: &Platform) -> Result<Option<Operation>> {
        let newest = platform.store().read(|c| c.operations(Some(self.app.id), 1))?.pop();
        Ok(newest.filter(|operation| operation.status == OperationStatus::Failed && !operation.cancel))
    }

    /// What went wrong in an operation on it.
    pub(super) fn failure_of(&self, viewer: &Viewer, operation: &Operation) -> Failure {
        let steps = viewer.platform().steps(operation.id).unwrap_or_default();
        let step = words::failed_step(&steps).unwrap_or_else(|| "Before its first step".into());
        let ending = viewer.platform().ending(operation, self.app.id).ok().flatten();
        let ending = ending.unwrap_or_else(|| Ending { text: String::new(), left: false });
        let may_retry = repeatable(operation).is_some() && viewer.may(Trigger::Push, &self.app);
        let title = words::title(operation);
        let what = if ending.left { format!("{title} changed nothing here") } else { format!("{title} failed") };
        let mut failure = failure(self, &what, &step, &ending.text);
        if failure.lines.is_empty() {
            let build = build_of_operation(viewer.platform(), operation);
            failure.lines = build.map(|build| viewer.platform().last_words(build.id)).unwrap_or_default();
        }
        Failure {
            next: words::next(operation, &steps, ending.left),
            retry_url: may_retry.then(|| path("retry", &[&operation.id.to_string()])),
            ..failure
        }
    }

    /// What is under way.
    pub(super) fn running(&self, platform: &Platform) -> Result<Option<Running>> {
        let running = |operation: &Operation| {
            Ok(Running {
                title: words::title(operation),
                operation_url: path("operation", &[&operation.id.to_string()]),
                build_url: build_of_operation(platform, operation).map(|build| build_url(&self.app, &build)),
                steps: words::rows(&platform.steps(operation.id)?, false),
            })
        };
        self.under_way.as_ref().map(running).transpose()
    }

    pub(super) fn head(&self, viewer: &Viewer) -> AppHead {
        AppHead {
            name: self.app.name.to_string(),
            url: Some(viewer.platform().web_url(self.app.name.as_str())),
            state: self.state(viewer.platform()),
            may_change: viewer.may(Trigger::Settings, &self.app),
            may_deploy: viewer.may_deploy(&self.app),
            owner: self.app.owner_email.to_ask(),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.app.name.as_str()
    }
}

/// Releases as rows, with what they need to know looked up once.
pub(super) struct Releases<'a> {
    platform: &'a Platform,
    app: &'a App,
    people: HashMap<AccountId, String>,
    slugs: HashMap<SlugId, Option<Slug>>,
}

impl<'a> Releases<'a> {
    pub(super) fn new(platform: &'a Platform, app: &'a App) -> Self {
        Self { platform, app, people: HashMap::new(), slugs: HashMap::new() }
    }

    pub(super) fn row(&mut self, release: &Release) -> ReleaseRow {
        let store = self.platform.store();
        let by = self.people.entry(release.account).or_insert_with(|| email(self.platform, release.account)).clone();
        let slug = release.slug.and_then(|id| {
            self.slugs.entry(id).or_insert_with(|| store.read(|c| c.slug(id)).unwrap_or_default()).as_ref()
        });
        // Other releases run an older commit's code: its subject there would read as if they had deployed it.
        let deployed = slug.filter(|_| release.description.starts_with("Deploy"));
        let current = self.app.current_release == Some(release.id);
        let brought = if current { self.platform.deployed(self.app).ok().flatten() } else { None };
        let brought_by = brought.map(|code| code.release.version);
        ReleaseRow {
            version: release.version,
            status: release.status.into(),
            current,
            can_roll_back: release.status == ReleaseStatus::Succeeded && slug.is_some(),
            description: release.description.clone(),
            commit: slug.and_then(|slug| slug.commit.as_ref()).map(ToString::to_string),
            subject: deployed.and_then(|slug| slug.commit_description.clone()),
            code_of: brought_by.filter(|version| *version != release.version),
            by,
            at: release.created_at,
        }
    }
}

/// Somebody's address.
pub(super) fn email(platform: &Platform, id: AccountId) -> String {
    platform
        .store()
        .read(|c| c.address_of(id))
        .map_or_else(|_| "somebody who has left".into(), |email| email.to_string())
}

/// Dynos as rows, by type and number.
pub(super) fn dyno_rows(platform: &Platform, dynos: &[Dyno]) -> Vec<DynoRow> {
    let mut versions = HashMap::new();
    let mut row = |dyno: &Dyno| {
        let version = *versions.entry(dyno.release).or_insert_with(|| {
            platform.store().read(|c| c.release(dyno.release)).ok().flatten().map_or(0, |release| release.version)
        });
        DynoRow {
            name: dyno.name(),
            state: dyno.state.into(),
            since: dyno.updated_at,
            size: dyno.size.clone(),
            version,
            detail: detail(dyno),
        }
    };
    dynos.iter().map(&mut row).collect()
}

fn detail(dyno: &Dyno) -> Option<String> {
    match dyno.state {
        DynoState::Crashed => Some(format!("crashed {} in a row, starts again by itself", times(dyno.crashes))),
        _ if dyno.one_off.is_some() => Some(dyno.command.clone()),
        _ => None,
    }
}

fn times(n: u32) -> String {
    match n {
        1 => "once".into(),
        2 => "twice".into(),
        n => format!("{n} times"),
    }
}

/// What went wrong (`v12 failed`), from the text that its user was given: the first line is the fact, the rest is what it
/// said.
pub(super) fn failure(facts: &Facts, what: &str, step: &str, error: &str) -> Failure {
    let mut lines = error.lines().map(str::to_string).filter(|line| !line.trim().is_empty());
    let because = lines.next().unwrap_or_else(|| "It gave no reason.".into());
    let what = match facts.serving() {
        Some(version) => format!("{what}; v{version} serves on."),
        None => format!("{what}; nothing serves yet."),
    };
    let next = "Change what the reason names and push again.".into();
    Failure { what, step: step.into(), because, lines: lines.collect(), next, output_url: None, retry_url: None }
}

/// The commit whose deploy failed, where the app is there to take it again.
pub(super) fn repeatable(operation: &Operation) -> Option<CommitId> {
    if operation.status != OperationStatus::Failed || operation.apps.len() != 1 {
        return None;
    }
    let plan: shipway_engine::Plan = serde_json::from_value(operation.plan.clone()).ok()?;
    let part = plan.parts.into_iter().next().filter(|part| part.setup.is_none())?;
    part.build.map(|build| build.commit)
}

/// The build that led to a release.
pub(super) fn build_of(platform: &Platform, app: AppId, release: &Release) -> Result<Option<Build>> {
    let builds = platform.store().read(|c| c.builds(app))?;
    Ok(builds.into_iter().rev().find(|build| build.release == Some(release.id)))
}

/// The build that is part of an operation.
pub(super) fn build_of_operation(platform: &Platform, operation: &Operation) -> Option<Build> {
    let plan: shipway_engine::Plan = serde_json::from_value(operation.plan.clone()).ok()?;
    let build = plan.parts.into_iter().find_map(|part| part.build)?.build;
    platform.store().read(|c| c.build(build)).ok().flatten()
}

/// The address of a build's page.
pub(super) fn build_url(app: &App, build: &Build) -> String {
    path("build", &[app.name.as_str(), &build.id.to_string()])
}
