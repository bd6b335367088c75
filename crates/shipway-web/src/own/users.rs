//! Accounts of the platform.

use crate::present::time;
use crate::{Answer, ApiError, Call, Result};
use serde_json::{Value, json};
use shipway_domain::{Email, NameOrId};
use shipway_store::Account;

fn show(account: &Account) -> Value {
    json!({
        "id": account.id,
        "email": account.email,
        "name": account.name,
        "admin": account.admin,
        "created_at": time(account.created_at),
    })
}

/// GET /shipway/v1/users: everybody, for administrators; yourself, for everybody else.
pub async fn list(call: Call) -> Result<Answer> {
    let actor = &call.caller.actor;
    let accounts = call.platform().store().read(|c| c.accounts())?;
    let sees_all = actor.admin && actor.scope.reads_widely();
    let visible = accounts.iter().filter(|account| sees_all || account.id == actor.account);
    Ok(Answer::ok(visible.map(show).collect()))
}

/// POST /shipway/v1/users `{email, name?, admin?}`: the answer holds the new account's token, which is shown once.
pub async fn create(call: Call) -> Result<Answer> {
    let payload = call.payload()?;
    let email = Email::parse(&payload.required("email")?).map_err(ApiError::from)?;
    let name = payload.text("name")?;
    let admin = payload.flag("admin")?.unwrap_or(false);
    let (account, token) = call.platform().add_account(&call.caller, &email, name.as_deref(), admin).await?;
    let mut body = show(&account);
    body["token"] = token.into();
    Ok(Answer::created(body))
}

/// DELETE /shipway/v1/users/{user}?give_to=ADDRESS: the answer says who has what they owned, and what that was.
pub async fn remove(call: Call) -> Result<Answer> {
    let which = NameOrId::parse(call.parameter("user"));
    let give_to = call.query("give_to").map(NameOrId::parse);
    let removed = call.platform().remove_account(&call.caller, &which, give_to.as_ref()).await?;
    let (mut body, estate) = (show(&removed.account), &removed.estate);
    body["given_to"] = json!(removed.given_to.map(|to| to.email));
    body["apps"] = estate.apps.iter().map(|app| json!(app.name)).collect();
    body["pipelines"] = estate.pipelines.iter().map(|pipeline| json!(pipeline.name)).collect();
    body["products"] = estate.products.iter().map(|product| json!(product.name)).collect();
    body["teams"] = estate.teams.iter().map(|team| json!(team.name)).collect();
    Ok(Answer::ok(body))
}

/// POST /shipway/v1/users/{user}/tokens `{revoke?}`: the answer holds another token of the account, which is shown once, and
/// how many of its tokens ended.
pub async fn give_token(call: Call) -> Result<Answer> {
    let revoke = call.payload()?.flag("revoke")?.unwrap_or(false);
    let which = NameOrId::parse(call.parameter("user"));
    let (account, token, revoked) = call.platform().give_token(&call.caller, &which, revoke).await?;
    let mut body = show(&account);
    body["token"] = token.into();
    body["revoked"] = revoked.into();
    Ok(Answer::created(body))
}
