//! When rights may have changed: so that whoever holds something open looks again then, and only then.

use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// The tables from which follows who may what. SQLite tells of each row of them that changes, by whatever way, cascades
/// included: no query can forget to.
const TABLES: [&str; 13] = [
    "accounts",
    "addons",
    "app_setups",
    "apps",
    "attachments",
    "collaborators",
    "couplings",
    "pipelines",
    "product_pipelines",
    "products",
    "team_members",
    "teams",
    "tokens",
];

/// Says when rows of [`TABLES`] were committed.
pub(crate) struct Rights {
    touched: Arc<AtomicBool>,
    changed: watch::Sender<u64>,
}

impl Rights {
    /// Listens to the connection by which everything is written.
    pub(crate) fn of(writer: &mut Connection) -> rusqlite::Result<Self> {
        let touched = Arc::new(AtomicBool::new(false));
        let seen = touched.clone();
        writer.update_hook(Some(move |_, _: &str, table: &str, _| {
            if TABLES.contains(&table) {
                seen.store(true, Ordering::Relaxed);
            }
        }))?;
        Ok(Self { touched, changed: watch::channel(0).0 })
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The writer's transaction has ended. What was taken back has changed nothing.
    pub(crate) fn ended(&self, committed: bool) {
        if self.touched.swap(false, Ordering::Relaxed) && committed {
            self.changed.send_modify(|generation| *generation += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{account, app};
    use crate::{Conn, Key, Result, Store};
    use jiff::Timestamp;
    use shipway_domain::{KeyId, TokenId};
    use uuid::Uuid;

    #[tokio::test]
    async fn rights_change_with_what_they_follow_from_and_with_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let mut rights = store.rights();
        let mut check = async |what: &str, expected: bool, change: fn(&Conn<'_>) -> Result<()>| {
            rights.mark_unchanged();
            store.write(change).await.unwrap();
            assert_eq!(rights.has_changed().unwrap(), expected, "{what}");
        };
        check("an account", true, |c| c.insert_account(&account(1))).await;
        check("an app", true, |c| c.insert_app(&app(2, &account(1))).map(drop)).await;
        check("a token that is not there", false, |c| c.delete_token(TokenId(Uuid::nil()))).await;
        check("a key", false, |c| {
            let (public_key, fingerprint, comment) = ("ssh-ed25519 A".into(), "a".into(), String::new());
            let id = KeyId(Uuid::nil());
            c.insert_key(&Key {
                id,
                account: account(1).id,
                public_key,
                fingerprint,
                comment,
                created_at: Timestamp::UNIX_EPOCH,
            })
        })
        .await;
        check("a collaborator", true, |c| {
            c.insert_account(&account(4))?;
            let row = [app(2, &account(1)).id.to_string(), account(4).id.to_string()];
            c.sql.execute("INSERT INTO collaborators VALUES ('c', ?, ?, 'view', 0, 0)", row)?;
            Ok(())
        })
        .await;
        check("what goes with another row", true, |c| {
            c.sql.execute("DELETE FROM apps WHERE id = ?", [app(2, &account(1)).id.to_string()])?;
            Ok(())
        })
        .await;
        let count = "SELECT count(*) FROM collaborators";
        assert_eq!(store.read(|c| Ok(c.sql.query_row(count, [], |row| row.get::<_, i64>(0))?)).unwrap(), 0);
    }
}
