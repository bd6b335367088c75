//! Reservations of apps, and what people are to be told.

use crate::{Conn, Result, micros, optional_time, parsed, time};
use jiff::Timestamp;
use rusqlite::{Row, params};
use shipway_domain::{AccountId, AppId, Email, NoticeId};

/// An app that somebody keeps for themselves for a while.
#[derive(Debug, Clone)]
pub struct Reservation {
    /// Which.
    pub app: AppId,
    /// Who.
    pub account: AccountId,
    /// Their address; the store fills this in.
    pub email: Email,
    /// When it ends by itself.
    pub until: Timestamp,
    /// What for.
    pub reason: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
}

/// What somebody is to be told.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Its id.
    pub id: NoticeId,
    /// Who.
    pub account: AccountId,
    /// About which app.
    pub app: AppId,
    /// One sentence.
    pub text: String,
    /// Whether it says that code of theirs was replaced, which can be brought back.
    pub replaced: bool,
    /// When they had read it.
    pub read_at: Option<Timestamp>,
    /// When it happened.
    pub created_at: Timestamp,
}

fn notice(row: &Row<'_>) -> rusqlite::Result<Notice> {
    Ok(Notice {
        id: parsed(row, "id")?,
        account: parsed(row, "account_id")?,
        app: parsed(row, "app_id")?,
        text: row.get("text")?,
        replaced: row.get("replaced")?,
        read_at: optional_time(row, "read_at")?,
        created_at: time(row, "created_at")?,
    })
}

impl Conn<'_> {
    /// Who keeps an app for themselves at `now`.
    pub fn reservation(&self, app: AppId, now: Timestamp) -> Result<Option<Reservation>> {
        let row = |row: &Row<'_>| {
            Ok(Reservation {
                app: parsed(row, "app_id")?,
                account: parsed(row, "account_id")?,
                email: parsed(row, "email")?,
                until: time(row, "until")?,
                reason: row.get("reason")?,
                created_at: time(row, "created_at")?,
            })
        };
        self.row(
            "SELECT reservations.*, accounts.email FROM reservations JOIN accounts ON accounts.id = account_id
             WHERE app_id = ? AND until > ?",
            params![app.to_string(), micros(now)],
            row,
        )
    }

    /// Writes a reservation down in the place of the one before.
    pub fn put_reservation(&self, r: &Reservation) -> Result<()> {
        self.execute(
            "INSERT OR REPLACE INTO reservations (app_id, account_id, until, reason, created_at) VALUES (?,?,?,?,?)",
            params![r.app.to_string(), r.account.to_string(), micros(r.until), r.reason, micros(r.created_at)],
        )?;
        Ok(())
    }

    /// Ends a reservation; a second time does nothing.
    pub fn delete_reservation(&self, app: AppId) -> Result<()> {
        self.execute("DELETE FROM reservations WHERE app_id = ?", [app.to_string()])?;
        Ok(())
    }

    /// Adds a notice; a second time, or for somebody who was removed, does nothing.
    pub fn insert_notice(&self, n: &Notice) -> Result<()> {
        self.execute(
            "INSERT OR IGNORE INTO notices (id, account_id, app_id, text, replaced, read_at, created_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE EXISTS (SELECT 1 FROM accounts WHERE id = ?2)",
            params![
                n.id.to_string(),
                n.account.to_string(),
                n.app.to_string(),
                n.text,
                n.replaced,
                n.read_at.map(micros),
                micros(n.created_at)
            ],
        )?;
        Ok(())
    }

    /// The newest notices of an account, newest first.
    pub fn notices(&self, account: AccountId, limit: u32) -> Result<Vec<Notice>> {
        self.rows(
            "SELECT * FROM notices WHERE account_id = ? ORDER BY created_at DESC, rowid DESC LIMIT ?",
            params![account.to_string(), limit],
            notice,
        )
    }

    /// Takes an account's notices up to `now` as read: those about one app, or all.
    pub fn read_notices(&self, account: AccountId, app: Option<AppId>, now: Timestamp) -> Result<()> {
        self.execute(
            "UPDATE notices SET read_at = ?3 WHERE account_id = ?1 AND (?2 IS NULL OR app_id = ?2)
             AND read_at IS NULL AND created_at <= ?3",
            params![account.to_string(), app.map(|app| app.to_string()), micros(now)],
        )?;
        Ok(())
    }

    /// Forgets notices from before `then`.
    pub fn forget_notices_before(&self, then: Timestamp) -> Result<()> {
        self.execute("DELETE FROM notices WHERE created_at < ?", [micros(then)])?;
        Ok(())
    }
}
