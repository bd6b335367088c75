//! Triggers, the deploys that they asked for, and what checks say of commits.

use crate::{Conn, Result, json, micros, optional, parsed, time, to_json, unique, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use shipway_domain::admission::Actor;
use shipway_domain::review::Checks;
use shipway_domain::triggers::{RefKind, RefName, RefPattern, TriggeredStatus};
use shipway_domain::{AccountId, AppId, CommitId, OperationId, PipelineId, ReleaseId, TriggerId, TriggeredDeployId};

/// Refs that deploy an app by themselves.
#[derive(Debug, Clone)]
pub struct RefTrigger {
    /// Its id.
    pub id: TriggerId,
    /// Whose.
    pub app: AppId,
    /// Which refs.
    pub pattern: RefPattern,
    /// Whether a commit waits until its checks have passed.
    pub wait_for_ci: bool,
    /// Who made it.
    pub account: AccountId,
    /// When.
    pub created_at: Timestamp,
}

/// Which repository has a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitSource {
    /// An app's.
    App(AppId),
    /// That of the line which a pipeline's team works on.
    Upstream(PipelineId),
    /// One at a forge: `owner/name`.
    Forge(String),
}

/// A deploy that a trigger asked for.
#[derive(Debug, Clone)]
pub struct TriggeredDeploy {
    /// Its id.
    pub id: TriggeredDeployId,
    /// Of which app.
    pub app: AppId,
    /// The pipeline whose checks are waited for.
    pub pipeline: Option<PipelineId>,
    /// The trigger's pattern.
    pub glob: String,
    /// The ref that moved.
    pub reference: RefName,
    /// Where it was before, as the one who told us says.
    pub before: Option<CommitId>,
    /// Where to.
    pub commit: CommitId,
    /// Where the commit is.
    pub source: CommitSource,
    /// In whose name it deploys.
    pub actor: Actor,
    /// Who moved the ref, as the one who told us says.
    pub by: String,
    /// The account of who moved it; none where a forge named somebody who has none, and where nobody did.
    pub mover: Option<AccountId>,
    /// Whether it waits until its checks have passed.
    pub wait_for_ci: bool,
    /// Whether somebody's push waits for how it ends, and is refused when it fails.
    pub awaited: bool,
    /// What became of it.
    pub status: TriggeredStatus,
    /// Why it waits, or was not carried out.
    pub message: Option<String>,
    /// The operation that it became.
    pub operation: Option<OperationId>,
    /// When the ref moved.
    pub created_at: Timestamp,
    /// When this row last changed.
    pub updated_at: Timestamp,
}

fn trigger(row: &Row<'_>) -> rusqlite::Result<RefTrigger> {
    let glob: String = row.get("glob")?;
    let pattern = word(row, "kind", |kind| RefPattern::parse(RefKind::from_text(kind)?, &glob).ok())?;
    Ok(RefTrigger {
        id: parsed(row, "id")?,
        app: parsed(row, "app_id")?,
        pattern,
        wait_for_ci: row.get("wait_for_ci")?,
        account: parsed(row, "account_id")?,
        created_at: time(row, "created_at")?,
    })
}

fn triggered_deploy(row: &Row<'_>) -> rusqlite::Result<TriggeredDeploy> {
    let kind = word(row, "ref_kind", RefKind::from_text)?;
    Ok(TriggeredDeploy {
        id: parsed(row, "id")?,
        app: parsed(row, "app_id")?,
        pipeline: optional(row, "pipeline_id")?,
        glob: row.get("glob")?,
        reference: word(row, "ref_name", |name| RefName::new(kind, name).ok())?,
        before: optional(row, "before_id")?,
        commit: parsed(row, "commit_id")?,
        source: json(row, "source")?,
        actor: json(row, "actor")?,
        by: row.get("moved_by")?,
        mover: optional(row, "mover_id")?,
        wait_for_ci: row.get("wait_for_ci")?,
        awaited: row.get("awaited")?,
        status: word(row, "status", TriggeredStatus::from_text)?,
        message: row.get("message")?,
        operation: optional(row, "operation_id")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

impl Conn<'_> {
    /// Adds a trigger. Errors: [`crate::StoreError::Taken`] when the app has one of the same pattern.
    pub fn insert_trigger(&self, t: &RefTrigger) -> Result<()> {
        self.execute(
            "INSERT INTO triggers (id, app_id, kind, glob, wait_for_ci, account_id, created_at)
             VALUES (?,?,?,?,?,?,?)",
            params![
                t.id.to_string(),
                t.app.to_string(),
                t.pattern.kind().as_str(),
                t.pattern.glob(),
                t.wait_for_ci,
                t.account.to_string(),
                micros(t.created_at)
            ],
        )
        .map_err(unique("trigger"))?;
        Ok(())
    }

    /// The triggers of an app, oldest first.
    pub fn triggers(&self, app: AppId) -> Result<Vec<RefTrigger>> {
        self.rows("SELECT * FROM triggers WHERE app_id = ? ORDER BY created_at, id", [app.to_string()], trigger)
    }

    /// Removes a trigger; a second time does nothing.
    pub fn delete_trigger(&self, id: TriggerId) -> Result<()> {
        self.execute("DELETE FROM triggers WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// Adds a triggered deploy, or writes what of it can change.
    pub fn put_triggered_deploy(&self, d: &TriggeredDeploy) -> Result<()> {
        self.execute(
            "INSERT INTO triggered_deploys (id, app_id, pipeline_id, glob, ref_kind, ref_name, commit_id, source,
             actor, moved_by, wait_for_ci, status, message, operation_id, created_at, updated_at, before_id,
             awaited, mover_id) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19)
             ON CONFLICT (id)
             DO UPDATE SET status = ?12, message = ?13, operation_id = ?14, updated_at = ?16, before_id = ?17,
             moved_by = ?10, mover_id = ?19",
            params![
                d.id.to_string(),
                d.app.to_string(),
                d.pipeline.map(|p| p.to_string()),
                d.glob,
                d.reference.kind().as_str(),
                d.reference.name(),
                d.commit.as_str(),
                to_json(&d.source)?,
                to_json(&d.actor)?,
                d.by,
                d.wait_for_ci,
                d.status.as_str(),
                d.message,
                d.operation.map(|o| o.to_string()),
                micros(d.created_at),
                micros(d.updated_at),
                d.before.as_ref().map(CommitId::as_str),
                d.awaited,
                d.mover.map(|m| m.to_string())
            ],
        )?;
        Ok(())
    }

    /// The newest triggered deploys of an app, newest first.
    pub fn triggered_deploys(&self, app: AppId, limit: u32) -> Result<Vec<TriggeredDeploy>> {
        self.rows(
            "SELECT * FROM triggered_deploys WHERE app_id = ? ORDER BY created_at DESC, rowid DESC LIMIT ?",
            params![app.to_string(), limit],
            triggered_deploy,
        )
    }

    /// Those of one ref, newest first, at most 100.
    pub fn triggered_deploys_of(&self, app: AppId, reference: &RefName) -> Result<Vec<TriggeredDeploy>> {
        let of = params![app.to_string(), reference.kind().as_str(), reference.name()];
        self.rows(
            "SELECT * FROM triggered_deploys WHERE app_id = ? AND ref_kind = ? AND ref_name = ?
             ORDER BY created_at DESC, rowid DESC LIMIT 100",
            of,
            triggered_deploy,
        )
    }

    /// The one that an operation is.
    pub fn triggered_deploy_by(&self, app: AppId, operation: OperationId) -> Result<Option<TriggeredDeploy>> {
        self.row(
            "SELECT * FROM triggered_deploys WHERE app_id = ? AND operation_id = ?",
            params![app.to_string(), operation.to_string()],
            triggered_deploy,
        )
    }

    /// The one that brought a release's code.
    pub fn triggered_deploy_of(&self, app: AppId, release: ReleaseId) -> Result<Option<TriggeredDeploy>> {
        self.row(
            "SELECT * FROM triggered_deploys WHERE app_id = ?1
             AND operation_id IN (SELECT operation_id FROM builds WHERE app_id = ?1 AND release_id = ?2)",
            params![app.to_string(), release.to_string()],
            triggered_deploy,
        )
    }

    /// Those of all apps that wait, by app, oldest first.
    pub fn waiting_deploys(&self) -> Result<Vec<TriggeredDeploy>> {
        self.rows(
            "SELECT * FROM triggered_deploys WHERE status = 'waiting' ORDER BY app_id, created_at, rowid",
            [],
            triggered_deploy,
        )
    }

    /// Writes down what checks say of a commit.
    pub fn put_commit_checks(
        &self,
        pipeline: PipelineId,
        commit: &CommitId,
        checks: Checks,
        now: Timestamp,
    ) -> Result<()> {
        self.execute(
            "INSERT OR REPLACE INTO commit_checks (pipeline_id, commit_id, checks, updated_at) VALUES (?,?,?,?)",
            params![pipeline.to_string(), commit.as_str(), checks.as_str(), micros(now)],
        )?;
        Ok(())
    }

    /// What checks say of a commit.
    pub fn commit_checks(&self, pipeline: PipelineId, commit: &CommitId) -> Result<Checks> {
        let found = self.row(
            "SELECT checks FROM commit_checks WHERE pipeline_id = ? AND commit_id = ?",
            params![pipeline.to_string(), commit.as_str()],
            |row| word(row, "checks", Checks::from_text),
        )?;
        Ok(found.unwrap_or(Checks::Unknown))
    }

    /// Whether anything was ever heard of checks, of whichever commit.
    pub fn hears_of_checks(&self, pipeline: PipelineId) -> Result<bool> {
        self.value("SELECT EXISTS (SELECT 1 FROM commit_checks WHERE pipeline_id = ?)", [pipeline.to_string()])
    }

    /// Forgets triggered deploys that are over and brought no release, and what checks said of code that
    /// was not built, before `then`.
    pub fn forget_triggered_before(&self, then: Timestamp) -> Result<()> {
        let then = micros(then);
        // Those that did say whose code it is that a release brought.
        self.execute(
            "DELETE FROM triggered_deploys WHERE status <> 'waiting' AND updated_at < ? AND (operation_id IS NULL
             OR operation_id NOT IN (SELECT operation_id FROM builds WHERE release_id IS NOT NULL))",
            [then],
        )?;
        // What was built may still be promoted to a stage that asks.
        self.execute(
            "DELETE FROM commit_checks WHERE updated_at < ?
             AND commit_id NOT IN (SELECT commit_id FROM slugs WHERE commit_id IS NOT NULL)",
            [then],
        )?;
        Ok(())
    }
}
