//! Transfers: backups, restores and copies of databases.

use crate::{Conn, Result, StoreError, micros, optional, optional_time, parsed, time, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use shipway_domain::addon::TransferKind;
use shipway_domain::{AddonId, AppId, OperationId, TransferId};

/// A backup, restore or copy, from the moment it was asked for. A backup's row lives as long as its file.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// Its id, which names a backup's file.
    pub id: TransferId,
    /// The app in whose list it is.
    pub app: AppId,
    /// Its number in the app, from 1, over all kinds.
    pub number: u64,
    /// The operation that carries it out.
    pub operation: OperationId,
    /// What it does.
    pub kind: TransferKind,
    /// The database: of a backup the one read, else the one written.
    pub addon: AddonId,
    /// Where the data comes from, for people.
    pub from_name: String,
    /// Where it goes, for people.
    pub to_name: String,
    /// The backup that is restored.
    pub backup: Option<TransferId>,
    /// When its first step began.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
    /// When somebody asked it to stop.
    pub canceled_at: Option<Timestamp>,
    /// How it ended.
    pub succeeded: Option<bool>,
    /// Objects that could not be restored.
    pub warnings: u64,
    /// Bytes of the database that is read.
    pub source_bytes: Option<u64>,
    /// Bytes of the dump so far.
    pub processed_bytes: u64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

fn transfer(row: &Row<'_>) -> rusqlite::Result<Transfer> {
    Ok(Transfer {
        id: parsed(row, "id")?,
        app: parsed(row, "app_id")?,
        number: row.get("number")?,
        operation: parsed(row, "operation_id")?,
        kind: word(row, "kind", TransferKind::from_text)?,
        addon: parsed(row, "addon_id")?,
        from_name: row.get("from_name")?,
        to_name: row.get("to_name")?,
        backup: optional(row, "backup_id")?,
        started_at: optional_time(row, "started_at")?,
        finished_at: optional_time(row, "finished_at")?,
        canceled_at: optional_time(row, "canceled_at")?,
        succeeded: row.get("succeeded")?,
        warnings: row.get("warnings")?,
        source_bytes: row.get("source_bytes")?,
        processed_bytes: row.get("processed_bytes")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn source_context(id: TransferId) -> String {
    format!("source of transfer {id}")
}

impl Conn<'_> {
    /// Adds a transfer with the app's next number, which is returned. `source`: the address of a dump elsewhere.
    pub fn insert_transfer(&self, t: &Transfer, source: Option<&str>) -> Result<u64> {
        let number: u64 =
            self.value("SELECT coalesce(max(number), 0) + 1 FROM transfers WHERE app_id = ?", [t.app.to_string()])?;
        self.execute(
            "INSERT INTO transfers (id, app_id, number, operation_id, kind, addon_id, from_name, to_name, backup_id,
             source_sealed, warnings, processed_bytes, created_at, updated_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            params![
                t.id.to_string(),
                t.app.to_string(),
                number,
                t.operation.to_string(),
                t.kind.as_str(),
                t.addon.to_string(),
                t.from_name,
                t.to_name,
                t.backup.map(|b| b.to_string()),
                source.map(|s| self.keys.seal(&source_context(t.id), s.as_bytes())),
                t.warnings,
                t.processed_bytes,
                micros(t.created_at),
                micros(t.updated_at)
            ],
        )?;
        Ok(number)
    }

    /// Writes what can change of a transfer.
    pub fn update_transfer(&self, t: &Transfer) -> Result<()> {
        self.execute(
            "UPDATE transfers SET started_at = ?, finished_at = ?, canceled_at = ?, succeeded = ?, warnings = ?,
             source_bytes = ?, processed_bytes = ?, updated_at = ? WHERE id = ?",
            params![
                t.started_at.map(micros),
                t.finished_at.map(micros),
                t.canceled_at.map(micros),
                t.succeeded,
                t.warnings,
                t.source_bytes,
                t.processed_bytes,
                micros(t.updated_at),
                t.id.to_string()
            ],
        )?;
        Ok(())
    }

    /// Removes a transfer's row.
    pub fn delete_transfer(&self, id: TransferId) -> Result<()> {
        self.execute("DELETE FROM transfers WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// A transfer by id.
    pub fn transfer(&self, id: TransferId) -> Result<Option<Transfer>> {
        self.row("SELECT * FROM transfers WHERE id = ?", [id.to_string()], transfer)
    }

    /// The transfer with this id. Errors: `Missing`.
    pub fn transfer_by_id(&self, id: TransferId) -> Result<Transfer> {
        self.transfer(id)?.ok_or(StoreError::Missing("transfer"))
    }

    /// The address of the dump that a transfer reads, opened; none when it reads a database or a backup.
    pub fn transfer_source(&self, id: TransferId) -> Result<Option<String>> {
        let sealed: Option<Vec<u8>> = self
            .row("SELECT source_sealed FROM transfers WHERE id = ?", [id.to_string()], |r| r.get(0))?
            .ok_or(StoreError::Missing("transfer"))?;
        let context = source_context(id);
        let open = |sealed: Vec<u8>| {
            let plain = self.keys.open(&context, &sealed)?;
            String::from_utf8(plain).map_err(|_| StoreError::Unsealable { context: context.clone() })
        };
        sealed.map(open).transpose()
    }

    /// The transfers of an app, the newest first.
    pub fn transfers(&self, app: AppId) -> Result<Vec<Transfer>> {
        self.rows("SELECT * FROM transfers WHERE app_id = ? ORDER BY number DESC", [app.to_string()], transfer)
    }
}
