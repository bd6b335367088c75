//! Accounts: one's own, by any of its names.

use crate::{Answer, ApiError, Call, Result, present};
use shipway_domain::NameOrId;
use shipway_engine::UpdateAccount;
use shipway_store::Account;

/// GET /account
pub async fn info(call: Call) -> Result<Answer> {
    let id = call.caller.actor.account;
    Ok(Answer::ok(present::account(&call.platform().store().read(|c| c.account_by_id(id))?)))
}

/// GET /users/{user}: `~`, an id or an address, of oneself or of somebody with access to the same app. Others exist for
/// administrators only.
pub async fn by_user(call: Call) -> Result<Answer> {
    let which = which(&call);
    Ok(Answer::ok(present::account(&call.platform().acquaintance(&call.caller, &which)?)))
}

/// PATCH /account: `name`; `new_password`, with the one before it as `password` where there is one.
pub async fn update(call: Call) -> Result<Answer> {
    change(&call).await
}

/// PATCH /users/{user}: one's own, by any of its names.
pub async fn update_by_user(call: Call) -> Result<Answer> {
    if named(&call)?.id != call.caller.actor.account {
        return Err(ApiError::forbidden("An account is changed by its own person: PATCH /account with their token."));
    }
    change(&call).await
}

/// DELETE /account: one's own. Nothing goes with it: who owns something gives it away first.
pub async fn destroy(call: Call) -> Result<Answer> {
    remove(&call, call.caller.actor.account.into()).await
}

/// DELETE /users/{user}: one's own by any of its names; anybody's for administrators.
pub async fn destroy_by_user(call: Call) -> Result<Answer> {
    let account = named(&call)?;
    remove(&call, account.id.into()).await
}

async fn remove(call: &Call, which: NameOrId) -> Result<Answer> {
    let removed = call.platform().remove_account(&call.caller, &which, None).await?;
    Ok(Answer::ok(present::account(&removed.account)))
}

async fn change(call: &Call) -> Result<Answer> {
    let payload = call.payload()?;
    // The rest of what Heroku's accounts can be told has no meaning here, but still a type.
    for accepted in ["allow_tracking", "beta", "eco_dynos_enabled", "pipeline_cost_consent"] {
        payload.flag(accepted)?;
    }
    if payload.text("email")?.is_some() {
        return Err(ApiError::invalid(
            "`email` cannot be changed: it is what the account is known by. Ask an administrator to add the new address \
             with `shipway users add`.",
        ));
    }
    let update = UpdateAccount {
        name: payload.text("name")?,
        password: payload.text("password")?,
        new_password: payload.text("new_password")?,
    };
    Ok(Answer::ok(present::account(&call.platform().update_account(&call.caller, update).await?)))
}

fn which(call: &Call) -> NameOrId {
    match call.parameter("user") {
        "~" => call.caller.actor.account.into(),
        other => NameOrId::parse(other),
    }
}

/// The account of the path, if the caller may see what it has.
pub(super) fn named(call: &Call) -> Result<Account> {
    let actor = &call.caller.actor;
    let found = call.platform().store().read(|c| c.account(&which(call)))?;
    let sees_all = actor.admin && actor.scope.reads_widely();
    found.filter(|a| a.id == actor.account || sees_all).ok_or_else(|| ApiError::missing("user"))
}
