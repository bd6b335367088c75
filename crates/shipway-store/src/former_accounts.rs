//! People who were removed, and what somebody who is to be removed owns.

use crate::apps::{self, APP};
use crate::pipelines::{self, PIPELINE};
use crate::promotions::{self, PRODUCT};
use crate::teams;
use crate::{Account, App, Conn, Pipeline, Product, Result, StoreError, Team, json, micros, parsed, to_json};
use jiff::Timestamp;
use rusqlite::params;
use shipway_domain::admission::Permission;
use shipway_domain::{AccountId, AppId, Email};
use std::collections::BTreeMap;

/// What an account owns, by name: what would be nobody's without it.
#[derive(Debug, Clone, Default)]
pub struct Estate {
    /// Apps.
    pub apps: Vec<App>,
    /// Pipelines.
    pub pipelines: Vec<Pipeline>,
    /// Products.
    pub products: Vec<Product>,
    /// Teams of which it is the only admin.
    pub teams: Vec<Team>,
}

impl Estate {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.apps.is_empty() && self.pipelines.is_empty() && self.products.is_empty() && self.teams.is_empty()
    }
}

impl Conn<'_> {
    /// The address of somebody who has an account, or had one. Errors: `Missing`.
    pub fn address_of(&self, id: AccountId) -> Result<Email> {
        let found =
            self.row("SELECT email FROM people WHERE id = ?", [id.to_string()], |row| parsed::<Email>(row, "email"))?;
        found.ok_or(StoreError::Missing("account"))
    }

    /// Whether this was the account of somebody who was removed.
    pub fn has_left(&self, id: AccountId) -> Result<bool> {
        self.value("SELECT EXISTS (SELECT 1 FROM former_accounts WHERE id = ?)", [id.to_string()])
    }

    /// What somebody who was removed might do with an app when they were, where an operation of theirs was under way
    /// there. It counts for what that operation has still to do, and for nothing else.
    pub fn left_with(&self, account: AccountId, app: AppId) -> Result<Option<Permission>> {
        let rights = self.row("SELECT rights FROM former_accounts WHERE id = ?", [account.to_string()], |row| {
            json::<BTreeMap<AppId, Permission>>(row, "rights")
        })?;
        Ok(rights.and_then(|rights| rights.get(&app).copied()))
    }

    /// What an account owns.
    pub fn estate_of(&self, account: AccountId) -> Result<Estate> {
        let id = account.to_string();
        Ok(Estate {
            apps: self.rows(&format!("{APP} WHERE apps.owner_id = ? ORDER BY apps.name"), [&id], apps::app)?,
            pipelines: self.rows(
                &format!("{PIPELINE} WHERE pipelines.owner_id = ? ORDER BY pipelines.name"),
                [&id],
                pipelines::pipeline,
            )?,
            products: self.rows(
                &format!("{PRODUCT} WHERE products.owner_id = ? ORDER BY products.name"),
                [&id],
                promotions::product,
            )?,
            teams: self.rows(
                "SELECT * FROM teams WHERE EXISTS (SELECT 1 FROM team_members m WHERE m.team_id = teams.id
                   AND m.account_id = ?1 AND m.role = 'admin')
                 AND NOT EXISTS (SELECT 1 FROM team_members m WHERE m.team_id = teams.id
                   AND m.account_id <> ?1 AND m.role = 'admin') ORDER BY name",
                [&id],
                teams::team,
            )?,
        })
    }

    /// Removes an account with all that it may do and all that waits for it; its address stays for what it did. `rights`:
    /// see [`Self::left_with`]. Errors: it owns something.
    pub fn remove_account(&self, a: &Account, rights: &BTreeMap<AppId, Permission>, now: Timestamp) -> Result<()> {
        self.execute("DELETE FROM accounts WHERE id = ?", [a.id.to_string()])?;
        self.execute(
            "INSERT INTO former_accounts (id, email, rights, removed_at) VALUES (?,?,?,?)",
            params![a.id.to_string(), a.email.as_str(), to_json(rights)?, micros(now)],
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{account, app};
    use crate::{DATABASE, Keys, MIGRATIONS, Store, StoreError};
    use jiff::Timestamp;
    use rusqlite::Connection;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn whoever_owns_something_is_not_removed_and_an_address_outlives_its_account() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let (one, now) = (account(1), Timestamp::UNIX_EPOCH);
        let owner = one.clone();
        let made = store.write(move |c| {
            c.insert_account(&owner)?;
            c.insert_app(&app(2, &owner))
        });
        made.await.unwrap();
        let owner = one.clone();
        let kept = store.write(move |c| c.remove_account(&owner, &BTreeMap::new(), now)).await;
        assert!(matches!(kept, Err(StoreError::Sqlite(_))), "{kept:?}");
        assert!(!store.read(|c| c.has_left(one.id)).unwrap(), "and nothing of it is kept");
        assert_eq!(store.read(|c| c.estate_of(one.id)).unwrap().apps.len(), 1);

        let two = account(3);
        let leaver = two.clone();
        let gone = store.write(move |c| {
            c.insert_account(&leaver)?;
            c.remove_account(&leaver, &BTreeMap::new(), now)
        });
        gone.await.unwrap();
        assert!(store.read(|c| c.account(&two.id.into())).unwrap().is_none());
        assert_eq!(store.read(|c| c.address_of(two.id)).unwrap(), two.email);
    }

    #[test]
    fn what_was_signed_is_kept_over_an_upgrade() {
        let home = tempfile::tempdir().unwrap();
        let upgrade = MIGRATIONS.iter().position(|sql| sql.contains("CREATE TABLE new_sign_offs")).unwrap();
        Keys::of_home(home.path()).unwrap();
        let before = Connection::open(home.path().join(DATABASE)).unwrap();
        before.pragma_update(None, "foreign_keys", true).unwrap();
        MIGRATIONS[..upgrade].iter().for_each(|sql| before.execute_batch(sql).unwrap());
        before.pragma_update(None, "user_version", upgrade as i64).unwrap();
        let rows = "INSERT INTO accounts VALUES ('a', 'a@example.org', NULL, 0, NULL, 1, 1);
             INSERT INTO pipelines VALUES ('p', 'shop', 'a', '{}', 1, 1);
             INSERT INTO sign_offs VALUES ('s', 'p', 'production', 'c', 'qa', 'a', '[]', 'fine', 7)";
        before.execute_batch(rows).unwrap();
        drop(before);
        drop(Store::open(home.path()).unwrap());

        let after = Connection::open(home.path().join(DATABASE)).unwrap();
        after.pragma_update(None, "foreign_keys", true).unwrap();
        let count = |sql: &str| after.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        let signed = "SELECT count(*) FROM sign_offs JOIN people ON people.id = account_id
             WHERE people.email = 'a@example.org' AND comment = 'fine' AND sign_offs.created_at = 7";
        assert_eq!((count(signed), count("SELECT count(*) FROM pragma_foreign_key_check")), (1, 0));
        // It still goes with its pipeline, and does not go with its person.
        after.execute("UPDATE sign_offs SET account_id = 'gone'", []).unwrap();
        after.execute("DELETE FROM pipelines", []).unwrap();
        assert_eq!(count("SELECT count(*) FROM sign_offs"), 0);
    }
}
