//! What would change, and what is not alike.

use super::upstream::beside;
use crate::{Answer, ApiError, Call, Result};
use serde_json::json;
use shipway_domain::NameOrId;
use shipway_engine::Point;

/// GET /shipway/v1/compare?base=production&head=staging&pipeline=shop: what would change if `head` ran in the place of
/// `base`. A side is an app, `app@v12`, `app@commit`, or a stage instead of the app.
pub async fn compare(call: Call) -> Result<Answer> {
    let (base, head) = sides(&call).await?;
    let compared = call.platform().compare(&call.caller, &base, &head).await?;
    let mut shown = json!(compared);
    for (name, side) in [("base", &compared.base), ("head", &compared.head)] {
        shown[name]["beside"] = side.beside.as_ref().map(beside).into();
    }
    Ok(Answer::ok(shown))
}

/// GET /shipway/v1/parity?base=production&head=staging&pipeline=shop: in what two apps differ that should be alike.
pub async fn parity(call: Call) -> Result<Answer> {
    let (base, head) = sides(&call).await?;
    Ok(Answer::ok(json!(call.platform().parity(&call.caller, &base, &head)?)))
}

async fn sides(call: &Call) -> Result<(Point, Point)> {
    let platform = call.platform();
    let pipeline = match call.query("pipeline").filter(|name| !name.is_empty()) {
        Some(name) => Some(platform.pipeline(&call.caller, &NameOrId::parse(name))?),
        None => None,
    };
    let named = |which: &'static str| {
        let missing = || ApiError::invalid(format!("Name `{which}`: an app, app@v12, app@commit, or a stage."));
        call.query(which).filter(|text| !text.is_empty()).ok_or_else(missing)
    };
    let base = platform.point(&call.caller, pipeline.as_ref(), named("base")?).await?;
    let head = platform.point(&call.caller, pipeline.as_ref(), named("head")?).await?;
    Ok((base, head))
}
