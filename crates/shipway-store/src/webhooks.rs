//! App webhooks, their events, and the deliveries of these.

use crate::{Conn, Result, StoreError, json, micros, optional, optional_time, parsed, time, to_json, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use serde_json::Value;
use shipway_domain::webhooks::{DeliveryStatus, Include, Level, Resources};
use shipway_domain::{AppId, WebhookDeliveryId, WebhookEventId, WebhookId};
use std::collections::BTreeSet;

/// Who is told of what changes at an app.
#[derive(Clone)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Of which app.
    pub app: AppId,
    /// Where to. Secret: there may be a token in it.
    pub url: String,
    /// Of what.
    pub include: BTreeSet<Include>,
    /// How hard it is tried.
    pub level: Level,
    /// What is sent as `Authorization`. Secret.
    pub authorization: Option<String>,
    /// What bodies are signed with. Secret.
    pub secret: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Something that has changed.
#[derive(Debug, Clone)]
pub struct WebhookEvent {
    /// Its id.
    pub id: WebhookEventId,
    /// At which app.
    pub app: AppId,
    /// What.
    pub include: Include,
    /// Its place among the app's events, from 1.
    pub sequence: u64,
    /// What is told: `action`, `actor`, `data`, `previous_data`, `resource`, `version`.
    pub payload: Value,
    /// When it was seen.
    pub created_at: Timestamp,
}

/// An event on its way to a webhook.
#[derive(Debug, Clone)]
pub struct WebhookDelivery {
    /// Its id.
    pub id: WebhookDeliveryId,
    /// To which webhook.
    pub webhook: WebhookId,
    /// The webhook's level; the store fills this in.
    pub level: Level,
    /// Which event.
    pub event: WebhookEventId,
    /// Whose event; the store fills this in.
    pub app: AppId,
    /// What the event is about; the store fills this in.
    pub include: Include,
    /// What became of it.
    pub status: DeliveryStatus,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub next_attempt_at: Option<Timestamp>,
    /// The last attempt.
    pub last: Option<Attempt>,
    /// When it was written down.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// One attempt of a delivery.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its id.
    pub id: uuid::Uuid,
    /// The status that came back.
    pub code: Option<u16>,
    /// Why it failed.
    pub error: Option<String>,
    /// When.
    pub at: Timestamp,
}

fn context(id: WebhookId, what: &str) -> String {
    format!("{what} of webhook {id}")
}

fn event(row: &Row<'_>) -> rusqlite::Result<WebhookEvent> {
    Ok(WebhookEvent {
        id: parsed(row, "id")?,
        app: parsed(row, "app_id")?,
        include: word(row, "include", Include::from_text)?,
        sequence: row.get("sequence")?,
        payload: json(row, "payload")?,
        created_at: time(row, "created_at")?,
    })
}

const DELIVERY: &str =
    "SELECT webhook_deliveries.*, webhooks.level, webhook_events.include, webhook_events.app_id FROM webhook_deliveries
     JOIN webhooks ON webhooks.id = webhook_id JOIN webhook_events ON webhook_events.id = event_id";

fn delivery(row: &Row<'_>) -> rusqlite::Result<WebhookDelivery> {
    let attempt = optional(row, "attempt_id")?.zip(optional_time(row, "attempted_at")?);
    Ok(WebhookDelivery {
        id: parsed(row, "id")?,
        webhook: parsed(row, "webhook_id")?,
        level: word(row, "level", Level::from_text)?,
        event: parsed(row, "event_id")?,
        app: parsed(row, "app_id")?,
        include: word(row, "include", Include::from_text)?,
        status: word(row, "status", DeliveryStatus::from_text)?,
        attempts: row.get("attempts")?,
        next_attempt_at: optional_time(row, "next_attempt_at")?,
        last: match attempt {
            Some((id, at)) => {
                Some(Attempt { id, code: row.get("attempt_code")?, error: row.get("attempt_error")?, at })
            }
            None => None,
        },
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

impl Conn<'_> {
    /// Adds a webhook, or writes all of it again.
    pub fn put_webhook(&self, w: &Webhook) -> Result<()> {
        let seal = |what: &str, text: &str| self.keys.seal(&context(w.id, what), text.as_bytes());
        self.execute(
            "INSERT INTO webhooks (id, app_id, url_sealed, include, level, authorization_sealed, secret_sealed,
             created_at, updated_at)
             VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9) ON CONFLICT (id) DO UPDATE SET url_sealed = ?3, include = ?4,
             level = ?5, authorization_sealed = ?6, secret_sealed = ?7, updated_at = ?9",
            params![
                w.id.to_string(),
                w.app.to_string(),
                seal("url", &w.url),
                to_json(&w.include.iter().map(|include| include.as_str()).collect::<Vec<_>>())?,
                w.level.as_str(),
                w.authorization.as_ref().map(|text| seal("authorization", text)),
                seal("secret", &w.secret),
                micros(w.created_at),
                micros(w.updated_at)
            ],
        )?;
        Ok(())
    }

    /// The webhooks of an app, oldest first.
    pub fn webhooks(&self, app: AppId) -> Result<Vec<Webhook>> {
        let mut q = self.sql.prepare_cached("SELECT * FROM webhooks WHERE app_id = ? ORDER BY created_at, id")?;
        let mut rows = q.query([app.to_string()])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(self.open_webhook(row)?);
        }
        Ok(all)
    }

    /// A webhook by id.
    pub fn webhook(&self, id: WebhookId) -> Result<Option<Webhook>> {
        let mut q = self.sql.prepare_cached("SELECT * FROM webhooks WHERE id = ?")?;
        let mut rows = q.query([id.to_string()])?;
        rows.next()?.map(|row| self.open_webhook(row)).transpose()
    }

    fn open_webhook(&self, row: &Row<'_>) -> Result<Webhook> {
        let id: WebhookId = parsed(row, "id")?;
        let open = |what: &str, sealed: Vec<u8>| {
            let plain = self.keys.open(&context(id, what), &sealed)?;
            String::from_utf8(plain.to_vec()).map_err(|_| StoreError::Unsealable { context: context(id, what) })
        };
        let authorization: Option<Vec<u8>> = row.get("authorization_sealed")?;
        let include: Vec<String> = json(row, "include")?;
        Ok(Webhook {
            id,
            app: parsed(row, "app_id")?,
            url: open("url", row.get("url_sealed")?)?,
            include: include.iter().filter_map(|text| Include::from_text(text)).collect(),
            level: word(row, "level", Level::from_text)?,
            authorization: authorization.map(|sealed| open("authorization", sealed)).transpose()?,
            secret: open("secret", row.get("secret_sealed")?)?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }

    /// Removes a webhook with its deliveries; a second time does nothing.
    pub fn delete_webhook(&self, id: WebhookId) -> Result<()> {
        self.execute("DELETE FROM webhooks WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// Forgets webhooks and events of apps that have ended, once there is nothing left to tell.
    pub fn forget_ended_webhooks(&self) -> Result<()> {
        self.execute(
            "DELETE FROM webhooks WHERE app_id NOT IN (SELECT id FROM apps) AND NOT EXISTS (SELECT 1 FROM webhook_deliveries
             WHERE webhook_id = webhooks.id AND next_attempt_at IS NOT NULL)",
            [],
        )?;
        self.execute(
            "DELETE FROM webhook_events WHERE app_id NOT IN (SELECT id FROM apps)
             AND id NOT IN (SELECT event_id FROM webhook_deliveries)",
            [],
        )?;
        Ok(())
    }

    /// The apps that have webhooks.
    pub fn apps_with_webhooks(&self) -> Result<Vec<AppId>> {
        self.rows("SELECT DISTINCT app_id FROM webhooks WHERE app_id IN (SELECT id FROM apps)", [], |row| {
            parsed(row, "app_id")
        })
    }

    /// The last look at an app's resources, and the number of its last event.
    pub fn webhook_look(&self, app: AppId) -> Result<Option<(Resources, u64)>> {
        let look = "SELECT resources, sequence FROM webhook_looks WHERE app_id = ?";
        self.row(look, [app.to_string()], |row| {
            let all: Vec<(String, String, Value)> = json(row, "resources")?;
            let known = |(include, id, data): (String, _, _)| Some(((Include::from_text(&include)?, id), data));
            Ok((all.into_iter().filter_map(known).collect(), row.get("sequence")?))
        })
    }

    /// Writes a look down in the place of the one before.
    pub fn put_webhook_look(&self, app: AppId, resources: &Resources, sequence: u64) -> Result<()> {
        let all: Vec<(&str, &str, &Value)> =
            resources.iter().map(|((include, id), data)| (include.as_str(), id.as_str(), data)).collect();
        self.execute(
            "INSERT OR REPLACE INTO webhook_looks (app_id, resources, sequence) VALUES (?,?,?)",
            params![app.to_string(), to_json(&all)?, sequence],
        )?;
        Ok(())
    }

    /// Forgets the looks at apps that have no webhook any more.
    pub fn forget_webhook_looks(&self) -> Result<()> {
        self.execute("DELETE FROM webhook_looks WHERE app_id NOT IN (SELECT app_id FROM webhooks)", [])?;
        Ok(())
    }

    /// Adds an event.
    pub fn insert_webhook_event(&self, e: &WebhookEvent) -> Result<()> {
        self.execute(
            "INSERT INTO webhook_events (id, app_id, include, sequence, payload, created_at) VALUES (?,?,?,?,?,?)",
            params![
                e.id.to_string(),
                e.app.to_string(),
                e.include.as_str(),
                e.sequence,
                to_json(&e.payload)?,
                micros(e.created_at)
            ],
        )?;
        Ok(())
    }

    /// An app's newest events, newest first.
    pub fn webhook_events(&self, app: AppId, limit: u32) -> Result<Vec<WebhookEvent>> {
        self.rows(
            "SELECT * FROM webhook_events WHERE app_id = ? ORDER BY sequence DESC LIMIT ?",
            params![app.to_string(), limit],
            event,
        )
    }

    /// An event by id.
    pub fn webhook_event(&self, id: WebhookEventId) -> Result<Option<WebhookEvent>> {
        self.row("SELECT * FROM webhook_events WHERE id = ?", [id.to_string()], event)
    }

    /// Keeps an app's newest `keep` events, and forgets the others with their deliveries.
    pub fn prune_webhook_events(&self, app: AppId, keep: u64) -> Result<()> {
        self.execute(
            "DELETE FROM webhook_events WHERE app_id = ?1
             AND sequence <= (SELECT MAX(sequence) FROM webhook_events WHERE app_id = ?1) - ?2",
            params![app.to_string(), keep],
        )?;
        Ok(())
    }

    /// Adds a delivery, or writes what of it can change.
    pub fn put_webhook_delivery(&self, d: &WebhookDelivery) -> Result<()> {
        let last = d.last.as_ref();
        self.execute(
            "INSERT INTO webhook_deliveries (id, webhook_id, event_id, status, attempts, next_attempt_at, attempt_id,
             attempt_code, attempt_error, attempted_at, created_at, updated_at)
             VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)
             ON CONFLICT (id) DO UPDATE SET status = ?4, attempts = ?5,
             next_attempt_at = ?6, attempt_id = ?7, attempt_code = ?8, attempt_error = ?9, attempted_at = ?10,
             updated_at = ?12",
            params![
                d.id.to_string(),
                d.webhook.to_string(),
                d.event.to_string(),
                d.status.as_str(),
                d.attempts,
                d.next_attempt_at.map(micros),
                last.map(|a| a.id.to_string()),
                last.and_then(|a| a.code),
                last.and_then(|a| a.error.clone()),
                last.map(|a| micros(a.at)),
                micros(d.created_at),
                micros(d.updated_at)
            ],
        )?;
        Ok(())
    }

    /// The deliveries of an app, newest first.
    pub fn webhook_deliveries(&self, app: AppId, limit: u32) -> Result<Vec<WebhookDelivery>> {
        self.rows(
            &format!(
                "{DELIVERY} WHERE webhook_events.app_id = ?
             ORDER BY webhook_events.sequence DESC, webhook_deliveries.id LIMIT ?"
            ),
            params![app.to_string(), limit],
            delivery,
        )
    }

    /// A delivery by id.
    pub fn webhook_delivery(&self, id: WebhookDeliveryId) -> Result<Option<WebhookDelivery>> {
        self.row(&format!("{DELIVERY} WHERE webhook_deliveries.id = ?"), [id.to_string()], delivery)
    }

    /// Deliveries that are due at `now`, at most `of_one` of each app and `limit` in all: those that wait longest first.
    pub fn due_webhook_deliveries(&self, now: Timestamp, of_one: u32, limit: u32) -> Result<Vec<WebhookDelivery>> {
        let order = "next_attempt_at, webhook_events.sequence";
        self.rows(
            &format!(
                "{DELIVERY} JOIN (
               SELECT webhook_deliveries.id AS due,
                 ROW_NUMBER() OVER (PARTITION BY webhook_events.app_id ORDER BY {order}) AS turn
               FROM webhook_deliveries JOIN webhook_events ON webhook_events.id = event_id WHERE next_attempt_at <= ?
             ) ON due = webhook_deliveries.id
             WHERE turn <= ? ORDER BY {order} LIMIT ?"
            ),
            params![micros(now), of_one, limit],
            delivery,
        )
    }

    /// When a delivery is due that is not yet due at `now`.
    pub fn next_webhook_delivery(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let sql = "SELECT MIN(next_attempt_at) AS next FROM webhook_deliveries WHERE next_attempt_at > ?";
        Ok(self.row(sql, [micros(now)], |row| optional_time(row, "next"))?.flatten())
    }
}
