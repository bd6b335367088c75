//! Records of deployments: what somebody says was deployed where, in the shape that scripts know from GitHub. Nothing is
//! deployed because of one.
//!
//! A record is a pipeline's; whoever may see the pipeline may read it. Code that a release of ours brings to an app of a
//! pipeline is written down here as well.

use crate::error::Error;
use crate::pipelines::Access;
use crate::plan::{Code, Part};
use crate::ports::Caller;
use crate::promotions::Promotable;
use crate::{Kind, Platform, Result};
use serde_json::{Map, Value, json};
use shipway_domain::forge::DeploymentState;
use shipway_domain::{CommitId, PipelineId, ProcessType, Stage};
use shipway_store::{
    App, Conn, Deployment, DeploymentFilter, DeploymentStatus, Pipeline, Release, Slug, StoreError,
    stage_of_environment,
};

/// Bytes of a payload, as JSON.
const MAX_PAYLOAD: usize = 64 * 1024;
/// Characters of a name: of a ref, a task, an environment.
const MAX_NAME: usize = 255;
/// Characters of a description, as at GitHub.
const MAX_DESCRIPTION: usize = 140;
/// Characters of an address.
const MAX_URL: usize = 2048;
/// Statuses of one record.
const MAX_STATUSES: u64 = 1000;
/// Records that are looked at for the newest one that names an app's code.
const LOOKED_AT: u32 = 100;

/// A record to be written.
#[derive(Debug, Clone)]
pub struct NewDeployment {
    /// A branch, a tag or a commit. A whole commit id is taken as it is; anything else must be here.
    pub reference: String,
    /// What is done; `deploy` without.
    pub task: Option<String>,
    /// Where to; `production` without.
    pub environment: Option<String>,
    /// An object or a text of 64 KiB at most; an empty object without.
    pub payload: Option<Value>,
    /// For people.
    pub description: Option<String>,
    /// Whether the environment goes some day.
    pub transient: bool,
    /// Whether users meet it; what the environment's name says without.
    pub production: Option<bool>,
}

/// A status to be written.
#[derive(Debug, Clone)]
pub struct NewDeploymentStatus {
    /// `error`, `failure`, `inactive`, `in_progress`, `queued`, `pending` or `success`.
    pub state: String,
    /// Where; that of the deployment without.
    pub environment: Option<String>,
    /// For people, 140 characters at most.
    pub description: Option<String>,
    /// Where its output is: http or https.
    pub log_url: Option<String>,
    /// Where what was deployed is: http or https.
    pub environment_url: Option<String>,
}

impl Platform {
    /// Records of a repository, newest first, from the `offset`th on, and how many there are. Errors: the caller sees no
    /// pipeline of that repository.
    pub fn deployments(
        &self,
        caller: &Caller,
        repository: &str,
        filter: &DeploymentFilter,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<Deployment>, u64)> {
        let pipelines: Vec<PipelineId> = self.pipelines_with(caller, repository)?.iter().map(|p| p.id).collect();
        Ok(self.store().read(|c| c.deployments(&pipelines, filter, offset, limit))?)
    }

    /// A record of a repository. Errors: there is none that the caller may see.
    pub fn deployment(&self, caller: &Caller, repository: &str, id: i64) -> Result<Deployment> {
        let pipelines = self.pipelines_with(caller, repository)?;
        let found = self.store().read(|c| c.deployment(id))?;
        let found = found.filter(|deployment| pipelines.iter().any(|pipeline| pipeline.id == deployment.pipeline));
        found.ok_or_else(|| Error::missing("deployment"))
    }

    /// The statuses of a record, newest first.
    pub fn deployment_statuses(&self, deployment: &Deployment) -> Result<Vec<DeploymentStatus>> {
        Ok(self.store().read(|c| c.deployment_statuses(deployment.id))?)
    }

    /// Writes a record down. Of several pipelines with the repository the one counts that `task` names
    /// (`deploy:PIPELINE`), else the first that the caller operates.
    ///
    /// Errors: the caller operates none of them; a ref that is not here; what is too long.
    pub async fn record_deployment(&self, caller: &Caller, repository: &str, new: NewDeployment) -> Result<Deployment> {
        let task = new.task.unwrap_or_else(|| "deploy".into());
        let environment = new.environment.unwrap_or_else(|| Stage::Production.as_str().into());
        let payload = new.payload.unwrap_or_else(|| json!({}));
        for (what, text) in [("ref", &new.reference), ("task", &task), ("environment", &environment)] {
            plain(what, text, MAX_NAME)?;
        }
        new.description.as_deref().map_or(Ok(()), |text| plain("description", text, MAX_DESCRIPTION))?;
        fits(&payload)?;
        let pipeline = self.recording_pipeline(caller, repository, &task)?;
        let commit = self.commit_of(caller, repository, &new.reference).await?;
        let (stage, now) = (stage_of_environment(&environment), self.now());
        let mut deployment = Deployment {
            id: 0,
            pipeline: pipeline.id,
            commit,
            reference: new.reference,
            task,
            production: new.production.unwrap_or(stage == Some(Stage::Production)),
            stage,
            environment,
            payload,
            description: new.description,
            transient: new.transient,
            creator: caller.actor.email.clone(),
            created_at: now,
            updated_at: now,
        };
        let detail = json!({
            "pipeline": pipeline.name, "environment": deployment.environment, "task": deployment.task,
            "commit": deployment.commit,
        });
        let (entry, row) = (self.entry(caller, None, "deployment-recorded", detail), deployment.clone());
        let written = self.write_with(entry, move |c| {
            let id = c.insert_deployment(&row)?;
            Ok(id)
        });
        deployment.id = written.await?;
        Ok(deployment)
    }

    /// Writes a status of a record down. Errors: who does not operate its pipeline, an unknown state, what is too long, no
    /// http address, 1,000 statuses.
    pub async fn record_deployment_status(
        &self,
        caller: &Caller,
        deployment: &Deployment,
        new: NewDeploymentStatus,
    ) -> Result<DeploymentStatus> {
        let pipeline = self.pipeline(caller, &deployment.pipeline.into())?;
        self.may(caller, &pipeline, Access::Operate)?;
        let state = DeploymentState::from_text(&new.state).ok_or_else(|| {
            Error::invalid("`state` must be error, failure, inactive, in_progress, queued, pending or success.")
        })?;
        new.description.as_deref().map_or(Ok(()), |text| plain("description", text, MAX_DESCRIPTION))?;
        for (what, url) in [("log_url", &new.log_url), ("environment_url", &new.environment_url)] {
            url.as_deref().map_or(Ok(()), |url| web_address(what, url))?;
        }
        let environment = new.environment.unwrap_or_else(|| deployment.environment.clone());
        plain("environment", &environment, MAX_NAME)?;
        if self.store().read(|c| c.count_deployment_statuses(deployment.id))? >= MAX_STATUSES {
            return Err(Error::invalid(format!(
                "Deployment {} has {MAX_STATUSES} statuses, and may not have more: write another deployment down.",
                deployment.id
            )));
        }
        let mut status = DeploymentStatus {
            id: 0,
            deployment: deployment.id,
            state,
            environment,
            description: new.description,
            log_url: new.log_url,
            environment_url: new.environment_url,
            creator: caller.actor.email.clone(),
            created_at: self.now(),
        };
        let detail = json!({ "pipeline": pipeline.name, "deployment": deployment.id, "state": state });
        let (entry, row) = (self.entry(caller, None, "deployment-status", detail), status.clone());
        let written = self.write_with(entry, move |c| {
            let id = c.insert_deployment_status(&row)?;
            Ok(id)
        });
        status.id = written.await?;
        Ok(status)
    }

    /// The pipelines of a repository that the caller may see, by name. Errors: there is none.
    fn pipelines_with(&self, caller: &Caller, repository: &str) -> Result<Vec<Pipeline>> {
        let mut pipelines = self.pipelines(caller)?;
        pipelines.retain(|pipeline| self.repository_of(pipeline).eq_ignore_ascii_case(repository));
        if pipelines.is_empty() {
            return Err(Error::missing("repository"));
        }
        Ok(pipelines)
    }

    fn recording_pipeline(&self, caller: &Caller, repository: &str, task: &str) -> Result<Pipeline> {
        let mut seen = self.pipelines_with(caller, repository)?;
        let named = |pipeline: &Pipeline| task.strip_prefix("deploy:") == Some(pipeline.name.as_str());
        seen.sort_by_key(|pipeline| !named(pipeline));
        let mut refused = None;
        for pipeline in seen {
            match self.may(caller, &pipeline, Access::Operate) {
                Ok(()) => return Ok(pipeline),
                // Not into another one than the task says.
                Err(e) if named(&pipeline) => return Err(e),
                Err(e) => refused = refused.or(Some(e)),
            }
        }
        Err(refused.unwrap_or_else(|| Error::missing("repository")))
    }

    /// Whether the newest successful record of a stage, or of an app in it, names other code for the app than what it runs,
    /// whichever of its releases is promoted.
    pub(crate) fn contradiction(
        &self,
        pipeline: PipelineId,
        stage: Stage,
        source: &Promotable,
    ) -> Result<Option<Contradiction>> {
        let app = source.app.name.as_str();
        let current;
        let runs = match source.app.current_release == Some(source.release.id) {
            true => source,
            false => {
                current = self.promotable(&source.app, None)?;
                &current
            }
        };
        let (pipeline, records, couplings) = self.store().read(|c| {
            let records = c.successful_deployments(pipeline, stage, app, LOOKED_AT)?;
            Ok((c.pipeline_by_id(pipeline)?, records, c.couplings(pipeline)?))
        })?;
        let alone = couplings.iter().filter(|coupling| coupling.stage == stage).count() == 1;
        let named = records.iter().find_map(|record| {
            let task = record.task.strip_prefix("deploy:");
            let of_app = task == Some(app) || record.environment == app;
            let of_pipeline = alone && task.is_none_or(|task| task == pipeline.name.as_str());
            let code = named_code(&record.payload, app, of_app || of_pipeline);
            (!code.is_empty()).then_some((record, code))
        });
        let Some((record, code)) = named else { return Ok(None) };
        let Some((kind, other)) = code.into_iter().find(|(_, code)| !is_of(&runs.slug, code)) else {
            return Ok(None);
        };
        let id = record.id;
        Ok(Some(Contradiction {
            fact: format!(
                "{app} runs v{}, {}, and deployment {id} of {}, its newest successful record, says {kind} is {other}.",
                runs.release.version, runs.slug.digest, record.environment,
            ),
            ways_out: format!(
                "Deploy what the record names, write down what runs (POST /repos/{}/deployments, with the status success), \
                 give deployment {id} the status inactive, or promote all the same and say why: shipway promote {app}",
                self.repository_of(&pipeline),
            ),
        }))
    }

    async fn commit_of(&self, caller: &Caller, repository: &str, reference: &str) -> Result<CommitId> {
        if let Ok(commit) = CommitId::parse(reference) {
            return Ok(commit);
        }
        match self.find_source(caller, repository, reference).await {
            Ok(spot) => Ok(spot.commit),
            Err(e) if e.kind != Kind::NotFound => Err(e),
            Err(_) => Err(Error::invalid(format!(
                "No ref found for: {reference}. {repository} has no such branch or tag here: name the whole commit id."
            ))),
        }
    }

    /// The record of what a part's release brings to an app of a pipeline, to be written with the switch; none for one that
    /// brings no other code, or none of a commit.
    pub(crate) fn own_deployment(
        &self,
        caller: &Caller,
        part: &Part,
        app: &App,
        slug: &Slug,
    ) -> Result<Option<OwnDeployment>> {
        let (Some(plan), Some(commit)) = (&part.release, slug.commit.clone()) else { return Ok(None) };
        if matches!(plan.code, Code::Current) {
            return Ok(None);
        }
        let (release, coupling) =
            self.store().read(|c| Ok((c.release_by_id(plan.release)?, c.coupling_of(app.id)?)))?;
        let Some(coupling) = coupling else { return Ok(None) };
        let transient = coupling.stage.is_made_by_the_platform();
        let environment = if transient { app.name.to_string() } else { coupling.stage.to_string() };
        let now = self.now();
        Ok(Some(OwnDeployment {
            deployment: Deployment {
                id: 0,
                pipeline: coupling.pipeline,
                reference: commit.to_string(),
                commit,
                task: format!("deploy:{}", coupling.pipeline_name),
                stage: stage_of_environment(&environment),
                environment,
                payload: deployed(app, &release, slug, self.process_types(&slug.manifest).keys()),
                description: Some(format!("{} v{}", app.name, release.version)),
                transient,
                production: coupling.stage == Stage::Production,
                creator: caller.actor.email.clone(),
                created_at: now,
                updated_at: now,
            },
            url: self.web_url(app.name.as_str()),
        }))
    }
}

/// The code that a record names for an app, by process type: under the app's name as our own records and forges have it,
/// or as `docker_image_shas` where the record is `of_app`.
fn named_code(payload: &Value, app: &str, of_app: bool) -> Vec<(String, String)> {
    let Value::Object(payload) = payload else { return Vec::new() };
    let images = of_app.then(|| payload.get("docker_image_shas")).flatten();
    let processes = payload.get(app).or(images).and_then(Value::as_object);
    let code = |value: &Value| value.as_str().or_else(|| value.get("digest")?.as_str()).map(String::from);
    processes.into_iter().flatten().filter_map(|(kind, value)| Some((kind.clone(), code(value)?))).collect()
}

/// Whether a digest or an image id, as people write them, is that of a slug.
fn is_of(slug: &Slug, code: &str) -> bool {
    code == slug.id.to_string() || code.trim_start_matches("sha256:") == slug.digest.hex()
}

/// A record that names other code for an app than what it runs.
pub(crate) struct Contradiction {
    /// Both, for people.
    pub fact: String,
    ways_out: String,
}

impl Contradiction {
    /// Why nothing is promoted to an app, and what to do.
    pub(crate) fn refusal(&self, target: &App) -> String {
        format!("{} Nothing was promoted. {} {} --reason \"…\"", self.fact, self.ways_out, target.name)
    }
}

/// A record of a release of ours.
pub(crate) struct OwnDeployment {
    deployment: Deployment,
    url: String,
}

impl OwnDeployment {
    /// Writes it down, with the status that it serves.
    pub(crate) fn write(&self, c: &Conn<'_>) -> Result<(), StoreError> {
        let id = c.insert_deployment(&self.deployment)?;
        let Deployment { environment, creator, created_at, .. } = self.deployment.clone();
        let (state, environment_url) = (DeploymentState::Success, Some(self.url.clone()));
        let (description, log_url) = (None, None);
        let status = DeploymentStatus {
            id: 0,
            deployment: id,
            state,
            environment,
            description,
            log_url,
            environment_url,
            creator,
            created_at,
        };
        c.insert_deployment_status(&status).map(drop)
    }
}

/// What a release of an app runs, as forges are told: `{app: {process: {digest, image_id, config_hash}}}`.
pub(crate) fn deployed<'a>(
    app: &App,
    release: &Release,
    slug: &Slug,
    process_types: impl Iterator<Item = &'a ProcessType>,
) -> Value {
    let of_process = json!({ "digest": slug.digest, "image_id": slug.id, "config_hash": release.config_hash });
    let processes: Map<String, Value> = process_types.map(|kind| (kind.to_string(), of_process.clone())).collect();
    json!({ app.name.as_str(): processes })
}

fn plain(what: &str, text: &str, most: usize) -> Result<()> {
    match text.chars().count() <= most && !text.is_empty() && !text.contains(char::is_control) {
        true => Ok(()),
        false => Err(Error::invalid(format!("`{what}` must be 1 to {most} characters in one line."))),
    }
}

fn fits(payload: &Value) -> Result<()> {
    if !payload.is_object() && !payload.is_string() {
        return Err(Error::invalid("`payload` must be an object or a string."));
    }
    match payload.to_string().len() {
        0..=MAX_PAYLOAD => Ok(()),
        bytes => Err(Error::invalid(format!("`payload` has {bytes} bytes, and may have {MAX_PAYLOAD}."))),
    }
}

fn web_address(what: &str, url: &str) -> Result<()> {
    plain(what, url, MAX_URL)?;
    match url.starts_with("https://") || url.starts_with("http://") {
        true => Ok(()),
        false => Err(Error::invalid(format!("`{what}` must begin with https:// or http://."))),
    }
}
