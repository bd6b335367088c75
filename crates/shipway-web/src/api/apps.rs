//! Apps.

use super::accounts;
use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result, Web, present};
use serde_json::Value;
use shipway_domain::NameOrId;
use shipway_engine::{NewApp, UpdateApp};
use shipway_store::App;

pub(super) const FIELDS: &Fields<App> =
    &[("name", |a| Key::text(&a.name)), ("id", |a| Key::text(a.id)), ("updated_at", |a| Key::text(a.updated_at))];

/// GET /apps
pub async fn list(call: Call) -> Result<Answer> {
    let apps = call.platform().apps(&call.caller, true)?;
    call.page(apps, FIELDS, |a| present::app(&call.web, a))
}

/// GET /users/{user}/apps: those that the user owns or was let into; teams' apps are listed by team.
pub async fn of_user(call: Call) -> Result<Answer> {
    let user = accounts::named(&call)?;
    let mut apps = call.platform().store().read(|c| c.apps_of(user.id))?;
    apps.retain(|a| call.caller.actor.scope.reads(a.id) && a.owner_email.team().is_none());
    call.page(apps, FIELDS, |a| present::app(&call.web, a))
}

/// GET /apps/{app}
pub async fn info(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let mut body = present::app(&call.web, &app);
    if call.query("extended") == Some("true") {
        body["extended"] = serde_json::json!({ "uid_block": app.uid_block, "settings": app.settings });
    }
    Ok(Answer::ok(body))
}

/// POST /apps
pub async fn create(call: Call) -> Result<Answer> {
    make(&call, present::app).await
}

/// What POST /apps and POST /teams/apps share. Without `team` the app is the caller's own.
pub(super) async fn make(call: &Call, show: fn(&Web, &App) -> Value) -> Result<Answer> {
    let payload = call.payload()?;
    if payload.reference("space")?.is_some() {
        return Err(ApiError::invalid(
            "There are no spaces here, so `space` cannot be set. Create the app without it.",
        ));
    }
    let new = NewApp {
        name: payload.text("name")?.filter(|n| !n.is_empty()),
        region: payload.reference("region")?,
        stack: payload.reference("stack")?,
        team: payload.reference("team")?.or(payload.reference("organization")?),
    };
    let locked = payload.flag("locked")?.unwrap_or(false);
    let mut app = call.platform().create_app(&call.caller, new).await?;
    if locked {
        app = call.platform().lock_app(&call.caller, &app, true).await?;
    }
    // In a checkout that came from Heroku the CLI leaves a remote of that name where it leads, and says nothing.
    let warning = format!(
        "If this checkout has a heroku remote already, it still leads where it did. To push here: heroku git:remote -a {}",
        app.name
    );
    Ok(Answer::created(show(&call.web, &app)).warning(&warning))
}

/// PATCH /apps/{app}
pub async fn update(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    let update = UpdateApp {
        name: payload.text("name")?,
        maintenance: payload.flag("maintenance")?,
        build_stack: payload.reference("build_stack")?,
    };
    let app = call.platform().update_app(&call.caller, &app, update).await?;
    Ok(Answer::ok(present::app(&call.web, &app)))
}

/// DELETE /apps/{app}. When it answers nothing of the app serves any more.
pub async fn destroy(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let gone = call.platform().destroy_app(&call.caller, &app).await?;
    Ok(Answer::ok(present::app(&call.web, &gone)))
}

/// POST /filters/apps: those of the named apps that the caller may see, all at once.
pub async fn filter(call: Call) -> Result<Answer> {
    let ids = match call.payload()?.object("in")? {
        Some(conditions) => conditions.texts("id")?.unwrap_or_default(),
        None => Vec::new(),
    };
    let visible = ids.iter().filter_map(|id| call.platform().app(&call.caller, &NameOrId::parse(id)).ok());
    Ok(Answer::ok(visible.map(|a| present::team_app(&call.web, &a)).collect()))
}
