//! Apps: create, change, look up; collaborators, domains, buildpacks.

use crate::change::pending_release;
use crate::error::Error;
use crate::ports::Caller;
use crate::{Event, Platform, Result};
use shipway_domain::admission::{Permission, Trigger};
use shipway_domain::lifecycle::ReleaseStatus;
use shipway_domain::{AppId, AppName, CollaboratorId, Email, NameOrId, ReleaseId, generated_app_name};
use shipway_store::{App, AppSettings, Collaborator, ConfigVars, Conn, Release};

/// What a new app is to be.
#[derive(Debug, Clone, Default)]
pub struct NewApp {
    /// Its name; without one it gets one like `quiet-harbor-12345`.
    pub name: Option<String>,
    /// `us` or `eu`.
    pub region: Option<String>,
    /// A stack's name.
    pub stack: Option<String>,
    /// The team that owns it, by name or id; without one the caller does.
    pub team: Option<String>,
}

/// What is to change of an app.
#[derive(Debug, Clone, Default)]
pub struct UpdateApp {
    /// A new name.
    pub name: Option<String>,
    /// Maintenance mode.
    pub maintenance: Option<bool>,
    /// The stack of the next build.
    pub build_stack: Option<String>,
}

/// Stack names that are taken for the one stack of the platform.
pub const STACKS: [&str; 3] = ["heroku-20", "heroku-22", "heroku-24"];
/// Regions that are taken for the one place of the platform.
pub const REGIONS: [&str; 2] = ["us", "eu"];
/// Most buildpacks of one app, and the longest name of one.
const MAX_BUILDPACKS: usize = 10;
const MAX_BUILDPACK_NAME: usize = 500;

impl Platform {
    /// The apps that the caller may see, by name; `all` is every one for administrators.
    pub fn apps(&self, caller: &Caller, all: bool) -> Result<Vec<App>> {
        let apps = self
            .store()
            .read(|c| if all && caller.actor.admin { c.apps() } else { c.apps_of(caller.actor.account) })?;
        Ok(apps.into_iter().filter(|a| caller.actor.scope.reads(a.id)).collect())
    }

    /// Makes an app with an empty repository and its first release. Errors: an illegal or taken name, each with a free
    /// one; an unknown region or stack.
    pub async fn create_app(&self, caller: &Caller, new: NewApp) -> Result<App> {
        let app = self.new_app(caller, &new)?;
        // The repository first: an app without one would be broken, one without an app only takes room.
        self.inner.parts.repositories.create(app.id).await?;
        std::fs::create_dir_all(self.log_dir(app.id)).map_err(Error::platform)?;
        let first = self.first_release(caller, &app);
        let entry = self.entry(caller, Some(&app), "app-created", serde_json::json!({}));
        let row = app.clone();
        let made = self
            .write_with(entry, move |c| {
                let made = insert_new(c, &row, &first)?;
                Ok(made)
            })
            .await;
        let made = match made {
            Ok(made) => made,
            Err(e) => {
                self.inner.parts.repositories.remove(app.id).await?;
                return Err(self.taken_name(e.into(), &app.name));
            }
        };
        self.log_api(made.id, &format!("Initial release by user {}", caller.actor.email));
        self.log_api(made.id, &format!("Release v1 created by user {}", caller.actor.email));
        self.routes_changed();
        self.tell(Event::Apps);
        Ok(made)
    }

    /// The row of an app that is about to be made. Errors: a token that may not, an illegal name, an unknown region or
    /// stack.
    pub(crate) fn new_app(&self, caller: &Caller, new: &NewApp) -> Result<App> {
        if !caller.actor.scope.writes() {
            return Err(self.out_of_scope(caller, "create apps"));
        }
        let region = known("region", new.region.as_deref().unwrap_or("us"), &REGIONS)?;
        known("stack", new.stack.as_deref().unwrap_or(&self.settings().stack), &STACKS)?;
        let name = match &new.name {
            Some(name) => self.app_name(name)?,
            None => generated_app_name(self.world().random()),
        };
        let (owner, owner_email) = match &new.team {
            Some(team) => {
                let account = self.team_account(caller, &NameOrId::parse(team))?;
                (account.id, account.email)
            }
            None => (caller.actor.account, Email::parse(&caller.actor.email)?),
        };
        let now = self.now();
        Ok(App {
            id: self.id(AppId),
            name,
            owner,
            owner_email,
            region: region.into(),
            stack: self.settings().stack.clone(),
            build_stack: self.settings().stack.clone(),
            maintenance: false,
            uid_block: 0,
            settings: AppSettings::default(),
            buildpacks: Vec::new(),
            current_release: None,
            ending: false,
            repo_size: None,
            slug_size: None,
            released_at: None,
            created_at: now,
            updated_at: now,
        })
    }

    /// The release with which an app begins: no code, no config.
    pub(crate) fn first_release(&self, caller: &Caller, app: &App) -> Release {
        Release {
            version: 1,
            status: ReleaseStatus::Succeeded,
            ..pending_release(self.id(ReleaseId), app.id, caller.actor.account, "Initial release", None, app.created_at)
        }
    }

    /// Reads a name that an app is to have. Errors: an illegal one, or the platform's own; each with a free one.
    fn app_name(&self, name: &str) -> Result<AppName> {
        let name = AppName::parse(name).map_err(|e| self.with_suggestion(&e.to_string()))?;
        match self.settings().is_api_host(&name) {
            true => Err(self.with_suggestion(&format!("Name {name} is the platform's own"))),
            false => Ok(name),
        }
    }

    /// Says which name is taken, and one that is free.
    pub(crate) fn taken_name(&self, e: Error, name: &AppName) -> Error {
        match e.kind {
            crate::Kind::Invalid => self.with_suggestion(&format!("Name {name} is already taken")),
            _ => e,
        }
    }

    fn with_suggestion(&self, what: &str) -> Error {
        let mut text = what.to_string();
        if let Some(first) = text.get(..1) {
            text = first.to_uppercase() + &text[1..];
        }
        Error::invalid(format!("{text}. This one is free: {}", generated_app_name(self.world().random())))
    }

    /// Changes an app. Errors: an illegal or taken name, an unknown stack.
    pub async fn update_app(&self, caller: &Caller, app: &App, change: UpdateApp) -> Result<App> {
        self.admit(caller, Trigger::Settings, app).await?;
        let name = match &change.name {
            Some(name) => Some(self.app_name(name)?),
            None => None,
        };
        if let Some(stack) = &change.build_stack {
            known("stack", stack, &STACKS)?;
        }
        let (maintenance, renamed) = (change.maintenance, name.clone());
        let written = self.change_app(caller, app, move |app| {
            if let Some(name) = &renamed {
                app.name = name.clone();
            }
            app.maintenance = maintenance.unwrap_or(app.maintenance);
            serde_json::json!({ "name": renamed, "maintenance": maintenance })
        });
        let changed = written.await.map_err(|e| match (&e, &name) {
            (shipway_store::StoreError::Taken(_), Some(n)) => {
                self.with_suggestion(&format!("Name {n} is already taken"))
            }
            _ => e.into(),
        })?;
        let id = app.id;
        if let Some(on) = maintenance {
            let mode = if on { "on" } else { "off" };
            self.log_api(id, &format!("Maintenance mode turned {mode} by user {}", caller.actor.email));
        }
        // `maintenance:on` that returns has taken effect.
        self.routed_soon().await?;
        self.tell(Event::App(id));
        Ok(changed)
    }

    /// Changes what an app's people set, as it is when that is written down: two changes at once are both kept.
    pub async fn change_settings(
        &self,
        caller: &Caller,
        app: &App,
        change: impl FnOnce(&mut AppSettings) + Send + 'static,
    ) -> Result<App> {
        self.admit(caller, Trigger::Settings, app).await?;
        let written = self.change_app(caller, app, |app| {
            change(&mut app.settings);
            serde_json::json!({ "settings": app.settings })
        });
        let changed = written.await?;
        self.routed_soon().await?;
        self.tell(Event::App(app.id));
        Ok(changed)
    }

    /// Changes an app's row as it is when that is written down; `change` says what the ledger tells of it.
    async fn change_app(
        &self,
        caller: &Caller,
        app: &App,
        change: impl FnOnce(&mut App) -> serde_json::Value + Send + 'static,
    ) -> shipway_store::Result<App> {
        let mut entry = self.entry(caller, Some(app), "app-changed", serde_json::Value::Null);
        let (id, now) = (app.id, self.now());
        let written = self.store().write(move |c| {
            let mut app = c.app_by_id(id)?;
            entry.detail = change(&mut app);
            app.updated_at = now;
            c.update_app(&app)?;
            c.next_epoch(None, now)?;
            c.record(&entry)?;
            Ok(app)
        });
        written.await
    }

    /// Gives somebody access to code, config and dynos: [`Self::give_access`].
    pub async fn add_collaborator(
        &self,
        caller: &Caller,
        app: &App,
        email: &str,
    ) -> Result<(Collaborator, Option<String>)> {
        self.give_access(caller, app, email, Permission::Operate).await
    }

    /// Gives somebody access, or changes what they may do. For an unknown address an account is made, and its first token returned: the invitation.
    pub async fn give_access(
        &self,
        caller: &Caller,
        app: &App,
        email: &str,
        permission: Permission,
    ) -> Result<(Collaborator, Option<String>)> {
        let email = Email::parse(email)?;
        // A member of the team that owns it joins an app that is not locked, with what members have.
        let joins = email.as_str() == caller.actor.email
            && self.subject(caller, app)?.permission >= Some(permission.max(Permission::Operate));
        self.admit(caller, if joins { Trigger::Settings } else { Trigger::Access }, app).await?;
        if email == app.owner_email {
            return Err(Error::invalid(format!("{} owns {} already.", email.to_ask(), app.name)));
        }
        let (account, invitation) = self.account_or_invitation(caller, &email).await?;
        let now = self.now();
        let collaborator = Collaborator {
            id: self.id(CollaboratorId),
            account: account.id,
            email: email.clone(),
            permission,
            created_at: now,
            updated_at: now,
        };
        let detail = serde_json::json!({ "email": email.as_str(), "permission": permission });
        let entry = self.entry(caller, Some(app), "collaborator-added", detail);
        let (id, row) = (app.id, collaborator.clone());
        self.write_with(entry, move |c| {
            c.put_collaborator(id, &row)?;
            c.delete_access_request(id, row.account)
        })
        .await?;
        self.tell(Event::App(app.id));
        Ok((collaborator, invitation))
    }

    /// Takes access away, by address or id.
    pub async fn remove_collaborator(&self, caller: &Caller, app: &App, which: &str) -> Result<Collaborator> {
        let all = self.store().read(|c| c.collaborators(app.id))?;
        let found = all.into_iter().find(|c| {
            c.email.as_str() == which.to_ascii_lowercase()
                || c.id.to_string() == which
                || c.account.to_string() == which
        });
        let is_owner =
            app.owner == caller.actor.account && [caller.actor.email.as_str(), &app.owner.to_string()].contains(&which);
        let collaborator = found.ok_or_else(|| match is_owner {
            true => Error::invalid(format!(
                "You own {0}, so you cannot leave it. Hand it over first (heroku apps:transfer SOMEBODY -a {0}), or destroy it.",
                app.name
            )),
            false => Error::missing_one(
                "collaborator",
                which,
                &format!("`heroku access -a {}` lists who has access.", app.name),
            ),
        })?;
        // Everybody may leave.
        if collaborator.account != caller.actor.account {
            self.admit(caller, Trigger::Access, app).await?;
        }
        let entry = self.entry(
            caller,
            Some(app),
            "collaborator-removed",
            serde_json::json!({ "email": collaborator.email.as_str() }),
        );
        let (id, account) = (app.id, collaborator.account);
        self.write_with(entry, move |c| c.delete_collaborator(id, account)).await?;
        self.tell(Event::App(app.id));
        Ok(collaborator)
    }

    /// Sets the buildpacks of the next build, in order.
    pub async fn set_buildpacks(&self, caller: &Caller, app: &App, buildpacks: Vec<String>) -> Result<Vec<String>> {
        self.admit(caller, Trigger::Settings, app).await?;
        check_buildpacks(&buildpacks)?;
        let entry = self.entry(caller, Some(app), "buildpacks-set", serde_json::json!({ "buildpacks": buildpacks }));
        let (id, now, set) = (app.id, self.now(), buildpacks.clone());
        self.write_with(entry, move |c| {
            let mut app = c.app_by_id(id)?;
            app.buildpacks = set;
            app.updated_at = now;
            c.update_app(&app)
        })
        .await?;
        Ok(buildpacks)
    }

    /// Forgets an app's build cache.
    pub async fn purge_build_cache(&self, caller: &Caller, app: &App) -> Result<()> {
        self.admit(caller, Trigger::Settings, app).await?;
        self.inner.parts.builder.purge_cache(app.id).await?;
        let entry = self.entry(caller, Some(app), "build-cache-purged", serde_json::json!({}));
        self.record(entry).await?;
        Ok(())
    }
}

/// Writes a new app down with its first release.
pub(crate) fn insert_new(c: &Conn<'_>, app: &App, first: &Release) -> shipway_store::Result<App> {
    c.insert_app(app)?;
    c.insert_release(first, &ConfigVars::new())?;
    let mut made = c.app_by_id(app.id)?;
    made.current_release = Some(first.id);
    made.released_at = Some(app.created_at);
    c.update_app(&made)?;
    c.next_epoch(None, app.created_at)?;
    Ok(made)
}

/// Errors: too many buildpacks, or something that names none.
pub(crate) fn check_buildpacks(buildpacks: &[String]) -> Result<()> {
    if buildpacks.len() > MAX_BUILDPACKS {
        return Err(Error::invalid(format!("An app has at most {MAX_BUILDPACKS} buildpacks.")));
    }
    for name in buildpacks {
        if name.is_empty()
            || name.len() > MAX_BUILDPACK_NAME
            || name.starts_with('-')
            || name.contains(char::is_control)
        {
            return Err(Error::invalid(format!(
                "{:?} is not a buildpack: give a name like heroku/python or the https URL of a git repository.",
                name.chars().take(80).collect::<String>()
            )));
        }
    }
    Ok(())
}

pub(crate) fn known<'a>(what: &str, name: &'a str, all: &[&str]) -> Result<&'a str> {
    if all.contains(&name) {
        return Ok(name);
    }
    Err(Error::invalid(format!(
        "There is no {what} {:?}; there are {}.",
        name.chars().take(80).collect::<String>(),
        all.join(", ")
    )))
}
