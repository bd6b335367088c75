//! Features: what can be switched for an account or an app.

use crate::{Answer, ApiError, Call, Result, present};
use serde_json::{Value, json};
use shipway_domain::ProcessType;
use shipway_domain::admission::Trigger;
use shipway_store::App;

/// What `ps:exec` and its like ask for first.
const EXEC: &str = "runtime-heroku-exec";

/// GET /account/features
pub async fn of_account(_: Call) -> Result<Answer> {
    Ok(Answer::ok(json!([present::account_feature()])))
}

/// GET /account/features/{feature}
pub async fn one_of_account(call: Call) -> Result<Answer> {
    Ok(Answer::ok(matching(&call, present::account_feature())?))
}

/// PATCH /account/features/{feature}
pub async fn set_of_account(call: Call) -> Result<Answer> {
    call.may_change_account()?;
    let feature = matching(&call, present::account_feature())?;
    switched_on(&call, feature)
}

/// A feature that is always on, to somebody who switches it.
fn switched_on(call: &Call, feature: Value) -> Result<Answer> {
    if wanted(call)? { Ok(Answer::ok(feature)) } else { Err(ApiError::invalid("That feature is always on here.")) }
}

/// GET /apps/{app}/features
pub async fn of_app(call: Call) -> Result<Answer> {
    let app = call.app()?;
    Ok(Answer::ok(json!([present::app_feature(preboot(&app)?), present::dyno_metadata()])))
}

/// GET /apps/{app}/features/{feature}
pub async fn one_of_app(call: Call) -> Result<Answer> {
    let app = call.app()?;
    if let Some(feature) = fixed(&call, &app)? {
        return Ok(Answer::ok(feature));
    }
    Ok(Answer::ok(matching(&call, present::app_feature(preboot(&app)?))?))
}

/// PATCH /apps/{app}/features/{feature}
pub async fn set_of_app(call: Call) -> Result<Answer> {
    let app = call.app()?;
    if let Some(feature) = fixed(&call, &app)? {
        call.platform().admit(&call.caller, Trigger::Settings, &app).await?;
        return switched_on(&call, feature);
    }
    matching(&call, present::app_feature(true))?;
    let (web, wanted) = (ProcessType::parse(ProcessType::WEB)?, wanted(&call)?);
    let changed = call.platform().change_settings(&call.caller, &app, move |settings| {
        settings.overlap.insert(web, wanted);
    });
    let app = changed.await?;
    Ok(Answer::ok(present::app_feature(preboot(&app)?)))
}

/// The feature that the path names, where it is one that nobody can switch off. Errors: nobody can switch it on.
fn fixed(call: &Call, app: &App) -> Result<Option<Value>> {
    if call.parameter("feature") == EXEC {
        return Err(super::dynos::no_way_in(app));
    }
    Ok(matching(call, present::dyno_metadata()).ok())
}

/// Whether new web dynos are up before the old ones stop: yes, unless the app says otherwise.
fn preboot(app: &App) -> Result<bool> {
    let web = ProcessType::parse(ProcessType::WEB)?;
    Ok(app.settings.overlap.get(&web).copied().unwrap_or(true))
}

fn wanted(call: &Call) -> Result<bool> {
    call.payload()?.flag("enabled")?.ok_or_else(|| ApiError::invalid("`enabled` is missing: true or false."))
}

/// The feature, if it is the one that the path names.
fn matching(call: &Call, feature: Value) -> Result<Value> {
    let name = call.parameter("feature");
    match feature["name"] == name || feature["id"] == name {
        true => Ok(feature),
        false => Err(ApiError::missing_one("feature", name, "`heroku labs` lists those that there are.")),
    }
}
