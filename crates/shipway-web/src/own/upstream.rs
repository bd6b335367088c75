//! The line that a pipeline's team works on, and where its apps stand beside it.

use crate::present::time;
use crate::{Answer, ApiError, Call, Result};
use serde_json::{Value, json};
use shipway_domain::address::RemoteAddress;
use shipway_domain::app_json::About;
use shipway_domain::compare::Beside;
use shipway_domain::{NameOrId, Stage};
use shipway_store::{App, Pipeline, PipelineSettings, Upstream};
use std::collections::BTreeSet;

/// Where code stands beside an upstream, with the words for it.
pub(super) fn beside(beside: &Beside) -> Value {
    let mut shown = json!(beside);
    shown["words"] = beside.sentence().into();
    shown
}

fn pipeline(call: &Call) -> Result<Pipeline> {
    Ok(call.platform().pipeline(&call.caller, &NameOrId::parse(call.parameter("pipeline")))?)
}

async fn show(call: &Call, pipeline: &Pipeline, upstream: Option<&Upstream>) -> Result<Value> {
    let mut apps = Vec::new();
    for (coupling, app) in call.platform().pipeline_apps(&call.caller, pipeline)? {
        let stands = call.platform().beside(&app).await?;
        apps.push(json!({ "name": app.name, "stage": coupling.stage, "beside": stands.as_ref().map(beside) }));
    }
    let url = upstream.and_then(|upstream| RemoteAddress::parse(upstream.url.as_deref()?).ok());
    Ok(json!({
        "pipeline": { "id": pipeline.id, "name": pipeline.name },
        "url": url.as_ref().map(RemoteAddress::shown),
        "branch": upstream.map(|upstream| &upstream.branch),
        "tip": upstream.and_then(|upstream| upstream.tip.as_ref()),
        "heard_at": upstream.and_then(|upstream| upstream.heard_at).map(time),
        "failure": upstream.and_then(|upstream| upstream.failure.as_ref()),
        "refuse_behind": pipeline.settings.refuse_behind,
        "refuse_unchecked": pipeline.settings.refuse_unchecked,
        "apps": apps,
    }))
}

/// GET /shipway/v1/pipelines/{pipeline}/upstream: nulls when nobody told it.
pub async fn info(call: Call) -> Result<Answer> {
    let pipeline = pipeline(&call)?;
    let upstream = call.platform().upstream(&pipeline)?;
    Ok(Answer::ok(show(&call, &pipeline, upstream.as_ref()).await?))
}

/// POST /shipway/v1/pipelines/{pipeline}/upstream `{url?, branch?}`: where it is; without `url` it is only pushed to us.
pub async fn set(call: Call) -> Result<Answer> {
    let pipeline = pipeline(&call)?;
    let payload = call.payload()?;
    let (url, branch) = (payload.text("url")?, payload.text("branch")?);
    let branch = branch.as_deref().unwrap_or("main");
    let upstream = call.platform().set_upstream(&call.caller, &pipeline, url.as_deref(), branch).await?;
    Ok(Answer::created(show(&call, &pipeline, Some(&upstream)).await?))
}

/// PATCH /shipway/v1/pipelines/{pipeline}/upstream `{refuse_behind?, refuse_unchecked?}`: the stages that take no code which
/// lacks commits of it, and those that take none which CI has not passed.
pub async fn rule(call: Call) -> Result<Answer> {
    let found = pipeline(&call)?;
    let payload = call.payload()?;
    let stages = |field: &str| -> Result<Option<BTreeSet<Stage>>> {
        let named = payload.texts(field)?;
        Ok(named.map(|stages| stages.iter().map(|name| Stage::parse(name)).collect::<Result<_, _>>()).transpose()?)
    };
    let (behind, unchecked) = (stages("refuse_behind")?, stages("refuse_unchecked")?);
    if behind.is_none() && unchecked.is_none() {
        return Err(ApiError::invalid(
            "Name `refuse_behind` or `refuse_unchecked`: a list of stages, such as [\"production\"].",
        ));
    }
    let change = move |settings: &mut PipelineSettings| {
        settings.refuse_behind = behind.unwrap_or(std::mem::take(&mut settings.refuse_behind));
        settings.refuse_unchecked = unchecked.unwrap_or(std::mem::take(&mut settings.refuse_unchecked));
    };
    let changed = call.platform().change_pipeline_settings(&call.caller, &found, change).await?;
    let upstream = call.platform().upstream(&changed)?;
    Ok(Answer::ok(show(&call, &changed, upstream.as_ref()).await?))
}

/// DELETE /shipway/v1/pipelines/{pipeline}/upstream
pub async fn unset(call: Call) -> Result<Answer> {
    let pipeline = pipeline(&call)?;
    call.platform().unset_upstream(&call.caller, &pipeline).await?;
    Ok(Answer::ok(show(&call, &pipeline, None).await?))
}

/// POST /shipway/v1/pipelines/{pipeline}/upstream/actions/fetch: now.
pub async fn fetch(call: Call) -> Result<Answer> {
    let pipeline = pipeline(&call)?;
    let upstream = call.platform().fetch_upstream(&call.caller, &pipeline).await?;
    Ok(Answer::ok(show(&call, &pipeline, Some(&upstream)).await?))
}

/// GET /shipway/v1/apps/{app}/status: what an app runs, and where that stands beside its pipeline's upstream.
pub async fn of_app(call: Call) -> Result<Answer> {
    let app = call.app()?;
    Ok(Answer::ok(status(&call, &app).await?))
}

/// What the app.json of the running code says, its links whole; a logo only from https.
fn about(web_url: &str, about: &About) -> Value {
    json!({
        "name": about.name,
        "description": about.description,
        "keywords": about.keywords,
        "website": about.website,
        "repository": about.repository,
        "logo": about.picture(),
        "success_url": about.resolved_success_url(web_url),
    })
}

async fn status(call: &Call, app: &App) -> Result<Value> {
    let platform = call.platform();
    let release = platform.release(app, "current")?;
    let (coupling, slug) = platform.store().read(|c| {
        let slug = c.slug_of(&release)?;
        Ok((c.coupling_of(app.id)?, slug))
    })?;
    let stands = platform.beside(app).await?;
    Ok(json!({
        "app": { "id": app.id, "name": app.name },
        "pipeline": coupling.as_ref().map(|c| json!({ "id": c.pipeline, "name": c.pipeline_name })),
        "stage": coupling.as_ref().map(|c| c.stage),
        "release": { "version": release.version, "description": release.description },
        "commit": slug.as_ref().and_then(|slug| slug.commit.as_ref()),
        "commit_description": slug.as_ref().and_then(|slug| slug.commit_description.as_ref()),
        "host_change": slug.as_ref().and_then(|slug| platform.host_change(slug)),
        "released_at": app.released_at.map(time),
        "about": slug.as_ref().map(|slug| about(&platform.web_url(app.name.as_str()), &slug.about)),
        "reserved": platform.reservation(app)?.map(|r| json!({ "by": r.email, "until": time(r.until), "reason": r.reason })),
        "notices": platform.notices(&call.caller, Some(app))?.iter().map(|n| &n.text).collect::<Vec<_>>(),
        "beside": stands.as_ref().map(beside),
    }))
}
