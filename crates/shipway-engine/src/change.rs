//! The steps of deploys, releases and restarts.
//!
//! The order is `pin, build, release, release-phase, start, healthy, switch, route, settle`; a plan has those that it
//! needs. The heart is three steps in a row: **wait healthy, switch, drain** (draining is the dynos' own tasks' work,
//! which begins when the router has acknowledged the epoch).

use crate::error::Error;
use crate::operation::{Context, Effect, nothing};
use crate::plan::{BuildPlan, Code, Plan, ReleasePlan, RestartPlan, Step};
use crate::ports::{BuildFailure, BuildOrder, Caller};
use crate::{Error as EngineError, Event, Platform, Result, Which, formation};
use shipway_domain::admission::{Trigger, admit};
use shipway_domain::lifecycle::{BuildStatus, DynoState, ReleaseStatus};
use shipway_domain::{AppId, DynoId, OperationId, ReleaseId, SlugId};
use shipway_store::{App, Build, ConfigVars, Dyno, Release, Slug};

impl Platform {
    pub(crate) async fn run_step(&self, ctx: &Context, step: Step) -> Result<Effect> {
        match step {
            Step::Pin => self.step_pin(ctx).await,
            Step::Build => self.step_build(ctx).await,
            Step::Release => self.step_release(ctx),
            Step::ReleasePhase => self.step_release_phase(ctx).await,
            Step::Start => self.step_start(ctx).await,
            Step::Healthy => self.step_healthy(ctx).await,
            Step::Switch => self.step_switch(ctx),
            Step::Route => self.step_route().await,
            Step::Settle => self.step_settle(ctx).await,
            Step::Close => self.step_close(ctx),
            Step::StopAll => self.step_stop_all(ctx).await,
            Step::Erase => self.step_erase(ctx).await,
        }
    }

    /// Takes back what a step did or began to do. May run twice.
    pub(crate) async fn undo_step(&self, ctx: &Context, step: Step, error: &str) -> Result<Effect> {
        let now = self.now();
        match step {
            Step::Pin => {
                self.inner.parts.repositories.unpin(ctx.plan.app, ctx.operation).await?;
                Ok(nothing())
            }
            Step::Build => {
                let (id, error) = (ctx.build()?.build, error.to_string());
                Ok(Box::new(move |c| {
                    let Some(mut build) = c.build(id)? else { return Ok(()) };
                    // An artifact that was made stays: the build succeeded, its release did not.
                    if build.status == BuildStatus::Pending {
                        build.status = BuildStatus::Failed;
                        build.failure = Some(error);
                        build.updated_at = now;
                        c.put_build(&build)?;
                    }
                    Ok(())
                }))
            }
            Step::Release => {
                let (id, error) = (ctx.release()?.release, error.to_string());
                Ok(Box::new(move |c| match c.release(id)? {
                    Some(_) => c.set_release_status(id, ReleaseStatus::Failed, Some(&error), now),
                    None => Ok(()),
                }))
            }
            Step::ReleasePhase => {
                self.forget_phase(ctx.release()?.phase_dyno).await?;
                Ok(nothing())
            }
            Step::Start => {
                for dyno in self.owned(ctx)? {
                    self.let_go(dyno.id).await?;
                }
                Ok(nothing())
            }
            _ => Ok(nothing()),
        }
    }

    async fn step_pin(&self, ctx: &Context) -> Result<Effect> {
        let commit = &ctx.build()?.commit;
        self.inner.parts.repositories.pin(ctx.plan.app, ctx.operation, commit).await?;
        Ok(nothing())
    }

    async fn step_build(&self, ctx: &Context) -> Result<Effect> {
        let plan = ctx.build()?.clone();
        let (app, config, previous, mut build) = self.store().read(|c| {
            let app = c.app_by_id(ctx.plan.app)?;
            let build = c.build(plan.build)?.ok_or(shipway_store::StoreError::Missing("build"))?;
            let (config, previous) = (c.config_vars(app.id)?, c.latest_slug(app.id)?);
            Ok((app, config, previous, build))
        })?;
        let repositories = &self.inner.parts.repositories;
        let source = self.settings().home.join("work").join(plan.build.to_string()).join("app");
        // What an interrupted build left is not trusted.
        if let Some(work) = source.parent() {
            match tokio::fs::remove_dir_all(work).await {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::platform(e)),
                _ => tokio::fs::create_dir_all(&source).await.map_err(Error::platform)?,
            }
        }
        repositories.checkout(app.id, &plan.commit, &source).await.map_err(|e| EngineError::invalid(e.0))?;
        let order = BuildOrder {
            build: plan.build,
            app: app.id,
            app_name: app.name.to_string(),
            uid_block: app.uid_block,
            commit: plan.commit.clone(),
            source,
            buildpacks: app.buildpacks.clone(),
            env: config.into_iter().map(|(k, v)| (k.into(), v)).collect(),
            stack: app.build_stack.clone(),
            size: self.settings().build_size.clone(),
            previous: previous.map(|s| s.manifest),
        };
        let builder = &self.inner.parts.builder;
        let inputs = builder.inputs(&order).await.map_err(build_error)?;
        let info = repositories.commit_info(app.id, &plan.commit).await?;
        let same = self.store().read(|c| c.slug_by_inputs(app.id, &inputs))?;
        let now = self.now();
        build.updated_at = now;
        build.status = BuildStatus::Succeeded;
        if let Some(slug) = same.filter(|s| s.commit.as_ref() == Some(&plan.commit))
            && builder.ensure(&slug.manifest).await.is_ok()
        {
            ctx.line(&format!(
                "-----> Commit {} was built before from the same inputs: using that build",
                plan.commit.short()
            ));
            let _ = tokio::fs::remove_dir_all(order.source.parent().unwrap_or(&order.source)).await;
            build.slug = Some(slug.id);
            return Ok(Box::new(move |c| c.put_build(&build)));
        }
        let out = ctx.output.clone().ok_or_else(|| Error::platform("a build without a transcript"))?;
        let built = builder.build(&order, out, ctx.cancel.clone()).await;
        let built = built.map_err(|e| {
            self.log_api(app.id, "Build failed -- check your build output");
            build_error(e)
        })?;
        self.log_api(app.id, "Build succeeded");
        let slug = Slug {
            id: plan.slug,
            app: app.id,
            digest: built.digest,
            manifest: built.manifest,
            commit: Some(plan.commit),
            commit_description: Some(info.subject),
            size_bytes: built.size_bytes,
            stack: app.build_stack,
            language: built.language,
            inputs,
            created_at: now,
        };
        build.slug = Some(slug.id);
        build.buildpacks = built.buildpacks;
        let repo_size = repositories.size_bytes(app.id).await.ok();
        Ok(Box::new(move |c| {
            c.insert_slug(&slug)?;
            c.put_build(&build)?;
            let mut app = c.app_by_id(slug.app)?;
            app.repo_size = repo_size.or(app.repo_size);
            app.slug_size = Some(slug.size_bytes);
            c.update_app(&app)
        }))
    }

    fn step_release(&self, ctx: &Context) -> Result<Effect> {
        let plan = ctx.release()?.clone();
        let (app, account, build) = (ctx.plan.app, ctx.plan.actor.account, ctx.plan.build.clone());
        let now = self.now();
        Ok(Box::new(move |c| {
            let row = c.app_by_id(app)?;
            let build = build.map(|b| c.build(b.build)).transpose()?.flatten();
            let slug = match plan.code {
                Code::Built => build.as_ref().and_then(|b| b.slug),
                Code::Current => row.current_release.map(|r| c.release(r)).transpose()?.flatten().and_then(|r| r.slug),
                Code::Slug(slug) => Some(slug),
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
    pub(crate) fn slug_of(&self, ctx: &Context) -> Result<Option<Slug>> {
        let slug = self.store().read(|c| {
            let app = c.app_by_id(ctx.plan.app)?;
            let release = ctx.plan.release.as_ref().map(|r| r.release).or(app.current_release);
            let slug = release.map(|r| c.release(r)).transpose()?.flatten().and_then(|r| r.slug);
            Ok(slug.map(|s| c.slug(s)).transpose()?.flatten())
        })?;
        Ok(slug)
    }

    /// The dynos that this operation started and has not handed over.
    fn owned(&self, ctx: &Context) -> Result<Vec<Dyno>> {
        let dynos = self.store().read(|c| c.dynos(ctx.plan.app))?;
        Ok(dynos.into_iter().filter(|d| d.operation == Some(ctx.operation) && d.one_off.is_none()).collect())
    }

    /// Dynos that the switch replaces: all of the formation, or those that a restart means.
    fn replaced(plan: &Plan, dyno: &Dyno) -> bool {
        if dyno.one_off.is_some() || dyno.operation.is_some() || dyno.state == DynoState::Stopping {
            return false;
        }
        match &plan.restart {
            None => true,
            Some(RestartPlan { process_type: Some(t), .. }) => dyno.process_type == *t,
            Some(RestartPlan { dyno: Some(name), .. }) => dyno.name() == *name || dyno.id.to_string() == *name,
            Some(_) => true,
        }
    }

    async fn step_start(&self, ctx: &Context) -> Result<Effect> {
        let slug = self.slug_of(ctx)?;
        let Some(slug) = slug else { return Ok(nothing()) };
        self.inner.parts.builder.ensure(&slug.manifest).await?;
        let commands = self.process_types(&slug.manifest);
        let (platform, plan, operation, now) = (self.clone(), ctx.plan.clone(), ctx.operation, self.now());
        let started = self
            .store()
            .write(move |c| {
                let app = c.app_by_id(plan.app)?;
                let rows = c.dynos(plan.app)?;
                let there: Vec<DynoId> = rows.iter().filter(|d| d.operation == Some(operation)).map(|d| d.id).collect();
                // The second run of this step finds what the first wrote down.
                if !there.is_empty() {
                    return Ok(there);
                }
                let release = plan.release.as_ref().map(|r| r.release).or(app.current_release);
                let Some(release) = release else { return Ok(Vec::new()) };
                let present = c.formation(plan.app)?;
                let formation = formation::formation_for(&platform, &present, &commands, now);
                let wanted = formation::wanted(&formation, &commands, &app.settings);
                let mut started = Vec::new();
                for (process_type, index) in shipway_domain::formation::slots_before_switch(&wanted) {
                    let replaces =
                        |d: &Dyno| Self::replaced(&plan, d) && d.process_type == process_type && d.index == index;
                    if plan.restart.is_some() && !rows.iter().any(replaces) {
                        continue;
                    }
                    let slot = (process_type, index);
                    let row = formation::starting(&platform, plan.app, slot, release, &formation, &commands, now);
                    let row = Dyno { operation: Some(operation), ..row };
                    c.put_dyno(&row)?;
                    started.push(row.id);
                }
                Ok(started)
            })
            .await?;
        for dyno in started {
            self.poke(dyno);
        }
        Ok(nothing())
    }

    async fn step_healthy(&self, ctx: &Context) -> Result<Effect> {
        let mut events = self.events();
        loop {
            let owned = self.owned(ctx)?;
            for dyno in &owned {
                // One that an undone step let go, or whose task found no process, counts as failed too.
                if matches!(dyno.state, DynoState::Crashed | DynoState::Stopping | DynoState::Down) {
                    return Err(self.not_healthy(ctx, dyno));
                }
            }
            if owned.iter().all(|d| d.state == DynoState::Up) {
                return Ok(nothing());
            }
            for dyno in owned.iter().filter(|d| d.state == DynoState::Starting) {
                self.ensure_driven(dyno.id);
            }
            tokio::select! {
                () = ctx.cancel.cancelled() => return Err(cancelled()),
                event = events.recv() => match event {
                    Ok(Event::App(app)) if app != ctx.plan.app => continue,
                    _ => {}
                },
                () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
            }
        }
    }

    fn not_healthy(&self, ctx: &Context, dyno: &Dyno) -> EngineError {
        let known = self.inner.failures.lock().expect("no panic while noted").get(&dyno.id).cloned();
        let (code, text) = match known {
            Some(f) => (f.code, f.text),
            None => ("H10", format!("{} did not stay up.", dyno.name())),
        };
        ctx.line(&format!(" !     {code}: {text}"));
        let last = self.last_lines(dyno, 20);
        if !last.is_empty() {
            ctx.line(" !     Its last lines:");
            for line in last {
                ctx.line(&format!(" !         {line}"));
            }
        }
        let first_phase = ctx.plan.release.as_ref().filter(|r| !r.phase_last);
        let release = first_phase.and_then(|r| self.store().read(|c| c.release(r.release)).ok().flatten());
        let ran_phase = release.is_some_and(|r| r.has_output);
        let database =
            if ran_phase { " The release phase had run: the database may be ahead of the code." } else { "" };
        EngineError::invalid(format!("{code}: {text}{database}"))
    }

    fn last_lines(&self, dyno: &Dyno, count: usize) -> Vec<String> {
        let filter = shipway_logs::Filter { source: Some(shipway_logs::Source::App), dyno: Some(dyno.name()) };
        let since = dyno.created_at.as_microsecond().max(0) as u64;
        let read = shipway_logs::Reader::last(&self.log_dir(dyno.app), filter, count * 2);
        let entries = read.map(|(entries, _)| entries).unwrap_or_default();
        let mine: Vec<String> = entries
            .iter()
            .filter(|e| e.id.time_us >= since)
            .map(|e| String::from_utf8_lossy(&e.message).into_owned())
            .collect();
        mine[mine.len().saturating_sub(count)..].to_vec()
    }

    /// The switch: one transaction for the release, the formation, the dynos and the epoch.
    fn step_switch(&self, ctx: &Context) -> Result<Effect> {
        let slug = self.slug_of(ctx)?;
        let commands = slug.as_ref().map(|s| self.process_types(&s.manifest)).unwrap_or_default();
        let app = self.store().read(|c| c.app_by_id(ctx.plan.app))?;
        let caller = ctx.plan.caller();
        admit(&caller.actor, ctx.plan.trigger, &self.subject(&caller, &app)?, self.now())?;
        let (platform, plan, operation, now) = (self.clone(), ctx.plan.clone(), ctx.operation, self.now());
        let slug_size = slug.map(|s| s.size_bytes);
        Ok(Box::new(move |c| {
            let rows = c.dynos(plan.app)?;
            let owned: Vec<&Dyno> =
                rows.iter().filter(|d| d.operation == Some(operation) && d.one_off.is_none()).collect();
            // One that ended since it was healthy: the switch must not happen.
            if owned.iter().any(|d| d.state != DynoState::Up) {
                return Err(shipway_store::StoreError::Missing("healthy dyno: one ended just before the switch"));
            }
            let epoch = c.next_epoch(Some(operation), now)?;
            for old in rows.iter().filter(|d| Self::replaced(&plan, d)) {
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
            let Some(release) = &plan.release else { return Ok(()) };
            let mut app = c.app_by_id(plan.app)?;
            app.current_release = Some(release.release);
            app.released_at = Some(now);
            app.updated_at = now;
            app.slug_size = slug_size.or(app.slug_size);
            c.update_app(&app)?;
            if release.config_of.is_some() {
                c.set_config_vars(plan.app, &c.release_config(release.release)?)?;
            }
            c.set_release_status(release.release, ReleaseStatus::Succeeded, None, now)?;
            let present = c.formation(plan.app)?;
            if slug_size.is_some() {
                let next = formation::formation_for(&platform, &present, &commands, now);
                for gone in present.iter().filter(|f| !commands.contains_key(&f.process_type)) {
                    c.delete_formation(plan.app, &gone.process_type)?;
                }
                for row in &next {
                    c.put_formation(plan.app, row)?;
                }
            }
            Ok(())
        }))
    }

    async fn step_route(&self) -> Result<Effect> {
        let epoch = self.store().read(|c| c.epoch())?;
        self.acknowledged(epoch).await;
        Ok(nothing())
    }

    async fn step_settle(&self, ctx: &Context) -> Result<Effect> {
        let plan = ctx.release()?;
        let (app, release) = self.store().read(|c| Ok((c.app_by_id(ctx.plan.app)?, c.release_by_id(plan.release)?)))?;
        let repositories = &self.inner.parts.repositories;
        let commit = self.slug_of(ctx)?.and_then(|s| s.commit);
        if let Some(commit) = &commit {
            repositories.keep_release(app.id, release.version, commit).await?;
            repositories.set_branch(app.id, commit).await?;
        }
        repositories.unpin(app.id, ctx.operation).await?;
        if ctx.plan.build.is_some() {
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
        Ok(Box::new(move |c| c.record(&entry)))
    }

    pub(crate) async fn restart_operation(&self, caller: &Caller, app: &App, which: Which) -> Result<OperationId> {
        let restart = match which {
            Which::All => RestartPlan { process_type: None, dyno: None },
            Which::Type(t) => RestartPlan { process_type: Some(t), dyno: None },
            Which::Dyno(name) => RestartPlan { process_type: None, dyno: Some(name) },
        };
        let plan = Plan { restart: Some(restart), ..self.plan(caller, app, Trigger::Restart) };
        self.submit(plan, |_| Ok(())).await
    }

    /// A plan that does nothing yet.
    pub(crate) fn plan(&self, caller: &Caller, app: &App, trigger: Trigger) -> Plan {
        Plan {
            app: app.id,
            actor: caller.actor.clone(),
            via: caller.via.into(),
            trigger,
            build: None,
            release: None,
            restart: None,
            destroy: false,
        }
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

    fn ensure_driven(&self, id: DynoId) {
        if !self.inner.drivers.lock().expect("no panic while registered").contains_key(&id) {
            self.poke(id);
        }
    }

    /// A build's row, pending.
    pub(crate) fn build_row(&self, caller: &Caller, app: &App, plan: &BuildPlan, operation: OperationId) -> Build {
        let now = self.now();
        Build {
            id: plan.build,
            app: app.id,
            account: caller.actor.account,
            operation,
            status: BuildStatus::Pending,
            commit: Some(plan.commit.clone()),
            source_url: None,
            source_version: None,
            buildpacks: app.buildpacks.clone(),
            stack: app.build_stack.clone(),
            slug: None,
            release: None,
            failure: None,
            created_at: now,
            updated_at: now,
        }
    }
}

pub(crate) fn cancelled() -> EngineError {
    EngineError::conflict("It was cancelled. What ran before runs on.")
}

fn build_error(e: BuildFailure) -> EngineError {
    match e {
        BuildFailure::User(text) => EngineError::invalid(text),
        BuildFailure::Cancelled => cancelled(),
        BuildFailure::Platform(text) => Error::platform(text),
    }
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
