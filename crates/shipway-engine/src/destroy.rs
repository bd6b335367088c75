//! The end of an app: out of the routes, dynos stopped, everything removed that it owned. Only goes forward.

use crate::error::Error;
use crate::operation::{Context, Effect, nothing};
use crate::plan::Part;
use crate::ports::Caller;
use crate::reviewing::{leaving, left};
use crate::{Event, Platform, Result};
use shipway_domain::admission::Trigger;
use shipway_domain::{AppId, BuildId, DynoId, OperationId};
use shipway_store::{App, Conn};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

impl Platform {
    /// Destroys an app, and returns when nothing of it is left.
    pub async fn destroy_app(&self, caller: &Caller, app: &App) -> Result<App> {
        let operation = self.begin_destroy(caller, app).await?;
        self.live(operation).await?;
        // The name is free now: a visitor must not be told that the app is starting.
        self.routed_soon().await?;
        Ok(app.clone())
    }

    /// The same, returning when it is written down.
    pub(crate) async fn begin_destroy(&self, caller: &Caller, app: &App) -> Result<OperationId> {
        self.admit(caller, Trigger::Destroy, app).await?;
        let entry = self.entry(caller, Some(app), "app-destroyed", serde_json::json!({}));
        let is_review = self.store().read(|c| c.review_app_of(app.id))?.is_some();
        let predestroy = is_review.then(|| self.id(DynoId));
        let plan = self.plan(caller, Trigger::Destroy, Part { destroy: true, predestroy, ..Part::new(app.id) });
        let (id, now, operation) = (app.id, self.now(), self.id(OperationId));
        self.store().write(move |c| stop_all_but(c, id, operation)).await?;
        self.stop_now(id, operation)?;
        self.detach_from_others(caller, app).await?;
        self.submit_as(operation, plan, move |c| {
            let mut app = c.app_by_id(id)?;
            app.ending = true;
            app.updated_at = now;
            c.update_app(&app)?;
            leaving(c, &app, now)?;
            c.record(&entry)?;
            // What was begun while other apps were released stops too; from here on nothing begins.
            stop_all_but(c, id, operation)
        })
        .await?;
        self.stop_now(id, operation)?;
        Ok(operation)
    }

    /// Wakes what [`stop_all_but`] asked to stop.
    fn stop_now(&self, app: AppId, own: OperationId) -> Result<()> {
        let others = self.store().read(|c| others(c, app, own))?;
        let cancels = self.inner.cancels.lock().expect("no panic while registered");
        others.iter().filter_map(|id| cancels.get(id)).for_each(CancellationToken::cancel);
        Ok(())
    }

    pub(crate) fn step_close(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let (id, operation, now) = (part.app, ctx.operation, self.now());
        Ok(Box::new(move |c| {
            let epoch = c.next_epoch(Some(operation), now)?;
            for mut dyno in c.dynos(id)? {
                if std::mem::take(&mut dyno.routed) {
                    dyno.unrouted_epoch = Some(epoch);
                }
                c.put_dyno(&dyno)?;
            }
            Ok(())
        }))
    }

    pub(crate) async fn step_stop_all(&self, part: &Part) -> Result<Effect> {
        let id = part.app;
        for dyno in self.store().read(|c| c.dynos(id))? {
            if dyno.one_off.is_some() {
                self.runtime().stop(dyno.id).await?;
            } else {
                self.let_go(dyno.id).await?;
            }
        }
        let mut events = self.events();
        while !self.store().read(|c| c.dynos(id))?.is_empty() {
            let _ = tokio::time::timeout(Duration::from_secs(1), events.recv()).await;
        }
        Ok(nothing())
    }

    pub(crate) async fn step_erase(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let (id, now) = (part.app, self.now());
        let erased = self.erase(id, ctx.operation, None).await?;
        Ok(Box::new(move |c| {
            erased(c)?;
            left(c, id, now)
        }))
    }

    /// Removes everything that an app owned, but for the transcript of `kept`, as a step of `operation`. A second time does
    /// nothing.
    pub(crate) async fn erase(&self, id: AppId, operation: OperationId, kept: Option<BuildId>) -> Result<Effect> {
        let Some(app) = self.store().read(|c| c.app(&id.into()))? else { return Ok(nothing()) };
        let farewell = self.farewell(&app).await;
        let (builds, releases) = self.store().read(|c| Ok((c.builds(id)?, c.releases(id)?)))?;
        let builds = builds.iter().map(|b| b.id).filter(|b| kept != Some(*b));
        for output in builds.map(|b| b.0).chain(releases.iter().map(|r| r.id.0)) {
            self.inner.outputs.remove(output);
        }
        self.erase_data(&app, operation).await?;
        if let Some(setup) = self.store().read(|c| c.app_setup_of(id))? {
            self.inner.outputs.remove(setup.id.0);
        }
        self.inner.parts.repositories.remove(id).await?;
        self.inner.parts.builder.purge_cache(id).await?;
        self.inner.platform_logs.close(id);
        match tokio::fs::remove_dir_all(self.log_dir(id)).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::platform(e)),
            _ => {}
        }
        self.tell(Event::Apps);
        let now = self.now();
        Ok(Box::new(move |c| {
            farewell(c)?;
            c.delete_app(id)?;
            c.forget_ended_webhooks()?;
            c.next_epoch(None, now).map(|_| ())
        }))
    }
}

/// Whatever else is under way at an app stops before its switch.
fn stop_all_but(c: &Conn<'_>, app: AppId, own: OperationId) -> shipway_store::Result<()> {
    others(c, app, own)?.into_iter().try_for_each(|id| c.cancel_operation(id))
}

/// The other operations that are under way at an app.
fn others(c: &Conn<'_>, app: AppId, own: OperationId) -> shipway_store::Result<Vec<OperationId>> {
    let open = c.open_operations()?.into_iter().filter(|o| o.apps.contains(&app) && o.id != own);
    Ok(open.map(|o| o.id).collect())
}
