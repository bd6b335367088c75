//! Databases, as the data API shows them.

use crate::{Answer, ApiError, Call, Result};
use serde_json::{Value, json};
use shipway_domain::addon::AddonState;
use shipway_engine::Within;
use shipway_store::Addon;

/// GET /client/v11/databases/{database}. 404 until it can be used.
pub async fn info(call: Call) -> Result<Answer> {
    let addon = named(&call)?;
    let info = call.platform().addon_info(&addon).await?;
    let info: Vec<Value> = info.into_iter().map(|(name, values)| json!({ "name": name, "values": values })).collect();
    Ok(Answer::ok(json!({
        "addon_id": addon.id,
        "created_at": crate::present::time(addon.created_at),
        "following": null,
        "forked_from": null,
        "info": info,
        "leader": null,
        "name": addon.name,
        "plan": addon.plan.plan.name,
        "resource_url": url(&call, &addon)?,
    })))
}

/// GET /client/v11/databases/{database}/wait_status
pub async fn wait_status(call: Call) -> Result<Answer> {
    let addon = named(&call)?;
    let ready = addon.state == AddonState::Provisioned;
    let message = if ready { "available" } else { addon.state.as_str() };
    Ok(Answer::ok(json!({ "error?": false, "message": message, "waiting?": !ready })))
}

/// PUT /client/v11/databases/{database}/reset
pub async fn reset(call: Call) -> Result<Answer> {
    let addon = named(&call)?;
    if call.payload()?.texts("extensions")?.is_some_and(|all| !all.is_empty()) {
        return Err(ApiError::invalid(
            "Extensions cannot be installed by a reset. Reset without them, then: heroku pg:psql -c 'CREATE EXTENSION ...'",
        ));
    }
    call.platform().reset_addon(&call.caller, &addon).await?;
    Ok(Answer::ok(json!({ "message": "Reset successful." })))
}

/// POST /client/v11/databases/{database}/connection_reset
pub async fn connection_reset(call: Call) -> Result<Answer> {
    let addon = named(&call)?;
    call.platform().reset_addon_connections(&call.caller, &addon).await?;
    Ok(Answer::ok(json!({ "message": "Connections terminated." })))
}

/// GET /client/v11/databases/{database}/transfer-schedules
pub async fn schedules(call: Call) -> Result<Answer> {
    named(&call)?;
    Ok(Answer::ok(json!([])))
}

/// POST /client/v11/databases/{database}/transfer-schedules
pub async fn schedule(call: Call) -> Result<Answer> {
    let addon = named(&call)?;
    Err(ApiError::invalid(format!(
        "Backups are not scheduled here yet. Run `heroku pg:backups:capture {}` from a timer of yours.",
        addon.name
    )))
}

/// GET /postgres/v0/databases/{database}/credentials
pub async fn credentials(call: Call) -> Result<Answer> {
    let addon = named(&call)?;
    Ok(Answer::ok(json!([credential_of(&call, &addon)?])))
}

/// GET /postgres/v0/databases/{database}/credentials/{credential}
pub async fn credential(call: Call) -> Result<Answer> {
    let addon = named(&call)?;
    if call.parameter("credential") != "default" {
        return Err(ApiError::missing("credential"));
    }
    Ok(Answer::ok(credential_of(&call, &addon)?))
}

fn credential_of(call: &Call, addon: &Addon) -> Result<Value> {
    let url = url(call, addon)?;
    let parts = url.as_str().and_then(|url| {
        let (user, place) = url.strip_prefix("postgres://")?.split_once('@')?;
        let ((user, password), (authority, database)) = (user.split_once(':')?, place.split_once('/')?);
        let (host, port) = authority.rsplit_once(':')?;
        Some((user, password, host, port.parse::<u16>().ok()?, database))
    });
    let Some((user, password, host, port, database)) = parts else {
        return Err(ApiError::forbidden(format!(
            "Neither you nor the token that was used may read the password of {}: that needs the permission to deploy to an \
             app that it is attached to.",
            addon.name
        )));
    };
    Ok(json!({
        "credentials": [{ "connections": null, "password": password, "state": "active", "user": user }],
        "database": database,
        "host": host,
        "name": "default",
        "port": port,
        "state": "active",
    }))
}

/// The database that the path names, by id or name.
pub(super) fn named(call: &Call) -> Result<Addon> {
    Ok(call.platform().addon(&call.caller, call.parameter("database"), Within::Everything)?)
}

/// How it is reached, for whoever may read secrets.
fn url(call: &Call, addon: &Addon) -> Result<Value> {
    if call.platform().may_read_password(&call.caller, addon).is_err() {
        return Ok(Value::Null);
    }
    let config = call.platform().store().read(|c| c.addon_config(addon.id))?;
    Ok(json!(config.get("URL")))
}
