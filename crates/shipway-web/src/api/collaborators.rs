//! Collaborators: the owner first, then whom he let in.

use crate::payload::Payload;
use crate::{Answer, ApiError, Call, Result, present};
use serde_json::{Value, json};
use shipway_domain::Email;
use shipway_domain::admission::Permission;
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
    found.map(Answer::ok).ok_or_else(|| nobody_there(&app, wanted))
}

/// Who is not on the app, as far as anybody who sees it is told.
fn nobody_there(app: &App, wanted: &str) -> ApiError {
    let next = format!("`heroku access -a {}` lists who there is.", app.name);
    ApiError::missing_one("collaborator", wanted, &next)
}

/// POST /apps/{app}/collaborators and /teams/apps/{app}/collaborators. An address that nobody has gets an account; its
/// invitation is in the answer and in the warning.
pub async fn add(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    let user = match payload.object("user") {
        Ok(Some(user)) => user.text("email")?.or(user.text("id")?),
        _ => payload.text("user")?,
    };
    let user = user.ok_or_else(|| ApiError::invalid("`user` is missing: give an e-mail address."))?;
    let permission = permission(&payload)?.unwrap_or(Permission::Operate);
    let (added, invitation) = call.platform().give_access(&call.caller, &app, &user, permission).await?;
    Ok(invited(&call, &added.email, invitation, Answer::created(present::collaborator(&app, &added))))
}

/// PATCH /teams/apps/{app}/collaborators/{collaborator}
pub async fn update(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let wanted = call.parameter("collaborator").to_lowercase();
    let all = call.platform().store().read(|c| c.collaborators(app.id))?;
    let known = all.into_iter().find(|c| c.email.as_str() == wanted || c.id.to_string() == wanted);
    let known = known.ok_or_else(|| nobody_there(&app, &wanted))?;
    let permission = permission(&call.payload()?)?.ok_or_else(|| ApiError::invalid("`permissions` is missing."))?;
    let (changed, _) = call.platform().give_access(&call.caller, &app, known.email.as_str(), permission).await?;
    Ok(Answer::ok(present::collaborator(&app, &changed)))
}

/// The answer, with the first token of somebody who had no account: for people as the warning that the CLI prints, for
/// programs as `invitation`, because clients drop headers.
pub(super) fn invited(call: &Call, email: &Email, invitation: Option<String>, answer: Answer) -> Answer {
    match invitation {
        None => answer,
        Some(token) => {
            let url = call.origin.url("/dashboard/sign-in");
            let text = format!(
                "{email} had no account, so one was made. Send them this invitation, which is shown only now: they sign in \
                 at {url} with the token {token}"
            );
            answer.field("invitation", json!({ "sign_in_url": url, "token": token })).warning(&text)
        }
    }
}

/// The permission that `permissions` lists. Errors: one that is not known, or a list that leaves out what a listed one
/// includes here.
fn permission(payload: &Payload) -> Result<Option<Permission>> {
    let Some(names) = payload.texts("permissions")? else { return Ok(None) };
    let ladder = [
        ("view", Permission::View),
        ("deploy", Permission::Deploy),
        ("operate", Permission::Operate),
        ("manage", Permission::Manage),
    ];
    if let Some(unknown) = names.iter().find(|name| ladder.iter().all(|(known, _)| known != name)) {
        let shown: String = unknown.chars().filter(|c| !c.is_control()).take(40).collect();
        return Err(ApiError::invalid(format!(
            "`permissions` holds {shown:?}, which is none of view, deploy, operate, manage."
        )));
    }
    let listed = |name: &str| name == "view" || names.iter().any(|n| n == name);
    let top = ladder.iter().rposition(|(name, _)| listed(name)).unwrap_or(0);
    if let Some((left_out, _)) = ladder[..top].iter().find(|(name, _)| !listed(name)) {
        return Err(ApiError::invalid(format!(
            "Here {} includes {left_out}: list {left_out} too, or leave {} out.",
            ladder[top].0, ladder[top].0
        )));
    }
    Ok(Some(ladder[top].1))
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
