//! Triggers: refs that deploy apps by themselves.
//!
//! A ref that moved (`ref_moved`: at a forge, at an app's remote, on the upstream) becomes a row for each app that has a
//! trigger for it. Rows that wait are looked at together (`shipway_domain::triggers::plan`); one whose time has come
//! becomes an operation, in the name of who pushed, or of the pipeline's owner where a forge has told us. The operation
//! says the rest, so nothing of it is kept here. What parties of the app's stage have not signed waits for them, and goes out
//! when the last of them has signed.

use crate::builds::Extra;
use crate::error::Error;
use crate::operation::Context;
use crate::plan::{CarryPlan, FetchPlan, Part, Step};
use crate::ports::{Caller, Place};
use crate::{Event, Kind, Platform, Result, look};
use shipway_domain::admission::{Actor, Trigger};
use shipway_domain::lifecycle::OperationStatus;
use shipway_domain::review::Checks;
use shipway_domain::triggers::{
    Action, RefKind, RefName, RefPattern, TriggeredStatus, Waiting, line_before, plan, waits_for,
};
use shipway_domain::{
    AccountId, AppId, AppName, CommitId, NameOrId, NoticeId, OperationId, PipelineId, TriggerId, TriggeredDeployId,
};
use shipway_store::{App, Build, CommitSource, Conn, Notice, RefTrigger, StoreError, TriggeredDeploy};

/// Triggers of one app.
const MOST: usize = 50;
/// Promotions of a pipeline among which those to an app are looked for.
const PROMOTIONS: u32 = 20;

/// Where a ref moved.
#[derive(Debug, Clone)]
pub enum RefOrigin {
    /// At a forge, in a repository (`owner/name`) that a pipeline is connected to.
    Forge {
        /// The pipeline.
        pipeline: PipelineId,
        /// The repository.
        repository: String,
        /// Where the ref was before; none: it is new.
        before: Option<CommitId>,
        /// Who moved it, where the forge's word for them is the address of an account here.
        pusher: Option<AccountId>,
    },
    /// At an app's own remote.
    App {
        /// The app.
        app: AppId,
        /// Who pushed.
        actor: Actor,
    },
    /// On the line that a pipeline's team works on.
    Upstream {
        /// The pipeline.
        pipeline: PipelineId,
        /// Who pushed it; nobody when it was fetched.
        actor: Option<Actor>,
    },
}

/// A branch or tag that points at another commit now. One that was deleted is no news.
#[derive(Debug, Clone)]
pub struct RefNews {
    /// Where.
    pub origin: RefOrigin,
    /// Which.
    pub reference: RefName,
    /// Where it points.
    pub commit: CommitId,
    /// Who moved it, for people to read. Nothing is allowed because of it.
    pub by: String,
}

/// An app that a ref sets off.
#[derive(Debug, Clone)]
pub struct SetOff {
    /// Its name.
    pub app: AppName,
    /// Why it is not deployed all the same.
    pub refused: Option<String>,
    /// What it waits for, where its stage's parties have not signed, with the command that signs.
    pub waits: Option<String>,
}

/// A deploy that a trigger asked for, as it stands.
#[derive(Debug, Clone)]
pub struct TriggeredView {
    /// The row.
    pub deploy: TriggeredDeploy,
    /// `waiting`, `deploying`, `succeeded`, `failed`, `superseded`, `refused`.
    pub state: &'static str,
    /// Why it waits or failed.
    pub message: Option<String>,
}

impl Platform {
    /// An app's triggers, oldest first.
    pub fn triggers(&self, app: &App) -> Result<Vec<RefTrigger>> {
        Ok(self.store().read(|c| c.triggers(app.id))?)
    }

    /// Has refs deploy an app by themselves. Errors: an illegal pattern, one that is there, more than 50.
    pub async fn add_trigger(
        &self,
        caller: &Caller,
        app: &App,
        kind: RefKind,
        glob: &str,
        wait_for_ci: bool,
    ) -> Result<RefTrigger> {
        self.admit(caller, Trigger::Settings, app).await?;
        let pattern = RefPattern::parse(kind, glob)?;
        if self.triggers(app)?.len() >= MOST {
            return Err(Error::invalid(format!("{} has {MOST} triggers, and may not have more.", app.name)));
        }
        let trigger = RefTrigger {
            id: self.id(TriggerId),
            app: app.id,
            pattern,
            wait_for_ci,
            account: caller.actor.account,
            created_at: self.now(),
        };
        let detail = serde_json::json!({ "pattern": trigger.pattern.to_string(), "wait_for_ci": wait_for_ci });
        let entry = self.entry(caller, Some(app), "trigger-added", detail);
        let row = trigger.clone();
        self.write_with(entry, move |c| c.insert_trigger(&row)).await.map_err(|e| match e {
            StoreError::Taken(_) => Error::invalid(format!(
                "{} has a trigger for {} already. All of them: shipway triggers -a {0}",
                app.name, trigger.pattern
            )),
            other => other.into(),
        })?;
        self.tell(Event::App(app.id));
        Ok(trigger)
    }

    /// Ends a trigger. What it asked for before goes on. Errors: the app has no such trigger.
    pub async fn remove_trigger(&self, caller: &Caller, app: &App, id: TriggerId) -> Result<RefTrigger> {
        self.admit(caller, Trigger::Settings, app).await?;
        let found = self.triggers(app)?.into_iter().find(|trigger| trigger.id == id);
        let trigger = found.ok_or_else(|| Error::missing("trigger"))?;
        let detail = serde_json::json!({ "pattern": trigger.pattern.to_string() });
        let entry = self.entry(caller, Some(app), "trigger-removed", detail);
        self.write_with(entry, move |c| c.delete_trigger(id)).await?;
        self.tell(Event::App(app.id));
        Ok(trigger)
    }

    /// The newest deploys that an app's triggers asked for, newest first.
    pub fn triggered(&self, app: &App, limit: u32) -> Result<Vec<TriggeredView>> {
        let views = self.store().read(|c| {
            let rows = c.triggered_deploys(app.id, limit)?;
            rows.into_iter().map(|row| view(c, row)).collect::<shipway_store::Result<Vec<_>>>()
        })?;
        Ok(views)
    }

    /// The trigger of an app that a ref sets off.
    pub fn trigger_for(&self, app: &App, reference: &RefName) -> Result<Option<RefTrigger>> {
        Ok(self.triggers(app)?.into_iter().find(|trigger| trigger.pattern.matches(reference)))
    }

    /// Whether a ref that is pushed to an app deploys it or another app of its pipeline.
    pub fn sets_off_something(&self, app: &App, reference: &RefName) -> Result<bool> {
        let all = self.store().read(|c| set_off(c, &apps_beside(c, app.id)?, reference))?;
        Ok(!all.is_empty())
    }

    /// Carries out a ref that was pushed to an app and sets off its trigger, as a push to main is.
    pub async fn deploy_ref(
        &self,
        caller: &Caller,
        app: &App,
        trigger: &RefTrigger,
        reference: RefName,
        commit: CommitId,
    ) -> Result<(Build, OperationId)> {
        let now = self.now();
        let row = TriggeredDeploy {
            id: self.id(TriggeredDeployId),
            app: app.id,
            pipeline: self.store().read(|c| c.coupling_of(app.id))?.map(|c| c.pipeline),
            glob: trigger.pattern.glob().into(),
            reference,
            before: None,
            commit,
            source: CommitSource::App(app.id),
            actor: caller.actor.clone(),
            by: caller.actor.email.clone(),
            mover: Some(caller.actor.account),
            wait_for_ci: false,
            awaited: true,
            status: TriggeredStatus::Waiting,
            message: None,
            operation: None,
            created_at: now,
            updated_at: now,
        };
        self.begin_triggered(caller, app, row).await
    }

    /// Writes down what a ref that moved asks for, and has it looked at. News that come twice count once.
    ///
    /// Returns the apps that it sets off.
    pub async fn ref_moved(&self, news: RefNews) -> Result<Vec<SetOff>> {
        // At an app's remote, main is whatever was pushed there.
        let named = news.reference.kind() == RefKind::Branch
            && !matches!((&news.origin, news.reference.name()), (RefOrigin::App { .. }, "main" | "master"));
        let (pipeline, source, actor, before, pusher) = match news.origin {
            RefOrigin::Forge { pipeline, repository, before, pusher } => {
                (Some(pipeline), CommitSource::Forge(repository), None, before, pusher)
            }
            RefOrigin::App { app, actor } => (None, CommitSource::App(app), Some(actor), None, None),
            RefOrigin::Upstream { pipeline, actor } => {
                (Some(pipeline), CommitSource::Upstream(pipeline), actor, None, None)
            }
        };
        let mover = actor.as_ref().map(|actor| actor.account).or(pusher);
        let (apps, pipeline) = self.store().read(|c| match (pipeline, &source) {
            (Some(pipeline), _) => Ok((apps_of(c, pipeline)?, Some(pipeline))),
            (None, CommitSource::App(app)) => {
                Ok((apps_beside(c, *app)?, c.coupling_of(*app)?.map(|coupling| coupling.pipeline)))
            }
            _ => Ok((Vec::new(), None)),
        })?;
        let actor = match (actor, pipeline) {
            (Some(actor), _) => actor,
            (None, Some(pipeline)) => {
                let pipeline = self.store().read(|c| c.pipeline_by_id(pipeline))?;
                self.as_owner(&pipeline)?.actor
            }
            (None, None) => return Ok(Vec::new()),
        };
        let set_off = self.store().read(|c| set_off(c, &apps, &news.reference))?;
        let (mut rows, mut told) = (Vec::new(), Vec::new());
        let now = self.now();
        let tip = pipeline.filter(|_| named).map(|of| (of, news.reference.name().to_string(), news.commit.clone()));
        for (app, trigger) in set_off {
            let mut row = TriggeredDeploy {
                id: self.id(TriggeredDeployId),
                app: app.id,
                pipeline,
                glob: trigger.pattern.glob().into(),
                reference: news.reference.clone(),
                before: before.clone(),
                commit: news.commit.clone(),
                source: source.clone(),
                actor: actor.clone(),
                by: news.by.chars().filter(|c| !c.is_control()).take(200).collect(),
                mover,
                wait_for_ci: trigger.wait_for_ci,
                awaited: false,
                status: TriggeredStatus::Waiting,
                message: None,
                operation: None,
                created_at: now,
                updated_at: now,
            };
            let refused = self.comes_late(&row).await?;
            if refused.is_some() {
                (row.status, row.message) = (TriggeredStatus::Refused, refused.clone());
            }
            let waits = self.waits_to_be_signed(&app, &row.commit)?.filter(|_| refused.is_none());
            let to_sign = if waits.is_some() { self.to_sign(&app, &row)? } else { Vec::new() };
            rows.push((row, to_sign));
            told.push(SetOff { app: app.name, refused, waits });
        }
        self.store()
            .write(move |c| {
                if let Some((pipeline, branch, commit)) = tip {
                    c.put_branch_tip(pipeline, &branch, &commit, now)?;
                }
                for (row, to_sign) in rows {
                    match told_before(c, &row)? {
                        None => {
                            c.put_triggered_deploy(&row)?;
                            to_sign.iter().try_for_each(|notice| c.insert_notice(notice))?;
                        }
                        // Only the forge says where the ref was, and who moved what was fetched.
                        Some(known) if known.before.is_none() => {
                            let names = matches!(row.source, CommitSource::Forge(_)) && known.mover.is_none();
                            let (by, mover) = if names { (row.by, row.mover) } else { (known.by.clone(), known.mover) };
                            c.put_triggered_deploy(&TriggeredDeploy { before: row.before, by, mover, ..known })?;
                        }
                        Some(_) => {}
                    }
                }
                Ok(())
            })
            .await?;
        self.inner.triggers_wanted.notify_one();
        Ok(told)
    }

    /// Takes what CI says of a commit, where no forge tells us. A token that deploys one app says it for the pipeline that
    /// the app stands in. Errors: no such pipeline, or who may not operate it.
    pub async fn report_checks(
        &self,
        caller: &Caller,
        pipeline: &NameOrId,
        commit: CommitId,
        checks: Checks,
    ) -> Result<()> {
        let pipeline = self.pipeline_to_check(caller, pipeline)?;
        self.checks_changed(pipeline.id, commit, checks).await
    }

    /// Looks at all deploys that wait, and carries out those whose time has come.
    pub async fn deploy_triggered(&self) -> Result<()> {
        let _turn = self.inner.triggering.lock().await;
        let rows = self.store().read(|c| c.waiting_deploys())?;
        for of_app in rows.chunk_by(|a, b| a.app == b.app) {
            let of = of_app.first().map(|row| self.store().read(|c| c.app(&row.app.into()))).transpose()?;
            let Some(app) = of.flatten() else { continue };
            let mut waiting =
                self.store().read(|c| of_app.iter().map(|row| waiting(c, row)).collect::<Result<Vec<_>, _>>())?;
            for one in &mut waiting {
                one.unsigned = self.unsigned(&app, &one.commit)?.into_iter().map(|party| party.name).collect();
            }
            for action in plan(&waiting) {
                let (Action::Deploy(id) | Action::Say(id, _) | Action::Supersede(id, _)) = &action;
                let Some(row) = of_app.iter().find(|row| row.id == *id).cloned() else { continue };
                match action {
                    Action::Deploy(_) => self.take_turn(row).await?,
                    Action::Say(_, why) => self.put_triggered(row, TriggeredStatus::Waiting, Some(why)).await?,
                    Action::Supersede(_, why) => {
                        self.put_triggered(row, TriggeredStatus::Superseded, Some(why)).await?
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn keep_triggers(self) {
        loop {
            if let Err(e) = self.deploy_triggered().await {
                tracing::error!(error = %e, cause = ?e.cause, "triggered deploys could not be looked at");
            }
            look::next(&self.inner.triggers_wanted).await;
        }
    }

    /// Begins a deploy that has waited, or writes down why not.
    async fn take_turn(&self, row: TriggeredDeploy) -> Result<()> {
        let app = self.store().read(|c| c.app_by_id(row.app))?;
        let Some(caller) = self.in_whose_name(&row)? else {
            let gone = format!("{} asked for it, and was removed since. Push it again to deploy it.", row.actor.email);
            return self.put_triggered(row, TriggeredStatus::Refused, Some(gone)).await;
        };
        match self.begin_triggered(&caller, &app, row.clone()).await {
            Ok(_) => Ok(()),
            // It may pass: the next look tries again.
            Err(e) if matches!(e.kind, Kind::Platform | Kind::Unavailable) => {
                tracing::error!(app.name = %app.name, error = %e, cause = ?e.cause, "a triggered deploy could not begin");
                self.put_triggered(row, TriggeredStatus::Waiting, Some(e.to_string())).await
            }
            // A sign-off was taken back since it was looked at.
            Err(e) if !self.unsigned(&app, &row.commit)?.is_empty() => {
                self.put_triggered(row, TriggeredStatus::Waiting, Some(e.to_string())).await
            }
            Err(e) => self.put_triggered(row, TriggeredStatus::Refused, Some(e.to_string())).await,
        }
    }

    /// Who deploys what has waited: whoever moved the ref, or the pipeline's owner of now in the place of one who was
    /// removed. None: they were removed themselves.
    fn in_whose_name(&self, row: &TriggeredDeploy) -> Result<Option<Caller>> {
        let asked = row.actor.account;
        if self.store().read(|c| c.account(&asked.into()))?.is_some() {
            return Ok(Some(Caller { actor: row.actor.clone(), via: "platform" }));
        }
        let for_the_owner = matches!(row.source, CommitSource::Forge(_)) || row.mover != Some(asked);
        let pipeline = row.pipeline.filter(|_| for_the_owner);
        let pipeline = pipeline.map(|id| self.store().read(|c| c.pipeline(&id.into()))).transpose()?.flatten();
        pipeline.map(|pipeline| self.as_owner(&pipeline)).transpose()
    }

    /// The deploy that a failed operation was, where it waits again: a sign-off was taken back before the switch. Whoever
    /// pushed it and waits for it is refused instead.
    pub(crate) fn waits_again(&self, ctx: &Context) -> Result<Option<TriggeredDeploy>> {
        let came_to_switch = self.journal(ctx.operation).contains_key(Step::Switch.name());
        let Some(part) = ctx.plan.parts.first().filter(|_| came_to_switch) else { return Ok(None) };
        let (app, row) =
            self.store().read(|c| Ok((c.app_by_id(part.app)?, c.triggered_deploy_by(part.app, ctx.operation)?)))?;
        let Some(row) = row.filter(|row| !row.awaited) else { return Ok(None) };
        if self.unsigned(&app, &row.commit)?.is_empty() {
            return Ok(None);
        }
        Ok(Some(TriggeredDeploy { status: TriggeredStatus::Waiting, message: None, updated_at: self.now(), ..row }))
    }

    /// What a commit waits for before the app's trigger deploys it, for the one who pushed it.
    fn waits_to_be_signed(&self, app: &App, commit: &CommitId) -> Result<Option<String>> {
        let unsigned = self.unsigned(app, commit)?;
        let names: Vec<_> = unsigned.iter().map(|party| party.name.clone()).collect();
        let (Some(waits), Some(first)) = (waits_for(&names), names.first()) else { return Ok(None) };
        let coupling = self.coupling_of(app)?;
        Ok(Some(format!(
            "{} {waits}: shipway sign-off {} {} {0} --as {first}",
            commit.short(),
            coupling.pipeline_name,
            coupling.stage
        )))
    }

    /// A notice for everybody but the mover who may sign what a deploy waits for.
    fn to_sign(&self, app: &App, row: &TriggeredDeploy) -> Result<Vec<Notice>> {
        let coupling = self.coupling_of(app)?;
        let (pipeline, stage, commit) = (&coupling.pipeline_name, coupling.stage, row.commit.short());
        let mut notices = Vec::new();
        for party in self.unsigned(app, &row.commit)? {
            let text = format!(
                "{commit} ({}, by {}) waits for your sign-off as {}, for {stage} of {pipeline}. To sign: shipway sign-off {pipeline} \
                 {stage} {commit} --as {2}",
                row.reference, row.by, party.name
            );
            for person in party.people.iter().filter(|person| Some(person.account) != row.mover) {
                // Beside an app of the pipeline that they can see.
                let shown = self.store().read(|c| {
                    for at in c.couplings(coupling.pipeline)?.into_iter().rev() {
                        if c.permission(&c.app_by_id(at.app)?, person.account)?.is_some() {
                            return Ok(Some(at.app));
                        }
                    }
                    Ok(None)
                })?;
                notices.push(Notice {
                    id: self.id(NoticeId),
                    account: person.account,
                    app: shown.unwrap_or(app.id),
                    text: text.clone(),
                    replaced: false,
                    read_at: None,
                    created_at: row.created_at,
                });
            }
        }
        Ok(notices)
    }

    async fn begin_triggered(
        &self,
        caller: &Caller,
        app: &App,
        mut row: TriggeredDeploy,
    ) -> Result<(Build, OperationId)> {
        self.admit(caller, Trigger::Push, app).await?;
        let operation = self.id(OperationId);
        (row.status, row.message, row.operation) = (TriggeredStatus::Begun, None, Some(operation));
        row.updated_at = self.now();
        let detail = serde_json::json!({
            "reference": row.reference.to_string(), "pattern": row.glob, "commit": row.commit, "by": row.by,
            "operation": operation,
        });
        let entry = self.entry(caller, Some(app), "deploy-triggered", detail);
        let commit = row.commit.clone();
        let carry = |from| Some(CarryPlan { from, commit: commit.clone() });
        let (carry, fetch) = match &row.source {
            CommitSource::App(here) if *here == app.id => (None, None),
            CommitSource::App(there) => (carry(Place::App(*there)), None),
            CommitSource::Upstream(pipeline) => (carry(Place::Upstream(*pipeline)), None),
            CommitSource::Forge(repository) => {
                (None, Some(FetchPlan { repository: repository.clone(), commit: commit.clone() }))
            }
        };
        let extra = Extra {
            operation,
            part: Part { carry, fetch, ..Part::new(app.id) },
            shared: row.pipeline.map(|pipeline| (pipeline, false)),
            also: Box::new(move |c| {
                c.put_triggered_deploy(&row)?;
                c.record(&entry)
            }),
        };
        self.deploy_with(caller, app, commit, Trigger::Push, extra, |_| ()).await
    }

    async fn put_triggered(
        &self,
        mut row: TriggeredDeploy,
        status: TriggeredStatus,
        message: Option<String>,
    ) -> Result<()> {
        (row.status, row.message, row.updated_at) = (status, message, self.now());
        let app = row.app;
        self.store().write(move |c| c.put_triggered_deploy(&row)).await?;
        self.tell(Event::App(app));
        Ok(())
    }
}

/// A pipeline's apps.
fn apps_of(c: &Conn<'_>, pipeline: PipelineId) -> shipway_store::Result<Vec<AppId>> {
    Ok(c.couplings(pipeline)?.into_iter().map(|coupling| coupling.app).collect())
}

/// An app and those in its pipeline.
fn apps_beside(c: &Conn<'_>, app: AppId) -> shipway_store::Result<Vec<AppId>> {
    match c.coupling_of(app)? {
        Some(coupling) => apps_of(c, coupling.pipeline),
        None => Ok(vec![app]),
    }
}

/// Those of these apps that a ref sets off, each with its trigger.
fn set_off(c: &Conn<'_>, apps: &[AppId], reference: &RefName) -> shipway_store::Result<Vec<(App, RefTrigger)>> {
    let mut all = Vec::new();
    for app in apps {
        let found = c.triggers(*app)?.into_iter().find(|trigger| trigger.pattern.matches(reference));
        let app = c.app(&app.into())?.filter(|app| !app.ending);
        all.extend(app.zip(found));
    }
    Ok(all)
}

/// The app's last triggered deploy, when it is of the same commit and has not failed, or was as late.
fn told_before(c: &Conn<'_>, news: &TriggeredDeploy) -> shipway_store::Result<Option<TriggeredDeploy>> {
    let Some(last) = c.triggered_deploys(news.app, 1)?.pop().filter(|last| last.commit == news.commit) else {
        return Ok(None);
    };
    let stands = match (last.status, last.operation) {
        (TriggeredStatus::Waiting, _) => true,
        (TriggeredStatus::Begun, Some(operation)) => c.operation(operation)?.status != OperationStatus::Failed,
        (TriggeredStatus::Refused, _) => news.status == TriggeredStatus::Refused && last.before == news.before,
        _ => false,
    };
    Ok(stands.then_some(last))
}

fn waiting(c: &Conn<'_>, row: &TriggeredDeploy) -> shipway_store::Result<Waiting> {
    let checks = match row.pipeline {
        Some(pipeline) => c.commit_checks(pipeline, &row.commit)?,
        None => Checks::Unknown,
    };
    let pushes = c.triggered_deploys_of(row.app, &row.reference)?.into_iter().map(|of| (of.before, of.commit));
    // One that waits again was built itself.
    let others = |build: &Build| build.created_at > row.created_at && Some(build.operation) != row.operation;
    let built = c.builds(row.app)?.pop().filter(others);
    let later = match built.and_then(|build| build.commit) {
        None => promoted_since(c, row)?,
        built => built,
    };
    Ok(Waiting {
        id: row.id,
        reference: row.reference.clone(),
        commit: row.commit.clone(),
        line: line_before(row.before.as_ref(), &pushes.collect::<Vec<_>>()),
        wait_for_ci: row.wait_for_ci,
        checks,
        unsigned: Vec::new(),
        overtaken_by: later,
        message: row.message.clone(),
    })
}

/// What was promoted to the app since a deploy was asked for.
fn promoted_since(c: &Conn<'_>, row: &TriggeredDeploy) -> shipway_store::Result<Option<CommitId>> {
    let Some(pipeline) = row.pipeline else { return Ok(None) };
    for promotion in c.promotions(pipeline, PROMOTIONS)?.into_iter().filter(|it| it.created_at > row.created_at) {
        for target in c.promotion_targets(promotion.id)?.into_iter().filter(|target| target.app == row.app) {
            let done = match target.operation {
                Some(operation) => c.operation(operation)?.status == OperationStatus::Succeeded,
                None => false,
            };
            let release = target.release.filter(|_| done).map(|release| c.release(release)).transpose()?.flatten();
            let slug = release.and_then(|release| release.slug).map(|slug| c.slug(slug)).transpose()?.flatten();
            if let Some(commit) = slug.and_then(|slug| slug.commit) {
                return Ok(Some(commit));
            }
        }
    }
    Ok(None)
}

fn view(c: &Conn<'_>, deploy: TriggeredDeploy) -> shipway_store::Result<TriggeredView> {
    let (state, message) = match (deploy.status, deploy.operation) {
        (TriggeredStatus::Begun, Some(operation)) => {
            let operation = c.operation(operation)?;
            match operation.status {
                OperationStatus::Succeeded => ("succeeded", None),
                OperationStatus::Failed => ("failed", operation.error),
                _ => ("deploying", None),
            }
        }
        (status, _) => (status.as_str(), deploy.message.clone()),
    };
    Ok(TriggeredView { deploy, state, message })
}
