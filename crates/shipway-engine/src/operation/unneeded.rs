//! Pushes that have nothing left to do when their turn comes: the same commit, pushed twice.
//!
//! Whoever ends `git push` does not end the deploy, and pushes again. When the second push has its turn, the commit runs, by
//! a release that came meanwhile. What ran already when the push was asked for is deployed all the same: git sends nothing
//! then unless somebody means it.

use super::Context;
use crate::overwritten::Deployed;
use crate::plan::BuildPlan;
use crate::{Platform, Result};
use shipway_domain::admission::Trigger;
use shipway_domain::lifecycle::{BuildStatus, OperationStatus};
use shipway_store::App;

impl Platform {
    /// Ends a push well whose commit came to run while it waited, and says so. Returns whether it did. May run twice.
    pub(super) async fn is_unneeded(&self, ctx: &Context) -> Result<bool> {
        let [part] = ctx.plan.parts.as_slice() else { return Ok(false) };
        let Some(build) = part.build.as_ref().filter(|_| ctx.plan.trigger == Trigger::Push && part.setup.is_none())
        else {
            return Ok(false);
        };
        let app = self.store().read(|c| c.app_by_id(part.app))?;
        let Some(there) = self.came_meanwhile(&app, build)? else { return Ok(false) };
        self.inner.parts.repositories.unpin(app.id, ctx.operation).await?;
        let running = self.store().read(|c| c.current_release(&app))?.map_or(there.release.version, |now| now.version);
        let (commit, brought) = (build.commit.short(), there.release.version);
        ctx.line(&format!("-----> Nothing to deploy: {} runs {commit} already", app.name));
        let since = if running == brought { String::new() } else { format!(", and v{running} has it now") };
        ctx.line(&format!("       v{brought} by {} brought it while this push waited{since}", there.by));
        ctx.line(&format!("       To release it again: shipway redeploy -a {}", app.name));
        let detail = serde_json::json!({
            "commit": build.commit, "release": brought, "operation": ctx.operation,
        });
        let entry = self.entry(&ctx.plan.caller(), Some(&app), "deploy-unneeded", detail);
        let (id, row, slug, now) = (ctx.operation, build.build, there.slug, self.now());
        self.store()
            .write(move |c| {
                if let Some(mut build) = c.build(row)?.filter(|build| build.status == BuildStatus::Pending) {
                    (build.status, build.slug, build.updated_at) = (BuildStatus::Succeeded, Some(slug.id), now);
                    build.buildpacks = slug.buildpacks;
                    c.put_build(&build)?;
                }
                c.record(&entry)?;
                c.set_operation_status(id, OperationStatus::Succeeded, None, now)
            })
            .await?;
        Ok(true)
    }

    /// What an app runs, where that is the commit of a push and came since the push was asked for.
    fn came_meanwhile(&self, app: &App, push: &BuildPlan) -> Result<Option<Deployed>> {
        let Some(over) = push.over else { return Ok(None) };
        let there = self.deployed(app)?;
        Ok(there.filter(|there| there.slug.commit.as_ref() == Some(&push.commit) && there.release.version > over))
    }
}
