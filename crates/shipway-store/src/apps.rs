//! Apps with what hangs on them: config vars, collaborators, domains, formation, buildpacks, settings.

use crate::teams::VISIBLE;
use crate::{Conn, Result, StoreError, json, micros, optional, optional_time, parsed, time, to_json, unique, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use shipway_domain::admission::Permission;
use shipway_domain::health::Statuses;
use shipway_domain::{
    AccountId, AppId, AppName, CollaboratorId, ConfigKey, DomainId, Email, FormationId, Hostname, NameOrId,
    ProcessType, ReleaseId,
};
use std::collections::BTreeMap;

/// Config vars by name.
pub type ConfigVars = BTreeMap<ConfigKey, String>;

/// An app.
#[derive(Debug, Clone)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Its name; can change.
    pub name: AppName,
    /// Its owner.
    pub owner: AccountId,
    /// Its owner's address.
    pub owner_email: Email,
    /// `us` or `eu`, as it was asked for; there is one machine.
    pub region: String,
    /// The stack that runs.
    pub stack: String,
    /// The stack of the next build.
    pub build_stack: String,
    /// Whether visitors see the maintenance page.
    pub maintenance: bool,
    /// Which block of uids its dynos have, from 1.
    pub uid_block: u32,
    /// What its people set.
    pub settings: AppSettings,
    /// Buildpacks in order, as URLs or names; empty is detection.
    pub buildpacks: Vec<String>,
    /// The release that runs.
    pub current_release: Option<ReleaseId>,
    /// Whether it is being destroyed.
    pub ending: bool,
    /// Bytes of its repository, as of the last push.
    pub repo_size: Option<u64>,
    /// Bytes of its slug.
    pub slug_size: Option<u64>,
    /// When the current release went live.
    pub released_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What an app's people may set beyond Heroku's own fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppSettings {
    /// Path of an HTTP check; without one the code's `app.json` says it, else a bound port is healthy.
    pub health_check_path: Option<String>,
    /// Which answers to it count; none is what `app.json` says, else any below 500.
    pub health_check_status: Option<Statuses>,
    /// Process types besides `web` whose new dynos may run beside the old ones, and `web: false` to forbid it.
    pub overlap: BTreeMap<ProcessType, bool>,
    /// Branches other than main and master are kept (`true`) or refused.
    pub store_other_branches: bool,
    /// Whether the release phase runs after the new dynos are up instead of before.
    pub release_phase_last: bool,
    /// Whether those members of the owning team who were not let in one by one may only look.
    pub locked: bool,
}

/// A person with access to an app.
#[derive(Debug, Clone)]
pub struct Collaborator {
    /// Its id.
    pub id: CollaboratorId,
    /// The account.
    pub account: AccountId,
    /// Its address.
    pub email: Email,
    /// What it may do.
    pub permission: Permission,
    /// Since when.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A custom domain.
#[derive(Debug, Clone)]
pub struct Domain {
    /// Its id.
    pub id: DomainId,
    /// Whose.
    pub app: AppId,
    /// The host name.
    pub hostname: Hostname,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// How many dynos of a process type are wanted.
#[derive(Debug, Clone)]
pub struct Formation {
    /// Its id.
    pub id: FormationId,
    /// The type.
    pub process_type: ProcessType,
    /// How many.
    pub quantity: u32,
    /// Name of their size.
    pub size: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

pub(crate) const APP: &str =
    "SELECT apps.*, accounts.email AS owner_email FROM apps JOIN accounts ON accounts.id = apps.owner_id";

pub(crate) fn app(row: &Row<'_>) -> rusqlite::Result<App> {
    Ok(App {
        id: parsed(row, "id")?,
        name: parsed(row, "name")?,
        owner: parsed(row, "owner_id")?,
        owner_email: parsed(row, "owner_email")?,
        region: row.get("region")?,
        stack: row.get("stack")?,
        build_stack: row.get("build_stack")?,
        maintenance: row.get("maintenance")?,
        uid_block: row.get("uid_block")?,
        settings: json(row, "settings")?,
        buildpacks: json(row, "buildpacks")?,
        current_release: optional(row, "current_release_id")?,
        ending: row.get("ending")?,
        repo_size: row.get("repo_size")?,
        slug_size: row.get("slug_size")?,
        released_at: optional_time(row, "released_at")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn domain(row: &Row<'_>) -> rusqlite::Result<Domain> {
    Ok(Domain {
        id: parsed(row, "id")?,
        app: parsed(row, "app_id")?,
        hostname: parsed(row, "hostname")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn permission(row: &Row<'_>) -> rusqlite::Result<Permission> {
    word(row, "permission", |s| match s {
        "view" => Some(Permission::View),
        "deploy" => Some(Permission::Deploy),
        "operate" => Some(Permission::Operate),
        "manage" => Some(Permission::Manage),
        _ => None,
    })
}

fn permission_word(p: Permission) -> &'static str {
    match p {
        Permission::View => "view",
        Permission::Deploy => "deploy",
        Permission::Operate => "operate",
        Permission::Manage => "manage",
    }
}

fn config_context(app: AppId) -> String {
    format!("config vars of app {app}")
}

impl Conn<'_> {
    /// Adds an app without config vars; its uid block is the lowest free one and returned. Errors: `Taken`, also
    /// by a review app that has no app at the moment.
    pub fn insert_app(&self, a: &App) -> Result<u32> {
        self.unreserved(&a.name, a.id)?;
        let block: u32 = self.value(
            "SELECT min(n) FROM (SELECT 1 AS n UNION SELECT uid_block + 1 FROM apps)
             WHERE n NOT IN (SELECT uid_block FROM apps)",
            [],
        )?;
        self.execute(
            "INSERT INTO apps (id, name, owner_id, region, stack, build_stack, maintenance, uid_block, settings,
             buildpacks, config_sealed, ending, created_at, updated_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            params![
                a.id.to_string(),
                a.name.as_str(),
                a.owner.to_string(),
                a.region,
                a.stack,
                a.build_stack,
                a.maintenance,
                block,
                to_json(&a.settings)?,
                to_json(&a.buildpacks)?,
                self.keys.seal(&config_context(a.id), b"{}"),
                a.ending,
                micros(a.created_at),
                micros(a.updated_at)
            ],
        )
        .map_err(unique("app name"))?;
        Ok(block)
    }

    /// Writes everything of an app that can change but its config vars. Errors: `Taken` for its new name.
    pub fn update_app(&self, a: &App) -> Result<()> {
        self.unreserved(&a.name, a.id)?;
        self.execute(
            "UPDATE apps SET name=?, owner_id=?, stack=?, build_stack=?, maintenance=?, settings=?, buildpacks=?,
             current_release_id=?, ending=?, repo_size=?, slug_size=?, released_at=?, updated_at=? WHERE id=?",
            params![
                a.name.as_str(),
                a.owner.to_string(),
                a.stack,
                a.build_stack,
                a.maintenance,
                to_json(&a.settings)?,
                to_json(&a.buildpacks)?,
                a.current_release.map(|r| r.to_string()),
                a.ending,
                a.repo_size,
                a.slug_size,
                a.released_at.map(micros),
                micros(a.updated_at),
                a.id.to_string()
            ],
        )
        .map_err(unique("app name"))?;
        Ok(())
    }

    /// Removes an app and all its rows. The ledger keeps its name.
    pub fn delete_app(&self, id: AppId) -> Result<()> {
        self.execute("DELETE FROM apps WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// Finds an app by id or name.
    pub fn app(&self, which: &NameOrId) -> Result<Option<App>> {
        self.named(APP, "apps", which, app)
    }

    /// The app with this id. Errors: `Missing`.
    pub fn app_by_id(&self, id: AppId) -> Result<App> {
        self.app(&id.into())?.ok_or(StoreError::Missing("app"))
    }

    /// All apps by name.
    pub fn apps(&self) -> Result<Vec<App>> {
        self.rows(&format!("{APP} ORDER BY apps.name"), [], app)
    }

    /// The apps that an account may see: its own, its teams', and those that it was let into; by name.
    pub fn apps_of(&self, account: AccountId) -> Result<Vec<App>> {
        self.rows(&format!("{APP} WHERE {VISIBLE} ORDER BY apps.name"), [account.to_string()], app)
    }

    /// What an account may do with an app: as its owner, as somebody who was let in, or in the team that owns it.
    pub fn permission(&self, a: &App, account: AccountId) -> Result<Option<Permission>> {
        if a.owner == account {
            return Ok(Some(Permission::Manage));
        }
        let own = self.row(
            "SELECT permission FROM collaborators WHERE app_id = ? AND account_id = ?",
            params![a.id.to_string(), account.to_string()],
            permission,
        )?;
        let role = self.role(a.owner, account)?;
        Ok(own.max(role.and_then(|role| role.permission(a.settings.locked))))
    }

    /// An app's config vars, opened: those that its people set and those of its attachments.
    pub fn config_vars(&self, id: AppId) -> Result<ConfigVars> {
        let mut vars = self.own_config_vars(id)?;
        vars.extend(self.attached_vars(id)?);
        Ok(vars)
    }

    /// The config vars that an app's people set, opened.
    pub fn own_config_vars(&self, id: AppId) -> Result<ConfigVars> {
        let sealed: Vec<u8> = self
            .row("SELECT config_sealed FROM apps WHERE id = ?", [id.to_string()], |r| r.get(0))?
            .ok_or(StoreError::Missing("app"))?;
        self.open_config(&config_context(id), &sealed)
    }

    /// Replaces an app's config vars. Those of its attachments are theirs and left out.
    pub fn set_config_vars(&self, id: AppId, vars: &ConfigVars) -> Result<()> {
        let attached = self.attached_vars(id)?;
        let own: BTreeMap<_, _> = vars.iter().filter(|(key, _)| !attached.contains_key(*key)).collect();
        let sealed = self.keys.seal(&config_context(id), to_json(&own)?.as_bytes());
        self.execute("UPDATE apps SET config_sealed = ? WHERE id = ?", params![sealed, id.to_string()])?;
        Ok(())
    }

    pub(crate) fn open_config(&self, context: &str, sealed: &[u8]) -> Result<ConfigVars> {
        let plain = self.keys.open(context, sealed)?;
        serde_json::from_slice(&plain).map_err(|_| StoreError::Unsealable { context: context.into() })
    }

    /// Gives an account access, or changes it.
    pub fn put_collaborator(&self, app: AppId, c: &Collaborator) -> Result<()> {
        self.execute(
            "INSERT INTO collaborators (id, app_id, account_id, permission, created_at, updated_at)
             VALUES (?,?,?,?,?,?) ON CONFLICT (app_id, account_id)
             DO UPDATE SET permission = excluded.permission, updated_at = excluded.updated_at",
            params![
                c.id.to_string(),
                app.to_string(),
                c.account.to_string(),
                permission_word(c.permission),
                micros(c.created_at),
                micros(c.updated_at)
            ],
        )?;
        Ok(())
    }

    /// Takes access away.
    pub fn delete_collaborator(&self, app: AppId, account: AccountId) -> Result<()> {
        self.execute(
            "DELETE FROM collaborators WHERE app_id = ? AND account_id = ?",
            params![app.to_string(), account.to_string()],
        )?;
        Ok(())
    }

    /// An app's collaborators without its owner, by address.
    pub fn collaborators(&self, app: AppId) -> Result<Vec<Collaborator>> {
        self.rows(
            "SELECT c.*, a.email FROM collaborators c JOIN accounts a ON a.id = c.account_id
             WHERE c.app_id = ? ORDER BY a.email",
            [app.to_string()],
            |row| {
                Ok(Collaborator {
                    id: parsed(row, "id")?,
                    account: parsed(row, "account_id")?,
                    email: parsed(row, "email")?,
                    permission: permission(row)?,
                    created_at: time(row, "created_at")?,
                    updated_at: time(row, "updated_at")?,
                })
            },
        )
    }

    /// Adds a domain. Errors: `Taken` when any app has it.
    pub fn insert_domain(&self, d: &Domain) -> Result<()> {
        self.execute(
            "INSERT INTO domains (id, app_id, hostname, created_at, updated_at) VALUES (?,?,?,?,?)",
            params![
                d.id.to_string(),
                d.app.to_string(),
                d.hostname.as_str(),
                micros(d.created_at),
                micros(d.updated_at)
            ],
        )
        .map_err(unique("domain"))?;
        Ok(())
    }

    /// Removes a domain.
    pub fn delete_domain(&self, id: DomainId) -> Result<()> {
        self.execute("DELETE FROM domains WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// An app's custom domains, oldest first.
    pub fn domains(&self, app: AppId) -> Result<Vec<Domain>> {
        self.rows("SELECT * FROM domains WHERE app_id = ? ORDER BY created_at, id", [app.to_string()], domain)
    }

    /// The custom domains of all apps.
    pub fn all_domains(&self) -> Result<Vec<Domain>> {
        self.rows("SELECT * FROM domains ORDER BY hostname", [], domain)
    }

    /// An app's formation by type.
    pub fn formation(&self, app: AppId) -> Result<Vec<Formation>> {
        self.rows("SELECT * FROM formation WHERE app_id = ? ORDER BY process_type", [app.to_string()], |row| {
            Ok(Formation {
                id: parsed(row, "id")?,
                process_type: parsed(row, "process_type")?,
                quantity: row.get("quantity")?,
                size: row.get("size")?,
                created_at: time(row, "created_at")?,
                updated_at: time(row, "updated_at")?,
            })
        })
    }

    /// Writes one process type of a formation.
    pub fn put_formation(&self, app: AppId, f: &Formation) -> Result<()> {
        self.execute(
            "INSERT INTO formation (id, app_id, process_type, quantity, size, created_at, updated_at)
             VALUES (?,?,?,?,?,?,?) ON CONFLICT (app_id, process_type)
             DO UPDATE SET quantity = excluded.quantity, size = excluded.size, updated_at = excluded.updated_at",
            params![
                f.id.to_string(),
                app.to_string(),
                f.process_type.as_str(),
                f.quantity,
                f.size,
                micros(f.created_at),
                micros(f.updated_at)
            ],
        )?;
        Ok(())
    }

    /// Removes one process type of a formation.
    pub fn delete_formation(&self, app: AppId, process_type: &ProcessType) -> Result<()> {
        self.execute(
            "DELETE FROM formation WHERE app_id = ? AND process_type = ?",
            params![app.to_string(), process_type.as_str()],
        )?;
        Ok(())
    }
}
