//! Formations: how many dynos of which size.

use super::dynos::size;
use crate::payload::Payload;
use crate::{Answer, ApiError, Call, Result, present};
use serde_json::Value;
use shipway_domain::quantity::Quantity;
use shipway_engine::ScaleUpdate;
use shipway_store::{App, Formation};

/// GET /apps/{app}/formation. The release phase is in it, always 0: `releases:retry` looks for it there.
pub async fn list(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let platform = call.platform();
    let mut all = show(&call, &app, &platform.formation(&app)?);
    if let Some(command) = platform.release_command(&app)? {
        all.push(present::release_phase(&platform.settings().sizes, &app, &command));
    }
    Ok(Answer::ok(all.into()))
}

/// GET /apps/{app}/formation/{formation}: a process type or an id.
pub async fn info(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let one = find(&call, &app)?;
    Ok(Answer::ok(show(&call, &app, &[one]).remove(0)))
}

/// PATCH /apps/{app}/formation
pub async fn update_all(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let updates = call.payload()?.objects("updates")?;
    let updates = updates.ok_or_else(|| {
        ApiError::invalid(
            "`updates` is missing: a list of `{\"type\": \"web\", \"quantity\": 2, \"size\": \"basic\"}`.",
        )
    })?;
    let updates = updates.iter().map(|u| update_of(u.required("type")?, u)).collect::<Result<Vec<_>>>()?;
    Ok(Answer::ok(show(&call, &app, &call.platform().scale(&call.caller, &app, updates).await?).into()))
}

/// PATCH /apps/{app}/formation/{formation}
pub async fn update_one(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let (formation, _) = find(&call, &app)?;
    let update = update_of(formation.process_type.to_string(), &call.payload()?)?;
    call.platform().scale(&call.caller, &app, vec![update]).await?;
    let one = find(&call, &app)?;
    Ok(Answer::ok(show(&call, &app, &[one]).remove(0)))
}

fn update_of(process_type: String, payload: &Payload) -> Result<ScaleUpdate> {
    if payload.names().any(|n| n == "docker_image") {
        return Err(ApiError::invalid("Images cannot be released yet. Deploy with git push instead."));
    }
    let quantity = payload.number_or_text("quantity")?;
    let quantity = quantity.as_deref().map(Quantity::parse).transpose()?;
    Ok(ScaleUpdate { process_type, quantity, size: size(payload)? })
}

fn find(call: &Call, app: &App) -> Result<(Formation, String)> {
    let wanted = call.parameter("formation");
    let is = |f: &(Formation, String)| f.0.process_type.as_str() == wanted || f.0.id.to_string() == wanted;
    let found = call.platform().formation(app)?.into_iter().find(is);
    let next = || format!("`heroku ps -a {}` lists the process types that there are.", app.name);
    found.ok_or_else(|| ApiError::missing_one("formation", wanted, &next()))
}

fn show(call: &Call, app: &App, formation: &[(Formation, String)]) -> Vec<Value> {
    let sizes = &call.platform().settings().sizes;
    formation.iter().map(|(f, command)| present::formation(sizes, app, f, command)).collect()
}
