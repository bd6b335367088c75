//! The ledger: who did what, when, by which road. Append-only.

use crate::{Conn, Result, json, micros, optional, parsed, time, to_json};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};
use shipway_domain::{AppId, LedgerId};

/// One entry. Never holds a secret.
#[derive(Debug, Clone)]
pub struct LedgerEntry {
    /// Its id.
    pub id: LedgerId,
    /// When.
    pub at: Timestamp,
    /// Who: an address, or `platform`.
    pub actor: String,
    /// By which road: `git`, `api`, `dashboard`, `platform`.
    pub via: String,
    /// The app.
    pub app: Option<AppId>,
    /// The app's name at that time.
    pub app_name: Option<String>,
    /// What: `deploy`, `config`, `refused`, …
    pub action: String,
    /// The rest: versions, names of config vars, reasons.
    pub detail: serde_json::Value,
}

impl Conn<'_> {
    /// Appends an entry.
    pub fn record(&self, e: &LedgerEntry) -> Result<()> {
        self.execute(
            "INSERT INTO ledger (id, at, actor, via, app_id, app_name, action, detail) VALUES (?,?,?,?,?,?,?,?)",
            params![
                e.id.to_string(),
                micros(e.at),
                e.actor,
                e.via,
                e.app.map(|a| a.to_string()),
                e.app_name,
                e.action,
                to_json(&e.detail)?
            ],
        )?;
        Ok(())
    }

    /// The name that an app had when something was last done to it, whether or not it is there still. None: nothing was.
    pub fn last_name_of(&self, app: AppId) -> Result<Option<String>> {
        let mut q = self.sql.prepare_cached(
            "SELECT app_name FROM ledger WHERE app_id = ? AND app_name IS NOT NULL ORDER BY sequence DESC LIMIT 1",
        )?;
        Ok(q.query_row([app.to_string()], |row| row.get(0)).optional()?)
    }

    /// The newest entries, of one app or of all.
    pub fn ledger(&self, app: Option<AppId>, limit: u32) -> Result<Vec<LedgerEntry>> {
        self.rows(
            "SELECT * FROM ledger WHERE ?1 IS NULL OR app_id = ?1 ORDER BY sequence DESC LIMIT ?2",
            params![app.map(|a| a.to_string()), limit],
            |row| {
                Ok(LedgerEntry {
                    id: parsed(row, "id")?,
                    at: time(row, "at")?,
                    actor: row.get("actor")?,
                    via: row.get("via")?,
                    app: optional(row, "app_id")?,
                    app_name: row.get("app_name")?,
                    action: row.get("action")?,
                    detail: json(row, "detail")?,
                })
            },
        )
    }
}
