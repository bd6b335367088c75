//! Config vars.

use crate::{Answer, Call, Result};
use serde_json::json;
use shipway_engine::without_effect;

/// GET /apps/{app}/config-vars
pub async fn info(call: Call) -> Result<Answer> {
    let app = call.app()?;
    Ok(Answer::ok(json!(call.platform().config_vars(&call.caller, &app)?)))
}

/// PATCH /apps/{app}/config-vars: `null` removes. The release that carries the change exists when it answers.
pub async fn update(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let changes = call.payload()?.texts_or_null()?;
    let set = changes.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.as_str());
    let warning = without_effect(&app, set);
    let answer = Answer::ok(json!(call.platform().set_config_vars(&call.caller, &app, changes).await?));
    Ok(match warning {
        Some(warning) => answer.warning(&warning),
        None => answer,
    })
}

/// GET /apps/{app}/releases/{release}/config-vars
pub async fn of_release(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let release = call.platform().release(&app, call.parameter("release"))?;
    // Who may read the present ones may read the past ones.
    call.platform().config_vars(&call.caller, &app)?;
    Ok(Answer::ok(json!(call.platform().store().read(|c| c.release_config(release.id))?)))
}
