//! The platform at a glance.

use crate::{Answer, Call, Result};
use serde_json::json;
use shipway_domain::lifecycle::DynoState;

/// GET /shipway/v1/status: counts of what the caller may see.
pub async fn show(call: Call) -> Result<Answer> {
    let platform = call.platform();
    let apps = platform.apps(&call.caller, call.caller.actor.admin)?;
    let (mut up, mut starting, mut crashed) = (0, 0, 0);
    let mut epoch = 0;
    platform.store().read(|c| {
        epoch = c.epoch()?;
        for app in &apps {
            for dyno in c.dynos(app.id)? {
                match dyno.state {
                    DynoState::Up => up += 1,
                    DynoState::Starting => starting += 1,
                    DynoState::Crashed => crashed += 1,
                    DynoState::Stopping | DynoState::Down => {}
                }
            }
        }
        Ok(())
    })?;
    let operations = platform.operations(&call.caller, None)?;
    let settings = platform.settings();
    Ok(Answer::ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "tier": platform.runtime().capabilities().tier,
        "stack": settings.stack,
        "stack_fingerprint": settings.stack_fingerprint,
        "domain": settings.domain,
        "route_epoch": epoch,
        "apps": apps.len(),
        "dynos": { "up": up, "starting": starting, "crashed": crashed },
        "operations": { "under_way": operations.iter().filter(|operation| !operation.status.is_final()).count() },
    })))
}

/// GET /shipway/v1/findings: what there is to know of the apps that the caller may see, and of the machine for
/// administrators: what `shipway doctor` says of a server.
pub async fn findings(call: Call) -> Result<Answer> {
    let found = call.platform().findings(&call.caller).await?;
    let shown = found.iter().map(|finding| {
        json!({
            "level": finding.gravity.as_str(),
            "about": finding.about,
            "what": finding.what,
            "next": finding.next,
        })
    });
    Ok(Answer::ok(shown.collect()))
}
