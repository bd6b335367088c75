//! Pipelines: make, rename, hand over, end; which app stands where; what apps of a stage begin with.
//!
//! A pipeline changes nothing of what runs. Its owner (and an administrator) may do everything with it; whoever may
//! operate one of its apps may put in, move and take out apps that they operate. Who has access to none of its apps
//! does not see that it exists.

use crate::config::{apply, parse_changes, within_limit};
use crate::error::Error;
use crate::ports::Caller;
use crate::{Event, Kind, Platform, Result};
use shipway_domain::admission::{Permission, Scope, Trigger};
use shipway_domain::{AccountId, AppId, CouplingId, DisplayName, NameOrId, PipelineId, PipelineName, Stage};
use shipway_store::{Account, App, ConfigVars, Conn, Coupling, Pipeline, PipelineSettings, StoreError};
use std::collections::BTreeMap;

/// What is to change of an app's place; what is not named stays.
#[derive(Debug, Clone, Default)]
pub struct UpdateCoupling {
    /// Another stage.
    pub stage: Option<Stage>,
    /// What the team calls the app; `Some(None)` goes back to its own name.
    pub display_name: Option<Option<DisplayName>>,
}

/// What somebody may do with a pipeline, each including the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// Sees it: has access to one of its apps.
    See,
    /// Puts apps in and takes them out: operates one of its apps.
    Operate,
    /// Renames, hands over, ends: owns it.
    Own,
}

impl Platform {
    /// The pipelines that the caller may see, by name; all for administrators.
    pub fn pipelines(&self, caller: &Caller) -> Result<Vec<Pipeline>> {
        if !caller.actor.scope.reads_widely() {
            return Ok(Vec::new());
        }
        let all = |c: &Conn<'_>| match caller.actor.admin {
            true => c.pipelines(),
            false => c.pipelines_of(caller.actor.account),
        };
        Ok(self.store().read(all)?)
    }

    /// Finds a pipeline that the caller may see. What may not be seen does not exist.
    pub fn pipeline(&self, caller: &Caller, which: &NameOrId) -> Result<Pipeline> {
        let found = self.store().read(|c| c.pipeline(which))?;
        match found {
            Some(pipeline) if self.access(caller, &pipeline)?.is_some() => Ok(pipeline),
            _ => Err(Error::missing_named("pipeline", which, "`heroku pipelines` lists those that you can see.")),
        }
    }

    fn access(&self, caller: &Caller, pipeline: &Pipeline) -> Result<Option<Access>> {
        if !caller.actor.scope.reads_widely() {
            return Ok(None);
        }
        self.access_of((caller.actor.account, caller.actor.admin), pipeline)
    }

    /// Whether somebody may look at a pipeline at all.
    pub(crate) fn sees_pipeline(&self, account: &Account, pipeline: &Pipeline) -> Result<bool> {
        Ok(self.access_of((account.id, account.admin), pipeline)?.is_some())
    }

    /// What an account, an administrator's or not, may do with a pipeline by a token of any scope.
    fn access_of(&self, (account, admin): (AccountId, bool), pipeline: &Pipeline) -> Result<Option<Access>> {
        Ok(self.store().read(|c| access_in(c, (account, admin), pipeline))?)
    }

    /// Errors: the caller or the token may not.
    pub(crate) fn may(&self, caller: &Caller, pipeline: &Pipeline, needed: Access) -> Result<()> {
        if !caller.actor.scope.writes() {
            return Err(self.out_of_scope(caller, "change pipelines"));
        }
        if self.access(caller, pipeline)?.is_some_and(|a| a >= needed) {
            return Ok(());
        }
        Err(may_not(caller, pipeline))
    }

    /// The pipeline of whose commits the caller may say what checks say: one that they operate. A token that deploys one app
    /// has no other than that app's; it gives its account no more than the account has.
    ///
    /// Errors: none that may be seen; the caller may not operate it.
    pub(crate) fn pipeline_to_check(&self, caller: &Caller, which: &NameOrId) -> Result<Pipeline> {
        let Scope::Deploy { app } = caller.actor.scope else {
            let pipeline = self.pipeline(caller, which)?;
            self.may(caller, &pipeline, Access::Operate)?;
            return Ok(pipeline);
        };
        let (asked, own) = self.store().read(|c| {
            let own = c.coupling_of(app)?.map(|at| c.pipeline_by_id(at.pipeline)).transpose()?;
            Ok((c.pipeline(which)?, own))
        })?;
        let access = |pipeline: &Pipeline| self.access_of((caller.actor.account, caller.actor.admin), pipeline);
        let access = own.as_ref().map(access).transpose()?.flatten();
        let own = own.zip(access);
        match own {
            Some((own, access)) if asked.is_some_and(|asked| asked.id == own.id) => match access >= Access::Operate {
                true => Ok(own),
                false => Err(may_not(caller, &own)),
            },
            own => Err(self.no_such_pipeline(app, which, own.map(|(own, _)| own))),
        }
    }

    /// What a token is told that deploys one app, of a pipeline that is not its app's: the same whether there is such a one.
    fn no_such_pipeline(&self, app: AppId, which: &NameOrId, own: Option<Pipeline>) -> Error {
        let Some(app) = self.deployed_by_token(app) else { return Error::missing("pipeline") };
        let next = match own {
            Some(own) => format!("The token that was used is for {}, which is in the pipeline {}.", app.name, own.name),
            None => format!(
                "The token that was used is for {}, which is in no pipeline that it may see. Ask {}, who owns {0}.",
                app.name,
                app.owner_email.to_ask()
            ),
        };
        Error::missing_named("pipeline", which, &next)
    }

    /// Makes an empty pipeline of the caller's. Errors: an illegal or taken name.
    pub async fn create_pipeline(&self, caller: &Caller, name: &str) -> Result<Pipeline> {
        let owner = self.store().read(|c| c.account_by_id(caller.actor.account))?;
        self.create_pipeline_of(caller, &owner, name).await
    }

    /// Makes an empty pipeline of a team's, or of the caller's. Errors: an illegal or taken name.
    pub async fn create_pipeline_of(&self, caller: &Caller, owner: &Account, name: &str) -> Result<Pipeline> {
        if !caller.actor.scope.writes() {
            return Err(self.out_of_scope(caller, "create pipelines"));
        }
        let name = PipelineName::parse(name)?;
        let now = self.now();
        let pipeline = Pipeline {
            id: self.id(PipelineId),
            name,
            owner: owner.id,
            owner_email: owner.email.clone(),
            settings: PipelineSettings::default(),
            created_at: now,
            updated_at: now,
        };
        let entry = self.entry(caller, None, "pipeline-created", serde_json::json!({ "pipeline": pipeline.name }));
        let row = pipeline.clone();
        let written = self.write_with(entry, move |c| c.insert_pipeline(&row));
        written.await.map_err(Error::if_taken("pipeline", &pipeline.name))?;
        self.tell(Event::Pipeline(pipeline.id));
        Ok(pipeline)
    }

    /// Renames a pipeline. Errors: an illegal or taken name.
    pub async fn rename_pipeline(&self, caller: &Caller, pipeline: &Pipeline, name: &str) -> Result<Pipeline> {
        let name = PipelineName::parse(name)?;
        let wanted = name.clone();
        let changed = self.change_pipeline(caller, pipeline, |pipeline| {
            let detail = serde_json::json!({ "pipeline": pipeline.name, "name": name });
            pipeline.name = name;
            detail
        });
        changed.await.map_err(|e| match e.kind {
            Kind::Invalid => Error::taken("pipeline", wanted, "Choose another name."),
            _ => e,
        })
    }

    /// Changes what a pipeline's people set, as it is when that is written down: two changes at once are both kept.
    pub async fn change_pipeline_settings(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        change: impl FnOnce(&mut PipelineSettings) + Send + 'static,
    ) -> Result<Pipeline> {
        self.change_pipeline(caller, pipeline, |pipeline| {
            change(&mut pipeline.settings);
            serde_json::json!({ "pipeline": pipeline.name, "settings": pipeline.settings })
        })
        .await
    }

    /// Changes a pipeline's row as it is when that is written down; `change` says what the ledger tells of it.
    async fn change_pipeline(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        change: impl FnOnce(&mut Pipeline) -> serde_json::Value + Send + 'static,
    ) -> Result<Pipeline> {
        self.may(caller, pipeline, Access::Own)?;
        let mut entry = self.entry(caller, None, "pipeline-changed", serde_json::Value::Null);
        let (id, now) = (pipeline.id, self.now());
        let written = self.store().write(move |c| {
            let mut pipeline = c.pipeline_by_id(id)?;
            entry.detail = change(&mut pipeline);
            pipeline.updated_at = now;
            c.update_pipeline(&pipeline)?;
            c.record(&entry)?;
            Ok(pipeline)
        });
        let changed = written.await?;
        self.tell(Event::Pipeline(id));
        Ok(changed)
    }

    /// Gives a pipeline to somebody else, with those of its apps that its owner has.
    pub async fn transfer_pipeline(&self, caller: &Caller, pipeline: &Pipeline, to: &Account) -> Result<Pipeline> {
        self.may(caller, pipeline, Access::Own)?;
        let apps = self.store().read(|c| {
            let all = c.couplings(pipeline.id)?.into_iter().map(|at| c.app_by_id(at.app));
            all.collect::<shipway_store::Result<Vec<_>>>()
        })?;
        let own = apps.iter().filter(|app| app.owner == pipeline.owner && app.owner != to.id);
        let handovers: Vec<_> = own.map(|app| self.handover(app, to)).collect();
        let detail = serde_json::json!({ "pipeline": pipeline.name, "from": pipeline.owner_email, "to": to.email });
        let entry = self.entry(caller, None, "pipeline-transferred", detail);
        let (id, to, now) = (pipeline.id, to.clone(), self.now());
        let written = self.write_with(entry, move |c| {
            for handover in &handovers {
                handover.write(c)?;
            }
            let there = c.pipeline_by_id(id)?;
            let changed = Pipeline { owner: to.id, owner_email: to.email, updated_at: now, ..there };
            c.update_pipeline(&changed)?;
            Ok(changed)
        });
        let changed = written.await?;
        self.tell(Event::Pipeline(id));
        Ok(changed)
    }

    /// Ends a pipeline. Its apps stay and run on.
    pub async fn destroy_pipeline(&self, caller: &Caller, pipeline: &Pipeline) -> Result<()> {
        self.may(caller, pipeline, Access::Own)?;
        let entry = self.entry(caller, None, "pipeline-destroyed", serde_json::json!({ "pipeline": pipeline.name }));
        let id = pipeline.id;
        self.write_with(entry, move |c| c.delete_pipeline(id)).await?;
        self.tell(Event::Pipeline(id));
        self.inner.parts.histories.remove_upstream(id).await?;
        Ok(())
    }

    /// The apps of a pipeline that the caller may see, with their places, in the order of the stages.
    pub fn pipeline_apps(&self, caller: &Caller, pipeline: &Pipeline) -> Result<Vec<(Coupling, App)>> {
        let couplings = self.store().read(|c| c.couplings(pipeline.id))?;
        let visible = |coupling: Coupling| {
            let app = self.app(caller, &coupling.app.into()).ok()?;
            Some((coupling, app))
        };
        Ok(couplings.into_iter().filter_map(visible).collect())
    }

    /// An app's place in a pipeline. Errors: it has none.
    pub fn coupling_of(&self, app: &App) -> Result<Coupling> {
        self.store().read(|c| c.coupling_of(app.id))?.ok_or_else(|| Error {
            message: format!(
                "{0} is in no pipeline. Put it into one: heroku pipelines:add PIPELINE -a {0} -s STAGE",
                app.name
            ),
            ..Error::missing("pipeline_coupling")
        })
    }

    /// A coupling of an app that the caller may see, with the app.
    pub fn coupling(&self, caller: &Caller, id: CouplingId) -> Result<(Coupling, App)> {
        let found = self.store().read(|c| c.coupling(id))?;
        let seen = found.and_then(|c| Some((self.app(caller, &c.app.into()).ok()?, c)));
        seen.map(|(app, coupling)| (coupling, app)).ok_or_else(|| Error::missing("pipeline_coupling"))
    }

    /// Puts an app into a pipeline. Errors: it stands in one already; the caller does not operate the app, or no app of
    /// the pipeline; as [`Self::may_enter_stage`].
    pub async fn couple(&self, caller: &Caller, pipeline: &Pipeline, app: &App, stage: Stage) -> Result<Coupling> {
        self.admit(caller, Trigger::Settings, app).await?;
        self.may(caller, pipeline, Access::Operate)?;
        if let Some(there) = self.store().read(|c| c.coupling_of(app.id))? {
            // A client that lost our answer asks again for what it has.
            if there.pipeline == pipeline.id && there.stage == stage {
                return Ok(there);
            }
            return Err(already_coupled(app, &there));
        }
        self.may_enter_stage(caller, pipeline, stage, app).await?;
        let now = self.now();
        let coupling = Coupling {
            id: self.id(CouplingId),
            pipeline: pipeline.id,
            pipeline_name: pipeline.name.clone(),
            app: app.id,
            stage,
            display_name: None,
            created_at: now,
            updated_at: now,
        };
        let detail = serde_json::json!({ "pipeline": pipeline.name, "stage": stage });
        let entry = self.entry(caller, Some(app), "pipeline-app-added", detail);
        let row = coupling.clone();
        let written = self.write_with(entry, move |c| c.insert_coupling(&row));
        if let Err(e) = written.await {
            return Err(match (e, self.store().read(|c| c.coupling_of(app.id))?) {
                (StoreError::Taken(_), Some(there)) => already_coupled(app, &there),
                (other, _) => other.into(),
            });
        }
        self.tell(Event::Pipeline(pipeline.id));
        Ok(coupling)
    }

    /// Moves an app to another stage, or calls it something else. Errors: as [`Self::may_leave_stage`] and
    /// [`Self::may_enter_stage`]; a review app.
    pub async fn update_coupling(
        &self,
        caller: &Caller,
        coupling: &Coupling,
        app: &App,
        change: UpdateCoupling,
    ) -> Result<Coupling> {
        self.admit(caller, Trigger::Settings, app).await?;
        if let Some(stage) = change.stage.filter(|stage| *stage != coupling.stage) {
            self.may_leave_stage(caller, app)?;
            self.may_leave_review(coupling, app)?;
            let pipeline = self.store().read(|c| c.pipeline_by_id(coupling.pipeline))?;
            self.may_enter_stage(caller, &pipeline, stage, app).await?;
        }
        let mut changed = coupling.clone();
        changed.stage = change.stage.unwrap_or(changed.stage);
        changed.display_name = change.display_name.unwrap_or(changed.display_name);
        changed.updated_at = self.now();
        let detail = serde_json::json!({
            "pipeline": coupling.pipeline_name, "from": coupling.stage, "to": changed.stage,
            "display_name": changed.display_name,
        });
        let entry = self.entry(caller, Some(app), "pipeline-app-moved", detail);
        let row = changed.clone();
        self.write_with(entry, move |c| c.update_coupling(&row)).await?;
        self.tell(Event::Pipeline(changed.pipeline));
        Ok(changed)
    }

    /// Takes an app out of its pipeline. It stays and runs on. Errors: as [`Self::may_leave_stage`]; a review app.
    pub async fn uncouple(&self, caller: &Caller, coupling: &Coupling, app: &App) -> Result<()> {
        let pipeline = self.store().read(|c| c.pipeline_by_id(coupling.pipeline))?;
        // The owner of the pipeline may clear out what somebody else put in.
        if self.may(caller, &pipeline, Access::Own).is_err() {
            self.admit(caller, Trigger::Settings, app).await?;
            self.may_leave_stage(caller, app)?;
        }
        self.may_leave_review(coupling, app)?;
        let detail = serde_json::json!({ "pipeline": coupling.pipeline_name, "stage": coupling.stage });
        let entry = self.entry(caller, Some(app), "pipeline-app-removed", detail);
        let id = coupling.id;
        self.write_with(entry, move |c| c.delete_coupling(id)).await?;
        self.tell(Event::Pipeline(coupling.pipeline));
        Ok(())
    }

    /// Errors: the app is a review app, which would end with its branch wherever it stood.
    fn may_leave_review(&self, coupling: &Coupling, app: &App) -> Result<()> {
        let review = self.store().read(|c| c.review_app_of(app.id))?;
        review.map_or(Ok(()), |review| {
            Err(Error::invalid(format!(
                "{0} is the review app of {1}: it stays in review, and goes with its database when {1} does. To keep the \
                 code, push it to an app of its own: heroku create, heroku pipelines:add. To remove it: shipway reviewapps \
                 destroy -p {2} {0}",
                app.name, review.branch, coupling.pipeline_name
            )))
        })
    }

    /// The config vars that apps of a stage begin with. Errors: a token that may not read secrets; somebody who
    /// operates none of the pipeline's apps.
    pub fn stage_config(&self, caller: &Caller, pipeline: &Pipeline, stage: Stage) -> Result<ConfigVars> {
        self.token_reads_secrets(caller)?;
        if self.access(caller, pipeline)? < Some(Access::Operate) {
            return Err(Error::forbidden(format!(
                "You ({}) may not read config vars of the pipeline {}. Ask {}, who owns it.",
                caller.actor.email,
                pipeline.name,
                pipeline.owner_email.to_ask()
            )));
        }
        Ok(self.store().read(|c| c.stage_config(pipeline.id, stage))?)
    }

    /// Sets and (with `None`) removes config vars that apps of a stage begin with, and returns all of them. Apps that
    /// are there keep what they have.
    pub async fn set_stage_config(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        stage: Stage,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<ConfigVars> {
        self.may(caller, pipeline, Access::Operate)?;
        // Whoever may not read values gets them in the answer otherwise.
        let mut vars = self.stage_config(caller, pipeline, stage)?;
        let names: Vec<String> = changes.keys().cloned().collect();
        let parsed = parse_changes(changes)?;
        apply(&mut vars, parsed.clone());
        within_limit(&vars)?;
        let detail = serde_json::json!({ "pipeline": pipeline.name, "stage": stage, "names": names });
        let entry = self.entry(caller, None, "stage-config", detail);
        let id = pipeline.id;
        let vars = self
            .write_with(entry, move |c| {
                // Read again inside: two changes at once both count.
                let mut vars = c.stage_config(id, stage)?;
                apply(&mut vars, parsed);
                c.set_stage_config(id, stage, &vars)?;
                Ok(vars)
            })
            .await?;
        Ok(vars)
    }
}

/// What an account, an administrator's or not, may do with a pipeline.
pub(crate) fn access_in(
    c: &Conn<'_>,
    (account, admin): (AccountId, bool),
    pipeline: &Pipeline,
) -> shipway_store::Result<Option<Access>> {
    if admin || pipeline.owner == account {
        return Ok(Some(Access::Own));
    }
    let access = |p: Permission| if p >= Permission::Operate { Access::Operate } else { Access::See };
    let mut most = None;
    for coupling in c.couplings(pipeline.id)? {
        most = most.max(c.permission(&c.app_by_id(coupling.app)?, account)?.map(access));
    }
    let by_role = c.role(pipeline.owner, account)?.and_then(|role| role.permission(false));
    let by_role = by_role.map(|p| if p == Permission::Manage { Access::Own } else { access(p) });
    Ok(most.max(by_role))
}

fn may_not(caller: &Caller, pipeline: &Pipeline) -> Error {
    let who = match caller.actor.scope {
        // Whoever reads this is CI's, and not whose token it has.
        Scope::Deploy { .. } => format!("The token that was used is of {}, who", caller.actor.email),
        _ => format!("You ({})", caller.actor.email),
    };
    Error::forbidden(format!(
        "{who} may not change the pipeline {}. Ask {}, who owns it.",
        pipeline.name,
        pipeline.owner_email.to_ask()
    ))
}

fn already_coupled(app: &App, there: &Coupling) -> Error {
    Error::invalid(format!(
        "{} is in the pipeline {} already, in {}. Move it (heroku pipelines:update -a {} -s STAGE) or take it out first \
         (heroku pipelines:remove -a {}).",
        app.name, there.pipeline_name, there.stage, app.name, app.name
    ))
}
