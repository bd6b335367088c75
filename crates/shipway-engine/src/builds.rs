//! Deploys of commits, and builds of sources.

use crate::gate::Incoming;
use crate::operation::{Effect, nothing};
use crate::plan::{BuildPlan, Code, Part};
use crate::ports::{Caller, Place};
use crate::{Platform, Result, SourceBlob, SourceOrder};
use shipway_domain::admission::Trigger;
use shipway_domain::{BuildId, CommitId, OperationId, PipelineId, SlugId};
use shipway_store::{App, Build};

/// What else belongs to a deploy.
pub(crate) struct Extra {
    /// The operation's id.
    pub(crate) operation: OperationId,
    /// What happens to the app besides the build and the release.
    pub(crate) part: Part,
    /// The pipeline whose apps share the build, and whether all config vars must be the same for that.
    pub(crate) shared: Option<(PipelineId, bool)>,
    /// What is written down with it.
    pub(crate) also: Effect,
}

impl Platform {
    /// Builds a commit of the app's repository and releases what comes of it.
    pub async fn deploy(&self, caller: &Caller, app: &App, commit: CommitId) -> Result<(Build, OperationId)> {
        self.admit(caller, Trigger::Push, app).await?;
        self.deploy_as(caller, app, commit, Trigger::Push, |_| ()).await
    }

    async fn deploy_as(
        &self,
        caller: &Caller,
        app: &App,
        commit: CommitId,
        trigger: Trigger,
        also: impl FnOnce(&mut Build),
    ) -> Result<(Build, OperationId)> {
        // Nobody asked for one build of several apps here, so it must not show: only one from the very same inputs counts.
        let place = self.store().read(|c| c.coupling_of(app.id))?;
        let shared = place.filter(|place| !place.stage.is_made_by_the_platform()).map(|place| (place.pipeline, true));
        let extra = Extra { shared, ..self.nothing_else(app) };
        self.deploy_with(caller, app, commit, trigger, extra, also).await
    }

    /// Nothing but a build of the app's own and its release.
    pub(crate) fn nothing_else(&self, app: &App) -> Extra {
        Extra { operation: self.id(OperationId), part: Part::new(app.id), shared: None, also: nothing() }
    }

    /// The same, with what else happens to the app before the build and in the transaction that writes it down.
    pub(crate) async fn deploy_with(
        &self,
        caller: &Caller,
        app: &App,
        commit: CommitId,
        trigger: Trigger,
        extra: Extra,
        also: impl FnOnce(&mut Build),
    ) -> Result<(Build, OperationId)> {
        let place = match (&extra.part.carry, &extra.part.fetch) {
            (Some(carry), _) => Some(carry.from),
            (None, None) => Some(Place::App(app.id)),
            // A commit that is at a forge is looked at when it is here.
            (None, Some(_)) => None,
        };
        let code = Incoming { commit: Some(&commit), artifact: None, place };
        let subject = self.subject_with(caller, app, code).await?;
        self.admit_subject(caller, trigger, app, subject).await?;
        let (build, slug) = (self.id(BuildId), self.id(SlugId));
        let (shared, exactly) = extra.shared.map_or((None, false), |(pipeline, exactly)| (Some(pipeline), exactly));
        let over =
            self.store().read(|c| c.current_release(&c.app_by_id(app.id)?))?.map_or(0, |release| release.version);
        let build = BuildPlan { build, slug, commit: commit.clone(), shared, exactly, over: Some(over) };
        let release = self.release_plan(app, format!("Deploy {}", commit.short()), Code::Built);
        let operation = extra.operation;
        let mut row = self.build_row(caller, app, &build, operation);
        also(&mut row);
        let part = Part { build: Some(build), release: Some(release), ..extra.part };
        let plan = self.plan(caller, trigger, part);
        let (kept, with) = (row.clone(), extra.also);
        self.log_api(app.id, &format!("Build started by user {}", caller.actor.email));
        self.submit_as(operation, plan, move |c| {
            c.put_build(&kept)?;
            with(c)
        })
        .await?;
        Ok((row, operation))
    }

    /// Builds a source: it becomes a commit of the app's repository, so that everything that runs is one. `source` is
    /// what its URL named.
    pub async fn build_source(
        &self,
        caller: &Caller,
        app: &App,
        source: SourceBlob,
        order: SourceOrder,
    ) -> Result<(Build, OperationId)> {
        self.admit(caller, Trigger::Build, app).await?;
        let commit = self.import_source(caller, app.id, &source, &order).await?;
        let mut app = app.clone();
        if let Some(buildpacks) = &order.buildpacks {
            app.buildpacks = self.set_buildpacks(caller, &app, buildpacks.clone()).await?;
        }
        let (url, version) = (source.shown(&order.url), order.version);
        self.deploy_as(caller, &app, commit, Trigger::Build, |row| {
            row.source_url = Some(url);
            row.source_version = version;
        })
        .await
    }
}
