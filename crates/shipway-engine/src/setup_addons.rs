//! The add-ons of an app that is being made: its own, never its parent's.
//!
//! They are written down before they are made, so that whatever undoes the setup finds them; their ids come from the
//! setup's, so that a second run of the step finds what the first one wrote.

use crate::addons::failed;
use crate::error::Error;
use crate::operation::Context;
use crate::plan::SetupPlan;
use crate::{Platform, Result};
use shipway_domain::addon::{AddonState, PlanName, free_attachment_name, generated_addon_name};
use shipway_domain::app_json::{self, Environment, Parts};
use shipway_domain::{AddonId, AttachmentId, AttachmentName, ConfigKey};
use shipway_store::{Addon, App, Attachment};

impl Platform {
    /// Writes the add-ons of an app.json down. Errors: one that is not there, by name, unless such are to be left out.
    pub(crate) async fn note_setup_addons(
        &self,
        ctx: &Context,
        app: &App,
        plan: &SetupPlan,
        parts: &Parts,
    ) -> Result<Vec<(Addon, Attachment)>> {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for (n, wanted) in parts.addons.iter().flatten().enumerate() {
            match wanted.plan.parse::<PlanName>() {
                Ok(found) => known.push((n, wanted, found)),
                Err(_) => unknown.push(format!("{} (app.json line {})", wanted.plan, wanted.line)),
            }
        }
        if !unknown.is_empty() && !plan.without_addons {
            let without = match plan.environment {
                Environment::Review => format!(
                    "have review apps made without such: shipway reviewapps set {} --without-addons true",
                    self.coupling_of(app)?.pipeline_name
                ),
                _ => "set the app up without add-ons.".to_string(),
            };
            return Err(Error::invalid(format!(
                "This platform has no add-on {}. Take it out of app.json, or {without}",
                unknown.join(", ")
            )));
        }
        if !unknown.is_empty() {
            ctx.line(&format!(" !     Left out, as asked for: {}", unknown.join(", ")));
        }
        let mut made = Vec::new();
        for (n, wanted, found) in known {
            for option in wanted.options.keys() {
                ctx.line(&format!(" !     {found} has no option {option:?}: it is left out"));
            }
            let id = AddonId(uuid::Uuid::from_u128(plan.setup.0.as_u128().wrapping_add(n as u128 + 1)));
            made.push(self.note_setup_addon(app, id, wanted, found).await?);
        }
        Ok(made)
    }

    async fn note_setup_addon(
        &self,
        app: &App,
        id: AddonId,
        wanted: &app_json::Addon,
        plan: PlanName,
    ) -> Result<(Addon, Attachment)> {
        let (there, present) = self.store().read(|c| Ok((c.addon(&id.into())?, c.attachments(app.id)?)))?;
        if let Some(found) = there.zip(present.iter().find(|a| a.addon == id).cloned()) {
            return Ok(found);
        }
        let taken = |name: &AttachmentName| present.iter().any(|a| a.name == *name);
        let name = match &wanted.attachment {
            Some(name) => AttachmentName::parse(name.as_str())?,
            None => free_attachment_name(plan.service, true, self.world().random(), taken),
        };
        if taken(&name) {
            return Err(Error::invalid(format!("app.json line {}: two add-ons are attached as {name}.", wanted.line)));
        }
        let now = self.now();
        let addon = Addon {
            id,
            app: app.id,
            name: generated_addon_name(plan.service, self.world().random()),
            plan,
            state: AddonState::Provisioning,
            created_at: now,
            updated_at: now,
        };
        let attachment =
            Attachment { id: self.id(AttachmentId), addon: id, app: app.id, name, created_at: now, updated_at: now };
        let rows = (addon.clone(), attachment.clone());
        self.store()
            .write(move |c| {
                c.insert_addon(&rows.0)?;
                c.insert_attachment(&rows.1)
            })
            .await?;
        Ok((addon, attachment))
    }

    /// Makes the add-ons that were written down.
    pub(crate) async fn make_setup_addons(&self, ctx: &Context, addons: &[(Addon, Attachment)]) -> Result<()> {
        for (addon, attachment) in addons {
            let config = self.inner.parts.addons.provision(addon.id, addon.plan).await;
            let config = config.map_err(|e| failed(e, addon))?;
            let (id, now) = (addon.id, self.now());
            self.store()
                .write(move |c| {
                    c.set_addon_config(id, &config)?;
                    c.set_addon_state(id, AddonState::Provisioned, now)
                })
                .await?;
            ctx.line(&format!("       Made {} ({}), attached as {}", addon.name, addon.plan, attachment.name));
        }
        Ok(())
    }
}

/// The config vars that add-ons will give: `DATABASE_URL` by `DATABASE`.
pub(crate) fn given_by(addons: &[(Addon, Attachment)]) -> Vec<ConfigKey> {
    addons.iter().filter_map(|(_, at)| ConfigKey::parse(&format!("{}_URL", at.name)).ok()).collect()
}
