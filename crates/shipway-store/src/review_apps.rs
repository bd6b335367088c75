//! Review apps, what their pipelines decided about them, and the pull requests that they are for.

use crate::{Conn, Result, StoreError, json, micros, optional, parsed, time, to_json, unique, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use shipway_domain::review::{BranchName, Checks, ReviewAppStatus};
use shipway_domain::{AccountId, AppId, AppName, AppSetupId, CommitId, ConfigKey, PipelineId, ReviewAppId};
use std::collections::BTreeSet;

/// What a pipeline's people decided about review apps. Without a row there are none; disabled, the row stays for those
/// that are there.
#[derive(Debug, Clone)]
pub struct ReviewAppConfig {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// What they set.
    pub settings: ReviewAppSettings,
    /// When review apps were enabled.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// The settings of review apps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReviewAppSettings {
    /// `owner/name` of the repository at its forge; without a slash it is the parent's own.
    pub repo: String,
    /// Whether a pull request gets one by itself.
    pub automatic_review_apps: bool,
    /// Whether one goes that was not deployed for some days.
    pub destroy_stale_apps: bool,
    /// After how many days.
    pub stale_days: u32,
    /// Whether a commit waits for its checks.
    pub wait_for_ci: bool,
    /// What their names begin with, instead of the pipeline's.
    pub base_name: Option<String>,
    /// `us` or `eu`.
    pub region: String,
    /// The app whose config they begin with and whose branches they are for; none: the first of staging.
    pub parent: Option<AppId>,
    /// Only these config vars of the parent are inherited; none: all but `deny`.
    pub allow: Option<BTreeSet<ConfigKey>>,
    /// These are not.
    pub deny: BTreeSet<ConfigKey>,
    /// How many at once.
    pub quota: u32,
    /// Whether a fork's pull request stays allowed when it gets another commit.
    pub keep_fork_permission: bool,
    /// Whether add-ons of an app.json that are not here are left out, instead of refused.
    pub without_addons: bool,
}

impl Default for ReviewAppSettings {
    fn default() -> Self {
        Self {
            repo: String::new(),
            automatic_review_apps: false,
            destroy_stale_apps: false,
            stale_days: 5,
            wait_for_ci: false,
            base_name: None,
            region: "us".into(),
            parent: None,
            allow: None,
            deny: BTreeSet::new(),
            quota: 50,
            keep_fork_permission: false,
            without_addons: false,
        }
    }
}

/// What decides whether a review app is still wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewOrigin {
    /// Its pull request is open.
    PullRequest,
    /// Its branch is in the parent's repository.
    Branch,
    /// It was made from an uploaded source: until somebody removes it.
    Source,
}

impl ReviewOrigin {
    fn as_str(self) -> &'static str {
        match self {
            Self::PullRequest => "pull-request",
            Self::Branch => "branch",
            Self::Source => "source",
        }
    }

    fn from_text(s: &str) -> Option<Self> {
        match s {
            "pull-request" => Some(Self::PullRequest),
            "branch" => Some(Self::Branch),
            "source" => Some(Self::Source),
            _ => None,
        }
    }
}

/// A review app.
#[derive(Debug, Clone)]
pub struct ReviewApp {
    /// Its id.
    pub id: ReviewAppId,
    /// The pipeline.
    pub pipeline: PipelineId,
    /// What decides whether it is still wanted.
    pub origin: ReviewOrigin,
    /// Its app, while there is one.
    pub app: Option<AppId>,
    /// The name that its app has or had, kept for it until it is deleted.
    pub app_name: Option<AppName>,
    /// The making of its app.
    pub setup: Option<AppSetupId>,
    /// The pull request.
    pub pr_number: Option<u64>,
    /// The branch.
    pub branch: BranchName,
    /// The fork that the branch is in: `owner/name`.
    pub fork: Option<String>,
    /// The commit that it was last asked to run.
    pub commit: CommitId,
    /// Its state.
    pub status: ReviewAppStatus,
    /// Why it waits or failed.
    pub message: Option<String>,
    /// Who asked for it.
    pub creator: AccountId,
    /// When it was last asked to run another commit.
    pub deployed_at: Timestamp,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What a forge said last of a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// The pipeline whose repository it is in.
    pub pipeline: PipelineId,
    /// Its number.
    pub number: u64,
    /// Its title, printable.
    pub title: String,
    /// Its branch.
    pub branch: BranchName,
    /// The branch's commit.
    pub commit: CommitId,
    /// The fork that the branch is in: `owner/name`.
    pub fork: Option<String>,
    /// Whether it is open.
    pub open: bool,
    /// What checks say of the commit.
    pub checks: Checks,
    /// The commit of a fork that a maintainer allowed.
    pub allowed: Option<CommitId>,
    /// The commit whose review app was removed while the pull request was open.
    pub parked: Option<CommitId>,
    /// When it changed at the forge: what is older than this does not count any more.
    pub changed_at: Timestamp,
}

fn config(row: &Row<'_>) -> rusqlite::Result<ReviewAppConfig> {
    Ok(ReviewAppConfig {
        pipeline: parsed(row, "pipeline_id")?,
        settings: json(row, "settings")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn pull_request(row: &Row<'_>) -> rusqlite::Result<PullRequest> {
    Ok(PullRequest {
        pipeline: parsed(row, "pipeline_id")?,
        number: row.get("number")?,
        title: row.get("title")?,
        branch: parsed(row, "branch")?,
        commit: parsed(row, "commit_id")?,
        fork: row.get("fork")?,
        open: row.get("open")?,
        checks: word(row, "checks", Checks::from_text)?,
        allowed: optional(row, "allowed_commit")?,
        parked: optional(row, "parked_commit")?,
        changed_at: time(row, "changed_at")?,
    })
}

fn review_app(row: &Row<'_>) -> rusqlite::Result<ReviewApp> {
    Ok(ReviewApp {
        id: parsed(row, "id")?,
        pipeline: parsed(row, "pipeline_id")?,
        origin: word(row, "origin", ReviewOrigin::from_text)?,
        app: optional(row, "app_id")?,
        app_name: optional(row, "app_name")?,
        setup: optional(row, "setup_id")?,
        pr_number: row.get("pr_number")?,
        branch: parsed(row, "branch")?,
        fork: row.get("fork")?,
        commit: parsed(row, "commit_id")?,
        status: word(row, "status", ReviewAppStatus::from_text)?,
        message: row.get("message")?,
        creator: parsed(row, "account_id")?,
        deployed_at: time(row, "deployed_at")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn password_context(pipeline: PipelineId) -> String {
    format!("password of review apps of pipeline {pipeline}")
}

impl Conn<'_> {
    /// Enables review apps, or changes their settings. The password stays; where they were disabled, only if some are there
    /// from before, which it guards.
    pub fn put_review_app_config(&self, c: &ReviewAppConfig) -> Result<()> {
        self.execute(
            "INSERT INTO review_configs (pipeline_id, settings, created_at, updated_at) VALUES (?,?,?,?)
             ON CONFLICT (pipeline_id) DO UPDATE SET settings = excluded.settings, updated_at = excluded.updated_at,
             created_at = excluded.created_at, disabled_at = NULL, password_sealed = CASE WHEN disabled_at IS NULL
             OR EXISTS (SELECT 1 FROM review_apps r
             WHERE r.pipeline_id = excluded.pipeline_id AND r.status <> 'deleted')
             THEN password_sealed END",
            params![c.pipeline.to_string(), to_json(&c.settings)?, micros(c.created_at), micros(c.updated_at)],
        )?;
        Ok(())
    }

    /// Disables review apps. Settings and password stay for those that are there.
    pub fn disable_review_app_config(&self, pipeline: PipelineId, now: Timestamp) -> Result<()> {
        self.execute(
            "UPDATE review_configs SET disabled_at = ? WHERE pipeline_id = ? AND disabled_at IS NULL",
            params![micros(now), pipeline.to_string()],
        )?;
        Ok(())
    }

    /// What a pipeline decided about review apps; none while they are disabled.
    pub fn review_app_config(&self, pipeline: PipelineId) -> Result<Option<ReviewAppConfig>> {
        self.row(
            "SELECT * FROM review_configs WHERE pipeline_id = ? AND disabled_at IS NULL",
            [pipeline.to_string()],
            config,
        )
    }

    /// The settings that count for the review apps that are there, also where no new ones are made.
    pub fn review_settings(&self, pipeline: PipelineId) -> Result<Option<ReviewAppSettings>> {
        self.row("SELECT settings FROM review_configs WHERE pipeline_id = ?", [pipeline.to_string()], |row| {
            json(row, "settings")
        })
    }

    /// Sets or takes away the password of a pipeline's review apps.
    pub fn set_review_password(&self, pipeline: PipelineId, password: Option<&str>) -> Result<()> {
        let sealed = password.map(|p| self.keys.seal(&password_context(pipeline), p.as_bytes()));
        self.execute(
            "UPDATE review_configs SET password_sealed = ? WHERE pipeline_id = ?",
            params![sealed, pipeline.to_string()],
        )?;
        Ok(())
    }

    /// The password of a pipeline's review apps, opened.
    pub fn review_password(&self, pipeline: PipelineId) -> Result<Option<String>> {
        let sealed: Option<Vec<u8>> = self
            .row("SELECT password_sealed FROM review_configs WHERE pipeline_id = ?", [pipeline.to_string()], |r| {
                r.get(0)
            })?
            .flatten();
        let Some(sealed) = sealed else { return Ok(None) };
        let context = password_context(pipeline);
        let plain = self.keys.open(&context, &sealed)?;
        String::from_utf8(plain).map(Some).map_err(|_| StoreError::Unsealable { context })
    }

    /// Writes what a forge said of a pull request.
    pub fn put_pull_request(&self, p: &PullRequest) -> Result<()> {
        self.execute(
            "INSERT OR REPLACE INTO pull_requests (pipeline_id, number, title, branch, commit_id, fork, open, checks,
             allowed_commit, parked_commit, changed_at) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            params![
                p.pipeline.to_string(),
                p.number,
                p.title,
                p.branch.as_str(),
                p.commit.as_str(),
                p.fork,
                p.open,
                p.checks.as_str(),
                p.allowed.as_ref().map(CommitId::as_str),
                p.parked.as_ref().map(CommitId::as_str),
                micros(p.changed_at)
            ],
        )?;
        Ok(())
    }

    /// A pull request of a pipeline's repository.
    pub fn pull_request(&self, pipeline: PipelineId, number: u64) -> Result<Option<PullRequest>> {
        self.row(
            "SELECT * FROM pull_requests WHERE pipeline_id = ? AND number = ?",
            params![pipeline.to_string(), number],
            pull_request,
        )
    }

    /// The pull requests of a pipeline's repository that are known, by number.
    pub fn pull_requests(&self, pipeline: PipelineId) -> Result<Vec<PullRequest>> {
        self.rows(
            "SELECT * FROM pull_requests WHERE pipeline_id = ? ORDER BY number",
            [pipeline.to_string()],
            pull_request,
        )
    }

    /// Adds a review app, or writes everything of it. Errors: `Taken` for its app's name.
    pub fn put_review_app(&self, r: &ReviewApp) -> Result<()> {
        self.execute(
            "INSERT INTO review_apps (id, pipeline_id, origin, app_id, app_name, setup_id, pr_number, branch, fork,
             commit_id, status, message, account_id, deployed_at, created_at, updated_at)
             VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16)
             ON CONFLICT (id)
             DO UPDATE SET origin = ?3, app_id = ?4, app_name = ?5, setup_id = ?6, branch = ?8, fork = ?9,
             commit_id = ?10, status = ?11, message = ?12, deployed_at = ?14, updated_at = ?16",
            params![
                r.id.to_string(),
                r.pipeline.to_string(),
                r.origin.as_str(),
                r.app.map(|a| a.to_string()),
                r.app_name.as_ref().map(|n| n.as_str()),
                r.setup.map(|s| s.to_string()),
                r.pr_number,
                r.branch.as_str(),
                r.fork,
                r.commit.as_str(),
                r.status.as_str(),
                r.message,
                r.creator.to_string(),
                micros(r.deployed_at),
                micros(r.created_at),
                micros(r.updated_at)
            ],
        )
        .map_err(unique("app name"))?;
        Ok(())
    }

    /// A review app by id.
    pub fn review_app(&self, id: ReviewAppId) -> Result<Option<ReviewApp>> {
        self.row("SELECT * FROM review_apps WHERE id = ?", [id.to_string()], review_app)
    }

    /// The review app that an app is.
    pub fn review_app_of(&self, app: AppId) -> Result<Option<ReviewApp>> {
        self.row("SELECT * FROM review_apps WHERE app_id = ?", [app.to_string()], review_app)
    }

    /// A pipeline's review apps, oldest first, those included that are deleted.
    pub fn review_apps(&self, pipeline: PipelineId) -> Result<Vec<ReviewApp>> {
        self.rows(
            "SELECT * FROM review_apps WHERE pipeline_id = ? ORDER BY created_at, rowid",
            [pipeline.to_string()],
            review_app,
        )
    }

    /// Pipelines that have review apps, or would have them.
    pub fn reviewing_pipelines(&self) -> Result<Vec<PipelineId>> {
        self.rows(
            "SELECT pipeline_id FROM review_configs WHERE disabled_at IS NULL
             UNION SELECT pipeline_id FROM review_apps WHERE status <> 'deleted' ORDER BY pipeline_id",
            [],
            |row| parsed(row, "pipeline_id"),
        )
    }

    /// Forgets review apps that were deleted before `then`.
    pub fn forget_review_apps_before(&self, then: Timestamp) -> Result<()> {
        self.execute("DELETE FROM review_apps WHERE status = 'deleted' AND updated_at < ?", [micros(then)])?;
        Ok(())
    }

    /// Whether neither an app has a name nor a review app keeps it.
    pub fn name_is_free(&self, name: &AppName) -> Result<bool> {
        let taken = "SELECT 1 FROM apps WHERE name = ?1
             UNION SELECT 1 FROM review_apps WHERE app_name = ?1 AND status <> 'deleted'";
        Ok(!self.sql.prepare_cached(taken)?.exists([name.as_str()])?)
    }

    /// Errors: `Taken` when a review app keeps this name for itself.
    pub(crate) fn unreserved(&self, name: &AppName, app: AppId) -> Result<()> {
        let reserved = "SELECT 1 FROM review_apps WHERE app_name = ? AND status <> 'deleted' AND app_id IS NOT ?";
        match self.sql.prepare_cached(reserved)?.exists(params![name.as_str(), app.to_string()])? {
            true => Err(StoreError::Taken("app name")),
            false => Ok(()),
        }
    }
}
