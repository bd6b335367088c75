//! Forges: pipelines' connections to them, what their webhooks brought, what they are told.

use crate::{Conn, Result, StoreError, json, micros, optional_time, parsed, time, to_json, unique, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use shipway_domain::forge::{DeliveryStatus, ForgeCredentials, ForgeKind, Message, RepositoryName};
use shipway_domain::review::Checks;
use shipway_domain::{CommitId, ForgeConnectionId, ForgeDeliveryId, PipelineId};

/// A pipeline's connection to its repository at a forge.
#[derive(Clone)]
pub struct ForgeConnection {
    /// Its id, which is in the address of its webhook.
    pub id: ForgeConnectionId,
    /// Whose.
    pub pipeline: PipelineId,
    /// How the forge is spoken with.
    pub kind: ForgeKind,
    /// The forge's address, without a slash at the end.
    pub url: String,
    /// The repository.
    pub repository: RepositoryName,
    /// This platform's own address as who connected it reached it: where links lead.
    pub home_url: String,
    /// What its webhooks are signed with. Secret.
    pub secret: String,
    /// What opens it. Secret.
    pub credentials: ForgeCredentials,
    /// When it was last heard of.
    pub heard_at: Option<Timestamp>,
    /// Why it could not be asked or told last; none when it could.
    pub failure: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl std::fmt::Debug for ForgeConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ForgeConnection({} {} {})", self.id, self.kind, self.repository)
    }
}

/// A delivery of a webhook.
#[derive(Debug, Clone)]
pub struct ForgeDelivery {
    /// Its id here.
    pub id: ForgeDeliveryId,
    /// By which connection it came.
    pub connection: ForgeConnectionId,
    /// The forge's own id of it, or its digest where the forge gives none.
    pub given: String,
    /// A digest of what its signature covers.
    pub digest: String,
    /// The forge's word for what happened.
    pub event: String,
    /// What became of it.
    pub status: DeliveryStatus,
    /// What was done, or why not.
    pub message: Option<String>,
    /// Whether its body is still there.
    pub kept: bool,
    /// When it came.
    pub received_at: Timestamp,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
}

/// What a forge should know of one subject, and what it was told.
#[derive(Debug, Clone)]
pub struct ForgeMessage {
    /// What it is about.
    pub subject: String,
    /// What the forge should know.
    pub wanted: Message,
    /// What it was told last.
    pub told: Option<Message>,
    /// What names it at the forge, in the adapter's words.
    pub remote: Option<serde_json::Value>,
    /// Why the last try failed.
    pub failure: Option<String>,
    /// Tries since it last worked.
    pub attempts: u32,
    /// When it may be tried.
    pub due_at: Timestamp,
}

fn secret_context(id: ForgeConnectionId) -> String {
    format!("webhook secret of forge connection {id}")
}

fn credentials_context(id: ForgeConnectionId) -> String {
    format!("credentials of forge connection {id}")
}

/// A row, its secrets still sealed.
fn connection(row: &Row<'_>) -> rusqlite::Result<(ForgeConnection, Vec<u8>, Vec<u8>)> {
    let connection = ForgeConnection {
        id: parsed(row, "id")?,
        pipeline: parsed(row, "pipeline_id")?,
        kind: word(row, "kind", ForgeKind::from_text)?,
        url: row.get("url")?,
        repository: parsed(row, "repository")?,
        home_url: row.get("home_url")?,
        secret: String::new(),
        credentials: ForgeCredentials::None,
        heard_at: optional_time(row, "heard_at")?,
        failure: row.get("failure")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    };
    Ok((connection, row.get("secret_sealed")?, row.get("credentials_sealed")?))
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<ForgeDelivery> {
    Ok(ForgeDelivery {
        id: parsed(row, "id")?,
        connection: parsed(row, "connection_id")?,
        given: row.get("given")?,
        digest: row.get("digest")?,
        event: row.get("event")?,
        status: word(row, "status", DeliveryStatus::from_text)?,
        message: row.get("message")?,
        kept: row.get("kept")?,
        received_at: time(row, "received_at")?,
        finished_at: optional_time(row, "finished_at")?,
    })
}

/// All of a delivery but its body, which may be large.
const DELIVERY: &str = "SELECT id, connection_id, given, digest, event, body IS NOT NULL AS kept, status, message, \
                        received_at, finished_at FROM forge_deliveries";

fn message(row: &Row<'_>) -> rusqlite::Result<ForgeMessage> {
    let told: Option<String> = row.get("told")?;
    let remote: Option<String> = row.get("remote")?;
    Ok(ForgeMessage {
        subject: row.get("subject")?,
        wanted: json(row, "wanted")?,
        told: told.map(|_| json(row, "told")).transpose()?,
        remote: remote.map(|_| json(row, "remote")).transpose()?,
        failure: row.get("failure")?,
        attempts: row.get("attempts")?,
        due_at: time(row, "due_at")?,
    })
}

impl Conn<'_> {
    fn open_forge(
        &self,
        (mut found, secret, credentials): (ForgeConnection, Vec<u8>, Vec<u8>),
    ) -> Result<ForgeConnection> {
        let context = secret_context(found.id);
        found.secret = String::from_utf8(self.keys.open(&context, &secret)?)
            .map_err(|_| StoreError::Unsealable { context: context.clone() })?;
        let context = credentials_context(found.id);
        found.credentials = serde_json::from_slice(&self.keys.open(&context, &credentials)?)
            .map_err(|_| StoreError::Unsealable { context: context.clone() })?;
        Ok(found)
    }

    /// Connects a pipeline to a forge, in place of the connection that it had: what came by that one goes with it.
    pub fn put_forge_connection(&self, f: &ForgeConnection) -> Result<()> {
        self.delete_forge_connection(f.pipeline)?;
        let credentials = to_json(&f.credentials)?;
        self.execute(
            "INSERT INTO forge_connections (id, pipeline_id, kind, url, repository, home_url, secret_sealed,
             credentials_sealed, heard_at, failure, created_at, updated_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            params![
                f.id.to_string(),
                f.pipeline.to_string(),
                f.kind.as_str(),
                f.url,
                f.repository.as_str(),
                f.home_url,
                self.keys.seal(&secret_context(f.id), f.secret.as_bytes()),
                self.keys.seal(&credentials_context(f.id), credentials.as_bytes()),
                f.heard_at.map(micros),
                f.failure,
                micros(f.created_at),
                micros(f.updated_at)
            ],
        )?;
        Ok(())
    }

    /// Ends a pipeline's connection; a second time does nothing.
    pub fn delete_forge_connection(&self, pipeline: PipelineId) -> Result<()> {
        self.execute("DELETE FROM forge_connections WHERE pipeline_id = ?", [pipeline.to_string()])?;
        Ok(())
    }

    /// A pipeline's connection.
    pub fn forge_of(&self, pipeline: PipelineId) -> Result<Option<ForgeConnection>> {
        self.row("SELECT * FROM forge_connections WHERE pipeline_id = ?", [pipeline.to_string()], connection)?
            .map(|found| self.open_forge(found))
            .transpose()
    }

    /// A connection by its id.
    pub fn forge(&self, id: ForgeConnectionId) -> Result<Option<ForgeConnection>> {
        self.row("SELECT * FROM forge_connections WHERE id = ?", [id.to_string()], connection)?
            .map(|found| self.open_forge(found))
            .transpose()
    }

    /// All connections.
    pub fn forges(&self) -> Result<Vec<ForgeConnection>> {
        let found = self.rows("SELECT * FROM forge_connections ORDER BY created_at, id", [], connection)?;
        found.into_iter().map(|found| self.open_forge(found)).collect()
    }

    /// Notes that a forge was heard of.
    pub fn heard_of_forge(&self, id: ForgeConnectionId, at: Timestamp) -> Result<()> {
        self.execute("UPDATE forge_connections SET heard_at = ? WHERE id = ?", params![micros(at), id.to_string()])?;
        Ok(())
    }

    /// Notes why a forge could not be asked or told last.
    pub fn forge_failed(&self, id: ForgeConnectionId, failure: Option<&str>) -> Result<()> {
        self.execute("UPDATE forge_connections SET failure = ? WHERE id = ?", params![failure, id.to_string()])?;
        Ok(())
    }

    /// Adds a delivery. Errors: `Taken` for one that came before.
    pub fn insert_forge_delivery(&self, d: &ForgeDelivery, body: &[u8]) -> Result<()> {
        self.execute(
            "INSERT INTO forge_deliveries (id, connection_id, given, digest, event, body, status, message,
             received_at, finished_at) VALUES (?,?,?,?,?,?,?,?,?,?)",
            params![
                d.id.to_string(),
                d.connection.to_string(),
                d.given,
                d.digest,
                d.event,
                body,
                d.status.as_str(),
                d.message,
                micros(d.received_at),
                d.finished_at.map(micros)
            ],
        )
        .map_err(unique("delivery"))?;
        Ok(())
    }

    /// Writes what became of a delivery.
    pub fn update_forge_delivery(&self, d: &ForgeDelivery) -> Result<()> {
        self.execute(
            "UPDATE forge_deliveries SET status = ?, message = ?, finished_at = ? WHERE id = ?",
            params![d.status.as_str(), d.message, d.finished_at.map(micros), d.id.to_string()],
        )?;
        Ok(())
    }

    /// A delivery.
    pub fn forge_delivery(&self, id: ForgeDeliveryId) -> Result<Option<ForgeDelivery>> {
        self.row(&format!("{DELIVERY} WHERE id = ?"), [id.to_string()], delivery)
    }

    /// A delivery's body, as long as it is kept.
    pub fn forge_delivery_body(&self, id: ForgeDeliveryId) -> Result<Option<Vec<u8>>> {
        Ok(self.row("SELECT body FROM forge_deliveries WHERE id = ?", [id.to_string()], |row| row.get(0))?.flatten())
    }

    /// A connection's newest deliveries, newest first.
    pub fn forge_deliveries(&self, connection: ForgeConnectionId, limit: usize) -> Result<Vec<ForgeDelivery>> {
        let sql = format!("{DELIVERY} WHERE connection_id = ? ORDER BY received_at DESC, rowid DESC LIMIT ?");
        self.rows(&sql, params![connection.to_string(), limit as u64], delivery)
    }

    /// Deliveries that wait, oldest first.
    pub fn waiting_forge_deliveries(&self, limit: usize) -> Result<Vec<ForgeDelivery>> {
        let sql = format!("{DELIVERY} WHERE status = 'received' ORDER BY received_at, rowid LIMIT ?");
        self.rows(&sql, [limit as u64], delivery)
    }

    /// How many deliveries wait.
    pub fn count_waiting_forge_deliveries(&self) -> Result<u64> {
        self.value("SELECT count(*) FROM forge_deliveries WHERE status = 'received'", [])
    }

    /// How many of a connection's deliveries wait.
    pub fn count_waiting_forge_deliveries_of(&self, connection: ForgeConnectionId) -> Result<u64> {
        self.value(
            "SELECT count(*) FROM forge_deliveries WHERE status = 'received' AND connection_id = ?",
            [connection.to_string()],
        )
    }

    /// Forgets bodies of deliveries from before `bodies`, deliveries from before `ids` and checks from before `ids`.
    pub fn forget_forge_deliveries(&self, bodies: Timestamp, ids: Timestamp) -> Result<()> {
        self.execute(
            "UPDATE forge_deliveries SET body = NULL WHERE received_at < ? AND status <> 'received'",
            [micros(bodies)],
        )?;
        self.execute("DELETE FROM forge_deliveries WHERE received_at < ?", [micros(ids)])?;
        self.execute("DELETE FROM forge_checks WHERE changed_at < ?", [micros(ids)])?;
        Ok(())
    }

    /// Writes what one check says of a commit, unless something later is known, and returns what all say together.
    pub fn put_forge_check(
        &self,
        pipeline: PipelineId,
        commit: &CommitId,
        context: &str,
        state: Checks,
        at: Timestamp,
    ) -> Result<Checks> {
        self.execute(
            "INSERT INTO forge_checks (pipeline_id, commit_id, context, state, changed_at) VALUES (?,?,?,?,?)
             ON CONFLICT (pipeline_id, commit_id, context) DO UPDATE SET state = excluded.state,
             changed_at = excluded.changed_at WHERE excluded.changed_at >= forge_checks.changed_at",
            params![pipeline.to_string(), commit.as_str(), context, state.as_str(), micros(at)],
        )?;
        self.forge_checks(pipeline, commit)
    }

    /// What all checks say of a commit together.
    pub fn forge_checks(&self, pipeline: PipelineId, commit: &CommitId) -> Result<Checks> {
        let all = self.rows(
            "SELECT state FROM forge_checks WHERE pipeline_id = ? AND commit_id = ?",
            params![pipeline.to_string(), commit.as_str()],
            |row| word(row, "state", Checks::from_text),
        )?;
        Ok(Checks::together(all))
    }

    /// What a forge should know and was told, by subject.
    pub fn forge_messages(&self, connection: ForgeConnectionId) -> Result<Vec<ForgeMessage>> {
        self.rows(
            "SELECT * FROM forge_messages WHERE connection_id = ? ORDER BY subject",
            [connection.to_string()],
            message,
        )
    }

    /// Writes what a forge should know of a subject and was told of it.
    pub fn put_forge_message(&self, connection: ForgeConnectionId, m: &ForgeMessage, now: Timestamp) -> Result<()> {
        self.execute(
            "INSERT OR REPLACE INTO forge_messages (connection_id, subject, wanted, told, remote, failure, attempts,
             due_at, updated_at) VALUES (?,?,?,?,?,?,?,?,?)",
            params![
                connection.to_string(),
                m.subject,
                to_json(&m.wanted)?,
                m.told.as_ref().map(to_json).transpose()?,
                m.remote.as_ref().map(to_json).transpose()?,
                m.failure,
                m.attempts,
                micros(m.due_at),
                micros(now)
            ],
        )?;
        Ok(())
    }

    /// Forgets a subject.
    pub fn delete_forge_message(&self, connection: ForgeConnectionId, subject: &str) -> Result<()> {
        self.execute(
            "DELETE FROM forge_messages WHERE connection_id = ? AND subject = ?",
            params![connection.to_string(), subject],
        )?;
        Ok(())
    }
}
