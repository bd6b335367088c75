//! Promotions, their targets, and products.

use super::{People, app_reference, time};
use crate::Web;
use serde_json::{Value, json};
use shipway_domain::AppId;
use shipway_engine::{Move, PromotionView, TargetView};
use shipway_store::{ExternalStep, Pipeline, Product};

/// A promotion of a pipeline. All its targets have one source.
pub fn promotion(view: &PromotionView) -> Value {
    let source = view.targets.first().map(|t| &t.target);
    json!({
        "created_at": time(view.promotion.created_at),
        "id": view.promotion.id,
        "pipeline": { "id": view.promotion.pipeline },
        "source": {
            "app": { "id": source.map(|t| t.source) },
            "release": { "id": source.map(|t| t.source_release) },
        },
        "status": view.status,
        "updated_at": time(view.updated_at),
    })
}

/// One target. `release` is there once its output can be read, and an explicit `null` before: the CLI waits for it.
pub fn promotion_target(view: &TargetView) -> Value {
    json!({
        "app": { "id": view.target.app },
        "error_message": view.error,
        "id": view.target.id,
        "pipeline_promotion": { "id": view.target.promotion },
        "release": view.release.as_ref().map(|r| json!({ "id": r.id })),
        "status": view.status,
    })
}

/// A promotion with its targets by name, its operation and its reason: for `shipway promote`.
pub fn whole_promotion(web: &Web, people: &mut People<'_>, view: &PromotionView) -> Value {
    let targets: Vec<Value> = view
        .targets
        .iter()
        .map(|t| {
            json!({
                "app": named_app(web, t.target.app),
                "source": named_app(web, t.target.source),
                "status": t.status,
                "unchanged": t.target.operation.is_none() && t.error.is_none(),
                "version": t.release.as_ref().map(|r| r.version),
                "error": t.error,
            })
        })
        .collect();
    json!({
        "id": view.promotion.id,
        "status": view.status,
        "product": view.promotion.product.map(|id| json!({ "id": id })),
        "pipeline": view.promotion.pipeline.map(|id| json!({ "id": id })),
        "operation": view.targets.iter().find_map(|t| t.target.operation).map(|id| json!({ "id": id })),
        "reason": view.promotion.reason,
        "user": people.reference(view.promotion.account),
        "targets": targets,
        "created_at": time(view.promotion.created_at),
        "updated_at": time(view.updated_at),
    })
}

/// `{id, name}` of an app; of one that is gone its id.
fn named_app(web: &Web, id: AppId) -> Value {
    let app = web.platform().store().read(|c| c.app_by_id(id));
    app.map_or_else(|_| json!({ "id": id, "name": id }), |app| app_reference(&app))
}

/// What a promotion would do to one app, or why it would be refused.
pub fn planned(one: &Move, refused: Option<&str>) -> Value {
    json!({
        "pipeline": { "id": one.pipeline.id, "name": one.pipeline.name },
        "source": app_reference(&one.source.app),
        "from": one.from,
        "version": one.source.release.version,
        "commit": one.source.commit(),
        "digest": one.source.slug.digest,
        "app": app_reference(&one.target),
        "to": one.to,
        "unchanged": one.unchanged.as_ref().map(|r| r.version),
        "against": one.against,
        "refused": refused,
    })
}

/// An external step that a promotion would run, and the app that it would run in.
pub fn planned_step(step: &ExternalStep, runs: &Move) -> Value {
    let mut shown = external_step(step, &runs.pipeline);
    shown["app"] = app_reference(&runs.target);
    shown
}

fn external_step(step: &ExternalStep, pipeline: &Pipeline) -> Value {
    let pipeline = json!({ "id": pipeline.id, "name": pipeline.name });
    json!({ "name": step.name, "pipeline": pipeline, "command": step.command, "undo": step.undo })
}

/// A product with its pipelines and their external steps, each in its order; the pipelines that the viewer may not see are
/// left out by the caller, and their steps here.
pub fn product(product: &Product, pipelines: &[Pipeline]) -> Value {
    let of = |step: &ExternalStep| pipelines.iter().find(|p| p.id == step.pipeline);
    let steps = product.settings.steps.iter().filter_map(|step| Some(external_step(step, of(step)?)));
    let steps: Vec<Value> = steps.collect();
    json!({
        "id": product.id,
        "name": product.name,
        "owner": { "id": product.owner, "email": product.owner_email },
        "pipelines": pipelines.iter().map(|p| json!({ "id": p.id, "name": p.name })).collect::<Vec<_>>(),
        "steps": steps,
        "created_at": time(product.created_at),
        "updated_at": time(product.updated_at),
    })
}
