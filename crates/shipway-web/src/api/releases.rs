//! Releases: the past, and the ways back to it.

use crate::present::People;
use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result, present};
use serde_json::Value;
use shipway_domain::migrations::SchemaMoved;
use shipway_engine::{Coming, Platform};
use shipway_store::{App, Release};

const FIELDS: &Fields<Release> = &[("version", |r| Key::Number(r.version)), ("id", |r| Key::text(r.id))];

/// GET /apps/{app}/releases
pub async fn list(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let releases = call.platform().store().read(|c| c.releases(app.id))?;
    let mut people = People::of(&call);
    call.page(releases, FIELDS, |r| present::release(&call.web, &call.origin, &mut people, &app, r))
}

/// GET /apps/{app}/releases/{release}: an id, `12`, or `v12`.
pub async fn info(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let release = call.platform().release(&app, call.parameter("release"))?;
    Ok(Answer::ok(show(&call, &app, &release)))
}

/// POST /apps/{app}/releases: `release` rolls back to it, `slug` releases that slug.
pub async fn create(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    let mut warnings = Vec::new();
    let (release, code) = if let Some(wanted) = payload.reference("release")? {
        let target = call.platform().release(&app, &wanted)?;
        let moved = schema_moved(call.platform(), &app, &target).await;
        warnings.extend(moved.into_iter().flat_map(|moved| moved.sentences(app.name.as_str())));
        warnings.extend(coming(call.platform(), &app)?);
        (call.platform().rollback(&call.caller, &app, &target).await?, target.slug)
    } else if let Some(wanted) = payload.reference("slug")? {
        let slug = wanted.parse().map_err(|_| ApiError::missing("slug"))?;
        (call.platform().release_slug(&call.caller, &app, slug, payload.text("description")?).await?, Some(slug))
    } else {
        return Err(ApiError::invalid(
            "Name what to release: `release` (a version, to roll back to it) or `slug` (an id).",
        ));
    };
    // The app as it is now: a release that is live already says so.
    let app = call.app()?;
    let mut shown = show(&call, &app, &release);
    // Its release phase may not have begun: whoever opens the stream waits for it.
    if code.is_some_and(|code| call.platform().has_release_phase(code).unwrap_or(false)) {
        shown["output_stream_url"] =
            present::output(&call.web, &call.origin, &call.holder, app.id, release.id.0).into();
    }
    let answer = Answer::created(shown);
    Ok(if warnings.is_empty() { answer } else { answer.warning(&warnings.join(" ")) })
}

/// What will replace what an app goes back to, a sentence each.
pub(crate) fn coming(platform: &Platform, app: &App) -> Result<Vec<String>> {
    Ok(platform.coming(app)?.iter().map(Coming::sentence).collect())
}

/// What a rollback has to warn of. A way back is never kept waiting by a history that cannot be read.
pub(crate) async fn schema_moved(platform: &Platform, app: &App, target: &Release) -> Option<SchemaMoved> {
    platform.schema_moved(app, target).await.unwrap_or_else(|error| {
        tracing::warn!(app.name = %app.name, %error, cause = ?error.cause, "migrations could not be looked for");
        None
    })
}

fn show(call: &Call, app: &App, release: &Release) -> Value {
    present::release(&call.web, &call.origin, &mut People::of(call), app, release)
}
