//! Records of deployments, and what became of each.

use crate::{Conn, Result, json, micros, parsed, time, to_json, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use serde_json::Value;
use shipway_domain::forge::DeploymentState;
use shipway_domain::{CommitId, PipelineId, Stage};

/// Records that are kept of a pipeline; older ones go.
const KEPT: u32 = 10_000;

/// A record of a deployment.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its id; the store gives it.
    pub id: i64,
    /// Of which pipeline.
    pub pipeline: PipelineId,
    /// The commit.
    pub commit: CommitId,
    /// What was asked for: a branch, a tag or the commit.
    pub reference: String,
    /// What is done: `deploy`, `deploy:shop`.
    pub task: String,
    /// Where to.
    pub environment: String,
    /// The stage that the environment means, if it is one's name.
    pub stage: Option<Stage>,
    /// An object or a text of whoever wrote the record.
    pub payload: Value,
    /// For people.
    pub description: Option<String>,
    /// Whether the environment goes some day.
    pub transient: bool,
    /// Whether users meet it.
    pub production: bool,
    /// The address of who wrote the record.
    pub creator: String,
    /// When.
    pub created_at: Timestamp,
    /// When it last got a status.
    pub updated_at: Timestamp,
}

/// What became of a deployment. The newest counts.
#[derive(Debug, Clone)]
pub struct DeploymentStatus {
    /// Its id; the store gives it.
    pub id: i64,
    /// Of which deployment.
    pub deployment: i64,
    /// What.
    pub state: DeploymentState,
    /// Where.
    pub environment: String,
    /// For people.
    pub description: Option<String>,
    /// Where its output is.
    pub log_url: Option<String>,
    /// Where what was deployed is.
    pub environment_url: Option<String>,
    /// The address of who said so.
    pub creator: String,
    /// When.
    pub created_at: Timestamp,
}

/// Which records; all where nothing is named.
#[derive(Debug, Clone, Default)]
pub struct DeploymentFilter {
    /// Those of this environment, by its name or the stage that it means.
    pub environment: Option<String>,
    /// Those of this task.
    pub task: Option<String>,
    /// Those of this commit.
    pub commit: Option<String>,
    /// Those that were asked for by this name.
    pub reference: Option<String>,
}

/// The stage that the name of an environment means: `dev`, `Staging`, `production`.
pub fn stage_of_environment(environment: &str) -> Option<Stage> {
    Stage::from_people(&environment.to_ascii_lowercase())
}

fn deployment(row: &Row<'_>) -> rusqlite::Result<Deployment> {
    let environment: String = row.get("environment")?;
    Ok(Deployment {
        id: row.get("id")?,
        pipeline: parsed(row, "pipeline_id")?,
        commit: parsed(row, "commit_id")?,
        reference: row.get("reference")?,
        task: row.get("task")?,
        stage: stage_of_environment(&environment),
        environment,
        payload: json(row, "payload")?,
        description: row.get("description")?,
        transient: row.get("transient")?,
        production: row.get("production")?,
        creator: row.get("creator")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn status(row: &Row<'_>) -> rusqlite::Result<DeploymentStatus> {
    Ok(DeploymentStatus {
        id: row.get("id")?,
        deployment: row.get("deployment_id")?,
        state: word(row, "state", DeploymentState::from_text)?,
        environment: row.get("environment")?,
        description: row.get("description")?,
        log_url: row.get("log_url")?,
        environment_url: row.get("environment_url")?,
        creator: row.get("creator")?,
        created_at: time(row, "created_at")?,
    })
}

/// Records of the pipelines ?1 that a filter ?2 to ?6 means.
const FILTERED: &str = "FROM deployments WHERE pipeline_id IN (SELECT value FROM json_each(?1))
     AND (?2 IS NULL OR environment = ?2 OR stage = ?3) AND (?4 IS NULL OR task = ?4)
     AND (?5 IS NULL OR commit_id = ?5) AND (?6 IS NULL OR reference = ?6)";

impl Conn<'_> {
    /// Adds a record, whose id it returns, and forgets what is too old of the pipeline's.
    pub fn insert_deployment(&self, d: &Deployment) -> Result<i64> {
        self.execute(
            "INSERT INTO deployments (pipeline_id, commit_id, reference, task, environment, stage, payload,
             description, transient, production, creator, created_at, updated_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            params![
                d.pipeline.to_string(),
                d.commit.as_str(),
                d.reference,
                d.task,
                d.environment,
                d.stage.map(Stage::as_str),
                to_json(&d.payload)?,
                d.description,
                d.transient,
                d.production,
                d.creator,
                micros(d.created_at),
                micros(d.updated_at)
            ],
        )?;
        let id = self.sql.last_insert_rowid();
        self.execute(
            "DELETE FROM deployments WHERE pipeline_id = ?1 AND id <=
             (SELECT id FROM deployments WHERE pipeline_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            params![d.pipeline.to_string(), KEPT],
        )?;
        Ok(id)
    }

    /// A record by id.
    pub fn deployment(&self, id: i64) -> Result<Option<Deployment>> {
        self.row("SELECT * FROM deployments WHERE id = ?", [id], deployment)
    }

    /// Records of pipelines, newest first, from the `offset`th on; and how many there are.
    pub fn deployments(
        &self,
        pipelines: &[PipelineId],
        filter: &DeploymentFilter,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<Deployment>, u64)> {
        let pipelines = to_json(&pipelines)?;
        let stage = filter.environment.as_deref().and_then(stage_of_environment).map(Stage::as_str);
        let DeploymentFilter { environment, task, commit, reference } = filter;
        let page = params![pipelines, environment, stage, task, commit, reference, limit, offset];
        let sql = format!("SELECT * {FILTERED} ORDER BY id DESC LIMIT ?7 OFFSET ?8");
        let found = self.rows(&sql, page, deployment)?;
        let all = params![pipelines, environment, stage, task, commit, reference];
        Ok((found, self.value(&format!("SELECT count(*) {FILTERED}"), all)?))
    }

    /// Records of a pipeline whose last status is success, of a stage or of an environment, that said so last first.
    pub fn successful_deployments(
        &self,
        pipeline: PipelineId,
        stage: Stage,
        environment: &str,
        limit: u32,
    ) -> Result<Vec<Deployment>> {
        let all = params![pipeline.to_string(), stage.as_str(), environment, limit];
        self.rows(
            "SELECT * FROM deployments WHERE pipeline_id = ? AND (stage = ? OR environment = ?) AND 'success' =
             (SELECT state FROM deployment_statuses WHERE deployment_id = deployments.id ORDER BY id DESC LIMIT 1)
             ORDER BY updated_at DESC, id DESC LIMIT ?",
            all,
            deployment,
        )
    }

    /// Adds a status, whose id it returns.
    pub fn insert_deployment_status(&self, s: &DeploymentStatus) -> Result<i64> {
        self.execute(
            "INSERT INTO deployment_statuses (deployment_id, state, environment, description, log_url,
             environment_url, creator, created_at) VALUES (?,?,?,?,?,?,?,?)",
            params![
                s.deployment,
                s.state.as_str(),
                s.environment,
                s.description,
                s.log_url,
                s.environment_url,
                s.creator,
                micros(s.created_at)
            ],
        )?;
        let id = self.sql.last_insert_rowid();
        self.execute(
            "UPDATE deployments SET updated_at = ? WHERE id = ?",
            params![micros(s.created_at), s.deployment],
        )?;
        Ok(id)
    }

    /// How many statuses a deployment has.
    pub fn count_deployment_statuses(&self, deployment: i64) -> Result<u64> {
        self.value("SELECT count(*) FROM deployment_statuses WHERE deployment_id = ?", [deployment])
    }

    /// The statuses of a deployment, newest first.
    pub fn deployment_statuses(&self, deployment: i64) -> Result<Vec<DeploymentStatus>> {
        self.rows("SELECT * FROM deployment_statuses WHERE deployment_id = ? ORDER BY id DESC", [deployment], status)
    }
}
