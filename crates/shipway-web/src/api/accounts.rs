//! Accounts: one's own, by any of its names.

use crate::{Answer, ApiError, Call, Result, present};
use shipway_domain::NameOrId;
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

fn which(call: &Call) -> NameOrId {
    match call.parameter("user") {
        "~" => NameOrId::Id(call.caller.actor.account.0),
        other => NameOrId::parse(other),
    }
}

/// The account of the path, if the caller may see what it has.
pub(super) fn named(call: &Call) -> Result<Account> {
    let actor = &call.caller.actor;
    let found = call.platform().store().read(|c| c.account(&which(call)))?;
    found.filter(|a| a.id == actor.account || actor.admin).ok_or_else(|| ApiError::missing("user"))
}
