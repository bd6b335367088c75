//! The steps of deploys, releases and restarts.
//!
//! The order is `pin, build, release, release-phase, start, healthy, switch, route, settle`; a plan has those that it
//! needs. Making the artifact is in `artifact`, the release phase in `phase`, waiting in `health`. The heart is three steps in a row: **wait healthy, switch, drain** (draining is the dynos' own tasks' work,
//! which begins when the router has acknowledged the epoch).

use crate::deployments::OwnDeployment;
use crate::error::Error;
use crate::operation::{Context, Effect, nothing};
use crate::plan::{Code, Part, Plan, ReleasePlan, RestartPlan, Step, StepAt};
use crate::ports::Caller;
use crate::{Platform, Result, Which, formation};
use shipway_domain::admission::{Trigger, admit};
use shipway_domain::lifecycle::{DynoState, ReleaseStatus};
use shipway_domain::{AppId, DynoId, OperationId, ProcessType, ReleaseId, SlugId};
use shipway_store::{App, ConfigVars, Conn, Dyno, Release, Slug, StoreError};
use std::collections::BTreeMap;

impl Platform {
    pub(crate) async fn run_step(&self, ctx: &Context, at: StepAt) -> Result<Effect> {
        let part = ctx.part(at)?;
        match at.step {
            // It was written down with the operation.
            Step::Create => Ok(nothing()),
            Step::Carry => self.step_carry(ctx, part).await,
            Step::Fetch => self.step_fetch(ctx, part).await,
            Step::Setup => self.step_setup(ctx, part).await,
            Step::Pin => self.step_pin(ctx, part).await,
            Step::Build => self.step_build(ctx, part).await,
            Step::Release => self.step_release(ctx, part),
            Step::External => self.step_external(ctx, part).await,
            Step::ReleasePhase => self.step_release_phase(ctx, part).await,
            Step::Start => self.step_start(ctx, part).await,
            Step::Healthy => self.step_healthy(ctx, part).await,
            Step::Switch => self.step_switch(ctx).await,
            Step::Route => self.step_route().await,
            Step::Settle => self.step_settle(ctx, part).await,
            Step::Postdeploy => self.step_postdeploy(ctx, part).await,
            Step::Predestroy => self.step_predestroy(ctx, part).await,
            Step::Close => self.step_close(ctx, part),
            Step::StopAll => self.step_stop_all(part).await,
            Step::Erase => self.step_erase(ctx, part).await,
            Step::Provision => self.step_provision(part).await,
            Step::Attach => self.step_attach(ctx, part).await,
            Step::Detach => self.step_detach(ctx, part).await,
            Step::Deprovision => self.step_deprovision(part).await,
            Step::Transfer => self.step_transfer(ctx, part).await,
        }
    }

    /// Takes back what a step did or began to do. May run twice.
    pub(crate) async fn undo_step(&self, ctx: &Context, at: StepAt, error: &str) -> Result<Effect> {
        let part = ctx.part(at)?;
        match at.step {
            Step::Create => self.undo_create(ctx, part, error).await,
            Step::Pin | Step::Carry | Step::Fetch => self.undo_pin(ctx, part).await,
            Step::Build => self.undo_build(part, error),
            Step::External => self.undo_external(ctx, part).await,
            Step::ReleasePhase => self.undo_release_phase(part).await,
            Step::Start => self.undo_start(ctx, part).await,
            Step::Provision => self.undo_provision(part).await,
            Step::Transfer => self.undo_transfer(ctx, part, error).await,
            _ => Ok(nothing()),
        }
    }

    fn step_release(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let plan = part.release()?.clone();
        let (app, account, build) = (part.app, ctx.plan.actor.account, part.build.clone());
        let now = self.now();
        Ok(Box::new(move |c| {
            let row = c.app_by_id(app)?;
            let build = build.map(|b| c.build(b.build)).transpose()?.flatten();
            let slug = match plan.code {
                Code::Built => build.as_ref().and_then(|b| b.slug),
                Code::Current => c.current_release(&row)?.and_then(|r| r.slug),
                Code::Slug(slug) => Some(slug),
                Code::Promoted { of, slug } => Some(promoted(c, app, of, slug, now)?),
            };
            let config: ConfigVars = match plan.config_of {
                Some(earlier) => c.config_to_return_to(earlier)?,
                None => c.config_vars(app)?,
            };
            let release = pending_release(plan.release, app, account, &plan.description, slug, now);
            c.insert_release(&release, &config)?;
            c.set_release_slug(plan.release, slug)?;
            if let Some(mut build) = build {
                build.release = Some(plan.release);
                c.put_build(&build)?;
            }
            Ok(())
        }))
    }

    /// The slug that the operation's dynos run: its release's, or the current one's.
    pub(crate) fn slug_of(&self, part: &Part) -> Result<Option<Slug>> {
        Ok(self.store().read(|c| {
            let release = match &part.release {
                Some(plan) => c.release(plan.release)?,
                None => c.current_release(&c.app_by_id(part.app)?)?,
            };
            release.map_or(Ok(None), |release| c.slug_of(&release))
        })?)
    }

    /// The dynos that this operation started and has not handed over.
    pub(crate) fn owned(&self, ctx: &Context, part: &Part) -> Result<Vec<Dyno>> {
        let dynos = self.store().read(|c| c.dynos(part.app))?;
        Ok(dynos.into_iter().filter(|d| d.operation == Some(ctx.operation) && d.one_off.is_none()).collect())
    }

    /// Dynos that the switch replaces: all of the formation, or those that a restart means.
    fn replaced(part: &Part, dyno: &Dyno) -> bool {
        if dyno.one_off.is_some() || dyno.operation.is_some() || dyno.state == DynoState::Stopping {
            return false;
        }
        match &part.restart {
            None => true,
            Some(RestartPlan { process_type: Some(t), .. }) => dyno.process_type == *t,
            Some(RestartPlan { dyno: Some(name), .. }) => dyno.name() == *name || dyno.id.to_string() == *name,
            Some(_) => true,
        }
    }

    async fn step_start(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let slug = self.slug_of(part)?;
        let Some(slug) = slug else { return Ok(nothing()) };
        self.ensure(&slug).await?;
        if let Some(warning) = self.warn_of_host_change(part.app, &slug) {
            ctx.line(&format!(" !     {warning}"));
        }
        let commands = self.process_types(&slug.manifest);
        let (platform, part, operation, now) = (self.clone(), part.clone(), ctx.operation, self.now());
        let (started, replaced) = self
            .store()
            .write(move |c| {
                let app = c.app_by_id(part.app)?;
                let rows = c.dynos(part.app)?;
                let there: Vec<DynoId> = rows.iter().filter(|d| d.operation == Some(operation)).map(|d| d.id).collect();
                // The second run of this step finds what the first wrote down.
                if !there.is_empty() {
                    return Ok((there, Vec::new()));
                }
                let release = part.release.as_ref().map(|r| r.release).or(app.current_release);
                let Some(release) = release else { return Ok((Vec::new(), Vec::new())) };
                let present = c.formation(part.app)?;
                let formation = formation::formation_for(&platform, &present, &commands, now);
                let wanted = formation::wanted(&formation, &commands, &app.settings);
                let (mut started, mut replaced) = (Vec::new(), Vec::new());
                for (process_type, index) in shipway_domain::formation::slots_before_switch(&wanted) {
                    let replaces =
                        |d: &Dyno| Self::replaced(&part, d) && d.process_type == process_type && d.index == index;
                    let old = rows.iter().find(|d| replaces(d));
                    if part.restart.is_some() && old.is_none() {
                        continue;
                    }
                    replaced.extend(old.cloned());
                    let slot = (process_type, index);
                    let row = formation::starting(&platform, part.app, slot, release, &formation, &commands, now);
                    let row = Dyno { operation: Some(operation), ..row };
                    c.put_dyno(&row)?;
                    started.push(row.id);
                }
                Ok((started, replaced))
            })
            .await?;
        for old in &replaced {
            self.log_replaced(old);
        }
        for dyno in started {
            self.poke(dyno);
        }
        Ok(nothing())
    }

    async fn undo_start(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        for dyno in self.owned(ctx, part)? {
            self.let_go(dyno.id).await?;
        }
        Ok(nothing())
    }

    /// The switch: one transaction and one epoch for the releases, the formations and the dynos of all apps.
    /// Admission is asked here for the second time, and this answer decides: the upstream, too, may have moved on meanwhile.
    async fn step_switch(&self, ctx: &Context) -> Result<Effect> {
        let caller = ctx.plan.caller();
        let mut switches = Vec::new();
        for part in &ctx.plan.parts {
            let app = self.store().read(|c| c.app_by_id(part.app))?;
            let slug = self.slug_of(part)?;
            let mut subject = self.subject_at_switch(&ctx.plan, part, &app, slug.as_ref()).await?;
            // Of somebody who was removed meanwhile, what was under way goes on.
            let left_with = self.store().read(|c| c.left_with(caller.actor.account, app.id))?;
            subject.permission = subject.permission.max(left_with);
            admit(&caller.actor, ctx.plan.trigger, &subject, self.now())?;
            let record =
                slug.as_ref().map(|slug| self.own_deployment(&caller, part, &app, slug)).transpose()?.flatten();
            let commands = slug.as_ref().map(|s| self.process_types(&s.manifest)).unwrap_or_default();
            switches.push(AppSwitch { part: part.clone(), commands, slug_size: slug.map(|s| s.size_bytes), record });
        }
        let (platform, operation, now) = (self.clone(), ctx.operation, self.now());
        Ok(Box::new(move |c| {
            let epoch = c.next_epoch(Some(operation), now)?;
            let mut alone = Vec::new();
            for switch in &switches {
                alone.push((switch, platform.switch_dynos(c, switch, operation, epoch, now)?));
                platform.switch_release(c, switch, now)?;
                switch.record.as_ref().map_or(Ok(()), |record| record.write(c))?;
            }
            // Here, and not when they are stopped: by then their successors may have begun.
            alone.iter().try_for_each(|(switch, old)| platform.log_alone(c, switch, old))
        }))
    }

    /// Hands the new dynos over and marks the old ones as to go. Returns those of the old ones, as they were, whose slot
    /// has no new dyno yet.
    fn switch_dynos(
        &self,
        c: &Conn<'_>,
        switch: &AppSwitch,
        operation: OperationId,
        epoch: u64,
        now: jiff::Timestamp,
    ) -> Result<Vec<Dyno>, StoreError> {
        let rows = c.dynos(switch.part.app)?;
        let owned: Vec<&Dyno> = rows.iter().filter(|d| d.operation == Some(operation) && d.one_off.is_none()).collect();
        // One that ended since it was healthy: the switch must not happen.
        if owned.iter().any(|d| d.state != DynoState::Up) {
            return Err(StoreError::Missing("healthy dyno: one ended just before the switch"));
        }
        let mut alone = Vec::new();
        for old in rows.iter().filter(|d| Self::replaced(&switch.part, d)) {
            if !owned.iter().any(|new| new.name() == old.name()) {
                alone.push(old.clone());
            }
            let mut old = old.clone();
            old.state = DynoState::Stopping;
            old.updated_at = now;
            if std::mem::take(&mut old.routed) {
                old.unrouted_epoch = Some(epoch);
            }
            c.put_dyno(&old)?;
        }
        for new in owned {
            let mut new = new.clone();
            new.operation = None;
            new.routed = new.address.is_some();
            c.put_dyno(&new)?;
        }
        Ok(alone)
    }

    /// Says of old dynos whose slot has no new one yet whether one follows them there.
    fn log_alone(&self, c: &Conn<'_>, switch: &AppSwitch, old: &[Dyno]) -> Result<(), StoreError> {
        let app = c.app_by_id(switch.part.app)?;
        let wanted = formation::wanted(&c.formation(app.id)?, &switch.commands, &app.settings);
        for old in old {
            match formation::has_slot(&wanted, old) {
                true => self.log_replaced(old),
                false => self.log_state(old, old.state, DynoState::Down),
            }
        }
        Ok(())
    }

    fn switch_release(&self, c: &Conn<'_>, switch: &AppSwitch, now: jiff::Timestamp) -> Result<(), StoreError> {
        let Some(release) = &switch.part.release else { return Ok(()) };
        let mut app = c.app_by_id(switch.part.app)?;
        app.current_release = Some(release.release);
        app.released_at = Some(now);
        app.updated_at = now;
        app.slug_size = switch.slug_size.or(app.slug_size);
        c.update_app(&app)?;
        if release.config_of.is_some() {
            c.set_config_vars(app.id, &c.release_config(release.release)?)?;
        }
        c.succeed_release(release.release, now)?;
        if switch.slug_size.is_some() {
            let present = c.formation(app.id)?;
            let next = formation::formation_for(self, &present, &switch.commands, now);
            for gone in present.iter().filter(|f| !switch.commands.contains_key(&f.process_type)) {
                c.delete_formation(app.id, &gone.process_type)?;
            }
            for row in &next {
                c.put_formation(app.id, row)?;
            }
        }
        Ok(())
    }

    async fn step_route(&self) -> Result<Effect> {
        let epoch = self.store().read(|c| c.epoch())?;
        self.acknowledged(epoch).await;
        Ok(nothing())
    }

    async fn step_settle(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let plan = part.release()?;
        let (app, release) = self.store().read(|c| Ok((c.app_by_id(part.app)?, c.release_by_id(plan.release)?)))?;
        let repositories = &self.inner.parts.repositories;
        let commit = self.slug_of(part)?.and_then(|s| s.commit);
        if let Some(commit) = &commit {
            repositories.keep_release(app.id, release.version, commit).await?;
            repositories.set_branch(app.id, commit).await?;
        }
        repositories.unpin(app.id, ctx.operation).await?;
        if part.build.is_some() {
            let user = &ctx.plan.actor.email;
            self.log_api(app.id, &format!("{} by user {user}", release.description));
            self.log_api(app.id, &format!("Release v{} created by user {user}", release.version));
            let web = self.store().read(|c| c.formation(app.id))?.iter().any(|f| f.process_type.is_web());
            ctx.line("-----> Launching...");
            ctx.line(&format!("       Released v{}", release.version));
            if web {
                ctx.line(&format!("       {} deployed to Shipway", self.web_url(app.name.as_str())));
            } else {
                ctx.line(" !     No web process type: nothing answers requests until the Procfile names one (H14)");
            }
        }
        let caller = ctx.plan.caller();
        let entry = self.entry(
            &caller,
            Some(&app),
            ctx.plan.kind(),
            serde_json::json!({
                "release": release.version, "description": release.description,
                "commit": commit, "operation": ctx.operation,
            }),
        );
        let notice = self.notice_of(&app, &release, self.slug_of(part)?.as_ref()).await;
        Ok(Box::new(move |c| {
            notice.map_or(Ok(()), |notice| c.insert_notice(&notice))?;
            c.record(&entry)
        }))
    }

    pub(crate) async fn restart_operation(&self, caller: &Caller, app: &App, which: Which) -> Result<OperationId> {
        let restart = match which {
            Which::All => RestartPlan { process_type: None, dyno: None },
            Which::Type(t) => RestartPlan { process_type: Some(t), dyno: None },
            Which::Dyno(name) => RestartPlan { process_type: None, dyno: Some(name) },
        };
        let part = Part { restart: Some(restart), ..Part::new(app.id) };
        self.submit(self.plan(caller, Trigger::Restart, part), |_| Ok(())).await
    }

    /// A plan for one app.
    pub(crate) fn plan(&self, caller: &Caller, trigger: Trigger, part: Part) -> Plan {
        Plan { actor: caller.actor.clone(), via: caller.via.into(), trigger, parts: vec![part] }
    }

    /// The release part of a plan.
    pub(crate) fn release_plan(&self, app: &App, description: String, code: Code) -> ReleasePlan {
        ReleasePlan {
            release: self.id(ReleaseId),
            phase_dyno: self.id(DynoId),
            description,
            code,
            config_of: None,
            phase_last: app.settings.release_phase_last,
        }
    }
}

/// What the switch needs to know of one app.
struct AppSwitch {
    part: Part,
    commands: BTreeMap<ProcessType, String>,
    slug_size: Option<u64>,
    record: Option<OwnDeployment>,
}

/// Another app's slug, written down as this app's: the same manifest, the same digest, the same blobs. One of the same
/// digest and commit that is there already is taken instead.
fn promoted(c: &Conn<'_>, app: AppId, of: SlugId, slug: SlugId, now: jiff::Timestamp) -> Result<SlugId, StoreError> {
    if c.slug(slug)?.is_some() {
        return Ok(slug);
    }
    let source = c.slug(of)?.ok_or(StoreError::Missing("slug"))?;
    if let Some(there) = c.slug_by_digest(app, &source.digest)?.filter(|s| s.commit == source.commit) {
        return Ok(there.id);
    }
    c.insert_slug(&Slug { id: slug, app, created_at: now, ..source })?;
    Ok(slug)
}

pub(crate) fn cancelled() -> Error {
    Error::conflict("It was cancelled. What ran before runs on.")
}

/// A release that is not live yet; its version is the store's to give.
pub(crate) fn pending_release(
    id: ReleaseId,
    app: AppId,
    account: shipway_domain::AccountId,
    description: &str,
    slug: Option<SlugId>,
    now: jiff::Timestamp,
) -> Release {
    Release {
        id,
        app,
        version: 0,
        status: ReleaseStatus::Pending,
        description: description.into(),
        account,
        slug,
        attachments: Vec::new(),
        config_hash: String::new(),
        has_output: false,
        failure: None,
        created_at: now,
        updated_at: now,
    }
}
