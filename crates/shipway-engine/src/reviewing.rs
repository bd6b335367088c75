//! Keeps review apps as they are wanted: one for each open pull request, one for each branch that somebody asked for.
//!
//! What is heard of a forge (`pull_request_changed`, `open_pull_requests_are`, `checks_changed`) is only written down.
//! Then what should be there is compared with what is there (`shipway_domain::review::plan`), and the difference is
//! carried out. Nothing is remembered between two looks, so any event may be lost, repeated or late.

use crate::builds::Extra;
use crate::error::Error;
use crate::plan::{CarryPlan, FetchPlan, Part};
use crate::ports::{Caller, FetchRefused, Place, PullRequestNews};
use crate::review_apps::policy;
use crate::setups::{Beginning, Origin};
use crate::{Event, NewApp, Platform, Result, SourceBlob, SourceOrder, look};
use jiff::{SignedDuration, Timestamp};
use shipway_domain::admission::{Actor, Permission, Scope, Trigger};
use shipway_domain::app_json::Environment;
use shipway_domain::forge::{DeployKey, ForgeCredentials};
use shipway_domain::review::{Action, BranchName, Checks, ReviewAppStatus, Seen, Subject, Wanted, app_name, plan};
use shipway_domain::{AppName, CollaboratorId, CommitId, PipelineId, ReviewAppId, Stage};
use shipway_store::{
    App, Collaborator, ConfigVars, Conn, ForgeConnection, Pipeline, PullRequest, ReviewApp, ReviewAppSettings,
    ReviewOrigin,
};
use std::collections::{BTreeMap, BTreeSet};

/// How often forges are asked what is open, which finds what their webhooks lost.
const SWEEP: SignedDuration = SignedDuration::from_mins(10);
/// How many names are tried for a new review app.
const NAMES: usize = 20;

impl Platform {
    /// Writes down what a forge says of a pull request. What is older than what is known does not count.
    pub async fn pull_request_changed(&self, pipeline: PipelineId, news: PullRequestNews) -> Result<()> {
        self.store().write(move |c| note(c, pipeline, news)).await?;
        self.review_soon();
        Ok(())
    }

    /// Writes down that these pull requests are open and no others, as of `asked_at`.
    pub async fn open_pull_requests_are(
        &self,
        pipeline: PipelineId,
        open: Vec<PullRequestNews>,
        asked_at: Timestamp,
    ) -> Result<()> {
        self.store()
            .write(move |c| {
                let numbers: BTreeSet<u64> = open.iter().map(|n| n.number).collect();
                for mut closed in c.pull_requests(pipeline)? {
                    // One that was opened after the question is not in the answer.
                    if closed.open && !numbers.contains(&closed.number) && closed.changed_at <= asked_at {
                        closed.open = false;
                        closed.changed_at = asked_at;
                        c.put_pull_request(&closed)?;
                    }
                }
                open.into_iter().try_for_each(|news| note(c, pipeline, news))
            })
            .await?;
        self.review_soon();
        Ok(())
    }

    /// Writes down what checks say of a commit.
    pub async fn checks_changed(&self, pipeline: PipelineId, commit: CommitId, checks: Checks) -> Result<()> {
        let now = self.now();
        self.store()
            .write(move |c| {
                c.put_commit_checks(pipeline, &commit, checks, now)?;
                for mut request in c.pull_requests(pipeline)?.into_iter().filter(|r| r.commit == commit) {
                    request.checks = checks;
                    c.put_pull_request(&request)?;
                }
                Ok(())
            })
            .await?;
        self.review_soon();
        self.inner.triggers_wanted.notify_one();
        Ok(())
    }

    /// Asks for a look at all review apps. Any number of times, from anywhere.
    pub fn review_soon(&self) {
        self.inner.review_wanted.notify_one();
    }

    pub(crate) async fn keep_review_apps(self) {
        let mut swept: Option<Timestamp> = None;
        loop {
            let now = self.now();
            if swept.is_none_or(|at| now.duration_since(at) >= SWEEP) {
                swept = Some(now);
                if let Err(e) = self.sweep_pull_requests().await {
                    tracing::warn!(error = %e, cause = ?e.cause, "open pull requests could not be asked for");
                }
            }
            if let Err(e) = self.review_all().await {
                tracing::error!(error = %e, cause = ?e.cause, "review apps could not be kept");
            }
            look::next(&self.inner.review_wanted).await;
        }
    }

    /// Asks each pipeline's forge which pull requests are open.
    pub async fn sweep_pull_requests(&self) -> Result<()> {
        for pipeline in self.store().read(|c| c.reviewing_pipelines())? {
            let forge = self.store().read(|c| c.forge_of(pipeline))?;
            let Some(forge) = forge else { continue };
            let asked_at = self.now();
            let answer = match &forge.credentials {
                ForgeCredentials::DeployKey(key) => self.with_branches(&forge, key).await?,
                _ => self.inner.parts.forges.open_pull_requests(&forge).await.map_err(|e| e.to_string()),
            };
            let failure = answer.as_ref().err().cloned();
            if failure != forge.failure {
                self.store().write(move |c| c.forge_failed(forge.id, failure.as_deref())).await?;
            }
            match answer {
                Ok(open) => self.open_pull_requests_are(pipeline, open, asked_at).await?,
                Err(said) => {
                    tracing::warn!(repository = %forge.repository, error = %said, "a forge did not say which pull requests are open")
                }
            }
        }
        Ok(())
    }

    /// The open pull requests whose branch is still there. More cannot be asked with a deploy key: a merged one is seen when
    /// its branch is deleted, one of a fork is not. Errors: inside, what the server said.
    async fn with_branches(
        &self,
        forge: &ForgeConnection,
        key: &DeployKey,
    ) -> Result<std::result::Result<Vec<PullRequestNews>, String>> {
        let mut open = self.store().read(|c| c.pull_requests(forge.pipeline))?;
        open.retain(|request| request.open);
        let here = |request: &PullRequest| request.fork.is_none();
        let branches: Vec<BranchName> = open.iter().filter(|r| here(r)).map(|r| r.branch.clone()).collect();
        if !branches.is_empty() {
            let asked = self.inner.parts.repositories.branches_with_key(key, &forge.repository, &branches).await;
            let there = match asked {
                Ok(Ok(there)) => there,
                Ok(Err(FetchRefused(said))) => return Ok(Err(said)),
                Err(e) => return Ok(Err(e.to_string())),
            };
            open.retain(|request| !here(request) || there.contains(&request.branch));
        }
        Ok(Ok(open.into_iter().map(PullRequestNews::from).collect()))
    }

    /// Looks at the review apps of all pipelines.
    pub async fn review_all(&self) -> Result<()> {
        for pipeline in self.store().read(|c| c.reviewing_pipelines())? {
            self.review(pipeline).await?;
        }
        Ok(())
    }

    /// Compares what should be there with what is there, and carries the difference out.
    async fn review(&self, id: PipelineId) -> Result<()> {
        let _turn = self.inner.reviewing.lock().await;
        let Some(pipeline) = self.store().read(|c| c.pipeline(&id.into()))? else { return Ok(()) };
        let (makes, settings) =
            self.store().read(|c| Ok((c.review_app_config(id)?.is_some(), c.review_settings(id)?)))?;
        let settings = settings.unwrap_or_default();
        let automatic = makes && settings.automatic_review_apps;
        let (requests, rows) = self.store().read(|c| Ok((c.pull_requests(id)?, c.review_apps(id)?)))?;
        let rows: Vec<ReviewApp> = rows.into_iter().filter(|r| r.status != ReviewAppStatus::Deleted).collect();
        let mut wanted: BTreeMap<Subject, Wanted> = requests
            .iter()
            .filter(|r| r.open)
            .map(|r| (Subject::PullRequest(r.number), wanted_by(r, &settings, automatic)))
            .collect();
        let parent = self.review_parent(&pipeline)?;
        for row in &rows {
            let commit = match row.origin {
                ReviewOrigin::PullRequest => continue,
                ReviewOrigin::Source => Some(row.commit.clone()),
                ReviewOrigin::Branch => match &parent {
                    Some(parent) => self.inner.parts.repositories.branch(parent.id, &row.branch).await?,
                    // Where the branch would be is gone: nobody can say that it is.
                    None => Some(row.commit.clone()),
                },
            };
            if let Some(commit) = commit {
                let checks = self.checks_awaited(row.origin, id, &commit)?;
                wanted.insert(subject(row), Wanted { commit, make: true, unallowed_fork: false, checks });
            }
        }
        let seen: BTreeMap<Subject, Seen> = rows.iter().map(|r| (subject(r), seen(r))).collect();
        for action in plan(&wanted, &seen, &policy(&settings, makes), self.now()) {
            self.act(&pipeline, &requests, action).await?;
        }
        Ok(())
    }

    async fn act(&self, pipeline: &Pipeline, requests: &[PullRequest], action: Action) -> Result<()> {
        match action {
            Action::Create(subject, id, commit) => {
                let row = self.review_row(pipeline, requests, &subject, id, commit)?;
                let caller = self.as_owner(pipeline)?;
                if let Err(e) = self.make_review_app(&caller, row.clone(), ConfigVars::new(), None).await {
                    if e.kind == crate::Kind::Platform {
                        tracing::error!(error = %e, cause = ?e.cause, "a review app could not be made");
                    }
                    let row = ReviewApp { status: ReviewAppStatus::Errored, message: Some(e.to_string()), ..row };
                    self.put_review(row).await?;
                }
                Ok(())
            }
            Action::Hold(subject, id, commit, why) => {
                let row = self.review_row(pipeline, requests, &subject, id, commit)?;
                self.put_review(ReviewApp { status: ReviewAppStatus::Pending, message: Some(why), ..row }).await
            }
            Action::Say(id, why) => match self.store().read(|c| c.review_app(id))? {
                Some(row) => self.put_review(ReviewApp { message: Some(why), ..row }).await,
                None => Ok(()),
            },
            Action::Deploy(id, commit) => self.deploy_review_app(pipeline, id, commit).await,
            Action::Destroy(id) | Action::Expire(id) => self.remove_review_app(id).await,
        }
    }

    pub(crate) async fn put_review(&self, mut row: ReviewApp) -> Result<()> {
        row.updated_at = self.now();
        let pipeline = row.pipeline;
        self.store().write(move |c| c.put_review_app(&row)).await?;
        self.tell(Event::Pipeline(pipeline));
        Ok(())
    }

    /// The row of a review app that is about to be made or to wait: the one that is there, or a new one.
    fn review_row(
        &self,
        pipeline: &Pipeline,
        requests: &[PullRequest],
        subject: &Subject,
        id: Option<ReviewAppId>,
        commit: CommitId,
    ) -> Result<ReviewApp> {
        let there = id.map(|id| self.store().read(|c| c.review_app(id))).transpose()?.flatten();
        let now = self.now();
        let request = match subject {
            Subject::PullRequest(number) => requests.iter().find(|r| r.number == *number),
            Subject::Branch(_) => None,
        };
        match (there, request, subject) {
            (Some(there), _, _) => Ok(ReviewApp { commit, deployed_at: now, ..there }),
            (None, Some(request), _) => Ok(ReviewApp {
                id: self.id(ReviewAppId),
                pipeline: pipeline.id,
                origin: ReviewOrigin::PullRequest,
                app: None,
                app_name: None,
                setup: None,
                pr_number: Some(request.number),
                branch: request.branch.clone(),
                fork: request.fork.clone(),
                commit,
                status: ReviewAppStatus::Pending,
                message: None,
                creator: pipeline.owner,
                deployed_at: now,
                created_at: now,
                updated_at: now,
            }),
            // Only pull requests get review apps by themselves.
            (None, None, _) => Err(Error::platform("a review app without its pull request")),
        }
    }

    /// Whom review apps belong to and who acts when nobody does: the pipeline's owner.
    pub(crate) fn as_owner(&self, pipeline: &Pipeline) -> Result<Caller> {
        let owner = self.store().read(|c| c.account_by_id(pipeline.owner))?;
        let actor = Actor { account: owner.id, email: owner.email.to_string(), admin: false, scope: Scope::Global };
        Ok(Caller { actor, via: "platform" })
    }

    /// Makes the app of a review app. `row` is written with it, in one transaction; `upload` is a source of the caller's.
    pub(crate) async fn make_review_app(
        &self,
        caller: &Caller,
        mut row: ReviewApp,
        environment: ConfigVars,
        upload: Option<(SourceBlob, SourceOrder)>,
    ) -> Result<ReviewApp> {
        let (pipeline, settings) = self
            .store()
            .read(|c| Ok((c.pipeline_by_id(row.pipeline)?, c.review_settings(row.pipeline)?.unwrap_or_default())))?;
        let parent = self.review_parent(&pipeline)?;
        let owner = self.as_owner(&pipeline)?;
        let name = self.review_name(&pipeline, &settings, &row)?;
        let new = NewApp { name: Some(name.to_string()), region: Some(settings.region.clone()), ..NewApp::default() };
        let app = self.new_app(&owner, &new)?;
        let given = self.review_config(&pipeline, parent.as_ref(), &settings, &row, environment)?;
        self.inner.parts.repositories.create(app.id).await?;
        if let Some((source, order)) = &upload {
            match self.import_source(caller, app.id, source, order).await {
                Ok(commit) => row.commit = commit,
                Err(e) => {
                    self.inner.parts.repositories.remove(app.id).await?;
                    return Err(e);
                }
            }
        }
        row.app = Some(app.id);
        row.app_name = Some(name);
        row.status = ReviewAppStatus::Creating;
        row.message = None;
        row.updated_at = self.now();
        let beginning = Beginning {
            collaborators: self.review_collaborators(&app, parent.as_ref(), &row)?,
            app,
            config: given.config,
            inherited: given.inherited,
            withheld: given.withheld,
            commit: row.commit.clone(),
            origin: self.review_origin(&row, parent.as_ref())?,
            environment: Environment::Review,
            coupling: Some((pipeline, Stage::Review)),
            without_addons: settings.without_addons,
        };
        let written = row.clone();
        let setup = self
            .begin_setup(&owner, beginning, move |c, setup| {
                c.put_review_app(&ReviewApp { setup: Some(setup.id), ..written })
            })
            .await?;
        row.setup = Some(setup.id);
        self.tell(Event::Pipeline(row.pipeline));
        Ok(row)
    }

    /// Where the code of a review app comes from.
    fn review_origin(&self, row: &ReviewApp, parent: Option<&App>) -> Result<Origin> {
        let forge = self.store().read(|c| c.forge_of(row.pipeline))?;
        Ok(match (row.origin, forge, parent) {
            (ReviewOrigin::PullRequest, Some(forge), _) => Origin::Forge(forge.repository.to_string()),
            (ReviewOrigin::PullRequest | ReviewOrigin::Branch, _, Some(parent)) => Origin::App(parent.id),
            _ => Origin::Here,
        })
    }

    /// The name of a review app: the one that it had, else one that says what it is for.
    fn review_name(&self, pipeline: &Pipeline, settings: &ReviewAppSettings, row: &ReviewApp) -> Result<AppName> {
        if let Some(name) = &row.app_name {
            return Ok(name.clone());
        }
        let base = settings.base_name.as_deref().unwrap_or(pipeline.name.as_str());
        for n in 0..NAMES {
            let suffix = (n > 0).then(|| self.world().random());
            let name = app_name(base, &subject(row), suffix)?;
            if self.store().read(|c| c.name_is_free(&name))? {
                return Ok(name);
            }
        }
        Err(Error::conflict(format!("No name is free for a review app of {base}. Choose another base name.")))
    }

    /// Who has access to the parent has it to its review apps, and so has who asked for one.
    fn review_collaborators(&self, app: &App, parent: Option<&App>, row: &ReviewApp) -> Result<Vec<Collaborator>> {
        let now = self.now();
        let mut people = BTreeMap::new();
        if let Some(parent) = parent {
            for one in self.store().read(|c| c.collaborators(parent.id))? {
                people.insert(one.account, one.permission);
            }
            people.insert(parent.owner, Permission::Manage);
        }
        let creator = people.entry(row.creator).or_insert(Permission::Operate);
        *creator = (*creator).max(Permission::Operate);
        people.remove(&app.owner);
        let mut collaborators = Vec::with_capacity(people.len());
        for (account, permission) in people {
            // Who asked for it may have left since.
            let Some(account) = self.store().read(|c| c.account(&account.into()))? else { continue };
            collaborators.push(Collaborator {
                id: self.id(CollaboratorId),
                account: account.id,
                email: account.email,
                permission,
                created_at: now,
                updated_at: now,
            });
        }
        Ok(collaborators)
    }

    /// Deploys another commit to a review app.
    async fn deploy_review_app(&self, pipeline: &Pipeline, id: ReviewAppId, commit: CommitId) -> Result<()> {
        let Some(mut row) = self.store().read(|c| c.review_app(id))? else { return Ok(()) };
        let Some(app) = row.app.map(|a| self.store().read(|c| c.app(&a.into()))).transpose()?.flatten() else {
            return Ok(());
        };
        let parent = self.review_parent(pipeline)?;
        let (carry, fetch) = match self.review_origin(&row, parent.as_ref())? {
            Origin::Here => (None, None),
            Origin::App(from) => (Some(CarryPlan { from: Place::App(from), commit: commit.clone() }), None),
            Origin::Forge(repository) => (None, Some(FetchPlan { repository, commit: commit.clone() })),
        };
        row.commit = commit.clone();
        row.deployed_at = self.now();
        row.status = ReviewAppStatus::Created;
        row.message = None;
        row.updated_at = row.deployed_at;
        let owner = self.as_owner(pipeline)?;
        self.admit(&owner, Trigger::Build, &app).await?;
        let extra = Extra {
            part: Part { carry, fetch, ..Part::new(app.id) },
            also: Box::new(move |c| c.put_review_app(&row)),
            ..self.nothing_else(&app)
        };
        self.deploy_with(&owner, &app, commit, Trigger::Build, extra, |_| ()).await?;
        self.tell(Event::Pipeline(pipeline.id));
        Ok(())
    }

    /// Removes a review app's app and all that it owned; the row says when nothing is left.
    pub(crate) async fn remove_review_app(&self, id: ReviewAppId) -> Result<()> {
        let Some(row) = self.store().read(|c| c.review_app(id))? else { return Ok(()) };
        if matches!(row.status, ReviewAppStatus::Deleting | ReviewAppStatus::Deleted) {
            return Ok(());
        }
        let app = row.app.map(|a| self.store().read(|c| c.app(&a.into()))).transpose()?.flatten();
        if let Some(app) = app {
            let pipeline = self.store().read(|c| c.pipeline_by_id(row.pipeline))?;
            self.begin_destroy(&self.as_owner(&pipeline)?, &app).await?;
        } else {
            let now = self.now();
            self.store()
                .write(move |c| {
                    park(c, &row)?;
                    let gone = ReviewApp { status: ReviewAppStatus::Deleted, app: None, updated_at: now, ..row };
                    c.put_review_app(&gone)
                })
                .await?;
        }
        Ok(())
    }
}

/// Notes that the app of a review app is being removed. Its pull request does not get another one for this commit.
pub(crate) fn leaving(c: &Conn<'_>, app: &App, now: Timestamp) -> shipway_store::Result<()> {
    let Some(row) = c.review_app_of(app.id)? else { return Ok(()) };
    park(c, &row)?;
    c.put_review_app(&ReviewApp { status: ReviewAppStatus::Deleting, updated_at: now, ..row })
}

/// Notes that nothing is left of the app of a review app.
pub(crate) fn left(c: &Conn<'_>, app: shipway_domain::AppId, now: Timestamp) -> shipway_store::Result<()> {
    match c.review_app_of(app)?.filter(|r| r.status == ReviewAppStatus::Deleting) {
        Some(row) => {
            c.put_review_app(&ReviewApp { status: ReviewAppStatus::Deleted, app: None, updated_at: now, ..row })
        }
        None => Ok(()),
    }
}

fn park(c: &Conn<'_>, row: &ReviewApp) -> shipway_store::Result<()> {
    let request = row.pr_number.map(|n| c.pull_request(row.pipeline, n)).transpose()?.flatten();
    match request {
        Some(request) => {
            let parked = Some(request.commit.clone());
            c.put_pull_request(&PullRequest { parked, ..request })
        }
        None => Ok(()),
    }
}

fn note(c: &Conn<'_>, pipeline: PipelineId, news: PullRequestNews) -> shipway_store::Result<()> {
    let known = c.pull_request(pipeline, news.number)?;
    if known.as_ref().is_some_and(|k| k.changed_at > news.changed_at) {
        return Ok(());
    }
    // Checks may have been heard of before the pull request was.
    let checks = c.commit_checks(pipeline, &news.commit)?;
    let reopened = known.as_ref().is_some_and(|k| !k.open) && news.open;
    // A fork's branch is named as its repository's alone might be.
    if news.fork.is_none() {
        c.put_branch_tip(pipeline, news.branch.as_str(), &news.commit, news.changed_at)?;
    }
    let (allowed, parked) = known.map_or((None, None), |k| (k.allowed, k.parked));
    c.put_pull_request(&PullRequest {
        pipeline,
        number: news.number,
        title: news.title.chars().filter(|c| !c.is_control()).take(200).collect(),
        branch: news.branch,
        commit: news.commit,
        fork: news.fork,
        open: news.open,
        checks,
        allowed,
        parked: parked.filter(|_| !reopened),
        changed_at: news.changed_at,
    })
}

/// Whether the present commit of a pull request may be built: a fork's, when a maintainer said so of it, or of an earlier
/// one where that is enough.
pub(crate) fn may_be_built(request: &PullRequest, settings: &ReviewAppSettings) -> bool {
    let kept = |commit: &CommitId| settings.keep_fork_permission || *commit == request.commit;
    request.fork.is_none() || request.allowed.as_ref().is_some_and(kept)
}

fn wanted_by(request: &PullRequest, settings: &ReviewAppSettings, automatic: bool) -> Wanted {
    Wanted {
        commit: request.commit.clone(),
        make: automatic && request.parked.as_ref() != Some(&request.commit),
        unallowed_fork: !may_be_built(request, settings),
        checks: request.checks,
    }
}

fn subject(row: &ReviewApp) -> Subject {
    match row.pr_number {
        Some(number) => Subject::PullRequest(number),
        None => Subject::Branch(row.branch.clone()),
    }
}

pub(crate) fn seen(row: &ReviewApp) -> Seen {
    Seen {
        id: row.id,
        status: row.status,
        runs: row.app.is_some(),
        commit: row.commit.clone(),
        message: row.message.clone(),
        deployed_at: row.deployed_at,
    }
}
