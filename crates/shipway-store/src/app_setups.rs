//! The making of apps from sources with an app.json.

use crate::{Conn, Result, json, micros, parsed, time, to_json, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use shipway_domain::review::AppSetupStatus;
use shipway_domain::{AccountId, AppId, AppName, AppSetupId, BuildId, OperationId};

/// The making of one app.
#[derive(Debug, Clone)]
pub struct AppSetup {
    /// Its id.
    pub id: AppSetupId,
    /// The app; gone when the setup failed before the app ran.
    pub app: AppId,
    /// The app's name.
    pub app_name: AppName,
    /// Who asked.
    pub account: AccountId,
    /// The operation.
    pub operation: OperationId,
    /// Its build, whose transcript is that of the whole.
    pub build: BuildId,
    /// How far it is.
    pub status: AppSetupStatus,
    /// Why it failed.
    pub failure: Option<String>,
    /// What is wrong with the app.json, with lines.
    pub manifest_errors: Vec<String>,
    /// Where to go after it, as the app.json says: a path or a URL.
    pub success_url: Option<String>,
    /// The exit status of the postdeploy script.
    pub postdeploy_status: Option<i32>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

fn app_setup(row: &Row<'_>) -> rusqlite::Result<AppSetup> {
    Ok(AppSetup {
        id: parsed(row, "id")?,
        app: parsed(row, "app_id")?,
        app_name: parsed(row, "app_name")?,
        account: parsed(row, "account_id")?,
        operation: parsed(row, "operation_id")?,
        build: parsed(row, "build_id")?,
        status: word(row, "status", AppSetupStatus::from_text)?,
        failure: row.get("failure")?,
        manifest_errors: json(row, "manifest_errors")?,
        success_url: row.get("success_url")?,
        postdeploy_status: row.get("postdeploy_status")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

impl Conn<'_> {
    /// Adds a setup, or writes everything of it that can change.
    pub fn put_app_setup(&self, s: &AppSetup) -> Result<()> {
        self.execute(
            "INSERT INTO app_setups (id, app_id, app_name, account_id, operation_id, build_id, status, failure,
             manifest_errors, success_url, postdeploy_status, created_at, updated_at)
             VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)
             ON CONFLICT (id) DO UPDATE SET status = ?7, failure = ?8, manifest_errors = ?9, success_url = ?10,
             postdeploy_status = ?11, updated_at = ?13",
            params![
                s.id.to_string(),
                s.app.to_string(),
                s.app_name.as_str(),
                s.account.to_string(),
                s.operation.to_string(),
                s.build.to_string(),
                s.status.as_str(),
                s.failure,
                to_json(&s.manifest_errors)?,
                s.success_url,
                s.postdeploy_status,
                micros(s.created_at),
                micros(s.updated_at)
            ],
        )?;
        Ok(())
    }

    /// A setup by id.
    pub fn app_setup(&self, id: AppSetupId) -> Result<Option<AppSetup>> {
        self.row("SELECT * FROM app_setups WHERE id = ?", [id.to_string()], app_setup)
    }

    /// The making of an app.
    pub fn app_setup_of(&self, app: AppId) -> Result<Option<AppSetup>> {
        self.row("SELECT * FROM app_setups WHERE app_id = ?", [app.to_string()], app_setup)
    }

    /// Forgets setups that are over and older than `then`, and returns their builds, whose transcripts can go where the
    /// app is gone.
    pub fn delete_app_setups_before(&self, then: Timestamp) -> Result<Vec<BuildId>> {
        self.rows(
            "DELETE FROM app_setups WHERE created_at < ? AND status <> 'pending'
             AND app_id NOT IN (SELECT id FROM apps) RETURNING build_id",
            [micros(then)],
            |row| parsed(row, "build_id"),
        )
    }
}
