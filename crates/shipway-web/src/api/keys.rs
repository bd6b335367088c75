//! SSH public keys.

use crate::range::{Fields, Key as SortKey};
use crate::{Answer, ApiError, Call, Result, present};
use shipway_store::Key;

const FIELDS: &Fields<Key> = &[("id", |k| SortKey::text(k.id)), ("fingerprint", |k| SortKey::text(&k.fingerprint))];

/// GET /account/keys
pub async fn list(call: Call) -> Result<Answer> {
    call.page(own(&call)?, FIELDS, |k| present::key(k, &call.caller.actor.email))
}

/// GET /account/keys/{key}: an id or a fingerprint.
pub async fn info(call: Call) -> Result<Answer> {
    let wanted = call.parameter("key");
    let found = own(&call)?.into_iter().find(|k| k.id.to_string() == wanted || k.fingerprint == wanted);
    let found = found.ok_or_else(|| ApiError::missing_one("key", wanted, "`heroku keys` lists yours."))?;
    Ok(Answer::ok(present::key(&found, &call.caller.actor.email)))
}

/// POST /account/keys
pub async fn add(call: Call) -> Result<Answer> {
    let key = call.platform().add_key(&call.caller, &call.payload()?.required("public_key")?).await?;
    Ok(Answer::created(present::key(&key, &call.caller.actor.email)))
}

/// DELETE /account/keys/{key}
pub async fn remove(call: Call) -> Result<Answer> {
    let key = call.platform().delete_key(&call.caller, call.parameter("key")).await?;
    Ok(Answer::ok(present::key(&key, &call.caller.actor.email)))
}

fn own(call: &Call) -> Result<Vec<Key>> {
    call.may_read_account()?;
    Ok(call.platform().store().read(|c| c.keys_of(call.caller.actor.account))?)
}
