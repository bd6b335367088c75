//! Add-ons and attachments, and how they join an app's config.

use crate::{ConfigVars, Conn, Release, Result, StoreError, micros, parsed, time, to_json, unique, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use shipway_domain::addon::{AddonState, PlanName};
use shipway_domain::{AddonId, AddonName, AppId, AttachmentId, AttachmentName, ConfigKey, NameOrId, ReleaseId};
use std::collections::BTreeMap;

/// An add-on.
#[derive(Debug, Clone)]
pub struct Addon {
    /// Its id.
    pub id: AddonId,
    /// The app that owns it and that it is destroyed with.
    pub app: AppId,
    /// Its name, unique on the platform.
    pub name: AddonName,
    /// What it is.
    pub plan: PlanName,
    /// Its state.
    pub state: AddonState,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What an add-on gives to the apps that it is attached to: `URL` → `postgres://…`. Secret.
pub type AddonConfig = BTreeMap<String, String>;

/// An add-on's place in an app.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Its id.
    pub id: AttachmentId,
    /// The add-on.
    pub addon: AddonId,
    /// The app.
    pub app: AppId,
    /// Its name, unique in the app; config vars begin with it.
    pub name: AttachmentName,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// An attachment as a release has it: it stays what it was when the attachment goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseAttachment {
    /// The add-on.
    pub addon: AddonId,
    /// Its plan.
    pub plan: PlanName,
    /// The config vars that it set, by name.
    pub keys: Vec<ConfigKey>,
}

fn addon(row: &Row<'_>) -> rusqlite::Result<Addon> {
    Ok(Addon {
        id: parsed(row, "id")?,
        app: parsed(row, "app_id")?,
        name: parsed(row, "name")?,
        plan: parsed(row, "plan")?,
        state: word(row, "state", AddonState::from_text)?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn attachment(row: &Row<'_>) -> rusqlite::Result<Attachment> {
    Ok(Attachment {
        id: parsed(row, "id")?,
        addon: parsed(row, "addon_id")?,
        app: parsed(row, "app_id")?,
        name: parsed(row, "name")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn addon_context(id: AddonId) -> String {
    format!("config of add-on {id}")
}

impl Conn<'_> {
    /// Adds an add-on without config. Errors: `Taken` for its name.
    pub fn insert_addon(&self, a: &Addon) -> Result<()> {
        self.execute(
            "INSERT INTO addons (id, app_id, name, plan, state, config_sealed, created_at, updated_at)
             VALUES (?,?,?,?,?,?,?,?)",
            params![
                a.id.to_string(),
                a.app.to_string(),
                a.name.as_str(),
                a.plan.to_string(),
                a.state.as_str(),
                self.keys.seal(&addon_context(a.id), b"{}"),
                micros(a.created_at),
                micros(a.updated_at)
            ],
        )
        .map_err(unique("add-on name"))?;
        Ok(())
    }

    /// Renames an add-on. Errors: `Taken`.
    pub fn rename_addon(&self, id: AddonId, name: &AddonName, at: Timestamp) -> Result<()> {
        self.execute(
            "UPDATE addons SET name = ?, updated_at = ? WHERE id = ?",
            params![name.as_str(), micros(at), id.to_string()],
        )
        .map_err(unique("add-on name"))?;
        Ok(())
    }

    /// Moves an add-on to a state.
    pub fn set_addon_state(&self, id: AddonId, state: AddonState, at: Timestamp) -> Result<()> {
        self.execute(
            "UPDATE addons SET state = ?, updated_at = ? WHERE id = ?",
            params![state.as_str(), micros(at), id.to_string()],
        )?;
        Ok(())
    }

    /// Replaces what an add-on gives to its apps.
    pub fn set_addon_config(&self, id: AddonId, config: &AddonConfig) -> Result<()> {
        let sealed = self.keys.seal(&addon_context(id), to_json(config)?.as_bytes());
        self.execute("UPDATE addons SET config_sealed = ? WHERE id = ?", params![sealed, id.to_string()])?;
        Ok(())
    }

    /// What an add-on gives to its apps, opened.
    pub fn addon_config(&self, id: AddonId) -> Result<AddonConfig> {
        let sealed: Vec<u8> = self
            .row("SELECT config_sealed FROM addons WHERE id = ?", [id.to_string()], |r| r.get(0))?
            .ok_or(StoreError::Missing("add_on"))?;
        let context = addon_context(id);
        let plain = self.keys.open(&context, &sealed)?;
        serde_json::from_slice(&plain).map_err(|_| StoreError::Unsealable { context })
    }

    /// Removes an add-on with its attachments.
    pub fn delete_addon(&self, id: AddonId) -> Result<()> {
        self.execute("DELETE FROM addons WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// Finds an add-on by id or name.
    pub fn addon(&self, which: &NameOrId) -> Result<Option<Addon>> {
        self.named("SELECT * FROM addons", "addons", which, addon)
    }

    /// The add-on with this id. Errors: `Missing`.
    pub fn addon_by_id(&self, id: AddonId) -> Result<Addon> {
        self.addon(&id.into())?.ok_or(StoreError::Missing("add_on"))
    }

    /// All add-ons by name.
    pub fn all_addons(&self) -> Result<Vec<Addon>> {
        self.rows("SELECT * FROM addons ORDER BY name", [], addon)
    }

    /// The add-ons that an app owns, by name.
    pub fn addons(&self, app: AppId) -> Result<Vec<Addon>> {
        self.rows("SELECT * FROM addons WHERE app_id = ? ORDER BY name", [app.to_string()], addon)
    }

    /// Adds an attachment; a second time for the same id does nothing. Errors: `Taken` when the app has one of that name.
    pub fn insert_attachment(&self, a: &Attachment) -> Result<()> {
        self.execute(
            "INSERT INTO attachments (id, addon_id, app_id, name, created_at, updated_at) VALUES (?,?,?,?,?,?)
             ON CONFLICT (id) DO NOTHING",
            params![
                a.id.to_string(),
                a.addon.to_string(),
                a.app.to_string(),
                a.name.as_str(),
                micros(a.created_at),
                micros(a.updated_at)
            ],
        )
        .map_err(unique("attachment name"))?;
        Ok(())
    }

    /// Removes an attachment.
    pub fn delete_attachment(&self, id: AttachmentId) -> Result<()> {
        self.execute("DELETE FROM attachments WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// An attachment by id.
    pub fn attachment(&self, id: AttachmentId) -> Result<Option<Attachment>> {
        self.row("SELECT * FROM attachments WHERE id = ?", [id.to_string()], attachment)
    }

    /// An app's attachments by name.
    pub fn attachments(&self, app: AppId) -> Result<Vec<Attachment>> {
        self.rows("SELECT * FROM attachments WHERE app_id = ? ORDER BY name", [app.to_string()], attachment)
    }

    /// An add-on's attachments in all apps, the oldest first.
    pub fn attachments_of(&self, addon: AddonId) -> Result<Vec<Attachment>> {
        self.rows(
            "SELECT * FROM attachments WHERE addon_id = ? ORDER BY created_at, id",
            [addon.to_string()],
            attachment,
        )
    }

    /// The config vars that an attachment sets.
    pub fn attachment_vars(&self, a: &Attachment) -> Result<ConfigVars> {
        let config = self.addon_config(a.addon)?;
        let named = |(suffix, value)| Some((ConfigKey::parse(&format!("{}_{suffix}", a.name)).ok()?, value));
        Ok(config.into_iter().filter_map(named).collect())
    }

    /// The config vars that all attachments of an app set.
    pub fn attached_vars(&self, app: AppId) -> Result<ConfigVars> {
        let mut vars = ConfigVars::new();
        for attachment in self.attachments(app)? {
            vars.extend(self.attachment_vars(&attachment)?);
        }
        Ok(vars)
    }

    /// The config vars that a release has of add-ons, with their values of now: an add-on that is at another address since
    /// is no longer at the one that the release was made with.
    pub fn addon_vars_of(&self, release: &Release) -> Result<ConfigVars> {
        let mut vars = ConfigVars::new();
        for attachment in &release.attachments {
            let config = match self.addon_config(attachment.addon) {
                Err(StoreError::Missing(_)) => continue,
                config => config?,
            };
            for key in &attachment.keys {
                let value = config.iter().find(|(suffix, _)| key.as_str().ends_with(&format!("_{suffix}")));
                vars.extend(value.map(|(_, value)| (key.clone(), value.clone())));
            }
        }
        Ok(vars)
    }

    /// What a release that is made now has of the app's attachments.
    pub(crate) fn attachments_now(&self, app: AppId) -> Result<Vec<ReleaseAttachment>> {
        let mut all = Vec::new();
        for attachment in self.attachments(app)? {
            let addon = self.addon_by_id(attachment.addon)?;
            let keys = self.attachment_vars(&attachment)?.into_keys().collect();
            all.push(ReleaseAttachment { addon: addon.id, plan: addon.plan, keys });
        }
        Ok(all)
    }

    /// The config vars with which an earlier release can run again: its own, and those of today's attachments. An add-on
    /// that was attached then and is not now would be an address where nobody answers.
    pub fn config_to_return_to(&self, earlier: ReleaseId) -> Result<ConfigVars> {
        let release = self.release_by_id(earlier)?;
        let mut vars = self.release_config(earlier)?;
        for key in release.attachments.iter().flat_map(|a| &a.keys) {
            vars.remove(key);
        }
        vars.extend(self.attached_vars(release.app)?);
        Ok(vars)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{account, app, release};
    use crate::{Release, Store};
    use shipway_domain::addon::PlanName;

    fn key(name: &str) -> ConfigKey {
        ConfigKey::parse(name).unwrap()
    }

    async fn put_release(store: &Store, row: Release) {
        let made = store.write(move |c| {
            let config = c.config_vars(row.app)?;
            c.insert_release(&row, &config)
        });
        made.await.unwrap();
    }

    #[tokio::test]
    async fn attachments_join_the_config_and_a_rollback_has_todays() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let (owner, now) = (account(1), Timestamp::UNIX_EPOCH);
        let shop = app(1, &owner);
        let addon = |n: u128| Addon {
            id: AddonId(uuid::Uuid::from_u128(n)),
            app: shop.id,
            name: AddonName::parse(&format!("postgresql-{n}")).unwrap(),
            plan: "heroku-postgresql:essential-0".parse::<PlanName>().unwrap(),
            state: AddonState::Provisioned,
            created_at: now,
            updated_at: now,
        };
        let attachment = |n: u128, addon: AddonId| Attachment {
            id: AttachmentId(uuid::Uuid::from_u128(n)),
            addon,
            app: shop.id,
            name: AttachmentName::parse("DATABASE").unwrap(),
            created_at: now,
            updated_at: now,
        };
        let (old, new) = (addon(10), addon(11));
        let (first, second) = (attachment(20, old.id), attachment(21, new.id));
        let (owner_row, app_row, first_id) = (owner.clone(), shop.clone(), first.id);
        let url = |text: &str| AddonConfig::from([("URL".to_string(), text.to_string())]);
        let (to_old, to_new) = (url("postgres://old"), url("postgres://new"));
        store
            .write(move |c| {
                c.insert_account(&owner_row)?;
                c.insert_app(&app_row)?;
                c.insert_addon(&old)?;
                c.set_addon_config(old.id, &to_old)?;
                c.insert_addon(&new)?;
                c.set_addon_config(new.id, &to_new)?;
                c.set_config_vars(app_row.id, &ConfigVars::from([(key("OWN"), "1".into())]))?;
                c.insert_attachment(&first)
            })
            .await
            .unwrap();
        let before = release(1, shop.id, owner.id);
        put_release(&store, before.clone()).await;
        let id = shop.id;
        let changed = store.write(move |c| {
            // What is attached is not the app's own to write.
            let mut vars = c.config_vars(id)?;
            vars.insert(key("DATABASE_URL"), "postgres://mine".into());
            c.set_config_vars(id, &vars)?;
            c.delete_attachment(first_id)?;
            c.insert_attachment(&second)
        });
        changed.await.unwrap();
        let (own, now, back) = store
            .read(|c| Ok((c.own_config_vars(id)?, c.config_vars(id)?, c.config_to_return_to(before.id)?)))
            .unwrap();
        assert_eq!(own.keys().collect::<Vec<_>>(), [&key("OWN")]);
        assert_eq!((&now[&key("DATABASE_URL")], &now[&key("OWN")]), (&"postgres://new".into(), &"1".into()));
        assert_eq!(back, now);
        assert_eq!(store.read(|c| c.release_config(before.id)).unwrap()[&key("DATABASE_URL")], "postgres://old");
        let moved = store.write(|c| {
            c.set_addon_config(
                AddonId(uuid::Uuid::from_u128(10)),
                &AddonConfig::from([("URL".to_string(), "postgres://moved".to_string())]),
            )
        });
        moved.await.unwrap();
        let now = store.read(|c| c.addon_vars_of(&c.release_by_id(before.id)?)).unwrap();
        assert_eq!(now, ConfigVars::from([(key("DATABASE_URL"), "postgres://moved".into())]), "for its dynos");
        assert_eq!(store.read(|c| c.release_by_id(before.id)).unwrap().attachments[0].keys, [key("DATABASE_URL")]);
    }
}
