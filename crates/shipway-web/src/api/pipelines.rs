//! Pipelines: the noun itself, what its apps run, what the apps of a stage begin with.

use crate::payload::Payload;
use crate::present::People;
use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result, present};
use serde_json::json;
use shipway_domain::{NameOrId, Stage};
use shipway_store::{Account, Pipeline};

const FIELDS: &Fields<Pipeline> =
    &[("name", |p| Key::text(&p.name)), ("id", |p| Key::text(p.id)), ("updated_at", |p| Key::text(p.updated_at))];

/// The pipeline of the path. What may not be seen does not exist.
pub(super) fn named(call: &Call) -> Result<Pipeline> {
    Ok(call.platform().pipeline(&call.caller, &NameOrId::parse(call.parameter("pipeline")))?)
}

/// GET /pipelines: with `?eq[name]=NAME`, the one of that name.
pub async fn list(call: Call) -> Result<Answer> {
    let mut pipelines = call.platform().pipelines(&call.caller)?;
    if let Some(name) = call.query("eq[name]") {
        pipelines.retain(|p| p.name.as_str() == name);
    }
    call.page(pipelines, FIELDS, present::pipeline)
}

/// POST /pipelines
pub async fn create(call: Call) -> Result<Answer> {
    let payload = call.payload()?;
    let name = payload.required("name")?;
    let pipeline = match payload.object("owner")? {
        None => call.platform().create_pipeline(&call.caller, &name).await?,
        Some(owner) => {
            let account = owner_of(&call, &owner)?;
            if account.email.team().is_none() && account.id != call.caller.actor.account {
                return Err(ApiError::invalid(
                    "`owner.id` must be your own account or a team of yours. To give a pipeline away: heroku \
                     pipelines:transfer.",
                ));
            }
            call.platform().create_pipeline_of(&call.caller, &account, &name).await?
        }
    };
    Ok(Answer::created(present::pipeline(&pipeline)))
}

/// The account that an owner's `type` and `id` name; the caller's own without an id. Errors: a stranger, a team that the
/// caller is not in.
fn owner_of(call: &Call, owner: &Payload) -> Result<Account> {
    let (kind, id) = (owner.text("type")?.unwrap_or_else(|| "user".into()), owner.text("id")?);
    let which = match id {
        Some(id) => NameOrId::parse(&id),
        None => call.caller.actor.account.into(),
    };
    match kind.as_str() {
        "user" => Ok(call.platform().acquaintance(&call.caller, &which)?),
        "team" => Ok(call.platform().team_account(&call.caller, &which)?),
        _ => Err(ApiError::invalid("The owner's `type` must be `user` or `team`.")),
    }
}

/// GET /pipelines/{pipeline}
pub async fn info(call: Call) -> Result<Answer> {
    Ok(Answer::ok(present::pipeline(&named(&call)?)))
}

/// PATCH /pipelines/{pipeline}
pub async fn update(call: Call) -> Result<Answer> {
    let pipeline = named(&call)?;
    let changed = match call.payload()?.text("name")? {
        Some(name) => call.platform().rename_pipeline(&call.caller, &pipeline, &name).await?,
        None => call.platform().change_pipeline_settings(&call.caller, &pipeline, |_| {}).await?,
    };
    Ok(Answer::ok(present::pipeline(&changed)))
}

/// DELETE /pipelines/{pipeline}: its apps stay.
pub async fn destroy(call: Call) -> Result<Answer> {
    let pipeline = named(&call)?;
    call.platform().destroy_pipeline(&call.caller, &pipeline).await?;
    Ok(Answer::ok(present::pipeline(&pipeline)))
}

/// POST /pipeline-transfers
pub async fn transfer(call: Call) -> Result<Answer> {
    let payload = call.payload()?;
    let which = payload.reference("pipeline")?.ok_or_else(|| ApiError::invalid("`pipeline` is missing."))?;
    let pipeline = call.platform().pipeline(&call.caller, &NameOrId::parse(&which))?;
    let owner = payload.object("new_owner")?.ok_or_else(|| ApiError::invalid("`new_owner` is missing."))?;
    owner.required("id")?;
    let to = owner_of(&call, &owner)?;
    let changed = call.platform().transfer_pipeline(&call.caller, &pipeline, &to).await?;
    Ok(Answer::created(json!({
        "pipeline": { "id": pipeline.id },
        "previous_owner": present::pipeline_owner(&pipeline),
        "new_owner": present::pipeline_owner(&changed),
    })))
}

/// GET /pipelines/{pipeline}/pipeline-stack
pub async fn stack(call: Call) -> Result<Answer> {
    named(&call)?;
    Ok(Answer::ok(present::pipeline_stack(&call.platform().settings().stack)))
}

/// GET /pipelines/{pipeline}/latest-builds: of each app the newest.
pub async fn latest_builds(call: Call) -> Result<Answer> {
    let mut people = People::of(&call);
    let mut shown = Vec::new();
    for (_, app) in call.platform().pipeline_apps(&call.caller, &named(&call)?)? {
        let builds = call.platform().store().read(|c| c.builds(app.id))?;
        let newest = builds.last();
        shown.extend(newest.map(|b| present::pipeline_build(&call.web, &call.origin, &mut people, &app, b)));
    }
    Ok(Answer::ok(shown.into()))
}

/// GET /pipelines/{pipeline}/latest-releases: of each app the newest, whatever came of it.
pub async fn latest_releases(call: Call) -> Result<Answer> {
    let mut people = People::of(&call);
    let mut shown = Vec::new();
    for (_, app) in call.platform().pipeline_apps(&call.caller, &named(&call)?)? {
        let releases = call.platform().store().read(|c| c.releases(app.id))?;
        let newest = releases.first();
        shown.extend(newest.map(|r| present::release(&call.web, &call.origin, &mut people, &app, r)));
    }
    Ok(Answer::ok(shown.into()))
}

/// GET /pipelines/{pipeline}/latest-deployments: of each app the release that brought the code that runs.
pub async fn latest_deployments(call: Call) -> Result<Answer> {
    let mut people = People::of(&call);
    let mut shown = Vec::new();
    for (_, app) in call.platform().pipeline_apps(&call.caller, &named(&call)?)? {
        let newest = call.platform().latest_deployment(&app)?;
        shown.extend(newest.map(|r| present::release(&call.web, &call.origin, &mut people, &app, &r)));
    }
    Ok(Answer::ok(shown.into()))
}

fn stage(call: &Call) -> Result<Stage> {
    Ok(Stage::parse(call.parameter("stage"))?)
}

/// GET /pipelines/{pipeline}/stage/{stage}/config-vars
pub async fn config_vars(call: Call) -> Result<Answer> {
    let pipeline = named(&call)?;
    Ok(Answer::ok(json!(call.platform().stage_config(&call.caller, &pipeline, stage(&call)?)?)))
}

/// PATCH /pipelines/{pipeline}/stage/{stage}/config-vars: `null` removes.
pub async fn set_config_vars(call: Call) -> Result<Answer> {
    let pipeline = named(&call)?;
    let stage = stage(&call)?;
    let changes = call.payload()?.texts_or_null()?;
    Ok(Answer::ok(json!(call.platform().set_stage_config(&call.caller, &pipeline, stage, changes).await?)))
}
