//! Config vars: read, change; a change makes a release.

use crate::change::pending_release;
use crate::error::Error;
use crate::plan::{Code, Part};
use crate::ports::Caller;
use crate::{Event, Platform, Result};
use shipway_domain::admission::{Permission, Trigger};
use shipway_domain::{ConfigKey, SET_IN_DYNOS};
use shipway_store::{App, ConfigVars};
use std::collections::BTreeMap;

/// Most bytes of all config vars of an app, names and values. Source: Heroku's limit is 64 KiB; ours leaves room.
const MAX_BYTES: usize = 256 * 1024;

impl Platform {
    /// An app's config vars. Errors: [`Self::may_read_secrets`].
    pub fn config_vars(&self, caller: &Caller, app: &App) -> Result<ConfigVars> {
        self.may_read_secrets(caller, app)?;
        Ok(self.store().read(|c| c.config_vars(app.id))?)
    }

    /// Errors: a token that may not read secrets; somebody who only looks at the app. Who may change its code reads them
    /// anyway, by code that prints them.
    pub fn may_read_secrets(&self, caller: &Caller, app: &App) -> Result<()> {
        self.token_reads_secrets(caller)?;
        let granted = self.store().read(|c| c.permission(app, caller.actor.account))?;
        if caller.actor.admin || granted >= Some(Permission::Deploy) {
            return Ok(());
        }
        Err(Error::forbidden(format!(
            "You ({}) may look at {}, and not read its config vars: they hold secrets. Ask {}, who owns it, for the permission \
             to deploy.",
            caller.actor.email,
            app.name,
            app.owner_email.to_ask()
        )))
    }

    /// Errors: a token that may not read secrets.
    pub(crate) fn token_reads_secrets(&self, caller: &Caller) -> Result<()> {
        match caller.actor.scope.reads_secrets() {
            true => Ok(()),
            false => Err(self.out_of_scope(caller, "read config vars")),
        }
    }

    /// The same for somebody who looks at values on a page; which ones goes into the ledger. `name`: one, or all.
    pub async fn reveal_config_vars(&self, caller: &Caller, app: &App, name: Option<&str>) -> Result<ConfigVars> {
        let vars = self.config_vars(caller, app)?;
        let entry = self.entry(caller, Some(app), "config-revealed", serde_json::json!({ "name": name }));
        self.record(entry).await?;
        Ok(vars)
    }

    /// Sets and (with `None`) removes config vars, and returns all of them. A release exists when it returns; it goes
    /// live on its own. Errors: illegal names, values with NUL, too much, a var of an attachment, one
    /// that the running code's app.json requires.
    pub async fn set_config_vars(
        &self,
        caller: &Caller,
        app: &App,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<ConfigVars> {
        self.admit(caller, Trigger::Config, app).await?;
        let parsed = parse_changes(changes)?;
        let mut vars = self.store().read(|c| c.config_vars(app.id))?;
        let (mut set, mut unset) = (Vec::new(), Vec::new());
        for (key, value) in &parsed {
            match value {
                Some(value) if vars.get(key) != Some(value) => {
                    vars.insert(key.clone(), value.clone());
                    set.push(key.to_string());
                }
                None if vars.remove(key).is_some() => unset.push(key.to_string()),
                _ => {}
            }
        }
        if set.is_empty() && unset.is_empty() {
            return Ok(vars);
        }
        let attached = self.store().read(|c| c.attached_vars(app.id))?;
        if let Some(key) = set.iter().chain(&unset).find(|key| attached.keys().any(|a| a.as_str() == key.as_str())) {
            return Err(Error::invalid(format!(
                "Cannot overwrite attachment values {key}: it is an add-on's. Detach that first: heroku addons -a {0}, \
                 then heroku addons:detach NAME -a {0}",
                app.name
            )));
        }
        within_limit(&vars)?;
        self.check_unset(app, &vars, &unset, "give it another value").await?;
        let noun = |n: usize| if n == 1 { "config var" } else { "config vars" };
        let mut parts = Vec::new();
        if !set.is_empty() {
            parts.push(format!("Set {} {}", set.join(", "), noun(set.len())));
        }
        if !unset.is_empty() {
            parts.push(format!("Remove {} {}", unset.join(", "), noun(unset.len())));
        }
        let description = parts.join(" and ");
        let release = self.release_plan(app, description.clone(), Code::Current);
        let part = Part { release: Some(release.clone()), ..Part::new(app.id) };
        let plan = self.plan(caller, Trigger::Config, part);
        let row = pending_release(release.release, app.id, caller.actor.account, &description, None, self.now());
        let entry = self.entry(caller, Some(app), "config", serde_json::json!({ "set": set, "unset": unset }));
        let (id, release_id) = (app.id, release.release);
        self.submit(plan, move |c| {
            // Read again inside: two changes at once both count.
            let mut vars = c.config_vars(id)?;
            apply(&mut vars, parsed);
            c.set_config_vars(id, &vars)?;
            c.insert_release(&row, &vars)?;
            c.record(&entry)
        })
        .await?;
        let version = self.store().read(|c| c.release_by_id(release_id))?.version;
        self.log_api(app.id, &format!("{description} by user {}", caller.actor.email));
        self.log_api(app.id, &format!("Release v{version} created by user {}", caller.actor.email));
        self.tell(Event::App(app.id));
        Ok(self.store().read(|c| c.config_vars(app.id))?)
    }
}

/// Says which of these config vars of an app no dyno sees, because the platform sets them there itself; none where all are seen.
pub fn without_effect<'a>(app: &App, set: impl Iterator<Item = &'a str>) -> Option<String> {
    let unseen: Vec<&str> = set.filter(|name| SET_IN_DYNOS.contains(name)).collect();
    let (have, them, vars) = match unseen.len() {
        0 => return None,
        1 => ("has", "it", "a config var"),
        _ => ("have", "them", "config vars"),
    };
    Some(format!(
        "{} {have} no effect as {vars}: the platform sets {them} in every dyno. To take {them} back: heroku config:unset {} -a {}",
        unseen.join(", "),
        unseen.join(" "),
        app.name
    ))
}

/// Reads a change of config vars. Errors: illegal names, values with NUL.
pub(crate) fn parse_changes(changes: BTreeMap<String, Option<String>>) -> Result<Vec<(ConfigKey, Option<String>)>> {
    let mut parsed = Vec::new();
    for (key, value) in changes {
        let key = ConfigKey::parse(&key)?;
        if value.as_ref().is_some_and(|v| v.contains('\0')) {
            return Err(Error::invalid(format!(
                "The value of {key} holds a NUL byte, which no environment can carry."
            )));
        }
        parsed.push((key, value));
    }
    Ok(parsed)
}

/// Sets and (with `None`) removes.
pub(crate) fn apply(vars: &mut ConfigVars, changes: Vec<(ConfigKey, Option<String>)>) {
    for (key, value) in changes {
        match value {
            Some(value) => vars.insert(key, value),
            None => vars.remove(&key),
        };
    }
}

/// Errors: more than may be kept together.
pub(crate) fn within_limit(vars: &ConfigVars) -> Result<()> {
    let bytes: usize = vars.iter().map(|(k, v)| k.as_str().len() + v.len()).sum();
    if bytes > MAX_BYTES {
        return Err(Error::invalid(format!(
            "Config vars may have {} KiB altogether; these have {} KiB.",
            MAX_BYTES / 1024,
            bytes / 1024
        )));
    }
    Ok(())
}
