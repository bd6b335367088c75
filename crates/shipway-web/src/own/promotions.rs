//! Products, promotions that switch together, and what a pipeline allows.

use crate::payload::Payload;
use crate::present::{self, People};
use crate::{Answer, ApiError, Call, Result};
use serde_json::{Value, json};
use shipway_domain::NameOrId;
use shipway_engine::{Seen, StepChange, TogetherOrder, external_steps};
use shipway_store::{ExternalStep, Pipeline, PipelineSettings, Product};

/// The pipelines of a product that the caller may see.
fn pipelines(call: &Call, product: &Product) -> Vec<Pipeline> {
    let seen = |id: &shipway_domain::PipelineId| call.platform().pipeline(&call.caller, &id.into()).ok();
    product.pipelines.iter().filter_map(seen).collect()
}

fn show(call: &Call, product: &Product) -> Value {
    present::product(product, &pipelines(call, product))
}

fn named(call: &Call) -> Result<Product> {
    Ok(call.platform().product(&call.caller, &NameOrId::parse(call.parameter("product")))?)
}

/// GET /shipway/v1/products
pub async fn products(call: Call) -> Result<Answer> {
    let products = call.platform().products(&call.caller)?;
    Ok(Answer::ok(products.iter().map(|p| show(&call, p)).collect()))
}

/// POST /shipway/v1/products `{name, pipelines: [name or id]}`
pub async fn create_product(call: Call) -> Result<Answer> {
    let payload = call.payload()?;
    let pipelines = payload.texts("pipelines")?.unwrap_or_default();
    let product = call.platform().create_product(&call.caller, &payload.required("name")?, &pipelines).await?;
    Ok(Answer::created(show(&call, &product)))
}

/// GET /shipway/v1/products/{product}
pub async fn product(call: Call) -> Result<Answer> {
    Ok(Answer::ok(show(&call, &named(&call)?)))
}

/// PATCH /shipway/v1/products/{product} `{steps: [{name, pipeline, command, undo}]}`: the external steps, all at once.
pub async fn update_product(call: Call) -> Result<Answer> {
    let product = named(&call)?;
    let Some(steps) = call.payload()?.objects("steps")? else { return Ok(Answer::ok(show(&call, &product))) };
    let mut parsed = Vec::new();
    for step in steps {
        let pipeline =
            step.reference("pipeline")?.ok_or_else(|| ApiError::invalid("`steps[].pipeline` is missing."))?;
        parsed.push(ExternalStep {
            name: step.required("name")?,
            pipeline: call.platform().pipeline(&call.caller, &NameOrId::parse(&pipeline))?.id,
            command: step.required("command")?,
            undo: step.required("undo")?,
        });
    }
    let changed = call.platform().set_product_steps(&call.caller, &product, parsed).await?;
    Ok(Answer::ok(show(&call, &changed)))
}

fn of_path(call: &Call) -> NameOrId {
    NameOrId::parse(call.parameter("pipeline"))
}

/// PUT /shipway/v1/products/{product}/pipelines/{pipeline} `{position?}`: adds a pipeline as the last one, or moves it;
/// `position` counts from 1.
pub async fn put_pipeline(call: Call) -> Result<Answer> {
    let product = named(&call)?;
    let position = call.payload()?.number("position")?;
    let changed = call.platform().put_product_pipeline(&call.caller, &product, &of_path(&call), position).await?;
    Ok(Answer::ok(show(&call, &changed)))
}

/// DELETE /shipway/v1/products/{product}/pipelines/{pipeline}: with its external step; the pipeline stays.
pub async fn remove_pipeline(call: Call) -> Result<Answer> {
    let product = named(&call)?;
    let changed = call.platform().remove_product_pipeline(&call.caller, &product, &of_path(&call)).await?;
    Ok(Answer::ok(show(&call, &changed)))
}

/// PUT /shipway/v1/products/{product}/steps/{pipeline} `{name?, command?, undo?, position?}`: the pipeline's external step.
/// A new one needs all but the position and is the last; of one that is there what is not named stays.
pub async fn put_step(call: Call) -> Result<Answer> {
    let product = named(&call)?;
    let payload = call.payload()?;
    let change = StepChange {
        name: payload.text("name")?,
        command: payload.text("command")?,
        undo: payload.text("undo")?,
        position: payload.number("position")?,
    };
    let changed = call.platform().set_product_step(&call.caller, &product, &of_path(&call), change).await?;
    Ok(Answer::ok(show(&call, &changed)))
}

/// DELETE /shipway/v1/products/{product}/steps/{pipeline}
pub async fn remove_step(call: Call) -> Result<Answer> {
    let product = named(&call)?;
    let changed = call.platform().remove_product_step(&call.caller, &product, &of_path(&call)).await?;
    Ok(Answer::ok(show(&call, &changed)))
}

/// DELETE /shipway/v1/products/{product}: its pipelines stay.
pub async fn destroy_product(call: Call) -> Result<Answer> {
    let product = named(&call)?;
    let shown = show(&call, &product);
    call.platform().destroy_product(&call.caller, &product).await?;
    Ok(Answer::ok(shown))
}

fn seen(payload: &Payload) -> Result<Option<Vec<Seen>>> {
    let Some(moves) = payload.objects("seen")? else { return Ok(None) };
    let one = |it: &Payload| Ok(Seen { app: it.required("app")?, digest: it.required("digest")? });
    moves.iter().map(one).collect::<Result<_>>().map(Some)
}

/// POST /shipway/v1/promotions `{from, to, product?, pipeline?, only?, reason?, dry_run?, seen?: [{app, digest}]}`: stages or
/// apps, together or not at all. With `dry_run` the answer is what would happen; with `seen`, of such an answer, nothing
/// else happens (409). What would happen has the external `steps` in order, each with the app that it would run in.
pub async fn promote(call: Call) -> Result<Answer> {
    let payload = call.payload()?;
    let order = TogetherOrder {
        from: payload.required("from")?,
        to: payload.required("to")?,
        product: payload.reference("product")?,
        pipeline: payload.reference("pipeline")?,
        only: payload.texts("only")?.unwrap_or_default(),
        reason: payload.text("reason")?,
        seen: seen(&payload)?,
    };
    if payload.flag("dry_run")? == Some(true) {
        let (product, moves) = call.platform().moves(&call.caller, &order)?;
        let mut planned = Vec::with_capacity(moves.len());
        for one in &moves {
            let refused = call.platform().move_refused(&call.caller, one).await?;
            planned.push(present::planned(one, refused.as_deref()));
        }
        let steps = external_steps(product.as_ref(), &moves);
        let steps: Vec<Value> = steps.into_iter().map(|(step, runs)| present::planned_step(step, runs)).collect();
        let product = product.as_ref().map(|p| json!({ "id": p.id, "name": p.name }));
        return Ok(Answer::ok(json!({ "product": product, "moves": planned, "steps": steps })));
    }
    let view = call.platform().promote_together(&call.caller, &order).await?;
    Ok(Answer::created(present::whole_promotion(&call.web, &mut People::new(&call.web), &view)))
}

/// GET /shipway/v1/promotions/{promotion}
pub async fn promotion(call: Call) -> Result<Answer> {
    let id = call.parameter("promotion").parse().map_err(|_| ApiError::missing("pipeline_promotion"))?;
    let view = call.platform().promotion(&call.caller, id)?;
    Ok(Answer::ok(present::whole_promotion(&call.web, &mut People::new(&call.web), &view)))
}

fn pipeline(call: &Call) -> Result<Pipeline> {
    Ok(call.platform().pipeline(&call.caller, &NameOrId::parse(call.parameter("pipeline")))?)
}

/// GET /shipway/v1/pipelines/{pipeline}/settings
pub async fn settings(call: Call) -> Result<Answer> {
    Ok(Answer::ok(json!(pipeline(&call)?.settings)))
}

/// PATCH /shipway/v1/pipelines/{pipeline}/settings `{may_skip_stages?}`: what is not named stays.
pub async fn set(call: Call) -> Result<Answer> {
    let pipeline = pipeline(&call)?;
    let may_skip = call.payload()?.flag("may_skip_stages")?;
    let change = move |settings: &mut PipelineSettings| {
        settings.may_skip_stages = may_skip.unwrap_or(settings.may_skip_stages);
    };
    let changed = call.platform().change_pipeline_settings(&call.caller, &pipeline, change).await?;
    Ok(Answer::ok(json!(changed.settings)))
}
