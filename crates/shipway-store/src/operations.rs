//! Operations and their journal.

use crate::{Conn, Result, StoreError, json, micros, parsed, time, to_json, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use shipway_domain::lifecycle::OperationStatus;
use shipway_domain::{AccountId, AppId, OperationId};

/// One operation: a plan with named steps.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// The apps whose locks it holds or waits for, sorted.
    pub apps: Vec<AppId>,
    /// `deploy`, `release`, `restart`, `destroy`.
    pub kind: String,
    /// The plan; its shape is the engine's, and a storage format.
    pub plan: serde_json::Value,
    /// Its state.
    pub status: OperationStatus,
    /// Who asked.
    pub account: AccountId,
    /// Why it failed, as its user reads it.
    pub error: Option<String>,
    /// Whether somebody asked to stop it before its switch.
    pub cancel: bool,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// One row of the journal.
#[derive(Debug, Clone)]
pub struct JournalRow {
    /// Grows with each row of the platform.
    pub sequence: i64,
    /// The step's name: a storage format.
    pub step: String,
    /// What happened.
    pub event: StepEvent,
    /// What the step handed to later ones, or the error's text.
    pub output: Option<serde_json::Value>,
    /// When.
    pub at: Timestamp,
}

/// What can happen to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepEvent {
    /// Its effect may have begun.
    Started,
    /// Its effect is complete.
    Succeeded,
    /// It failed; nothing of it may be relied on.
    Failed,
    /// Its undo is complete.
    Undone,
}

impl StepEvent {
    /// The word in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Undone => "undone",
        }
    }

    fn from_text(s: &str) -> Option<Self> {
        match s {
            "started" => Some(Self::Started),
            "succeeded" => Some(Self::Succeeded),
            "failed" => Some(Self::Failed),
            "undone" => Some(Self::Undone),
            _ => None,
        }
    }
}

const OPERATION: &str = "SELECT operations.*, (SELECT json_group_array(app_id) FROM (SELECT app_id FROM operation_apps
     WHERE operation_id = operations.id ORDER BY app_id)) AS apps FROM operations";

fn operation(row: &Row<'_>) -> rusqlite::Result<Operation> {
    Ok(Operation {
        id: parsed(row, "id")?,
        apps: json(row, "apps")?,
        kind: row.get("kind")?,
        plan: json(row, "plan")?,
        status: word(row, "status", OperationStatus::from_text)?,
        account: parsed(row, "account_id")?,
        error: row.get("error")?,
        cancel: row.get("cancel")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

impl Conn<'_> {
    /// Adds an operation.
    pub fn insert_operation(&self, o: &Operation) -> Result<()> {
        let id = o.id.to_string();
        self.execute(
            "INSERT INTO operations (id, kind, plan, status, account_id, error, cancel, created_at, updated_at)
             VALUES (?,?,?,?,?,?,?,?,?)",
            params![
                id,
                o.kind,
                to_json(&o.plan)?,
                o.status.as_str(),
                o.account.to_string(),
                o.error,
                o.cancel,
                micros(o.created_at),
                micros(o.updated_at)
            ],
        )?;
        for app in &o.apps {
            self.execute("INSERT INTO operation_apps (operation_id, app_id) VALUES (?,?)", [&id, &app.to_string()])?;
        }
        Ok(())
    }

    /// Moves an operation to a state.
    pub fn set_operation_status(
        &self,
        id: OperationId,
        status: OperationStatus,
        error: Option<&str>,
        at: Timestamp,
    ) -> Result<()> {
        self.execute(
            "UPDATE operations SET status = ?, error = coalesce(?, error), updated_at = ? WHERE id = ?",
            params![status.as_str(), error, micros(at), id.to_string()],
        )?;
        Ok(())
    }

    /// Asks an operation to stop before its switch.
    pub fn cancel_operation(&self, id: OperationId) -> Result<()> {
        self.execute("UPDATE operations SET cancel = 1 WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// An operation by id. Errors: `Missing`.
    pub fn operation(&self, id: OperationId) -> Result<Operation> {
        self.row(&format!("{OPERATION} WHERE id = ?"), [id.to_string()], operation)?
            .ok_or(StoreError::Missing("operation"))
    }

    /// Operations that are not over, in the order in which they were asked for.
    pub fn open_operations(&self) -> Result<Vec<Operation>> {
        self.rows(
            &format!("{OPERATION} WHERE status NOT IN ('succeeded', 'failed') ORDER BY created_at, rowid"),
            [],
            operation,
        )
    }

    /// The newest operations, of one app or of all.
    pub fn operations(&self, app: Option<AppId>, limit: u32) -> Result<Vec<Operation>> {
        self.rows(
            &format!(
                "{OPERATION} WHERE ?1 IS NULL OR id IN (SELECT operation_id FROM operation_apps WHERE app_id = ?1)
             ORDER BY created_at DESC, rowid DESC LIMIT ?2"
            ),
            params![app.map(|a| a.to_string()), limit],
            operation,
        )
    }

    /// Appends a row to the journal.
    pub fn journal(
        &self,
        id: OperationId,
        step: &str,
        event: StepEvent,
        output: Option<&serde_json::Value>,
        at: Timestamp,
    ) -> Result<()> {
        let output = output.map(to_json).transpose()?;
        self.execute(
            "INSERT INTO journal (operation_id, step, event, output, at) VALUES (?,?,?,?,?)",
            params![id.to_string(), step, event.as_str(), output, micros(at)],
        )?;
        Ok(())
    }

    /// The journal of an operation in order.
    pub fn journal_of(&self, id: OperationId) -> Result<Vec<JournalRow>> {
        self.rows("SELECT * FROM journal WHERE operation_id = ? ORDER BY sequence", [id.to_string()], |row| {
            let output: Option<String> = row.get("output")?;
            Ok(JournalRow {
                sequence: row.get("sequence")?,
                step: row.get("step")?,
                event: word(row, "event", StepEvent::from_text)?,
                output: output.and_then(|o| serde_json::from_str(&o).ok()),
                at: time(row, "at")?,
            })
        })
    }
}
