//! Collaborators: the owner first, then whom he let in.

use crate::{Answer, ApiError, Call, Result, present};
use serde_json::Value;
use shipway_store::App;

/// GET /apps/{app}/collaborators
pub async fn list(call: Call) -> Result<Answer> {
    let app = call.app()?;
    Ok(Answer::ok(all(&call, &app)?.into()))
}

/// GET /apps/{app}/collaborators/{collaborator}: an address or an id.
pub async fn info(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let wanted = call.parameter("collaborator");
    let is = |v: &&Value| v["id"] == wanted || v["user"]["id"] == wanted || v["user"]["email"] == wanted.to_lowercase();
    let found = all(&call, &app)?.iter().find(is).cloned();
    found.map(Answer::ok).ok_or_else(|| ApiError::missing("collaborator"))
}

/// POST /apps/{app}/collaborators. An address that nobody has gets an account; its invitation is in the warning.
pub async fn add(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    let user = match payload.object("user") {
        Ok(Some(user)) => user.text("email")?.or(user.text("id")?),
        _ => payload.text("user")?,
    };
    let user = user.ok_or_else(|| ApiError::invalid("`user` is missing: give an e-mail address."))?;
    let (added, invitation) = call.platform().add_collaborator(&call.caller, &app, &user).await?;
    let answer = Answer::created(present::collaborator(&app, &added));
    Ok(match invitation {
        None => answer,
        Some(token) => answer.warning(&format!(
            "{} had no account, so one was made. Send them this invitation, which is shown only now: they sign in at \
             {} with the token {token}",
            added.email,
            call.origin.url("/dashboard/sign-in"),
        )),
    })
}

/// DELETE /apps/{app}/collaborators/{collaborator}
pub async fn remove(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let gone = call.platform().remove_collaborator(&call.caller, &app, call.parameter("collaborator")).await?;
    Ok(Answer::ok(present::collaborator(&app, &gone)))
}

fn all(call: &Call, app: &App) -> Result<Vec<Value>> {
    let others = call.platform().store().read(|c| c.collaborators(app.id))?;
    let others = others.iter().map(|c| present::collaborator(app, c));
    Ok(std::iter::once(present::owner(app)).chain(others).collect())
}
