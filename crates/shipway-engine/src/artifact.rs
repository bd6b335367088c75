//! The steps that make an artifact, or bring the commit of one that is there.

use crate::change::cancelled;
use crate::error::Error;
use crate::operation::{Context, Effect, nothing};
use crate::plan::{BuildPlan, Part};
use crate::ports::{BuildFailure, BuildOrder, Caller};
use crate::setups::APP_JSON;
use crate::{Platform, Result};
use shipway_domain::admission::Permission;
use shipway_domain::app_json::{About, AppJson};
use shipway_domain::lifecycle::BuildStatus;
use shipway_domain::{AppId, CommitId, OperationId, PipelineId, compare};
use shipway_store::{App, Build, ConfigVars, Conn, Slug};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::OwnedMutexGuard;

/// Slugs from the same shared inputs that are looked at, the newest first.
const CANDIDATES: u32 = 10;

/// The builds that apps of a pipeline share: of the same inputs one is made at a time, so that the second finds the first's.
#[derive(Default)]
pub(crate) struct Sharing {
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Sharing {
    fn of(&self, inputs: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().expect("nobody panics while they hold it");
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(inputs).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(inputs.to_string(), Arc::downgrade(&turn));
        turn
    }
}

/// What a build has to do with those of other apps of its pipeline.
#[derive(Default)]
struct Share {
    /// What it is made from that is the same for all of them; empty for a build that nobody shares.
    inputs: String,
    /// Held until the slug is written: the effect takes it along.
    turn: Option<OwnedMutexGuard<()>>,
    /// A slug that serves as well, and the name of the app that has it.
    beside: Option<(Slug, String)>,
}

impl Platform {
    pub(crate) async fn step_pin(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let commit = &part.build()?.commit;
        self.inner.parts.repositories.pin(part.app, ctx.operation, commit).await?;
        Ok(nothing())
    }

    /// Brings the commit from the repository that has it.
    pub(crate) async fn step_carry(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        if let Some(carry) = &part.carry {
            let repositories = &self.inner.parts.repositories;
            repositories.carry(carry.from, part.app, ctx.operation, &carry.commit).await?;
        }
        Ok(nothing())
    }

    pub(crate) async fn undo_pin(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        self.inner.parts.repositories.unpin(part.app, ctx.operation).await?;
        Ok(nothing())
    }

    pub(crate) async fn step_build(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let _turn = self.turn_to_build(ctx).await?;
        let plan = part.build()?.clone();
        let (app, config, previous, mut build) = self.store().read(|c| {
            let app = c.app_by_id(part.app)?;
            let build = c.build(plan.build)?.ok_or(shipway_store::StoreError::Missing("build"))?;
            let (config, previous) = (c.config_vars(app.id)?, c.latest_slug(app.id)?);
            Ok((app, config, previous, build))
        })?;
        let work = self.settings().home.join("work").join(plan.build.to_string());
        let source = self.check_out(&app, &plan.commit, &work).await?;
        let about = self.read_app_json(ctx, part, &app, &config, &source)?;
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
        let commit = plan.commit.short();
        let now = self.now();
        build.updated_at = now;
        build.status = BuildStatus::Succeeded;
        if let Some(slug) = self.built_before(&order, &inputs).await? {
            ctx.line(&format!("-----> Commit {commit} was built before from the same inputs: using that build"));
            let _ = tokio::fs::remove_dir_all(&work).await;
            build.slug = Some(slug.id);
            build.buildpacks = slug.buildpacks;
            return Ok(Box::new(move |c| c.put_build(&build)));
        }
        let Share { inputs: shared_inputs, turn, beside } = self.share(ctx, &app, &order, &plan).await?;
        if let Some((slug, of)) = beside {
            ctx.line(&format!("-----> Commit {commit} was built for {of}: using that build"));
            let _ = tokio::fs::remove_dir_all(&work).await;
            build.slug = Some(plan.slug);
            build.buildpacks = slug.buildpacks.clone();
            let slug = Slug { id: plan.slug, app: app.id, inputs, created_at: now, ..slug };
            return Ok(Box::new(move |c| {
                c.insert_slug(&slug)?;
                c.put_build(&build)?;
                drop(turn);
                Ok(())
            }));
        }
        let repositories = &self.inner.parts.repositories;
        let info = repositories.commit_info(app.id, &plan.commit).await?;
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
            stack_fingerprint: self.settings().stack_fingerprint.clone(),
            language: built.language,
            buildpacks: built.buildpacks.clone(),
            about,
            inputs,
            shared_inputs,
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
            c.update_app(&app)?;
            drop(turn);
            Ok(())
        }))
    }

    /// Checks the commit out to be built, into a directory of the build's own, and returns where it is.
    async fn check_out(&self, app: &App, commit: &CommitId, work: &Path) -> Result<PathBuf> {
        // What an interrupted build left is not trusted.
        match tokio::fs::remove_dir_all(work).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::platform(e)),
            _ => {}
        }
        let source = work.join("app");
        tokio::fs::create_dir_all(&source).await.map_err(Error::platform)?;
        let repositories = &self.inner.parts.repositories;
        repositories.checkout(app.id, commit, &source).await.map_err(|e| Error::invalid(e.0))?;
        Ok(source)
    }

    /// What the code says of itself. Errors: it insists on config vars that the app does not have.
    fn read_app_json(
        &self,
        ctx: &Context,
        part: &Part,
        app: &App,
        config: &ConfigVars,
        source: &Path,
    ) -> Result<About> {
        let Some(file) = text_file(&source.join(APP_JSON)) else { return Ok(About::default()) };
        let about = AppJson::parse(&file).map(|read| read.about).unwrap_or_default();
        // Where an app was set up, the file's problems were said.
        let warn = |problem: &str| {
            if part.setup.is_none() {
                ctx.line(&format!(" !     {problem}"))
            }
        };
        self.check_insisted(app, config, &file, warn)?;
        Ok(about)
    }

    /// The slug that the app has of the same commit from the same inputs, if it can run.
    async fn built_before(&self, order: &BuildOrder, inputs: &str) -> Result<Option<Slug>> {
        let same = self.store().read(|c| c.slug_by_inputs(order.app, inputs))?;
        match same.filter(|slug| slug.commit.as_ref() == Some(&order.commit)) {
            Some(slug) if self.inner.parts.builder.ensure(&slug.manifest).await.is_ok() => Ok(Some(slug)),
            _ => Ok(None),
        }
    }

    /// Takes the turn among the apps that share a build, and looks what they have made. Nothing of it without a pipeline.
    async fn share(&self, ctx: &Context, app: &App, order: &BuildOrder, plan: &BuildPlan) -> Result<Share> {
        let Some(pipeline) = plan.shared else { return Ok(Share::default()) };
        let builder = &self.inner.parts.builder;
        let inputs = builder.inputs(&shared(order, pipeline)).await.map_err(build_error)?;
        let same = if plan.exactly {
            let for_all = BuildOrder { app: AppId(pipeline.0), ..order.clone() };
            builder.inputs(&for_all).await.map_err(build_error)?
        } else {
            inputs.clone()
        };
        let turn = self.turn_of(ctx, &same).await?;
        let beside = self.built_beside(&inputs, plan.exactly.then_some((app, order))).await?;
        Ok(Share { inputs, turn: Some(turn), beside })
    }

    /// Waits for the same build of another app. Errors: somebody asked for an end.
    async fn turn_of(&self, ctx: &Context, shared_inputs: &str) -> Result<OwnedMutexGuard<()>> {
        let turn = self.inner.sharing.of(shared_inputs);
        if let Ok(free) = turn.clone().try_lock_owned() {
            return Ok(free);
        }
        ctx.line("-----> Waiting for the same build of another app of the pipeline");
        tokio::select! {
            turn = turn.lock_owned() => Ok(turn),
            () = ctx.cancel.cancelled() => Err(cancelled()),
        }
    }

    /// A slug that an app of the pipeline made from these inputs, if it can run, and the app's name. With `exactly`, only
    /// one that had all that this order for the app has, built by somebody who may deploy the app.
    async fn built_beside(
        &self,
        shared_inputs: &str,
        exactly: Option<(&App, &BuildOrder)>,
    ) -> Result<Option<(Slug, String)>> {
        let (inputs, trusting) = (shared_inputs.to_string(), exactly.map(|(app, _)| app.clone()));
        // Asked of the writer: whoever had the turn before may not be committed yet.
        let found = self.store().write(move |c| {
            let mut found = Vec::new();
            for slug in c.slugs_by_shared_inputs(&inputs, CANDIDATES)? {
                if trusting.as_ref().map_or(Ok(true), |app| built_by_a_deployer(c, app, &slug))? {
                    let name = c.app_by_id(slug.app)?.name.to_string();
                    found.push((slug, name));
                }
            }
            Ok(found)
        });
        let builder = &self.inner.parts.builder;
        for (slug, name) in found.await? {
            if let Some((_, order)) = exactly {
                let there = BuildOrder { app: slug.app, ..order.clone() };
                if builder.inputs(&there).await.map_err(build_error)? != slug.inputs {
                    continue;
                }
            }
            if builder.ensure(&slug.manifest).await.is_ok() {
                return Ok(Some((slug, name)));
            }
        }
        Ok(None)
    }

    pub(crate) fn undo_build(&self, part: &Part, error: &str) -> Result<Effect> {
        let (id, error, now) = (part.build()?.build, error.to_string(), self.now());
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

    /// A warning when a slug was built on a host other than this one: what it was compiled against may have changed.
    ///
    /// None when it was built here, or before fingerprints were kept.
    pub fn host_change(&self, slug: &Slug) -> Option<String> {
        let (built, here) = (&slug.stack_fingerprint, &self.settings().stack_fingerprint);
        (!built.is_empty() && built != here).then(|| {
            let code = slug.commit.as_ref().map_or("This code".into(), |commit| format!("Commit {}", commit.short()));
            format!("{code} was built on {built}, and this host is {here}: push a new commit to build it here")
        })
    }

    /// The same, and written to the log of the app whose dynos start it.
    pub(crate) fn warn_of_host_change(&self, app: AppId, slug: &Slug) -> Option<String> {
        let warning = self.host_change(slug)?;
        self.log_api(app, &format!("Warning: {warning}"));
        Some(warning)
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

/// Whether whoever had a slug built may bring code to an app.
fn built_by_a_deployer(c: &Conn<'_>, app: &App, slug: &Slug) -> shipway_store::Result<bool> {
    let Some(build) = c.build_of_slug(slug.app, slug.id)? else { return Ok(false) };
    let admin = c.account(&build.account.into())?.is_some_and(|account| account.admin);
    Ok(admin || c.permission(app, build.account)? >= Some(Permission::Deploy))
}

/// What of a build is the same for all apps of a pipeline: only those config vars count that builds are known to read.
fn shared(order: &BuildOrder, pipeline: PipelineId) -> BuildOrder {
    let mut shared = BuildOrder { app: AppId(pipeline.0), ..order.clone() };
    shared.env.retain(|key, _| compare::read_by_builds(key));
    shared
}

fn build_error(e: BuildFailure) -> Error {
    match e {
        BuildFailure::User(text) => Error::invalid(text),
        BuildFailure::Cancelled => cancelled(),
        BuildFailure::Platform(text) => Error::platform(text),
    }
}

/// A file of a checked out tree, when it is one that somebody wrote: a link is not followed.
fn text_file(path: &Path) -> Option<String> {
    let there = std::fs::symlink_metadata(path).ok()?;
    let readable = there.is_file() && there.len() <= shipway_domain::app_json::MAX_BYTES as u64;
    readable.then(|| std::fs::read_to_string(path).ok()).flatten()
}
