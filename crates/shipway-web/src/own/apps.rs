//! What an app has beyond Heroku's: its builds in one list, a redeploy, settings.

use crate::api::releases::{coming, schema_moved};
use crate::present::{self, People};
use crate::{Answer, ApiError, Call, Result};
use serde_json::{Value, json};
use shipway_domain::ProcessType;
use shipway_domain::health::{Statuses, check_path};
use shipway_engine::Outcome;
use shipway_store::{App, AppSettings, Release};
use std::time::Duration;

/// How long a redeploy is waited for before its answer says where to follow it: clients give up after 60 s.
const PATIENCE: Duration = Duration::from_secs(45);

/// GET /shipway/v1/apps/{app}/builds: newest first.
pub async fn builds(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let builds = call.platform().store().read(|c| c.builds(app.id))?;
    let mut people = People::of(&call);
    let shown = builds.iter().rev().map(|build| present::build(&call.web, &call.origin, &mut people, &app, build));
    Ok(Answer::ok(shown.collect()))
}

/// POST /shipway/v1/apps/{app}/redeploy: releases the running code again. `version` is there once it serves.
pub async fn redeploy(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let (_, operation) = call.platform().redeploy(&call.caller, &app).await?;
    let body = |version: Option<u64>| json!({ "app": { "id": app.id, "name": app.name }, "operation": { "id": operation }, "version": version });
    match tokio::time::timeout(PATIENCE, call.platform().live(operation)).await {
        Ok(outcome) => match outcome? {
            Outcome::Live { release } => Ok(Answer::created(body(release.map(|release| release.version)))),
            Outcome::Failed { message } => Err(ApiError::invalid(message)),
        },
        Err(_) => Ok(Answer::accepted(body(None))),
    }
}

/// GET /shipway/v1/apps/{app}/rollback?to=v12: what a rollback to a release, or to the one before, would have to mind.
/// `coming`: pushes under way that would replace it, a sentence each; no reason not to go back.
pub async fn rollback_preview(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let target = rollback_target(&call, &app, call.query("to"))?;
    let moved = schema_moved(call.platform(), &app, &target).await;
    Ok(Answer::ok(json!({
        "app": { "id": app.id, "name": app.name },
        "to": { "version": target.version, "description": target.description },
        "warning": moved.as_ref().map(|moved| moved.sentences(app.name.as_str())).unwrap_or_default(),
        "schema": moved,
        "coming": coming(call.platform(), &app)?,
    })))
}

/// POST /shipway/v1/apps/{app}/rollback `{release?}`: to any release that is kept, code and config, without a build.
pub async fn rollback(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let wanted = call.payload()?.reference("release")?;
    let target = rollback_target(&call, &app, wanted.as_deref())?;
    let coming = coming(call.platform(), &app)?;
    let release = call.platform().rollback(&call.caller, &app, &target).await?;
    Ok(Answer::created(json!({
        "app": { "id": app.id, "name": app.name },
        "version": release.version,
        "to": { "version": target.version },
        "coming": coming,
    })))
}

fn rollback_target(call: &Call, app: &App, wanted: Option<&str>) -> Result<Release> {
    Ok(match wanted {
        Some(wanted) => call.platform().release(app, wanted)?,
        None => call.platform().previous_release(app)?,
    })
}

fn show(settings: &AppSettings) -> Value {
    json!(settings)
}

/// GET /shipway/v1/apps/{app}/settings
pub async fn settings(call: Call) -> Result<Answer> {
    Ok(Answer::ok(show(&call.app()?.settings)))
}

/// PATCH /shipway/v1/apps/{app}/settings `{health_check_path?, health_check_status?, overlap?, store_other_branches?,
/// release_phase_last?}`: fields that are not named stay. `health_check_path: ""` goes back to what app.json says, else "a bound
/// port is healthy"; `health_check_status: ""` to "below 500".
pub async fn set(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    let path = payload.text("health_check_path")?;
    if let Some(path) = path.as_ref().filter(|path| !path.is_empty()) {
        check_path(path).map_err(|e| ApiError::invalid(format!("`health_check_path` {e}.")))?;
    }
    let statuses = match payload.number_or_text("health_check_status")? {
        Some(text) if text.is_empty() => Some(None),
        Some(text) => {
            let read = Statuses::parse(&text);
            Some(Some(read.map_err(|e| ApiError::invalid(format!("`health_check_status` {e}.")))?))
        }
        None => None,
    };
    let mut overlap = Vec::new();
    if let Some(wanted) = payload.object("overlap")? {
        for name in wanted.names() {
            overlap.push((ProcessType::parse(name)?, wanted.flag(name)?));
        }
    }
    let (store, last) = (payload.flag("store_other_branches")?, payload.flag("release_phase_last")?);
    let changed = call.platform().change_settings(&call.caller, &app, move |settings| {
        if let Some(path) = path {
            settings.health_check_path = Some(path).filter(|path| !path.is_empty());
        }
        settings.health_check_status = statuses.unwrap_or(settings.health_check_status.take());
        for (process_type, wanted) in overlap {
            match wanted {
                Some(wanted) => settings.overlap.insert(process_type, wanted),
                None => settings.overlap.remove(&process_type),
            };
        }
        settings.store_other_branches = store.unwrap_or(settings.store_other_branches);
        settings.release_phase_last = last.unwrap_or(settings.release_phase_last);
    });
    Ok(Answer::ok(show(&changed.await?.settings)))
}
