//! The steps of making and removing add-ons.

use crate::addons::failed;
use crate::change::pending_release;
use crate::locks::{Lock, Turn};
use crate::operation::{Context, Effect, nothing};
use crate::plan::{AddonPlan, DetachPlan, Part, ReleasePlan};
use crate::{Platform, Result};
use shipway_domain::addon::AddonState;
use shipway_domain::admission::Trigger;
use shipway_domain::{AddonId, AppId, OperationId};
use shipway_store::{Addon, App, Conn};

impl Platform {
    /// Gives apps the present addresses of their add-ons, which are others when the data directory was put back elsewhere.
    pub(crate) async fn relocate_addons(&self) -> Result<()> {
        for addon in self.store().read(|c| c.all_addons())? {
            // What cannot be opened is said where somebody wants it.
            let Ok(config) = self.store().read(|c| c.addon_config(addon.id)) else { continue };
            if let Some(config) = self.inner.parts.addons.relocated(&config) {
                tracing::info!(addon.name = %addon.name, "the add-on is at another address now");
                self.store().write(move |c| c.set_addon_config(addon.id, &config)).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn step_provision(&self, part: &Part) -> Result<Effect> {
        let id = addon_of(part)?;
        let addon = self.store().read(|c| c.addon_by_id(id))?;
        let made = self.inner.parts.addons.provision(addon.id, addon.plan).await;
        let config = made.map_err(|e| failed(e, &addon))?;
        let now = self.now();
        Ok(Box::new(move |c| {
            c.set_addon_config(addon.id, &config)?;
            c.set_addon_state(addon.id, AddonState::Provisioned, now)
        }))
    }

    /// An add-on that was made stays: what failed after it is the app's.
    pub(crate) async fn undo_provision(&self, part: &Part) -> Result<Effect> {
        let id = addon_of(part)?;
        let there = self.store().read(|c| c.addon(&id.into()))?;
        if !there.is_some_and(|addon| addon.state == AddonState::Provisioning) {
            return Ok(nothing());
        }
        self.inner.parts.addons.deprovision(id).await?;
        Ok(Box::new(move |c| c.delete_addon(id)))
    }

    pub(crate) async fn step_attach(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        if let AddonPlan::Create { release, operation, .. } = part.addon()? {
            self.release_in_step(ctx, part.app, release, *operation, |_| Ok(())).await?;
        }
        Ok(nothing())
    }

    /// Releases the apps without the add-on, and waits until each is through with it, with or without success: what is
    /// wrong with an app does not keep a database that nobody wants.
    pub(crate) async fn step_detach(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let AddonPlan::Destroy { detach, .. } = part.addon()? else { return Ok(nothing()) };
        for DetachPlan { attachment, app, release, operation } in detach {
            let attachment = *attachment;
            let remove = move |c: &Conn<'_>| c.delete_attachment(attachment);
            self.release_in_step(ctx, *app, release, *operation, remove).await?;
        }
        for DetachPlan { operation, .. } in detach {
            if self.store().read(|c| c.operation(*operation)).is_ok() {
                self.live(*operation).await?;
            }
        }
        Ok(nothing())
    }

    /// Begins the operation of a release, unless the first run of the step did or the app has gone meanwhile.
    async fn release_in_step<F>(
        &self,
        ctx: &Context,
        app: AppId,
        release: &ReleasePlan,
        operation: OperationId,
        change: F,
    ) -> Result<()>
    where
        F: FnOnce(&Conn<'_>) -> shipway_store::Result<()> + Send + 'static,
    {
        let (app, begun) = self.store().read(|c| Ok((c.app(&app.into())?, c.operation(operation).is_ok())))?;
        let Some(app) = app.filter(|app| !app.ending && !begun) else { return Ok(()) };
        let caller = ctx.plan.caller();
        let account = caller.actor.account;
        let row = pending_release(release.release, app.id, account, &release.description, None, self.now());
        let part = Part { release: Some(release.clone()), ..Part::new(app.id) };
        let plan = self.plan(&caller, Trigger::Addon, part);
        let (id, app_id) = (release.release, app.id);
        self.submit_as(operation, plan, move |c| {
            change(c)?;
            c.insert_release(&row, &c.config_vars(app_id)?).map(drop)
        })
        .await?;
        let made = self.store().read(|c| c.release_by_id(id))?;
        self.tell_release(&caller, &app, &made);
        Ok(())
    }

    pub(crate) async fn step_deprovision(&self, part: &Part) -> Result<Effect> {
        let id = addon_of(part)?;
        self.inner.parts.addons.deprovision(id).await?;
        Ok(Box::new(move |c| c.delete_addon(id)))
    }

    /// Removes the add-ons that an app owns, and the backups in its list, for this operation. Can be repeated.
    ///
    /// What another app copies from a database ends first. Nothing else is waited for: the end of an add-on makes releases,
    /// which may wait for this app.
    pub(crate) async fn erase_data(&self, app: &App, operation: OperationId) -> Result<()> {
        let (addons, transfers): (Vec<Addon>, _) =
            self.store().read(|c| Ok((c.addons(app.id)?, c.transfers(app.id)?)))?;
        let data: Vec<Lock> = addons.iter().map(|addon| Lock::Data(addon.id)).collect();
        let places = self.inner.locks.enqueue(data.clone(), operation, Turn::AsItCame);
        for lock in data {
            let is_copied = || {
                let holder = self.inner.locks.holder(lock).filter(|holder| *holder != operation);
                let of = holder.and_then(|holder| self.store().read(|c| c.operation(holder)).ok());
                of.is_some_and(|of| of.kind == "transfer")
            };
            self.inner.locks.until(|| !is_copied()).await;
        }
        for addon in addons {
            self.inner.parts.addons.deprovision(addon.id).await?;
        }
        for transfer in transfers {
            self.remove_backup(transfer.id).await?;
            self.inner.outputs.remove(transfer.id.0);
        }
        drop(places);
        Ok(())
    }
}

fn addon_of(part: &Part) -> Result<AddonId> {
    match part.addon()? {
        AddonPlan::Create { addon, .. } | AddonPlan::Destroy { addon, .. } | AddonPlan::Transfer { addon, .. } => {
            Ok(*addon)
        }
    }
}
