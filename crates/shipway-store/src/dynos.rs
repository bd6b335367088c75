//! Live dynos and the epochs of the route table.

use crate::{Conn, Result, micros, optional, parsed, time, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use shipway_domain::lifecycle::DynoState;
use shipway_domain::{AppId, DynoId, OperationId, ProcessType, ReleaseId};
use std::net::SocketAddr;

/// A live dyno. When it is gone its row is too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dyno {
    /// Its id.
    pub id: DynoId,
    /// Whose.
    pub app: AppId,
    /// Its slot's type; `run` and `release` for one-offs.
    pub process_type: ProcessType,
    /// Its slot's index; a random number for one-offs.
    pub index: u32,
    /// What it runs.
    pub release: ReleaseId,
    /// Its state.
    pub state: DynoState,
    /// Name of its size.
    pub size: String,
    /// Its command.
    pub command: String,
    /// The operation that started it and has not switched yet.
    pub operation: Option<OperationId>,
    /// Whether the route table of the newest epoch holds it.
    pub routed: bool,
    /// The first epoch without it, once it was taken out.
    pub unrouted_epoch: Option<u64>,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// How often its slot crashed in a row.
    pub crashes: u32,
    /// What a one-off was asked to be: `attached` or `detached`.
    pub one_off: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
}

impl Dyno {
    /// `web.1`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.process_type, self.index)
    }
}

fn dyno(row: &Row<'_>) -> rusqlite::Result<Dyno> {
    Ok(Dyno {
        id: parsed(row, "id")?,
        app: parsed(row, "app_id")?,
        process_type: parsed(row, "process_type")?,
        index: row.get("slot")?,
        release: parsed(row, "release_id")?,
        state: word(row, "state", DynoState::from_text)?,
        size: row.get("size")?,
        command: row.get("command")?,
        operation: optional(row, "operation_id")?,
        routed: row.get("routed")?,
        unrouted_epoch: row.get("unrouted_epoch")?,
        address: optional(row, "address")?,
        crashes: row.get("crashes")?,
        one_off: row.get("one_off")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

impl Conn<'_> {
    /// Adds a dyno, or writes all of it again.
    pub fn put_dyno(&self, d: &Dyno) -> Result<()> {
        self.execute(
            "INSERT OR REPLACE INTO dynos (id, app_id, process_type, slot, release_id, state, size, command,
             operation_id, routed, unrouted_epoch, address, crashes, one_off, created_at, updated_at)
             VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            params![
                d.id.to_string(),
                d.app.to_string(),
                d.process_type.as_str(),
                d.index,
                d.release.to_string(),
                d.state.as_str(),
                d.size,
                d.command,
                d.operation.map(|o| o.to_string()),
                d.routed,
                d.unrouted_epoch,
                d.address.map(|a| a.to_string()),
                d.crashes,
                d.one_off,
                micros(d.created_at),
                micros(d.updated_at)
            ],
        )?;
        Ok(())
    }

    /// A dyno by id.
    pub fn dyno(&self, id: DynoId) -> Result<Option<Dyno>> {
        self.row("SELECT * FROM dynos WHERE id = ?", [id.to_string()], dyno)
    }

    /// The dynos of an app by type, index and age.
    pub fn dynos(&self, app: AppId) -> Result<Vec<Dyno>> {
        self.rows(
            "SELECT * FROM dynos WHERE app_id = ? ORDER BY process_type, slot, created_at, id",
            [app.to_string()],
            dyno,
        )
    }

    /// All dynos of the platform.
    pub fn all_dynos(&self) -> Result<Vec<Dyno>> {
        self.rows("SELECT * FROM dynos ORDER BY app_id, process_type, slot, created_at, id", [], dyno)
    }

    /// Removes a dyno's row.
    pub fn delete_dyno(&self, id: DynoId) -> Result<()> {
        self.execute("DELETE FROM dynos WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// The number of the newest route table; 0 before the first.
    pub fn epoch(&self) -> Result<u64> {
        self.value("SELECT coalesce(max(epoch), 0) FROM epochs", [])
    }

    /// Begins the next epoch: what this transaction changes of the routes is what it switches. Returns its number.
    pub fn next_epoch(&self, operation: Option<OperationId>, at: Timestamp) -> Result<u64> {
        let epoch = self.epoch()? + 1;
        self.execute(
            "INSERT INTO epochs (epoch, at, operation_id) VALUES (?,?,?)",
            params![epoch, micros(at), operation.map(|o| o.to_string())],
        )?;
        // Only the newest number is ever read again; a little history helps whoever looks.
        self.execute("DELETE FROM epochs WHERE epoch < ?", [epoch.saturating_sub(1000)])?;
        Ok(epoch)
    }
}
