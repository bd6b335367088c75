//! Builds by API, slugs, the build cache.

use super::sources::source_blob;
use crate::present::People;
use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result, present};
use serde_json::json;
use shipway_engine::SourceOrder;
use shipway_store::{App, Build};

const FIELDS: &Fields<Build> = &[
    ("created_at", |b| Key::text(b.created_at)),
    ("id", |b| Key::text(b.id)),
    ("started_at", |b| Key::text(b.created_at)),
];

/// GET /apps/{app}/builds
pub async fn list(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let builds = call.platform().store().read(|c| c.builds(app.id))?;
    let mut people = People::of(&call);
    call.page(builds, FIELDS, |b| present::build(&call.web, &call.origin, &mut people, &app, b))
}

/// GET /apps/{app}/builds/{build}
pub async fn info(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let build = find(&call, &app)?;
    Ok(Answer::ok(show(&call, &app, &build)))
}

/// POST /apps/{app}/builds
pub async fn create(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    let blob = payload.object("source_blob")?.ok_or_else(|| {
        ApiError::invalid("`source_blob` is missing: give `source_blob.url`, an https URL of a tar archive.")
    })?;
    let buildpacks = match payload.objects("buildpacks")? {
        Some(list) => Some(list.iter().map(|b| b.required("url")).collect::<Result<Vec<_>>>()?),
        None => None,
    };
    let url = blob.required("url")?;
    let source = source_blob(&call, &url)?;
    let order = SourceOrder {
        url,
        version: blob.text("version")?,
        checksum: blob.text("checksum")?,
        buildpacks: buildpacks.map(|b| b.iter().map(|one| shipway_domain::buildpack::name(one)).collect()),
    };
    let (build, _) = call.platform().build_source(&call.caller, &app, source, order).await?;
    Ok(Answer::created(show(&call, &app, &build)))
}

/// DELETE /apps/{app}/builds/{build}: asks it to stop.
pub async fn cancel(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let build = find(&call, &app)?;
    call.platform().cancel(&call.caller, build.operation).await?;
    let build = find(&call, &app)?;
    Ok(Answer::ok(show(&call, &app, &build)))
}

/// DELETE /apps/{app}/build-cache
pub async fn purge_cache(call: Call) -> Result<Answer> {
    let app = call.app()?;
    call.platform().purge_build_cache(&call.caller, &app).await?;
    Ok(Answer::accepted(json!({})))
}

/// GET /apps/{app}/slugs/{slug}
pub async fn slug(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let missing = || ApiError::missing("slug");
    let id = call.parameter("slug").parse().map_err(|_| missing())?;
    let found = call.platform().store().read(|c| c.slug(id))?.filter(|s| s.app == app.id);
    Ok(Answer::ok(present::slug(&call.origin, &app, &found.ok_or_else(missing)?)))
}

fn find(call: &Call, app: &App) -> Result<Build> {
    let missing = || ApiError::missing("build");
    let id = call.parameter("build").parse().map_err(|_| missing())?;
    call.platform().store().read(|c| c.build(id))?.filter(|b| b.app == app.id).ok_or_else(missing)
}

fn show(call: &Call, app: &App, build: &Build) -> serde_json::Value {
    present::build(&call.web, &call.origin, &mut People::of(call), app, build)
}
