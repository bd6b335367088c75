//! Accounts: one's own, by any of its names.

use crate::{Answer, ApiError, Call, Result, present};
use shipway_domain::NameOrId;
use shipway_store::Account;

/// GET /account
pub async fn info(call: Call) -> Result<Answer> {
    let id = call.caller.actor.account;
    Ok(Answer::ok(present::account(&call.platform().store().read(|c| c.account_by_id(id))?)))
}

/// GET /users/{user}: `~`, an id or an address. Others' accounts exist for administrators only.
pub async fn by_user(call: Call) -> Result<Answer> {
    Ok(Answer::ok(present::account(&named(&call)?)))
}

/// The account of the path, if the caller may see it.
pub(super) fn named(call: &Call) -> Result<Account> {
    let actor = &call.caller.actor;
    let which = match call.parameter("user") {
        "~" => NameOrId::Id(actor.account.0),
        other => NameOrId::parse(other),
    };
    let found = call.platform().store().read(|c| c.account(&which))?;
    found.filter(|a| a.id == actor.account || actor.admin).ok_or_else(|| ApiError::missing("user"))
}
