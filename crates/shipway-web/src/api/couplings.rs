//! Which app stands where in a pipeline.

use super::pipelines;
use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result, present};
use shipway_domain::{DisplayName, NameOrId, Stage};
use shipway_engine::UpdateCoupling;
use shipway_store::{App, Coupling};

pub(super) const FIELDS: &Fields<Coupling> =
    &[("id", |c| Key::text(c.id)), ("created_at", |c| Key::text(c.created_at))];

/// GET /pipeline-couplings and /users/~/pipeline-couplings: of all apps that the caller may see.
pub async fn list(call: Call) -> Result<Answer> {
    let mut all = Vec::new();
    for pipeline in call.platform().pipelines(&call.caller)? {
        all.extend(call.platform().pipeline_apps(&call.caller, &pipeline)?.into_iter().map(|(coupling, _)| coupling));
    }
    call.page(all, FIELDS, present::coupling)
}

/// GET /pipelines/{pipeline}/pipeline-couplings
pub async fn of_pipeline(call: Call) -> Result<Answer> {
    let pipeline = pipelines::named(&call)?;
    let apps = call.platform().pipeline_apps(&call.caller, &pipeline)?;
    call.page(apps.into_iter().map(|(coupling, _)| coupling).collect(), FIELDS, present::coupling)
}

/// GET /apps/{app}/pipeline-couplings: the one that it has.
pub async fn of_app(call: Call) -> Result<Answer> {
    let app = call.app()?;
    Ok(Answer::ok(present::coupling(&call.platform().coupling_of(&app)?)))
}

/// The coupling of the path with its app.
fn named(call: &Call) -> Result<(Coupling, App)> {
    let id = call.parameter("coupling").parse().map_err(|_| ApiError::missing("pipeline_coupling"))?;
    Ok(call.platform().coupling(&call.caller, id)?)
}

/// GET /pipeline-couplings/{coupling}
pub async fn info(call: Call) -> Result<Answer> {
    Ok(Answer::ok(present::coupling(&named(&call)?.0)))
}

/// POST /pipeline-couplings
pub async fn create(call: Call) -> Result<Answer> {
    let payload = call.payload()?;
    let missing = |field: &str| ApiError::invalid(format!("`{field}` is missing."));
    let app = payload.reference("app")?.ok_or_else(|| missing("app"))?;
    let pipeline = payload.reference("pipeline")?.ok_or_else(|| missing("pipeline"))?;
    let stage = Stage::parse(&payload.required("stage")?)?;
    let app = call.platform().app(&call.caller, &NameOrId::parse(&app))?;
    let pipeline = call.platform().pipeline(&call.caller, &NameOrId::parse(&pipeline))?;
    let coupling = call.platform().couple(&call.caller, &pipeline, &app, stage).await?;
    Ok(Answer::created(present::coupling(&coupling)))
}

/// PATCH /pipeline-couplings/{coupling} `{stage?, display_name?}`; an empty display name goes back to the app's own.
pub async fn update(call: Call) -> Result<Answer> {
    let (coupling, app) = named(&call)?;
    let payload = call.payload()?;
    let display_name = match payload.text("display_name")? {
        None => None,
        Some(name) if name.is_empty() => Some(None),
        Some(name) => Some(Some(DisplayName::parse(&name)?)),
    };
    let stage = payload.text("stage")?.map(|s| Stage::parse(&s)).transpose()?;
    let change = UpdateCoupling { stage, display_name };
    let changed = call.platform().update_coupling(&call.caller, &coupling, &app, change).await?;
    Ok(Answer::ok(present::coupling(&changed)))
}

/// DELETE /pipeline-couplings/{coupling}: the app stays.
pub async fn remove(call: Call) -> Result<Answer> {
    let (coupling, app) = named(&call)?;
    call.platform().uncouple(&call.caller, &coupling, &app).await?;
    Ok(Answer::ok(present::coupling(&coupling)))
}
