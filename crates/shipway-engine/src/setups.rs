//! Making an app from a source and its `app.json`: one operation, from an empty app to the end of its postdeploy script.
//!
//! The app's row, its first release and the operation are written in one transaction, so that no half-made app is left.
//! The steps are those of a deploy with `setup` before them and `postdeploy` after them. What fails before the switch
//! takes the whole app with it; the setup's row and its transcript stay for whoever asked.

use crate::change::cancelled;
use crate::config::within_limit;
use crate::error::Error;
use crate::insisted::missing_vars;
use crate::operation::{Context, Effect, nothing};
use crate::phase::Phase;
use crate::pipelines::Access;
use crate::plan::{BuildPlan, CarryPlan, Code, FetchPlan, Part, SetupPlan};
use crate::ports::{Caller, Place, Spot};
use crate::setup_addons::given_by;
use crate::{Event, NewApp, Platform, Result, SourceBlob, SourceOrder};
use shipway_domain::admission::Trigger;
use shipway_domain::app_json::{AppJson, Environment, Parts, Placed};
use shipway_domain::review::{AppSetupStatus, ReviewAppStatus};
use shipway_domain::{
    AppSetupId, BuildId, CommitId, ConfigKey, CouplingId, DynoId, FormationId, OperationId, ProcessType, SlugId, Stage,
    buildpack, procfile,
};
use shipway_store::{App, AppSetup, Collaborator, ConfigVars, Conn, Coupling, Formation, Pipeline, StoreError};
use std::collections::BTreeSet;

/// The file.
pub(crate) const APP_JSON: &str = "app.json";

/// What somebody who sets an app up decides.
#[derive(Debug, Clone, Default)]
pub struct SetupOrder {
    /// The app.
    pub app: NewApp,
    /// Config vars that count more than the app.json's.
    pub env: ConfigVars,
    /// Buildpacks instead of the app.json's.
    pub buildpacks: Option<Vec<String>>,
    /// Where in a pipeline it stands.
    pub coupling: Option<(Pipeline, Stage)>,
    /// Whether add-ons that are not there are left out instead of refused.
    pub without_addons: bool,
}

/// Where the code of a new app comes from.
pub(crate) enum Origin {
    /// It is in the app's repository already.
    Here,
    /// Another app's repository.
    App(shipway_domain::AppId),
    /// The repository at the pipeline's forge.
    Forge(String),
}

/// A new app, complete but for what its app.json says.
pub(crate) struct Beginning {
    pub(crate) app: App,
    pub(crate) config: ConfigVars,
    /// Names of `config` that the app.json may give another value.
    pub(crate) inherited: BTreeSet<ConfigKey>,
    /// Names of a parent's config vars that lead to its data and are not in `config`.
    pub(crate) withheld: BTreeSet<ConfigKey>,
    pub(crate) commit: CommitId,
    pub(crate) origin: Origin,
    pub(crate) environment: Environment,
    pub(crate) coupling: Option<(Pipeline, Stage)>,
    pub(crate) collaborators: Vec<Collaborator>,
    pub(crate) without_addons: bool,
}

impl Platform {
    /// Makes an app from a source. It returns at once; the setup's row says how it goes.
    /// Errors: the source, the name, a region or stack that is not there, a pipeline that the caller may not change,
    /// a stage that does not take the code.
    pub async fn create_app_setup(
        &self,
        caller: &Caller,
        order: SetupOrder,
        source: SourceBlob,
        blob: SourceOrder,
    ) -> Result<AppSetup> {
        if let Some((pipeline, _)) = &order.coupling {
            self.may(caller, pipeline, Access::Operate)?;
        }
        within_limit(&order.env)?;
        let mut app = self.new_app(caller, &order.app)?;
        if let Some(buildpacks) = order.buildpacks {
            crate::apps::check_buildpacks(&buildpacks)?;
            app.buildpacks = buildpacks;
        }
        self.inner.parts.repositories.create(app.id).await?;
        let begins = async {
            let commit = self.import_source(caller, app.id, &source, &blob).await?;
            if let Some((pipeline, stage)) = &order.coupling {
                self.may_begin_in(caller, pipeline, *stage, &app, &commit).await?;
            }
            Ok::<_, Error>(commit)
        };
        let commit = match begins.await {
            Ok(commit) => commit,
            Err(e) => {
                self.inner.parts.repositories.remove(app.id).await?;
                return Err(e);
            }
        };
        let beginning = Beginning {
            app,
            config: order.env,
            inherited: BTreeSet::new(),
            withheld: BTreeSet::new(),
            commit,
            origin: Origin::Here,
            environment: Environment::Plain,
            coupling: order.coupling,
            collaborators: Vec::new(),
            without_addons: order.without_addons,
        };
        self.begin_setup(caller, beginning, |_, _| Ok(())).await
    }

    /// Writes a new app and the operation that makes it down, with whatever `also` adds, and starts it. The app's
    /// repository exists; it goes again when this fails. Errors: a taken name.
    pub(crate) async fn begin_setup<F>(&self, caller: &Caller, new: Beginning, also: F) -> Result<AppSetup>
    where
        F: FnOnce(&Conn<'_>, &AppSetup) -> shipway_store::Result<()> + Send + 'static,
    {
        let Beginning { app, config, commit, origin, coupling, collaborators, .. } = new;
        let now = self.now();
        let (build, slug) = (self.id(BuildId), self.id(SlugId));
        let build = BuildPlan { build, slug, commit: commit.clone(), shared: None, exactly: false, over: None };
        let setup = AppSetup {
            id: self.id(AppSetupId),
            app: app.id,
            app_name: app.name.clone(),
            account: caller.actor.account,
            operation: self.id(OperationId),
            build: build.build,
            status: AppSetupStatus::Pending,
            failure: None,
            manifest_errors: Vec::new(),
            success_url: None,
            postdeploy_status: None,
            created_at: now,
            updated_at: now,
        };
        let row = self.build_row(caller, &app, &build, setup.operation);
        let (carry, fetch) = match origin {
            Origin::Here => (None, None),
            Origin::App(from) => (Some(CarryPlan { from: Place::App(from), commit: commit.clone() }), None),
            Origin::Forge(repository) => (None, Some(FetchPlan { repository, commit: commit.clone() })),
        };
        let part = Part {
            carry,
            fetch,
            release: Some(self.release_plan(&app, format!("Deploy {}", commit.short()), Code::Built)),
            build: Some(build),
            setup: Some(SetupPlan {
                setup: setup.id,
                environment: new.environment,
                inherited: new.inherited,
                withheld: new.withheld,
                postdeploy_dyno: self.id(DynoId),
                without_addons: new.without_addons,
            }),
            ..Part::new(app.id)
        };
        let plan = self.plan(caller, Trigger::Build, part);
        let first = self.first_release(caller, &app);
        let coupling = coupling.map(|(pipeline, stage)| Coupling {
            id: self.id(CouplingId),
            pipeline: pipeline.id,
            pipeline_name: pipeline.name,
            app: app.id,
            stage,
            display_name: None,
            created_at: now,
            updated_at: now,
        });
        let detail = serde_json::json!({ "setup": setup.id, "commit": commit, "environment": new.environment });
        let entry = self.entry(caller, Some(&app), "app-created", detail);
        let (app_row, setup_row) = (app.clone(), setup.clone());
        let submitted = self.submit_as(setup.operation, plan, move |c| {
            // A review app's row first: it keeps the name for this app.
            also(c, &setup_row)?;
            crate::apps::insert_new(c, &app_row, &first)?;
            c.set_config_vars(app_row.id, &config)?;
            for collaborator in &collaborators {
                c.put_collaborator(app_row.id, collaborator)?;
            }
            if let Some(coupling) = &coupling {
                c.insert_coupling(coupling)?;
            }
            c.put_app_setup(&setup_row)?;
            c.put_build(&row)?;
            c.record(&entry)
        });
        if let Err(e) = submitted.await {
            self.inner.parts.repositories.remove(app.id).await?;
            return Err(self.taken_name(e, &app.name));
        }
        std::fs::create_dir_all(self.log_dir(app.id)).map_err(Error::platform)?;
        self.log_api(app.id, &format!("App setup started by user {}", caller.actor.email));
        self.routes_changed();
        self.tell(Event::Apps);
        Ok(setup)
    }

    /// A setup that the caller asked for, or whose app they may see.
    pub fn app_setup(&self, caller: &Caller, id: AppSetupId) -> Result<AppSetup> {
        let missing = || Error::missing("app_setup");
        let setup = self.store().read(|c| c.app_setup(id))?.ok_or_else(missing)?;
        let may = setup.account == caller.actor.account || caller.actor.admin;
        match may || self.app(caller, &setup.app.into()).is_ok() {
            true if caller.actor.scope.reads_widely() => Ok(setup),
            _ => Err(missing()),
        }
    }

    /// What a setup's postdeploy script wrote, its first 64 KiB.
    pub async fn postdeploy_output(&self, setup: &AppSetup) -> Result<Option<String>> {
        if setup.postdeploy_status.is_none() {
            return Ok(None);
        }
        let first = self.read_output(setup.id.0).next().await.map_err(Error::platform)?;
        Ok(first.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The app.json of a commit. Errors: every problem of it, one a line. None: there is none.
    pub(crate) async fn app_json(
        &self,
        app: shipway_domain::AppId,
        commit: &CommitId,
    ) -> Result<Option<std::result::Result<AppJson, Vec<String>>>> {
        let at = Spot { place: Place::App(app), commit: commit.clone() };
        let text = self.inner.parts.histories.file(&at, APP_JSON).await?;
        Ok(text.map(|text| read_app_json(&text)))
    }

    pub(crate) async fn step_setup(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let (plan, commit) = (part.setup()?.clone(), &part.build()?.commit);
        let (app, before) = self.store().read(|c| Ok((c.app_by_id(part.app)?, c.own_config_vars(part.app)?)))?;
        let app_json = match self.app_json(app.id, commit).await? {
            None => AppJson::default(),
            Some(Ok(app_json)) => app_json,
            Some(Err(problems)) => {
                let (id, now, text) = (plan.setup, self.now(), problems.join("\n"));
                self.store()
                    .write(move |c| {
                        let Some(mut setup) = c.app_setup(id)? else { return Ok(()) };
                        setup.manifest_errors = problems;
                        setup.updated_at = now;
                        c.put_app_setup(&setup)
                    })
                    .await?;
                return Err(Error::invalid(format!("The repository's app.json is not valid:\n{text}")));
            }
        };
        ctx.line(&format!("-----> Setting up {} as its app.json says", app.name));
        for warning in &app_json.warnings {
            ctx.line(&format!(" !     {warning}"));
        }
        if !plan.withheld.is_empty() {
            let names = plan.withheld.iter().map(ConfigKey::as_str).collect::<Vec<_>>().join(", ");
            ctx.line(&format!(" !     Not inherited, because they lead to the parent app's data: {names}"));
        }
        let parts = app_json.parts(plan.environment);
        let addons = self.note_setup_addons(ctx, &app, &plan, &parts).await?;
        let config = self.setup_config(ctx, &app, &plan, &parts, before.clone(), &given_by(&addons))?;
        let formation = self.setup_formation(&parts)?;
        self.tell_lost_formation(ctx, &app, commit, &parts).await?;
        if let Some(stack) = &parts.stack {
            crate::apps::known("stack", &stack.name, &crate::STACKS).map_err(|e| in_line(e, stack.line))?;
        }
        let buildpacks = parts.buildpacks.filter(|_| app.buildpacks.is_empty()).unwrap_or_default();
        let buildpacks = buildpacks_of(&buildpacks)?;
        self.make_setup_addons(ctx, &addons).await?;
        let (now, id, success_url) = (self.now(), plan.setup, app_json.about.success_url);
        Ok(Box::new(move |c| {
            // Databases take minutes to be made: what somebody changed meanwhile stays as they want it.
            let mut app = c.app_by_id(app.id)?;
            if app.ending {
                return Err(StoreError::Missing("app: it is being destroyed"));
            }
            let mut vars = c.own_config_vars(app.id)?;
            for (key, value) in config {
                if vars.get(&key) == before.get(&key) {
                    vars.insert(key, value);
                }
            }
            c.set_config_vars(app.id, &vars)?;
            for row in &formation {
                c.put_formation(app.id, row)?;
            }
            if app.buildpacks.is_empty() {
                app.buildpacks = buildpacks;
            }
            app.updated_at = now;
            c.update_app(&app)?;
            let Some(mut setup) = c.app_setup(id)? else { return Ok(()) };
            setup.success_url = success_url;
            setup.updated_at = now;
            c.put_app_setup(&setup)
        }))
    }

    /// The config vars of the app: what was given, then what its app.json says, then what was inherited.
    fn setup_config(
        &self,
        ctx: &Context,
        app: &App,
        plan: &SetupPlan,
        parts: &Parts,
        mut config: ConfigVars,
        attached: &[ConfigKey],
    ) -> Result<ConfigVars> {
        let mut made_up = Vec::new();
        for (key, var) in &parts.env {
            if config.contains_key(key) && !plan.inherited.contains(key) {
                continue;
            }
            if let Some(value) = &var.value {
                config.insert(key.clone(), value.clone());
            } else if var.generated {
                let secret = shipway_store::hex(&self.store().keys().random_bytes::<32>());
                config.insert(key.clone(), secret);
                made_up.push(key.to_string());
            }
        }
        if !made_up.is_empty() {
            ctx.line(&format!("       Made up secrets: {}", made_up.join(", ")));
        }
        let missing = parts.missing(|key| config.contains_key(key) || attached.contains(key));
        if !missing.is_empty() {
            let way_out = match plan.environment {
                Environment::Plain => "Give them as `overrides.env`, or a value in app.json.",
                Environment::Review | Environment::Test => {
                    "Set them on the parent app or for the pipeline's stage, or give them a value in app.json."
                }
            };
            return Err(missing_vars("lacks", app, &missing, way_out));
        }
        within_limit(&config)?;
        Ok(config)
    }

    /// Says of which process types the app.json wants dynos that the Procfile does not have. A buildpack may bring `web`.
    async fn tell_lost_formation(&self, ctx: &Context, app: &App, commit: &CommitId, parts: &Parts) -> Result<()> {
        let at = Spot { place: Place::App(app.id), commit: commit.clone() };
        let text = self.inner.parts.histories.file(&at, "Procfile").await?;
        let Some(types) = text.and_then(|text| procfile::parse(&text).ok()) else { return Ok(()) };
        for lost in parts.formation.keys().filter(|name| !name.is_web() && !types.contains_key(*name)) {
            ctx.line(&format!(
                " !     The formation of app.json has {lost}, the Procfile has not: no dyno of it will run"
            ));
        }
        Ok(())
    }

    fn setup_formation(&self, parts: &Parts) -> Result<Vec<Formation>> {
        let now = self.now();
        let row = |(process_type, wanted): (&ProcessType, &shipway_domain::app_json::Quantity)| {
            let size = match &wanted.size {
                Some(name) => self.size_or_default(name)?,
                None => self.default_size(),
            };
            Ok(Formation {
                id: self.id(FormationId),
                process_type: process_type.clone(),
                quantity: wanted.quantity,
                size: size.name.clone(),
                created_at: now,
                updated_at: now,
            })
        };
        parts.formation.iter().filter(|(t, _)| !t.is_release()).map(row).collect()
    }

    /// Brings the commit from the forge of the app's pipeline.
    pub(crate) async fn step_fetch(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let plan = part.fetch.as_ref().ok_or_else(|| Error::platform("a step without its commit"))?;
        let forge = self.store().read(|c| match c.coupling_of(part.app)? {
            Some(coupling) => c.forge_of(coupling.pipeline),
            None => Ok(None),
        })?;
        let forge = forge.ok_or_else(|| {
            Error::invalid(format!(
                "{} is not connected to the app's pipeline any more: shipway forges connect",
                plan.repository
            ))
        })?;
        let turn = self.turn_of_operation(ctx).await?;
        ctx.line(&format!("-----> Fetching {} from {}", plan.commit.short(), plan.repository));
        let parts = &self.inner.parts;
        let remote = parts.forges.remote(&forge).await.map_err(|e| Error::invalid(e.0))?;
        let fetched = tokio::select! {
            fetched = parts.repositories.fetch(&remote, part.app, ctx.operation, &plan.commit) => fetched?,
            () = ctx.cancel.cancelled() => return Err(cancelled()),
        };
        drop(turn);
        fetched.map_err(|refused| {
            Error::invalid(format!("{} was not fetched from {}: {refused}", plan.commit.short(), plan.repository))
        })?;
        let push = self.store().read(|c| c.triggered_deploy_by(part.app, ctx.operation))?;
        let late = match push {
            Some(push) => self.comes_late(&push).await?,
            None => None,
        };
        late.map_or_else(|| Ok(nothing()), |late| Err(Error::invalid(late)))
    }

    /// Takes the whole app back. Its transcript stays with the setup.
    pub(crate) async fn undo_create(&self, ctx: &Context, part: &Part, error: &str) -> Result<Effect> {
        let (plan, build) = (part.setup()?.clone(), part.build()?.build);
        let stopped = self.step_stop_all(part).await?;
        let erased = self.erase(part.app, ctx.operation, Some(build)).await?;
        let (now, error, app) = (self.now(), error.to_string(), part.app);
        Ok(Box::new(move |c| {
            if let Some(mut setup) = c.app_setup(plan.setup)? {
                setup.status = AppSetupStatus::Failed;
                setup.failure = Some(error.clone());
                setup.updated_at = now;
                c.put_app_setup(&setup)?;
            }
            if let Some(mut review) = c.review_app_of(app)? {
                review.status = match review.status {
                    ReviewAppStatus::Deleting => ReviewAppStatus::Deleted,
                    _ => ReviewAppStatus::Errored,
                };
                review.message = Some(error);
                review.app = None;
                review.updated_at = now;
                c.put_review_app(&review)?;
            }
            stopped(c)?;
            erased(c)
        }))
    }

    /// Runs the postdeploy script, once in the app's life. What it does cannot be taken back: the app stays, and the
    /// setup says that it failed.
    pub(crate) async fn step_postdeploy(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let plan = part.setup()?.clone();
        let app_json = self.app_json(part.app, &part.build()?.commit).await?.and_then(std::result::Result::ok);
        let script = app_json.and_then(|a| a.parts(plan.environment).postdeploy);
        let mut ended = None;
        let mut failure = None;
        if let Some(command) = script {
            ctx.line("-----> Running postdeploy script...");
            let phase = Phase {
                dyno: plan.postdeploy_dyno,
                app: part.app,
                release: part.release()?.release,
                process_type: ProcessType::parse("postdeploy")?,
                command,
                output: plan.setup.0,
            };
            match self.try_phase(ctx, &phase).await {
                Ok(end) if end.status == 0 => ended = Some(0),
                Ok(end) => {
                    ended = Some(end.status);
                    failure = Some(end.failure("The postdeploy script"));
                }
                // Whoever ends the app does not wait for its script.
                Err(_) if self.is_cancelled(ctx) => failure = Some("The postdeploy script was cancelled.".into()),
                Err(e) => {
                    tracing::error!(app.id = %part.app, error = %e, cause = ?e.cause, "a postdeploy script could not be run");
                    failure = Some(format!("The postdeploy script could not be run: {e}"));
                }
            }
        }
        if let Some(failure) = &failure {
            ctx.line(&format!(" !     {failure} The app runs all the same."));
        }
        let (now, app) = (self.now(), part.app);
        Ok(Box::new(move |c| {
            if let Some(mut setup) = c.app_setup(plan.setup)? {
                setup.status = if failure.is_some() { AppSetupStatus::Failed } else { AppSetupStatus::Succeeded };
                setup.failure = failure.clone();
                setup.postdeploy_status = ended;
                setup.updated_at = now;
                c.put_app_setup(&setup)?;
            }
            let Some(mut review) = c.review_app_of(app)?.filter(|r| r.status == ReviewAppStatus::Creating) else {
                return Ok(());
            };
            review.status = if failure.is_some() { ReviewAppStatus::Errored } else { ReviewAppStatus::Created };
            review.message = failure;
            review.updated_at = now;
            c.put_review_app(&review)
        }))
    }

    /// Runs the pr-predestroy script of a review app that ends. It never holds the end up: what goes wrong is logged.
    pub(crate) async fn step_predestroy(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let Some(dyno) = part.predestroy else { return Ok(nothing()) };
        let current = self.store().read(|c| {
            let Some(app) = c.app(&part.app.into())? else { return Ok(None) };
            Ok(c.running(&app)?.and_then(|(release, slug)| Some((release, slug.commit?))))
        })?;
        let Some((release, commit)) = current else { return Ok(nothing()) };
        let app_json = self.app_json(part.app, &commit).await?.and_then(std::result::Result::ok);
        let script = app_json.and_then(|a| a.parts(Environment::Review).pr_predestroy);
        let Some(command) = script else { return Ok(nothing()) };
        let phase = Phase {
            dyno,
            app: part.app,
            release: release.id,
            process_type: ProcessType::parse("predestroy")?,
            command,
            output: dyno.0,
        };
        let limit = self.script_limit();
        let went = tokio::time::timeout(limit, self.run_phase(ctx, phase)).await;
        let trouble = match went {
            Ok(Ok(end)) if end.status == 0 => None,
            Ok(Ok(end)) => Some(format!("it exited with status {}", end.status)),
            Ok(Err(e)) => Some(e.to_string()),
            Err(_) => Some(format!("it took longer than {} s", limit.as_secs())),
        };
        if let Some(why) = trouble {
            tracing::warn!(app.id = %part.app, why, "a pr-predestroy script did not do its work");
        }
        self.forget_phase(dyno).await?;
        self.inner.outputs.remove(dyno.0);
        Ok(nothing())
    }
}

pub(crate) fn read_app_json(text: &str) -> std::result::Result<AppJson, Vec<String>> {
    AppJson::parse(text).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// An error of what stands in a line of the app.json.
fn in_line(error: Error, line: usize) -> Error {
    Error { message: format!("{} It is named in line {line} of app.json.", error.message), ..error }
}

/// The app.json's buildpacks as an app keeps them. Errors: one that is not here, with its line.
fn buildpacks_of(said: &[Placed]) -> Result<Vec<String>> {
    let names: Vec<String> = said.iter().map(|said| buildpack::name(&said.name)).collect();
    crate::apps::check_buildpacks(&names)?;
    if let Some((said, name)) = said.iter().zip(&names).find(|(_, name)| !buildpack::can_be_found(name)) {
        let built_in: Vec<&str> = buildpack::BUILT_IN.iter().map(|(name, _)| *name).collect();
        return Err(Error::invalid(format!(
            "There is no buildpack {name} here (app.json line {}). Built in are {}; others go by their https git URL.",
            said.line,
            built_in.join(", ")
        )));
    }
    Ok(names)
}
