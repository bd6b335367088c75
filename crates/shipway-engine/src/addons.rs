//! Add-ons: made, attached, detached, destroyed; found by all the names that people have for them.
//!
//! An add-on belongs to one app and dies with it; other apps may have it attached. Its config vars join the config of
//! every app that it is attached to (`shipway_store::Conn::config_vars`), and change with a release like any other.

use crate::change::pending_release;
use crate::error::Error;
use crate::plan::{AddonPlan, Code, DetachPlan, Part};
use crate::ports::{AddonFailure, AddonInfo, Caller};
use crate::{Event, Outcome, Platform, Result};
use shipway_domain::addon::{AddonState, PlanName, free_attachment_name, generated_addon_name};
use shipway_domain::admission::Trigger;
use shipway_domain::{AddonId, AddonName, AttachmentId, AttachmentName, ConfigKey, NameOrId, OperationId, minute};
use shipway_store::{Addon, App, Attachment, Conn, Release};
use std::time::Duration;

/// How long a caller waits for an add-on to be made or removed before being told that it goes on by itself. The CLI
/// hangs up after 60 s.
const PATIENCE: Duration = Duration::from_secs(25);

/// What a new add-on is to be.
#[derive(Debug, Clone, Default)]
pub struct NewAddon {
    /// `heroku-postgresql:essential-0`, or a service alone.
    pub plan: String,
    /// Its name; without one it gets one like `postgresql-quiet-12345`.
    pub name: Option<String>,
    /// The name of its first attachment.
    pub attachment: Option<String>,
    /// The app's name, to replace an attachment of the same name.
    pub confirm: Option<String>,
    /// Names of options that were given.
    pub options: Vec<String>,
}

/// Where to look for what a name means.
#[derive(Debug, Clone, Copy)]
pub enum Within<'a> {
    /// Everything that the caller sees.
    Everything,
    /// One app, and whatever has this very name or id.
    App(&'a App),
}

impl Platform {
    /// Makes an add-on and attaches it to the app that owns it. Returns when it can be used and the release with it
    /// exists, or after [`PATIENCE`]. Errors: unknown service or plan, a taken name, an option that the plan has not.
    pub async fn create_addon(&self, caller: &Caller, app: &App, new: NewAddon) -> Result<Addon> {
        self.admit(caller, Trigger::Addon, app).await?;
        let plan: PlanName = new.plan.parse().map_err(|e| no_such_plan(&e))?;
        if let Some(option) = new.options.first() {
            return Err(Error::invalid(format!(
                "{plan} has no option {:?}. Leave out what comes after -- and try again.",
                option.chars().take(80).collect::<String>()
            )));
        }
        let name = match &new.name {
            Some(name) => AddonName::parse(name)?,
            None => generated_addon_name(plan.service, self.world().random()),
        };
        let now = self.now();
        let addon = Addon {
            id: self.id(AddonId),
            app: app.id,
            name,
            plan,
            state: AddonState::Provisioning,
            created_at: now,
            updated_at: now,
        };
        let attachment = self.new_attachment(app, &addon, new.attachment.as_deref(), new.confirm.as_deref())?;
        let description = attach_description(&attachment, &addon);
        let work = AddonPlan::Create {
            addon: addon.id,
            release: self.release_plan(app, description, Code::Current),
            operation: self.id(OperationId),
        };
        let operation_plan = self.plan(caller, Trigger::Addon, Part { addon: Some(work), ..Part::new(app.id) });
        let detail = serde_json::json!({ "addon": addon.name, "plan": plan, "attachment": attachment.row.name });
        let (row, entry) = (addon.clone(), self.entry(caller, Some(app), "addon-created", detail));
        let operation = self
            .submit(operation_plan, move |c| {
                c.insert_addon(&row)?;
                attachment.put(c)?;
                c.record(&entry)
            })
            .await
            .map_err(|e| taken(e, &addon.name))?;
        match tokio::time::timeout(PATIENCE, self.live(operation)).await {
            Ok(Ok(Outcome::Failed { message })) => {
                Err(Error::unavailable(format!("{} could not be made: {message}", addon.name), "see the operation"))
            }
            Ok(Err(e)) => Err(e),
            // It is there, or on its way.
            Ok(Ok(Outcome::Live { .. })) | Err(_) => Ok(self.store().read(|c| c.addon_by_id(addon.id))?),
        }
    }

    /// Attaches an add-on to an app, under a name or a generated one; `confirm`, the app's name, replaces what has that
    /// name. A release exists when it returns. Errors: no access to either app, not provisioned, name taken.
    pub async fn attach_addon(
        &self,
        caller: &Caller,
        app: &App,
        addon: &Addon,
        name: Option<&str>,
        confirm: Option<&str>,
    ) -> Result<Attachment> {
        self.admit(caller, Trigger::Addon, app).await?;
        let owner = self.store().read(|c| c.app_by_id(addon.app))?;
        if owner.id != app.id {
            // Whoever attaches it reads and writes its data.
            self.admit(caller, Trigger::Addon, &owner).await?;
        }
        if addon.state != AddonState::Provisioned {
            return Err(Error::conflict(format!("{} is {}: wait until it can be used.", addon.name, addon.state)));
        }
        let attachment = self.new_attachment(app, addon, name, confirm)?;
        let row = attachment.row.clone();
        let detail = serde_json::json!({ "addon": addon.name, "attachment": row.name });
        let entry = self.entry(caller, Some(app), "addon-attached", detail);
        let description = attach_description(&attachment, addon);
        let put = move |c: &Conn<'_>| {
            attachment.put(c)?;
            c.record(&entry)
        };
        self.release_with(caller, app, &description, put).await?;
        Ok(row)
    }

    /// Takes an add-on from an app. Errors: its last attachment, a config var that what runs there requires.
    pub async fn detach_addon(&self, caller: &Caller, attachment: &Attachment) -> Result<Release> {
        let (app, addon, all) = self.store().read(|c| {
            let addon = c.addon_by_id(attachment.addon)?;
            Ok((c.app_by_id(attachment.app)?, addon, c.attachments_of(attachment.addon)?))
        })?;
        self.admit(caller, Trigger::Addon, &app).await?;
        if all.len() == 1 {
            return Err(Error::invalid(format!(
                "{} is the last attachment of {1}, which nobody could find without it. To remove the add-on with its \
                 data: heroku addons:destroy {1}",
                attachment.name, addon.name
            )));
        }
        self.check_detached(&app, &[attachment]).await?;
        self.remove_attachment(caller, &app, &addon, attachment).await
    }

    async fn remove_attachment(
        &self,
        caller: &Caller,
        app: &App,
        addon: &Addon,
        attachment: &Attachment,
    ) -> Result<Release> {
        let detail = serde_json::json!({ "addon": addon.name, "attachment": attachment.name });
        let entry = self.entry(caller, Some(app), "addon-detached", detail);
        let (id, description) = (attachment.id, detach_description(attachment, addon));
        let remove = move |c: &Conn<'_>| {
            c.delete_attachment(id)?;
            c.record(&entry)
        };
        self.release_with(caller, app, &description, remove).await
    }

    /// Destroys an add-on with its data, after it was detached everywhere. Returns when it is gone, or after
    /// [`PATIENCE`]. Errors, unless it is forced: attached to other apps; what runs requires a config var of it.
    pub async fn destroy_addon(&self, caller: &Caller, addon: &Addon, force: bool) -> Result<Addon> {
        let (app, attachments) = self.store().read(|c| Ok((c.app_by_id(addon.app)?, c.attachments_of(addon.id)?)))?;
        self.admit(caller, Trigger::Addon, &app).await?;
        let (own, others): (Vec<&Attachment>, Vec<_>) = attachments.iter().partition(|a| a.app == app.id);
        if !others.is_empty() && !force {
            let names: Vec<String> = self.store().read(|c| {
                others.iter().map(|a| Ok(c.app_by_id(a.app)?.name.to_string())).collect::<shipway_store::Result<_>>()
            })?;
            return Err(Error::invalid(format!(
                "{} is attached to {} as well. Detach it there first, or destroy it all the same with --force.",
                addon.name,
                names.join(", ")
            )));
        }
        if !force {
            self.check_detached(&app, &own).await?;
        }
        let mut detach = Vec::new();
        for attachment in &attachments {
            let app = self.store().read(|c| c.app_by_id(attachment.app))?;
            let release = self.release_plan(&app, detach_description(attachment, addon), Code::Current);
            let (attachment, app) = (attachment.id, app.id);
            detach.push(DetachPlan { attachment, app, release, operation: self.id(OperationId) });
        }
        let work = AddonPlan::Destroy { addon: addon.id, detach };
        let plan = self.plan(caller, Trigger::Addon, Part { addon: Some(work), ..Part::new(app.id) });
        let detail = serde_json::json!({ "addon": addon.name, "plan": addon.plan });
        let (entry, id, now) = (self.entry(caller, Some(&app), "addon-destroyed", detail), addon.id, self.now());
        let operation = self
            .submit(plan, move |c| {
                c.set_addon_state(id, AddonState::Deprovisioning, now)?;
                c.record(&entry)
            })
            .await?;
        let state = match tokio::time::timeout(PATIENCE, self.live(operation)).await {
            Ok(Ok(_)) => AddonState::Deprovisioned,
            _ => AddonState::Deprovisioning,
        };
        Ok(Addon { state, ..addon.clone() })
    }

    /// Takes the add-ons of an app that ends from all other apps, each with a release of its own.
    pub(crate) async fn detach_from_others(&self, caller: &Caller, app: &App) -> Result<()> {
        for addon in self.store().read(|c| c.addons(app.id))? {
            for attachment in self.store().read(|c| c.attachments_of(addon.id))? {
                let other = self.store().read(|c| c.app_by_id(attachment.app))?;
                if !other.ending && other.id != app.id {
                    self.remove_attachment(caller, &other, &addon, &attachment).await?;
                }
            }
        }
        Ok(())
    }

    /// Renames an add-on. Errors: a taken name.
    pub async fn rename_addon(&self, caller: &Caller, addon: &Addon, name: &str) -> Result<Addon> {
        let app = self.store().read(|c| c.app_by_id(addon.app))?;
        self.admit(caller, Trigger::Addon, &app).await?;
        let (name, id, now) = (AddonName::parse(name)?, addon.id, self.now());
        let detail = serde_json::json!({ "addon": addon.name, "name": name });
        let (entry, new) = (self.entry(caller, Some(&app), "addon-renamed", detail), name.clone());
        let renamed = self.store().write(move |c| {
            c.rename_addon(id, &new, now)?;
            c.record(&entry)?;
            c.addon_by_id(id)
        });
        renamed.await.map_err(|e| taken(e.into(), &name))
    }

    /// What there is to say of an add-on. Errors: it is not provisioned yet.
    pub async fn addon_info(&self, addon: &Addon) -> Result<AddonInfo> {
        self.provisioned(addon)?;
        let info = self.inner.parts.addons.info(addon.id, addon.plan).await;
        let mut info = info.map_err(|e| failed(e, addon))?;
        // Where the CLI's users look for it: behind the version.
        let at = info.iter().position(|(name, _)| name == "PG Version").map_or(info.len(), |at| at + 1);
        info.insert(at, ("Created".into(), vec![minute(addon.created_at)]));
        Ok(info)
    }

    /// Ends all connections to an add-on.
    pub async fn reset_addon_connections(&self, caller: &Caller, addon: &Addon) -> Result<()> {
        self.change_data(caller, addon, "addon-connections-reset").await?;
        let reset = self.inner.parts.addons.reset_connections(addon.id).await;
        reset.map_err(|e| failed(e, addon))
    }

    /// Empties an add-on, whole or not at all.
    pub async fn reset_addon(&self, caller: &Caller, addon: &Addon) -> Result<()> {
        self.change_data(caller, addon, "addon-reset").await?;
        let reset = self.inner.parts.addons.reset(addon.id, addon.plan).await;
        reset.map_err(|e| failed(e, addon))
    }

    /// Asks admission for something that is done to an add-on's data, and writes it down.
    pub(crate) async fn change_data(&self, caller: &Caller, addon: &Addon, action: &str) -> Result<App> {
        let app = self.store().read(|c| c.app_by_id(addon.app))?;
        self.admit(caller, Trigger::Addon, &app).await?;
        self.provisioned(addon)?;
        let entry = self.entry(caller, Some(&app), action, serde_json::json!({ "addon": addon.name }));
        self.record(entry).await?;
        Ok(app)
    }

    pub(crate) fn provisioned(&self, addon: &Addon) -> Result<()> {
        match addon.state {
            AddonState::Provisioned => Ok(()),
            // What the CLI takes for "wait for it".
            _ => Err(Error { message: format!("{} is {}.", addon.name, addon.state), ..Error::missing("add_on") }),
        }
    }

    /// A new attachment and the one that it replaces. Errors: its name is taken, by an attachment or a config var.
    fn new_attachment(
        &self,
        app: &App,
        addon: &Addon,
        name: Option<&str>,
        confirm: Option<&str>,
    ) -> Result<NewAttachment> {
        let (present, own) = self.store().read(|c| Ok((c.attachments(app.id)?, c.own_config_vars(app.id)?)))?;
        let var_of = |name: &AttachmentName| ConfigKey::parse(&format!("{name}_URL"));
        let has_var = |name: &AttachmentName| var_of(name).is_ok_and(|key| own.contains_key(&key));
        let taken = |name: &AttachmentName| present.iter().any(|a| a.name == *name) || has_var(name);
        let name = match name {
            Some(name) => AttachmentName::parse(name)?,
            None => {
                let first = addon.app == app.id;
                free_attachment_name(addon.plan.service, first, self.world().random(), taken)
            }
        };
        if has_var(&name) {
            return Err(Error::invalid(format!(
                "{0} has a config var {name}_URL of its own. Unset it (heroku config:unset {name}_URL -a {0}) or choose \
                 another name with --as.",
                app.name
            )));
        }
        let replaced = present.into_iter().find(|a| a.name == name);
        if let Some(old) = &replaced
            && confirm != Some(app.name.as_str())
        {
            let old = self.store().read(|c| c.addon_by_id(old.addon))?;
            return Err(Error {
                id: "confirmation_required",
                ..Error::invalid(format!(
                    "{} is attached to {} as {name} already. Confirm with the app's name to put {} in its place.",
                    old.name, app.name, addon.name
                ))
            });
        }
        let replaced = match replaced {
            Some(old) if self.store().read(|c| c.attachments_of(old.addon))?.len() == 1 && old.addon != addon.id => {
                let old = self.store().read(|c| c.addon_by_id(old.addon))?;
                return Err(Error::invalid(format!(
                    "{name} is the last attachment of {0}, which nobody could find without it. Attach it under another \
                     name first: heroku addons:attach {0} -a {1}",
                    old.name, app.name
                )));
            }
            Some(old) => {
                let addon = self.store().read(|c| c.addon_by_id(old.addon))?;
                Some((old.id, addon.name))
            }
            None => None,
        };
        let now = self.now();
        let row = Attachment {
            id: self.id(AttachmentId),
            addon: addon.id,
            app: app.id,
            name,
            created_at: now,
            updated_at: now,
        };
        Ok(NewAttachment { row, replaced })
    }

    /// Releases the app once more with whatever `change` changes of its attachments. The release exists on return.
    async fn release_with<F>(&self, caller: &Caller, app: &App, description: &str, change: F) -> Result<Release>
    where
        F: FnOnce(&Conn<'_>) -> shipway_store::Result<()> + Send + 'static,
    {
        let release = self.release_plan(app, description.to_owned(), Code::Current);
        let row = pending_release(release.release, app.id, caller.actor.account, description, None, self.now());
        let (id, app_id) = (release.release, app.id);
        let plan = self.plan(caller, Trigger::Addon, Part { release: Some(release), ..Part::new(app.id) });
        self.submit(plan, move |c| {
            change(c)?;
            c.insert_release(&row, &c.config_vars(app_id)?).map(drop)
        })
        .await?;
        let made = self.store().read(|c| c.release_by_id(id))?;
        self.tell_release(caller, app, &made);
        Ok(made)
    }

    pub(crate) fn tell_release(&self, caller: &Caller, app: &App, release: &Release) {
        self.log_api(app.id, &format!("{} by user {}", release.description, caller.actor.email));
        self.log_api(app.id, &format!("Release v{} created by user {}", release.version, caller.actor.email));
        self.tell(Event::App(app.id));
    }

    // ---- finding ----

    /// The add-ons that the caller may see, by name: owned by apps that they may see, or attached to such.
    pub fn addons(&self, caller: &Caller, within: Within<'_>) -> Result<Vec<Addon>> {
        if let Within::App(app) = within {
            return Ok(self.store().read(|c| {
                let mut all = c.addons(app.id)?;
                for attachment in c.attachments(app.id)? {
                    if !all.iter().any(|a| a.id == attachment.addon) {
                        all.push(c.addon_by_id(attachment.addon)?);
                    }
                }
                Ok(all)
            })?);
        }
        let mut all: Vec<Addon> = Vec::new();
        for app in self.apps(caller, true)? {
            for addon in self.addons(caller, Within::App(&app))? {
                if !all.iter().any(|a| a.id == addon.id) {
                    all.push(addon);
                }
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The attachments to apps that the caller may see.
    pub fn attachments(&self, caller: &Caller, within: Within<'_>) -> Result<Vec<Attachment>> {
        if let Within::App(app) = within {
            return Ok(self.store().read(|c| c.attachments(app.id))?);
        }
        let mut all = Vec::new();
        for app in self.apps(caller, true)? {
            all.extend(self.store().read(|c| c.attachments(app.id))?);
        }
        Ok(all)
    }

    /// An add-on's attachments to apps that the caller may see.
    pub fn attachments_of(&self, caller: &Caller, addon: &Addon) -> Result<Vec<Attachment>> {
        let all = self.store().read(|c| c.attachments_of(addon.id))?;
        Ok(all.into_iter().filter(|a| self.app(caller, &a.app.into()).is_ok()).collect())
    }

    /// One add-on by id or name, or in `within` by anything that [`Self::resolve_addons`] takes.
    pub fn addon(&self, caller: &Caller, which: &str, within: Within<'_>) -> Result<Addon> {
        let mut found = self.resolve_addons(caller, which, within)?;
        match found.len() {
            1 => Ok(found.remove(0)),
            _ => {
                let names: Vec<String> = found.iter().map(|a| a.name.to_string()).collect();
                Err(Error {
                    id: "multiple_matches",
                    ..Error::invalid(format!("{which:?} means several add-ons: {}. Name one.", names.join(", ")))
                })
            }
        }
    }

    /// The add-ons that somebody may mean: by id, name, attachment, config var, service, plan; `app::name` looks into that
    /// app. Errors: none.
    pub fn resolve_addons(&self, caller: &Caller, which: &str, within: Within<'_>) -> Result<Vec<Addon>> {
        let missing = || Error::missing_one("add_on", which, "`heroku addons --all` lists those that you can see.");
        if let Some((app, rest)) = which.split_once("::") {
            let app = self.app(caller, &NameOrId::parse(app))?;
            return self.resolve_addons(caller, rest, Within::App(&app));
        }
        let visible = self.addons(caller, Within::Everything)?;
        let parsed = NameOrId::parse(which);
        let exact = |a: &&Addon| match &parsed {
            NameOrId::Id(id) => a.id.0 == *id,
            NameOrId::Name(name) => a.name.as_str() == name,
        };
        if let Some(one) = visible.iter().find(exact) {
            return Ok(vec![one.clone()]);
        }
        let Within::App(app) = within else { return Err(missing()) };
        let attached = self.attachments_named(app, which)?;
        let by_plan = |a: &Addon| a.plan.service.name == which || a.plan.to_string() == which;
        let mut found: Vec<Addon> = visible.into_iter().filter(|a| attached.iter().any(|t| t.addon == a.id)).collect();
        if found.is_empty() {
            found = self.addons(caller, Within::App(app))?.into_iter().filter(by_plan).collect();
        }
        if found.is_empty() { Err(missing()) } else { Ok(found) }
    }

    /// The attachments that somebody may mean: by id, name, config var, add-on; `app::name` looks into that app.
    /// Errors: none.
    pub fn resolve_attachments(&self, caller: &Caller, which: &str, within: Within<'_>) -> Result<Vec<Attachment>> {
        if let Some((app, rest)) = which.split_once("::") {
            let app = self.app(caller, &NameOrId::parse(app))?;
            return self.resolve_attachments(caller, rest, Within::App(&app));
        }
        let mut found: Vec<Attachment> = match within {
            Within::App(app) => self.attachments_named(app, which)?,
            Within::Everything => Vec::new(),
        };
        if found.is_empty() {
            let all = self.attachments(caller, within)?;
            let of_addon = self.resolve_addons(caller, which, within).unwrap_or_default();
            let id = which.parse().ok().map(AttachmentId);
            found = all
                .into_iter()
                .filter(|a| Some(a.id) == id || of_addon.iter().any(|addon| addon.id == a.addon))
                .collect();
        }
        if found.is_empty() {
            Err(Error::missing_one("add_on attachment", which, "`heroku addons --all` lists those that you can see."))
        } else {
            Ok(found)
        }
    }

    /// An app's attachments of a name, or of a config var's name.
    fn attachments_named(&self, app: &App, which: &str) -> Result<Vec<Attachment>> {
        let named = self.store().read(|c| {
            let mut named = Vec::new();
            for attachment in c.attachments(app.id)? {
                let has_var = || c.attachment_vars(&attachment).map(|vars| vars.keys().any(|k| k.as_str() == which));
                if attachment.name.as_str().eq_ignore_ascii_case(which) || has_var()? {
                    named.push(attachment);
                }
            }
            Ok(named)
        });
        Ok(named?)
    }
}

/// An attachment that is about to be made.
pub(crate) struct NewAttachment {
    pub(crate) row: Attachment,
    /// The one that has its name, and that one's add-on.
    replaced: Option<(AttachmentId, AddonName)>,
}

impl NewAttachment {
    fn put(self, c: &Conn<'_>) -> shipway_store::Result<()> {
        if let Some((old, _)) = self.replaced {
            c.delete_attachment(old)?;
        }
        c.insert_attachment(&self.row)
    }
}

/// As Heroku writes it; `pg:promote` looks for both halves.
fn attach_description(attachment: &NewAttachment, addon: &Addon) -> String {
    let name = &attachment.row.name;
    let attach = format!("Attach {name} (@ref:{})", addon.name);
    match &attachment.replaced {
        Some((_, old)) => format!("{attach}, Detach {name} (@ref:{old})"),
        None => attach,
    }
}

fn detach_description(attachment: &Attachment, addon: &Addon) -> String {
    format!("Detach {} (@ref:{})", attachment.name, addon.name)
}

fn no_such_plan(e: &shipway_domain::addon::PlanError) -> Error {
    match e {
        shipway_domain::addon::PlanError::Service { .. } => {
            Error { message: e.to_string(), ..Error::missing("add_on_service") }
        }
        shipway_domain::addon::PlanError::Plan { .. } => Error::invalid(e.to_string()),
    }
}

fn taken(e: Error, name: &AddonName) -> Error {
    if e.message.contains("add-on name") {
        return Error::taken("add-on", name, "Choose another name, or give none and have one made.");
    }
    e
}

/// A provider's failure as the engine's error.
pub(crate) fn failed(e: AddonFailure, addon: &Addon) -> Error {
    match e {
        AddonFailure::User(text) => Error::invalid(text),
        AddonFailure::Cancelled => Error::conflict("It was cancelled."),
        AddonFailure::Missing(text) => Error::unavailable(text, "missing on this machine"),
        AddonFailure::Platform(cause) => {
            Error::unavailable(format!("{} does not answer. Try again in a moment.", addon.name), cause)
        }
    }
}
