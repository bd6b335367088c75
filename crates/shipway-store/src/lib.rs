//! The platform's own state: one SQLite database and the keys that seal what is secret in it.
//!
//! All writes go through one thread that commits what is waiting in one transaction (group commit); each caller's part
//! is a savepoint, so one that fails takes nobody with it. Reads use connections of their own and never wait for
//! writers. Nothing outside this crate sees SQL. Why this crate sits below the engine instead of behind a trait:
//! `docs/decisions/0001-store-below-engine.md`.

mod accounts;
mod addons;
mod app_setups;
mod apps;
mod branch_tips;
mod builds;
mod conn;
mod deployments;
mod dynos;
mod forges;
mod former_accounts;
mod ledger;
mod operations;
mod pipelines;
mod promotions;
mod releases;
mod reservations;
mod review_apps;
mod rights;
mod seal;
mod sealed_file;
mod sign_offs;
mod teams;
mod transfers;
mod triggers;
mod upstreams;
mod webhooks;

pub use accounts::*;
pub use addons::*;
pub use app_setups::*;
pub use apps::*;
pub use builds::*;
pub use conn::Conn;
pub(crate) use conn::{json, micros, optional, optional_time, parsed, time, to_json, unique, word};
pub use deployments::*;
pub use dynos::*;
pub use forges::*;
pub use former_accounts::*;
pub use ledger::*;
pub use operations::*;
pub use pipelines::*;
pub use promotions::*;
pub use releases::*;
pub use reservations::*;
pub use review_apps::*;
pub use seal::{Keys, hex, sha256, token_hash, token_mark};
pub use sealed_file::{SealedFile, plain_bytes};
pub use sign_offs::*;
pub use teams::*;
pub use transfers::*;
pub use triggers::*;
pub use upstreams::*;
pub use webhooks::*;

use rights::Rights;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use tokio::sync::watch;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A unique name or id is taken.
    #[error("{0} is already taken")]
    Taken(&'static str),
    /// The row is not there.
    #[error("no such {0}")]
    Missing(&'static str),
    /// SQLite refused.
    #[error("database: {0}")]
    Sqlite(#[source] rusqlite::Error),
    /// A file refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: std::io::Error,
    },
    /// The key file has another length than 32 bytes.
    #[error("{} has {bytes} bytes instead of 32: restore it from a backup, without it sealed data cannot be read", path.display())]
    BadKey {
        /// Which file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// There is a database and no key.
    #[error(
        "{} is missing, and what is secret in {} opens with no other: restore it from the backup that the database is of \
         (docs/operating.md)",
        key.display(), database.display()
    )]
    LostKey {
        /// The key's file.
        key: PathBuf,
        /// The database's.
        database: PathBuf,
    },
    /// Sealed data does not open: another key, or changed bytes.
    #[error("sealed data of {context} does not open with this platform's key (keys/master.key)")]
    Unsealable {
        /// What and whose it is.
        context: String,
    },
    /// The database was written by a newer version.
    #[error(
        "the database has schema {found}, this binary knows up to {known}: run the newer version, or restore a backup from before the upgrade"
    )]
    TooNew {
        /// The database's version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The transaction did not reach the disk; nothing of it is kept.
    #[error("the database could not be written: {0}")]
    Unwritten(String),
    /// The writer thread has stopped after an error that it could not get past.
    #[error("the database writer has stopped; see the server's log")]
    Stopped,
}

impl From<rusqlite::Error> for StoreError {
    fn from(e: rusqlite::Error) -> Self {
        if e == rusqlite::Error::QueryReturnedNoRows { Self::Missing("row") } else { Self::Sqlite(e) }
    }
}

/// The result of everything here.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The database's file in a data directory.
const DATABASE: &str = "shipway.db";

/// Schema versions in order; each is run once, inside one transaction with its number.
const MIGRATIONS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("schema/pipelines.sql"),
    include_str!("schema/addons.sql"),
    include_str!("schema/review_apps.sql"),
    include_str!("schema/operation_apps.sql"),
    include_str!("schema/promotions.sql"),
    include_str!("schema/upstreams.sql"),
    include_str!("schema/slug_fingerprints.sql"),
    include_str!("schema/triggers.sql"),
    include_str!("schema/forges.sql"),
    include_str!("schema/teams.sql"),
    include_str!("schema/reservations.sql"),
    include_str!("schema/webhooks.sql"),
    include_str!("schema/deployments.sql"),
    include_str!("schema/triggered_before.sql"),
    include_str!("schema/webhooks_outlive.sql"),
    include_str!("schema/sign_offs.sql"),
    include_str!("schema/triggered_awaited.sql"),
    include_str!("schema/review_disabled.sql"),
    include_str!("schema/triggered_mover.sql"),
    include_str!("schema/slug_made_with.sql"),
    include_str!("schema/notices_replaced.sql"),
    include_str!("schema/branch_tips.sql"),
    include_str!("schema/former_accounts.sql"),
];

/// Work of one caller in the writer's transaction; what it returns tells the caller whether that was committed.
type Job = Box<dyn FnOnce(&Conn<'_>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(std::result::Result<(), String>) + Send>;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    keys: Keys,
    jobs: mpsc::SyncSender<Job>,
    readers: Mutex<Vec<Connection>>,
    rights: Rights,
}

impl Store {
    /// Opens `home/shipway.db` and `home/keys`, makes or migrates them, and starts the writer thread.
    pub fn open(home: &Path) -> Result<Self> {
        let keys = Keys::of_home(home)?;
        let path = home.join(DATABASE);
        // From its first byte nobody else's to read; the write-ahead log gets the same mode.
        let made = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        made.map_err(|source| StoreError::Io { path: path.clone(), source })?;
        let mut writer = Connection::open(&path)?;
        configure(&writer)?;
        migrate(&mut writer)?;
        // Waiting writers beyond this wait in their own task; the bound only keeps memory finite.
        let (jobs, queue) = mpsc::sync_channel::<Job>(4096);
        let rights = Rights::of(&mut writer)?;
        let inner = Arc::new(Inner { path, keys, jobs, readers: Mutex::new(Vec::new()), rights });
        let weak = Arc::downgrade(&inner);
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_loop(writer, &queue, &weak))
            .map_err(|source| StoreError::Io { path: home.into(), source })?;
        Ok(Self { inner })
    }

    /// The keys that seal.
    pub fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// Changes when something was committed from which rights follow: before whoever wrote it is told so.
    pub fn rights(&self) -> watch::Receiver<u64> {
        self.inner.rights.subscribe()
    }

    /// Runs `f` in a write transaction and returns once it is durable. When `f` fails nothing of it is kept.
    pub async fn write<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Conn<'_>) -> Result<T> + Send + 'static,
    {
        let (answer, receive) = tokio::sync::oneshot::channel();
        let job: Job = Box::new(move |conn| {
            let result = savepoint(conn, f);
            Box::new(move |committed| {
                let _ = answer.send(committed.map_err(StoreError::Unwritten).and(result));
            })
        });
        let jobs = self.inner.jobs.clone();
        match jobs.try_send(job) {
            Ok(()) => {}
            Err(mpsc::TrySendError::Full(job)) => {
                let sent = tokio::task::spawn_blocking(move || jobs.send(job)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return Err(StoreError::Stopped);
                }
            }
            Err(mpsc::TrySendError::Disconnected(_)) => return Err(StoreError::Stopped),
        }
        receive.await.map_err(|_| StoreError::Stopped)?
    }

    /// Runs `f` on a connection that sees the last committed state. Queries take µs to a few ms: run in place.
    pub fn read<T>(&self, f: impl FnOnce(&Conn<'_>) -> Result<T>) -> Result<T> {
        let pooled = self.inner.readers.lock().expect("no reader panics while it holds the pool").pop();
        let sql = match pooled {
            Some(c) => c,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let c = Connection::open_with_flags(&self.inner.path, flags)?;
                configure_reader(&c)?;
                c
            }
        };
        // One snapshot for all queries of `f`.
        sql.execute_batch("BEGIN")?;
        let result = f(&Conn { sql: &sql, keys: &self.inner.keys });
        sql.execute_batch("COMMIT")?;
        self.inner.readers.lock().expect("no reader panics while it holds the pool").push(sql);
        result
    }

    /// Copies the database to `target` while it is in use, complete as of one moment.
    pub fn backup(&self, target: &Path) -> Result<()> {
        self.read(|c| Ok(c.sql.backup("main", target, None::<fn(rusqlite::backup::Progress)>)?))
    }
}

fn configure(c: &Connection) -> Result<()> {
    c.pragma_update(None, "journal_mode", "WAL")?;
    c.pragma_update(None, "synchronous", "FULL")?;
    configure_reader(c)
}

fn configure_reader(c: &Connection) -> Result<()> {
    c.pragma_update(None, "foreign_keys", true)?;
    c.busy_timeout(std::time::Duration::from_secs(10))?;
    c.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn migrate(c: &mut Connection) -> Result<()> {
    let known = MIGRATIONS.len() as i64;
    let found: i64 = c.pragma_query_value(None, "user_version", |r| r.get(0))?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (i, sql) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let tx = c.transaction()?;
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "user_version", i as i64 + 1)?;
        tx.commit()?;
    }
    Ok(())
}

fn savepoint<T>(conn: &Conn<'_>, f: impl FnOnce(&Conn<'_>) -> Result<T>) -> Result<T> {
    conn.sql.execute_batch("SAVEPOINT job")?;
    let result = f(conn);
    let end = if result.is_ok() { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    conn.sql.execute_batch(end)?;
    result
}

/// At most this many jobs share one commit, so that the first of them does not wait long for the last.
const GROUP: usize = 256;

fn write_loop(sql: Connection, queue: &mpsc::Receiver<Job>, inner: &std::sync::Weak<Inner>) {
    while let Ok(first) = queue.recv() {
        let Some(inner) = inner.upgrade() else { return };
        let conn = Conn { sql: &sql, keys: &inner.keys };
        let begun = sql.execute_batch("BEGIN IMMEDIATE");
        let mut answers = Vec::new();
        if begun.is_ok() {
            answers.push(first(&conn));
            while answers.len() < GROUP {
                let Ok(job) = queue.try_recv() else { break };
                answers.push(job(&conn));
            }
        }
        let committed = begun.and_then(|()| sql.execute_batch("COMMIT"));
        if let Err(e) = &committed {
            tracing::error!(error = %e, "a write could not be committed");
            // Not in a transaction any more when COMMIT itself rolled back (disk full): both are fine.
            let _ = sql.execute_batch("ROLLBACK");
        }
        inner.rights.ended(committed.is_ok());
        let committed = committed.map_err(|e| e.to_string());
        for answer in answers {
            answer(committed.clone());
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use jiff::Timestamp;
    use shipway_domain::{AccountId, AppId, AppName, ConfigKey, Email, NameOrId};

    pub(crate) fn account(n: u128) -> Account {
        Account {
            id: AccountId(uuid::Uuid::from_u128(n)),
            email: Email::parse(&format!("p{n}@example.org")).unwrap(),
            name: None,
            admin: false,
            password_hash: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    pub(crate) fn app(n: u128, owner: &Account) -> App {
        App {
            id: AppId(uuid::Uuid::from_u128(n)),
            name: AppName::parse(&format!("shop-{n}")).unwrap(),
            owner: owner.id,
            owner_email: owner.email.clone(),
            region: "us".into(),
            stack: "heroku-24".into(),
            build_stack: "heroku-24".into(),
            maintenance: false,
            uid_block: 0,
            settings: AppSettings::default(),
            buildpacks: vec![],
            current_release: None,
            ending: false,
            repo_size: None,
            slug_size: None,
            released_at: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    pub(crate) fn release(n: u128, app: AppId, account: AccountId) -> Release {
        Release {
            id: shipway_domain::ReleaseId(uuid::Uuid::from_u128(n)),
            app,
            version: 0,
            status: shipway_domain::lifecycle::ReleaseStatus::Succeeded,
            description: "Deploy".into(),
            account,
            slug: None,
            attachments: vec![],
            config_hash: String::new(),
            has_output: false,
            failure: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn a_failing_job_of_a_group_takes_nobody_with_it() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let jobs = (1..=100_u128).map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .write(move |c| {
                        c.insert_account(&account(n))?;
                        if n % 3 == 0 { Err(StoreError::Missing("luck")) } else { Ok(()) }
                    })
                    .await
                    .is_ok()
            })
        });
        let mut ok = 0;
        for job in jobs.collect::<Vec<_>>() {
            ok += usize::from(job.await.unwrap());
        }
        assert_eq!(ok, 67);
        assert_eq!(store.read(|c| c.accounts()).unwrap().len(), 67);
    }

    #[tokio::test]
    async fn attack_41_config_vars_are_nowhere_in_the_files() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let owner = account(1);
        let one = app(1, &owner);
        let vars = ConfigVars::from([(ConfigKey::parse("SECRET").unwrap(), "correct-horse-battery".to_string())]);
        let (id, set) = (one.id, vars.clone());
        let blocks = store
            .write(move |c| {
                c.insert_account(&owner)?;
                let blocks = (c.insert_app(&one)?, c.insert_app(&app(2, &owner))?);
                c.set_config_vars(one.id, &set)?;
                Ok(blocks)
            })
            .await
            .unwrap();
        assert_eq!(blocks, (1, 2));
        assert_eq!(store.read(|c| c.config_vars(id)).unwrap(), vars);
        assert!(store.read(|c| c.app(&NameOrId::parse("shop-1"))).unwrap().is_some());
        for file in ["shipway.db", "shipway.db-wal"] {
            let bytes = std::fs::read(home.path().join(file)).unwrap();
            assert!(!bytes.windows(13).any(|w| w == b"correct-horse"), "{file} holds a secret");
        }
    }

    #[tokio::test]
    async fn attack_42_the_ledger_only_grows() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let entry = LedgerEntry {
            id: shipway_domain::LedgerId(uuid::Uuid::from_u128(1)),
            at: Timestamp::UNIX_EPOCH,
            actor: "a@example.org".into(),
            via: "api".into(),
            app: None,
            app_name: None,
            action: "x".into(),
            detail: serde_json::json!({}),
        };
        store.write(move |c| c.record(&entry)).await.unwrap();
        for sql in ["UPDATE ledger SET actor = 'b'", "DELETE FROM ledger"] {
            assert!(store.write(move |c| Ok(c.sql.execute(sql, [])?)).await.is_err(), "{sql}");
        }
        assert_eq!(store.read(|c| c.ledger(None, 10)).unwrap().len(), 1);
    }

    #[test]
    fn webhooks_and_what_they_were_told_are_kept_over_an_upgrade() {
        let home = tempfile::tempdir().unwrap();
        let upgrade = MIGRATIONS.iter().position(|sql| sql.contains("CREATE TABLE new_webhooks")).unwrap();
        Keys::of_home(home.path()).unwrap();
        let before = Connection::open(home.path().join(DATABASE)).unwrap();
        before.pragma_update(None, "foreign_keys", true).unwrap();
        MIGRATIONS[..upgrade].iter().for_each(|sql| before.execute_batch(sql).unwrap());
        before.pragma_update(None, "user_version", upgrade as i64).unwrap();
        before.pragma_update(None, "foreign_keys", false).unwrap();
        let rows = "INSERT INTO webhooks VALUES ('w', 'a', x'00', '[]', 'sync', NULL, x'00', 1, 2);
             INSERT INTO webhook_events VALUES ('e', 'a', 'api:app', 7, '{}', 3);
             INSERT INTO webhook_deliveries VALUES ('d', 'w', 'e', 'pending', 1, 4, NULL, NULL, NULL, NULL, 5, 6)";
        before.execute_batch(rows).unwrap();
        drop(before);
        drop(Store::open(home.path()).unwrap());

        let after = Connection::open(home.path().join("shipway.db")).unwrap();
        after.pragma_update(None, "foreign_keys", true).unwrap();
        let joined = "SELECT count(*) FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id
             JOIN webhook_events e ON e.id = d.event_id WHERE w.app_id = 'a' AND e.sequence = 7 AND d.next_attempt_at = 4";
        let count = |sql: &str| after.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count(joined), 1);
        // What refers to what is as before.
        assert_eq!(count("SELECT count(*) FROM pragma_foreign_key_check"), 0);
        after.execute("DELETE FROM webhooks", []).unwrap();
        assert_eq!(count("SELECT count(*) FROM webhook_deliveries"), 0);
    }

    #[tokio::test]
    async fn a_newer_database_is_refused_and_an_older_opened_twice_is_the_same() {
        let home = tempfile::tempdir().unwrap();
        drop(Store::open(home.path()).unwrap());
        drop(Store::open(home.path()).unwrap());
        let raw = Connection::open(home.path().join("shipway.db")).unwrap();
        raw.pragma_update(None, "user_version", 99).unwrap();
        let refused = Store::open(home.path()).err().map(|e| e.to_string());
        assert!(refused.unwrap().starts_with("the database has schema 99"));
    }
}
