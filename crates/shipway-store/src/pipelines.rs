//! Pipelines, couplings, and the config vars of their stages.

use crate::teams::VISIBLE;
use crate::{ConfigVars, Conn, Result, StoreError, json, micros, optional, parsed, time, to_json, unique, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use shipway_domain::{AccountId, AppId, CouplingId, DisplayName, Email, NameOrId, PipelineId, PipelineName, Stage};
use std::collections::BTreeSet;

/// A pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its id.
    pub id: PipelineId,
    /// Its name; can change.
    pub name: PipelineName,
    /// Its owner.
    pub owner: AccountId,
    /// Its owner's address.
    pub owner_email: Email,
    /// What its people set.
    pub settings: PipelineSettings,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What a pipeline's people may set beyond Heroku's own fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineSettings {
    /// Whether a promotion may leave out a stage, with a reason: from development straight to production.
    pub may_skip_stages: bool,
    /// The forge's repository that its code comes from, `owner/name`, as somebody connected it.
    pub repository: Option<String>,
    /// Stages that take no code which lacks commits of the pipeline's upstream.
    pub refuse_behind: BTreeSet<Stage>,
    /// Stages that take no commit which CI has not passed.
    pub refuse_unchecked: BTreeSet<Stage>,
}

/// An app's place in a pipeline.
#[derive(Debug, Clone)]
pub struct Coupling {
    /// Its id.
    pub id: CouplingId,
    /// The pipeline.
    pub pipeline: PipelineId,
    /// The pipeline's name.
    pub pipeline_name: PipelineName,
    /// The app.
    pub app: AppId,
    /// Its stage.
    pub stage: Stage,
    /// What the team calls the app here, where that is not its name.
    pub display_name: Option<DisplayName>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

pub(crate) const PIPELINE: &str = "SELECT pipelines.*, accounts.email AS owner_email FROM pipelines JOIN accounts ON accounts.id = pipelines.owner_id";
const COUPLING: &str = "SELECT couplings.*, pipelines.name AS pipeline_name FROM couplings JOIN pipelines ON pipelines.id = couplings.pipeline_id";

pub(crate) fn pipeline(row: &Row<'_>) -> rusqlite::Result<Pipeline> {
    Ok(Pipeline {
        id: parsed(row, "id")?,
        name: parsed(row, "name")?,
        owner: parsed(row, "owner_id")?,
        owner_email: parsed(row, "owner_email")?,
        settings: json(row, "settings")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn coupling(row: &Row<'_>) -> rusqlite::Result<Coupling> {
    Ok(Coupling {
        id: parsed(row, "id")?,
        pipeline: parsed(row, "pipeline_id")?,
        pipeline_name: parsed(row, "pipeline_name")?,
        app: parsed(row, "app_id")?,
        stage: word(row, "stage", Stage::from_text)?,
        display_name: optional(row, "display_name")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn stage_context(pipeline: PipelineId, stage: Stage) -> String {
    format!("config vars of stage {stage} of pipeline {pipeline}")
}

impl Conn<'_> {
    /// Adds a pipeline. Errors: `Taken`.
    pub fn insert_pipeline(&self, p: &Pipeline) -> Result<()> {
        self.execute(
            "INSERT INTO pipelines (id, name, owner_id, settings, created_at, updated_at) VALUES (?,?,?,?,?,?)",
            params![
                p.id.to_string(),
                p.name.as_str(),
                p.owner.to_string(),
                to_json(&p.settings)?,
                micros(p.created_at),
                micros(p.updated_at)
            ],
        )
        .map_err(unique("pipeline name"))?;
        Ok(())
    }

    /// Writes everything of a pipeline that can change. Errors: `Taken` for its new name.
    pub fn update_pipeline(&self, p: &Pipeline) -> Result<()> {
        self.execute(
            "UPDATE pipelines SET name = ?, owner_id = ?, settings = ?, updated_at = ? WHERE id = ?",
            params![
                p.name.as_str(),
                p.owner.to_string(),
                to_json(&p.settings)?,
                micros(p.updated_at),
                p.id.to_string()
            ],
        )
        .map_err(unique("pipeline name"))?;
        Ok(())
    }

    /// Removes a pipeline with its couplings; the apps stay.
    pub fn delete_pipeline(&self, id: PipelineId) -> Result<()> {
        self.execute("DELETE FROM pipelines WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// Finds a pipeline by id or name.
    pub fn pipeline(&self, which: &NameOrId) -> Result<Option<Pipeline>> {
        self.named(PIPELINE, "pipelines", which, pipeline)
    }

    /// The pipeline with this id. Errors: `Missing`.
    pub fn pipeline_by_id(&self, id: PipelineId) -> Result<Pipeline> {
        self.pipeline(&id.into())?.ok_or(StoreError::Missing("pipeline"))
    }

    /// All pipelines by name.
    pub fn pipelines(&self) -> Result<Vec<Pipeline>> {
        self.rows(&format!("{PIPELINE} ORDER BY pipelines.name"), [], pipeline)
    }

    /// The pipelines that an account may see: its own, its teams', and those with an app that it may see; by name.
    pub fn pipelines_of(&self, account: AccountId) -> Result<Vec<Pipeline>> {
        self.rows(
            &format!(
                "{PIPELINE} WHERE pipelines.owner_id = ?1 OR pipelines.id IN (
               SELECT pipeline_id FROM couplings JOIN apps ON apps.id = couplings.app_id WHERE {VISIBLE})
             OR pipelines.owner_id IN (
               SELECT team_id FROM team_members WHERE account_id = ?1 AND role <> 'collaborator')
             ORDER BY pipelines.name"
            ),
            [account.to_string()],
            pipeline,
        )
    }

    /// Puts an app into a pipeline. Errors: `Taken` when it stands in one.
    pub fn insert_coupling(&self, c: &Coupling) -> Result<()> {
        self.execute(
            "INSERT INTO couplings (id, pipeline_id, app_id, stage, display_name, created_at, updated_at)
             VALUES (?,?,?,?,?,?,?)",
            params![
                c.id.to_string(),
                c.pipeline.to_string(),
                c.app.to_string(),
                c.stage.as_str(),
                c.display_name.as_ref().map(|n| n.as_str()),
                micros(c.created_at),
                micros(c.updated_at)
            ],
        )
        .map_err(unique("place in a pipeline"))?;
        Ok(())
    }

    /// Moves an app to another stage, or calls it something else.
    pub fn update_coupling(&self, c: &Coupling) -> Result<()> {
        self.execute(
            "UPDATE couplings SET stage = ?, display_name = ?, updated_at = ? WHERE id = ?",
            params![
                c.stage.as_str(),
                c.display_name.as_ref().map(|n| n.as_str()),
                micros(c.updated_at),
                c.id.to_string()
            ],
        )?;
        Ok(())
    }

    /// Takes an app out of its pipeline.
    pub fn delete_coupling(&self, id: CouplingId) -> Result<()> {
        self.execute("DELETE FROM couplings WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// A coupling by id.
    pub fn coupling(&self, id: CouplingId) -> Result<Option<Coupling>> {
        self.row(&format!("{COUPLING} WHERE couplings.id = ?"), [id.to_string()], coupling)
    }

    /// An app's place, if it has one.
    pub fn coupling_of(&self, app: AppId) -> Result<Option<Coupling>> {
        self.row(&format!("{COUPLING} WHERE couplings.app_id = ?"), [app.to_string()], coupling)
    }

    /// A pipeline's couplings in the order of their stages, oldest first.
    pub fn couplings(&self, pipeline: PipelineId) -> Result<Vec<Coupling>> {
        let mut all = self.rows(
            &format!("{COUPLING} WHERE couplings.pipeline_id = ? ORDER BY couplings.created_at, couplings.id"),
            [pipeline.to_string()],
            coupling,
        )?;
        all.sort_by_key(|c| c.stage);
        Ok(all)
    }

    /// The config vars that apps of a stage begin with, opened.
    pub fn stage_config(&self, pipeline: PipelineId, stage: Stage) -> Result<ConfigVars> {
        let sealed: Option<Vec<u8>> = self.row(
            "SELECT config_sealed FROM stage_config WHERE pipeline_id = ? AND stage = ?",
            params![pipeline.to_string(), stage.as_str()],
            |r| r.get(0),
        )?;
        match sealed {
            Some(sealed) => self.open_config(&stage_context(pipeline, stage), &sealed),
            None => Ok(ConfigVars::new()),
        }
    }

    /// Replaces the config vars that apps of a stage begin with.
    pub fn set_stage_config(&self, pipeline: PipelineId, stage: Stage, vars: &ConfigVars) -> Result<()> {
        let sealed = self.keys.seal(&stage_context(pipeline, stage), to_json(vars)?.as_bytes());
        self.execute(
            "INSERT OR REPLACE INTO stage_config (pipeline_id, stage, config_sealed) VALUES (?,?,?)",
            params![pipeline.to_string(), stage.as_str(), sealed],
        )?;
        Ok(())
    }
}
