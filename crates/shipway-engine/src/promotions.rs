//! Promotions: what one app runs, released unchanged on others.
//!
//! A promotion of a pipeline has an operation per target: targets succeed or fail on their own. One that is asked for
//! with `shipway promote` (`together`) has one operation for all targets, which switch together or not at all.

use crate::error::Error;
use crate::operation::ending_of;
use crate::plan::{CarryPlan, Code, Part, Plan};
use crate::ports::{Caller, Place, Spot};
use crate::{Event, Platform, Result};
use jiff::Timestamp;
use shipway_domain::admission::Trigger;
use shipway_domain::compare::Contained;
use shipway_domain::lifecycle::{OperationStatus, ReleaseStatus};
use shipway_domain::{
    OperationId, PipelineId, PromotionId, PromotionStatus, PromotionTargetId, SlugId, Stage, TargetStatus,
};
use shipway_store::{App, Coupling, Pipeline, Promotion, PromotionTarget, Release, Slug};
use std::time::Duration;

/// What is asked for by `POST /pipeline-promotions`.
#[derive(Debug, Clone)]
pub struct PromotionOrder {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// From which app.
    pub source: App,
    /// Which of its releases, by id or version; the current one without.
    pub release: Option<String>,
    /// To which apps.
    pub targets: Vec<App>,
    /// Why.
    pub reason: Option<String>,
}

/// A promotion as it stands.
#[derive(Debug, Clone)]
pub struct PromotionView {
    /// The promotion.
    pub promotion: Promotion,
    /// Its state.
    pub status: PromotionStatus,
    /// Its targets.
    pub targets: Vec<TargetView>,
    /// When something of it last changed.
    pub updated_at: Timestamp,
}

/// One target as it stands.
#[derive(Debug, Clone)]
pub struct TargetView {
    /// The target.
    pub target: PromotionTarget,
    /// Its state.
    pub status: TargetStatus,
    /// The release: once its release phase has output to read, or once it is over.
    pub release: Option<Release>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What is promoted: a release of an app with its code.
#[derive(Debug, Clone)]
pub struct Promotable {
    /// The app.
    pub app: App,
    /// The release.
    pub release: Release,
    /// Its code.
    pub slug: Slug,
}

impl Promotable {
    /// The commit as people read it; code without one by its digest.
    pub fn commit(&self) -> String {
        short(&self.slug)
    }

    /// What the release on a target is called: `Promote shop-staging v12 3f9c0de`.
    pub(crate) fn description(&self) -> String {
        let latest = self.app.current_release == Some(self.release.id);
        let mark = if latest { "" } else { " (not its latest)" };
        format!("Promote {} v{} {}{mark}", self.app.name, self.release.version, self.commit())
    }
}

fn short(slug: &Slug) -> String {
    slug.commit.as_ref().map_or_else(|| slug.digest.hex()[..7].to_string(), |c| c.short().to_string())
}

/// What speaks for or against a promotion to one app, which is not refused.
pub(crate) struct Weighed {
    /// The release that runs the same already.
    pub unchanged: Option<Release>,
    /// The record that names other code; there is a reason to promote all the same.
    pub against: Option<String>,
}

/// Where a promotion begins, for the ledger.
pub(crate) struct Origin<'a> {
    pub source: &'a App,
    pub stage: Stage,
    /// What a record says against it.
    pub against: Option<String>,
}

/// What speaks against a promotion, which goes on with a reason: a record names other code than what runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Against {
    /// Both, for people.
    pub fact: String,
    /// The same with the ways out.
    pub refusal: String,
}

/// What a promotion to a later stage would find.
#[derive(Debug, Clone)]
pub struct Outlook {
    /// What would be promoted.
    pub source: Promotable,
    /// Its own stage.
    pub from: Stage,
    /// The later stage.
    pub to: Stage,
    /// Stages with apps in between, which are left out: only where the pipeline allows it, and with a reason.
    pub leaves_out: Vec<Stage>,
    /// Why none of it would be, without a reason.
    pub against: Option<Against>,
    /// Its apps, each with the reason why nothing would happen to it, where there is one.
    pub targets: Vec<(App, Option<String>)>,
}

impl Platform {
    /// Looks at a promotion of one of a pipeline's `apps` ([`Self::pipeline_apps`]) to all of them in a later stage, the
    /// next one where none is named. None from the last stage, from review apps, without code, or without an app in that
    /// stage.
    pub fn outlook(&self, apps: &[(Coupling, App)], app: &App, to: Option<Stage>) -> Result<Option<Outlook>> {
        let Some((place, _)) = apps.iter().find(|(_, there)| there.id == app.id) else {
            return Err(Error::missing("pipeline coupling"));
        };
        let from = place.stage;
        let later = to.filter(|to| *to > from && !from.is_made_by_the_platform());
        let Some(to) = (if to.is_some() { later } else { from.next() }) else { return Ok(None) };
        let runs_code = self.store().read(|c| match app.current_release {
            Some(release) => Ok(c.release(release)?.is_some_and(|r| r.slug.is_some())),
            None => Ok(false),
        })?;
        if !runs_code {
            return Ok(None);
        }
        let source = self.promotable(app, None)?;
        let (mut targets, mut against) = (Vec::new(), None);
        for (_, target) in apps.iter().filter(|(coupling, _)| coupling.stage == to) {
            let there = self.runs_the_same(target, &source)?;
            if there.is_none() && against.is_none() {
                let said = self.contradiction(place.pipeline, from, &source)?;
                against = said.map(|said| Against { refusal: said.refusal(target), fact: said.fact });
            }
            let verdict = there.map(|there| self.nothing_to_promote(target, to, &there, &source));
            targets.push((target.clone(), verdict.transpose()?));
        }
        let leaves_out = self.left_out(place.pipeline, from, to)?;
        Ok((!targets.is_empty()).then_some(Outlook { source, from, to, leaves_out, against, targets }))
    }

    /// Whether `target` runs the code that would be promoted with more on top of it, so that a promotion would take that
    /// away. Commits that cannot be compared say nothing.
    pub async fn would_go_back(&self, source: &Promotable, target: &App) -> Result<bool> {
        let there = self.store().read(|c| match c.current_release(target)? {
            Some(release) => c.slug_of(&release),
            None => Ok(None),
        })?;
        let spot = |app: &App, slug: &Slug| Some(Spot { place: Place::App(app.id), commit: slug.commit.clone()? });
        let spots = spot(&source.app, &source.slug).zip(there.and_then(|there| spot(target, &there)));
        let Some((at, tip)) = spots.filter(|(at, tip)| at.commit != tip.commit) else { return Ok(false) };
        // Asked whenever a board is shown: this answer is remembered.
        let standing = self.inner.parts.histories.standing(&at, &tip, 0).await;
        Ok(standing.is_ok_and(|found| found.contained == Contained::Commit && found.behind_count > 0))
    }

    /// Promotes: an operation per target that does not run the same already.
    ///
    /// Asked again while the same is under way, it answers with that one. Errors: apps that are not in the pipeline, no
    /// code, review apps, nothing to promote, what [`Self::weigh`] refuses; a refusal by admission, or for want of config
    /// vars that the code requires, if no target is left.
    pub async fn promote(&self, caller: &Caller, order: PromotionOrder) -> Result<PromotionView> {
        let stages = self.stages(&order)?;
        let source = self.promotable(&order.source, order.release.as_deref())?;
        // Two that ask at the same moment: the second finds what the first wrote down.
        let _turn = self.inner.promoting.lock().await;
        if let Some(same) = self.same_under_way(&order, &source)? {
            return Ok(same);
        }
        let (mut weighed, mut against) = (Vec::new(), None);
        for (target, stage) in order.targets.iter().zip(&stages.1) {
            let one =
                self.weigh(caller, &order.pipeline, (stages.0, &source), (*stage, target), order.reason.as_deref())?;
            against = against.or(one.against);
            weighed.push((target, *stage, one.unchanged));
        }
        let promotion = Promotion {
            id: self.id(PromotionId),
            pipeline: Some(order.pipeline.id),
            product: None,
            account: caller.actor.account,
            reason: order.reason.clone(),
            created_at: self.now(),
        };
        let (mut targets, mut plans, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
        let mut unchanged = Vec::new();
        for (app, stage, there) in weighed {
            let mut target = self.target(promotion.id, app, &source);
            if let Some(there) = there {
                target.release = Some(there.id);
                unchanged.push(self.nothing_to_promote(app, stage, &there, &source)?);
            } else if let Err(refused) = self.may_receive(caller, app, &source).await {
                target.error = Some(refused.to_string());
                refusals.push(refused);
            } else {
                let part = self.promotion_part(app, &source);
                let operation = self.id(OperationId);
                target.operation = Some(operation);
                target.release = part.release.as_ref().map(|r| r.release);
                plans.push((operation, self.plan(caller, Trigger::Promotion, part)));
            }
            targets.push(target);
        }
        if plans.is_empty() {
            return Err(match refusals.into_iter().next() {
                Some(refused) => refused,
                None => Error::invalid(unchanged.join(" ")),
            });
        }
        let origin = Origin { source: &source.app, stage: stages.0, against };
        self.write_promotion(caller, promotion, targets, plans, origin).await
    }

    /// Whether a promotion to an app may go on, by whichever way it is asked for. Errors: a stage left out; a record that
    /// names other code than what is promoted (409), unless there is a reason to promote all the same.
    pub(crate) fn weigh(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        (from, source): (Stage, &Promotable),
        (to, target): (Stage, &App),
        reason: Option<&str>,
    ) -> Result<Weighed> {
        let reason = reason.filter(|reason| !reason.trim().is_empty());
        self.leaves_nothing_out(caller, pipeline, (from, to), reason, target)?;
        let unchanged = self.runs_the_same(target, source)?;
        let said = if unchanged.is_none() { self.contradiction(pipeline.id, from, source)? } else { None };
        match said {
            Some(said) if reason.is_none() => Err(Error::conflict(said.refusal(target))),
            said => Ok(Weighed { unchanged, against: said.map(|said| said.fact) }),
        }
    }

    /// Writes a promotion down and starts its operations.
    pub(crate) async fn write_promotion(
        &self,
        caller: &Caller,
        promotion: Promotion,
        targets: Vec<PromotionTarget>,
        plans: Vec<(OperationId, Plan)>,
        origin: Origin<'_>,
    ) -> Result<PromotionView> {
        let detail = serde_json::json!({
            "promotion": promotion.id, "from": origin.stage, "reason": promotion.reason, "against": origin.against,
            "targets": targets.iter().map(|t| t.app).collect::<Vec<_>>(),
        });
        let entry = self.entry(caller, Some(origin.source), "promotion-asked", detail);
        let account = caller.actor.account;
        let now = self.now();
        let mut pending = Vec::new();
        for part in plans.iter().flat_map(|(_, plan)| &plan.parts) {
            let Some(release) = &part.release else { continue };
            pending.push(crate::change::pending_release(
                release.release,
                part.app,
                account,
                &release.description,
                None,
                now,
            ));
        }
        let (id, row, pipeline) = (promotion.id, promotion.clone(), promotion.pipeline);
        self.submit_all(plans, move |c| {
            for release in &pending {
                c.insert_release(release, &c.config_vars(release.app)?)?;
            }
            c.insert_promotion(&row, &targets)?;
            c.record(&entry)
        })
        .await?;
        if let Some(pipeline) = pipeline {
            self.tell(Event::Pipeline(pipeline));
        }
        self.promotion_view(id)
    }

    /// The stages of the source and of each target. Errors: an app that is not where it must be.
    fn stages(&self, order: &PromotionOrder) -> Result<(Stage, Vec<Stage>)> {
        let pipeline = &order.pipeline;
        let stage = |app: &App| match self.store().read(|c| c.coupling_of(app.id))? {
            Some(c) if c.pipeline == pipeline.id => Ok(c.stage),
            _ => Err(Error::invalid(format!(
                "{} is not in the pipeline {}. Add it first: heroku pipelines:add {} -a {} -s STAGE",
                app.name, pipeline.name, pipeline.name, app.name
            ))),
        };
        let from = stage(&order.source)?;
        if from.is_made_by_the_platform() {
            return Err(Error::invalid(format!(
                "{} is in {from}: review apps and test runs are not promoted. Merge its branch and promote what is built of that.",
                order.source.name
            )));
        }
        let mut to = Vec::new();
        for target in &order.targets {
            let at = stage(target)?;
            if target.id == order.source.id {
                return Err(Error::invalid(format!("{} cannot be promoted to itself.", target.name)));
            }
            if at.is_made_by_the_platform() {
                return Err(Error::invalid(format!("{} is in {at}: nothing is promoted to there.", target.name)));
            }
            to.push(at);
        }
        if to.is_empty() {
            return Err(Error::invalid("Name at least one app to promote to in `targets`."));
        }
        Ok((from, to))
    }

    /// What of an app can be promoted: its current release, or the named one. Errors: none with code that is kept.
    pub fn promotable(&self, app: &App, which: Option<&str>) -> Result<Promotable> {
        let release = self.release(app, which.unwrap_or("current"));
        let release = release.map_err(|e| match which {
            None => no_code(app),
            Some(_) => e,
        })?;
        if release.status != ReleaseStatus::Succeeded {
            let version = release.version;
            return Err(Error::invalid(format!("v{version} of {} did not succeed: promote one that did.", app.name)));
        }
        let Some(slug) = release.slug else { return Err(no_code(app)) };
        let slug = self.store().read(|c| c.slug(slug))?.ok_or_else(|| {
            Error::invalid(format!("The code of v{} of {} is not kept any more.", release.version, app.name))
        })?;
        Ok(Promotable { app: app.clone(), release, slug })
    }

    /// Stages with apps in them that lie between two.
    fn left_out(&self, pipeline: PipelineId, from: Stage, to: Stage) -> Result<Vec<Stage>> {
        let couplings = self.store().read(|c| c.couplings(pipeline))?;
        let has_apps = |stage: &Stage| couplings.iter().any(|c| c.stage == *stage);
        Ok(from.skipped(to).into_iter().filter(has_apps).collect())
    }

    /// Errors: stages with apps in them that lie between, unless the pipeline allows it and there is a reason.
    fn leaves_nothing_out(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        (from, to): (Stage, Stage),
        reason: Option<&str>,
        target: &App,
    ) -> Result<()> {
        let skipped: Vec<&str> = self.left_out(pipeline.id, from, to)?.into_iter().map(Stage::as_str).collect();
        if skipped.is_empty() {
            return Ok(());
        }
        let out = skipped.join(" and ");
        if !pipeline.settings.may_skip_stages {
            let owner = pipeline.owner_email.to_ask();
            let allow = match caller.actor.owns(&owner) {
                true => "allow it".to_string(),
                false => format!("ask {owner}, who owns it, to allow it"),
            };
            return Err(Error::invalid(format!(
                "From {from} to {to} leaves out {out}, which the pipeline {0} does not allow. Promote to {out} first, or \
                 {allow}: shipway pipelines set {0} --may-skip-stages yes",
                pipeline.name
            )));
        }
        if reason.is_none() {
            return Err(Error::invalid(format!(
                "From {from} to {to} leaves out {out}: say why. shipway promote {} {} --reason \"…\"",
                from, target.name
            )));
        }
        Ok(())
    }

    /// The release of an app that runs the same code from the same commit, if its current one does.
    fn runs_the_same(&self, app: &App, source: &Promotable) -> Result<Option<Release>> {
        let current = self.store().read(|c| c.running(app))?;
        Ok(current
            .filter(|(_, slug)| slug.digest == source.slug.digest && slug.commit == source.slug.commit)
            .map(|(release, _)| release))
    }

    /// Why nothing happens to an app, and what a promotion does not carry.
    pub(crate) fn nothing_to_promote(
        &self,
        app: &App,
        stage: Stage,
        there: &Release,
        source: &Promotable,
    ) -> Result<String> {
        // Without what attachments bring: each app has its own.
        let (mine, theirs) =
            self.store().read(|c| Ok((c.own_config_vars(app.id)?, c.own_config_vars(source.app.id)?)))?;
        let names = mine.keys().chain(theirs.keys()).filter(|k| mine.get(*k) != theirs.get(*k));
        let mut names: Vec<&str> = names.map(|k| k.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let differ = match names.as_slice() {
            [] => String::new(),
            few => format!(" Config vars differ ({}) and are not promoted.", few.join(", ")),
        };
        Ok(format!(
            "No changes to promote: {stage} already runs v{}, {} ({}).{differ}",
            there.version,
            source.commit(),
            app.name
        ))
    }

    pub(crate) fn promotion_part(&self, app: &App, source: &Promotable) -> Part {
        let code = Code::Promoted { of: source.slug.id, slug: self.id(SlugId) };
        let carry = source.slug.commit.clone().map(|commit| CarryPlan { from: Place::App(source.app.id), commit });
        Part { carry, release: Some(self.release_plan(app, source.description(), code)), ..Part::new(app.id) }
    }

    pub(crate) fn target(&self, promotion: PromotionId, app: &App, source: &Promotable) -> PromotionTarget {
        PromotionTarget {
            id: self.id(PromotionTargetId),
            promotion,
            app: app.id,
            source: source.app.id,
            source_release: source.release.id,
            operation: None,
            release: None,
            error: None,
        }
    }

    fn same_under_way(&self, order: &PromotionOrder, source: &Promotable) -> Result<Option<PromotionView>> {
        for promotion in self.store().read(|c| c.promotions(order.pipeline.id, 20))? {
            let view = self.promotion_view(promotion.id)?;
            let same = |t: &TargetView| {
                t.target.source_release == source.release.id && order.targets.iter().any(|app| app.id == t.target.app)
            };
            if view.status == PromotionStatus::Pending
                && promotion.product.is_none()
                && view.targets.len() == order.targets.len()
                && view.targets.iter().all(same)
            {
                return Ok(Some(view));
            }
        }
        Ok(None)
    }

    /// A promotion that the caller may see: by its pipeline or product.
    pub fn promotion(&self, caller: &Caller, id: PromotionId) -> Result<PromotionView> {
        let missing = || Error::missing("pipeline_promotion");
        let found = self.store().read(|c| c.promotion(id))?.ok_or_else(missing)?;
        let seen = match (found.pipeline, found.product) {
            (Some(pipeline), _) => self.pipeline(caller, &pipeline.into()).is_ok(),
            (None, Some(product)) => self.product(caller, &product.into()).is_ok(),
            (None, None) => false,
        };
        if seen { self.promotion_view(id) } else { Err(missing()) }
    }

    /// The newest promotions of a pipeline, its own and those of its products.
    pub fn promotions(&self, pipeline: &Pipeline, limit: u32) -> Result<Vec<PromotionView>> {
        let all = self.store().read(|c| c.promotions(pipeline.id, limit))?;
        all.into_iter().map(|p| self.promotion_view(p.id)).collect()
    }

    fn promotion_view(&self, id: PromotionId) -> Result<PromotionView> {
        let view = self.store().read(|c| {
            let promotion = c.promotion(id)?.ok_or(shipway_store::StoreError::Missing("pipeline_promotion"))?;
            let (mut targets, mut updated_at) = (Vec::new(), promotion.created_at);
            for target in c.promotion_targets(id)? {
                let operation = target.operation.map(|o| c.operation(o)).transpose()?;
                let release = target.release.map(|r| c.release(r)).transpose()?.flatten();
                let (status, error) = match &operation {
                    None if target.error.is_some() => (TargetStatus::Failed, target.error.clone()),
                    None => (TargetStatus::Succeeded, None),
                    Some(o) => {
                        updated_at = updated_at.max(o.updated_at);
                        match o.status {
                            OperationStatus::Succeeded => (TargetStatus::Succeeded, None),
                            OperationStatus::Failed => {
                                let ending = ending_of(c, o, target.app)?;
                                (TargetStatus::Failed, ending.map(|ending| ending.text))
                            }
                            _ => (TargetStatus::Pending, None),
                        }
                    }
                };
                // A client that sees the release looks for output: it is shown once there is some, or no more to come.
                let release = release.filter(|r| status != TargetStatus::Pending || r.has_output);
                targets.push(TargetView { target, status, release, error });
            }
            let pending = targets.iter().any(|t| t.status == TargetStatus::Pending);
            let status = if pending { PromotionStatus::Pending } else { PromotionStatus::Completed };
            Ok(PromotionView { promotion, status, targets, updated_at })
        })?;
        Ok(view)
    }

    /// Waits until all targets of a promotion have ended.
    pub async fn promoted(&self, id: PromotionId) -> Result<PromotionView> {
        let mut events = self.events();
        loop {
            let view = self.promotion_view(id)?;
            if view.status == PromotionStatus::Completed {
                return Ok(view);
            }
            // A missed event costs one second.
            let _ = tokio::time::timeout(Duration::from_secs(1), events.recv()).await;
        }
    }
}

fn no_code(app: &App) -> Error {
    Error::invalid(format!(
        "{} has no code yet, so there is nothing to promote. Push some: git push heroku main",
        app.name
    ))
}
