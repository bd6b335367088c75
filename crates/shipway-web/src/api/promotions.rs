//! Promotions: what one app runs, released unchanged on others.

use crate::{Answer, ApiError, Call, Result, present};
use shipway_domain::NameOrId;
use shipway_engine::{PromotionOrder, PromotionView};

/// POST /pipeline-promotions `{pipeline, source: {app, release?}, targets: [{app}], reason?}`
pub async fn create(call: Call) -> Result<Answer> {
    let payload = call.payload()?;
    let missing = |field: &str| ApiError::invalid(format!("`{field}` is missing."));
    let pipeline = payload.reference("pipeline")?.ok_or_else(|| missing("pipeline"))?;
    let source = payload.object("source")?.ok_or_else(|| missing("source"))?;
    let app = source.reference("app")?.ok_or_else(|| missing("source.app"))?;
    let mut targets = Vec::new();
    for target in payload.objects("targets")?.unwrap_or_default() {
        let which = target.reference("app")?.ok_or_else(|| missing("targets[].app"))?;
        let app = call.platform().app(&call.caller, &NameOrId::parse(&which))?;
        // Named twice is meant once.
        if !targets.iter().any(|t: &shipway_store::App| t.id == app.id) {
            targets.push(app);
        }
    }
    let order = PromotionOrder {
        pipeline: call.platform().pipeline(&call.caller, &NameOrId::parse(&pipeline))?,
        source: call.platform().app(&call.caller, &NameOrId::parse(&app))?,
        release: source.reference("release")?,
        targets,
        reason: payload.text("reason")?,
    };
    let view = call.platform().promote(&call.caller, order).await?;
    Ok(Answer::created(present::promotion(&view)))
}

fn named(call: &Call) -> Result<PromotionView> {
    let missing = || ApiError::missing("pipeline_promotion");
    let id = call.parameter("promotion").parse().map_err(|_| missing())?;
    let view = call.platform().promotion(&call.caller, id)?;
    // A product's is of several pipelines, which this shape cannot say.
    if view.promotion.pipeline.is_some() { Ok(view) } else { Err(missing()) }
}

/// GET /pipeline-promotions/{promotion}
pub async fn info(call: Call) -> Result<Answer> {
    Ok(Answer::ok(present::promotion(&named(&call)?)))
}

/// GET /pipeline-promotions/{promotion}/promotion-targets
pub async fn targets(call: Call) -> Result<Answer> {
    let view = named(&call)?;
    Ok(Answer::ok(view.targets.iter().map(present::promotion_target).collect()))
}
