//! The gate: what admission is asked of code on its way to an app.
//!
//! Doors, pages and the switch put one question ([`Platform::subject_with`]), so that what the switch would refuse is said
//! before anybody presses anything. Admission decides; this file finds what it decides by: the sign-offs that the code has,
//! what CI says of it, what it lacks of the upstream. Which roads lead here, and which do not, is in
//! `docs/decisions/0007-roads-to-production.md`.

use crate::error::Error;
use crate::pipelines::Access;
use crate::plan::{Part, Plan};
use crate::ports::{Caller, Place, Spot};
use crate::promotions::Promotable;
use crate::{Platform, Result};
use shipway_domain::admission::{Subject, Trigger, admit};
use shipway_domain::{CommitId, Digest, Stage};
use shipway_store::{App, Pipeline, Slug};

/// Code on its way to an app.
#[derive(Clone, Copy)]
pub(crate) struct Incoming<'a> {
    /// Its commit, where it has one.
    pub(crate) commit: Option<&'a CommitId>,
    /// A build that is taken as it is; none where the app builds the commit, or has built it, itself.
    pub(crate) artifact: Option<&'a Digest>,
    /// The repository that has the commit; none where it is not here yet, or nobody asks.
    pub(crate) place: Option<Place>,
}

impl Platform {
    /// The stage that an app stands in, and of which pipeline.
    pub(crate) fn stage_of(&self, app: &App) -> Result<Option<(Stage, Pipeline)>> {
        Ok(self.store().read(|c| match c.coupling_of(app.id)? {
            Some(coupling) => Ok(Some((coupling.stage, c.pipeline_by_id(coupling.pipeline)?))),
            None => Ok(None),
        })?)
    }

    /// What admission is asked where code is on its way to an app, in the stage that the app stands in.
    pub(crate) async fn subject_with(&self, caller: &Caller, app: &App, code: Incoming<'_>) -> Result<Subject> {
        let subject = self.subject(caller, app)?;
        match self.stage_of(app)? {
            Some((stage, pipeline)) => self.subject_in(&pipeline, stage, subject, code).await,
            None => Ok(subject),
        }
    }

    /// The same for a stage that the app need not stand in.
    async fn subject_in(
        &self,
        pipeline: &Pipeline,
        stage: Stage,
        mut subject: Subject,
        code: Incoming<'_>,
    ) -> Result<Subject> {
        subject.sign_offs = self.sign_offs_wanted(pipeline, stage, code.commit, code.artifact)?;
        subject.unchecked = self.unchecked(pipeline, stage, code.commit)?;
        if let (Some(place), Some(commit)) = (code.place, code.commit) {
            subject.behind = self.behind(pipeline, stage, &Spot { place, commit: commit.clone() }).await?;
        }
        Ok(subject)
    }

    /// What admission is asked immediately before the switch, of one app of a plan and the code that it is to run.
    pub(crate) async fn subject_at_switch(
        &self,
        plan: &Plan,
        part: &Part,
        app: &App,
        slug: Option<&Slug>,
    ) -> Result<Subject> {
        let caller = plan.caller();
        if !plan.trigger.brings_new_code() || part.release.is_none() {
            return self.subject(&caller, app);
        }
        let built = part.build.as_ref().map(|build| &build.commit);
        let place = match slug {
            // The operation has brought the commit and keeps it.
            _ if built.is_some() || part.carry.is_some() => Some(Place::App(app.id)),
            Some(slug) => self.place_of_slug(app, slug).await?,
            None => None,
        };
        let commit = built.or(slug.and_then(|slug| slug.commit.as_ref()));
        let artifact = slug.filter(|_| plan.trigger == Trigger::Promotion).map(|slug| &slug.digest);
        self.subject_with(&caller, app, Incoming { commit, artifact, place }).await
    }

    /// The repository with the commit of an app's slug, where the app's stage asks what the code lacks; else none.
    /// Errors: no repository has it any more, so that nobody can tell.
    pub(crate) async fn place_of_slug(&self, app: &App, slug: &Slug) -> Result<Option<Place>> {
        match self.stage_of(app)? {
            Some((stage, pipeline)) => self.place_for(&pipeline, stage, app, slug).await,
            None => Ok(None),
        }
    }

    async fn place_for(&self, pipeline: &Pipeline, stage: Stage, app: &App, slug: &Slug) -> Result<Option<Place>> {
        let Some(commit) = slug.commit.as_ref().filter(|_| pipeline.settings.refuse_behind.contains(&stage)) else {
            return Ok(None);
        };
        match self.spot(app, commit).await? {
            Some(spot) => Ok(Some(spot.place)),
            None => Err(Error::invalid(format!(
                "What {0} lacks cannot be told, because no repository of {1} has it any more, and {stage} of {1} asks for it. \
                 Push it again: git push heroku {0}:main",
                commit.short(),
                pipeline.name
            ))),
        }
    }

    async fn promotion_subject(&self, caller: &Caller, app: &App, source: &Promotable) -> Result<Subject> {
        let code = Incoming {
            commit: source.slug.commit.as_ref(),
            artifact: Some(&source.slug.digest),
            place: Some(Place::App(source.app.id)),
        };
        self.subject_with(caller, app, code).await
    }

    /// Asks admission for a promotion to an app, and whether the app has what the code insists on. A refusal is recorded.
    pub(crate) async fn may_receive(&self, caller: &Caller, app: &App, source: &Promotable) -> Result<()> {
        let subject = self.promotion_subject(caller, app, source).await?;
        self.admit_subject(caller, Trigger::Promotion, app, subject).await?;
        self.check_promoted(app, source).await
    }

    /// Why a promotion to an app would be refused now, at the door as before its switch, in words; without a record of the
    /// question. What it leaves out, and what records say against it, is [`Self::outlook`]'s to tell.
    pub async fn promotion_refusal(&self, caller: &Caller, app: &App, source: &Promotable) -> Result<Option<String>> {
        let subject = self.promotion_subject(caller, app, source).await?;
        if let Err(refused) = admit(&caller.actor, Trigger::Promotion, &subject, self.now()) {
            return Ok(Some(refused.to_string()));
        }
        self.lacks_insisted(app, source).await
    }

    /// Errors: an app that is made of a commit, which its repository has, begins in a stage that does not take the commit.
    pub(crate) async fn may_begin_in(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        stage: Stage,
        app: &App,
        commit: &CommitId,
    ) -> Result<()> {
        let code = Incoming { commit: Some(commit), artifact: None, place: Some(Place::App(app.id)) };
        let subject = self.subject_in(pipeline, stage, self.subject(caller, app)?, code).await?;
        admit(&caller.actor, Trigger::Build, &subject, self.now())?;
        Ok(())
    }

    /// Errors: an app that runs code comes into a stage whose rules the code does not meet, by somebody who may not change
    /// the rules; that would be a way around them.
    pub(crate) async fn may_enter_stage(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        stage: Stage,
        app: &App,
    ) -> Result<()> {
        if self.may(caller, pipeline, Access::Own).is_ok() {
            return Ok(());
        }
        let Some((_, slug)) = self.store().read(|c| c.running(app))? else { return Ok(()) };
        let place = self.place_for(pipeline, stage, app, &slug).await?;
        let code = Incoming { commit: slug.commit.as_ref(), artifact: Some(&slug.digest), place };
        // Who keeps the app for themselves keeps its code, not its place.
        let subject = Subject { reserved: None, ..self.subject(caller, app)? };
        let subject = self.subject_in(pipeline, stage, subject, code).await?;
        self.admit_subject(caller, Trigger::Promotion, app, subject).await?;
        Ok(())
    }

    /// Errors: an app leaves a stage that has rules for code by somebody who may not change them; that would be a way
    /// around them: out, changed, and in again.
    pub(crate) fn may_leave_stage(&self, caller: &Caller, app: &App) -> Result<()> {
        let Some((stage, pipeline)) = self.stage_of(app)? else { return Ok(()) };
        let signed = !self.store().read(|c| c.sign_off_parties(pipeline.id, stage))?.is_empty();
        let settings = &pipeline.settings;
        let takes_only = [
            (signed, "code that its parties have signed off"),
            (settings.refuse_behind.contains(&stage), "code that lacks nothing of its upstream"),
            (settings.refuse_unchecked.contains(&stage), "commits that CI has passed"),
        ];
        let Some((_, what)) = takes_only.into_iter().find(|(rules, _)| *rules) else { return Ok(()) };
        if self.may(caller, &pipeline, Access::Own).is_ok() {
            return Ok(());
        }
        Err(Error::forbidden(format!(
            "{stage} of {} takes only {what}, so {} leaves it only by who may change that. Ask {}, who owns the pipeline.",
            pipeline.name,
            app.name,
            pipeline.owner_email.to_ask()
        )))
    }
}
