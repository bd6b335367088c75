//! Apps on their way to another owner.

use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result, present};
use shipway_domain::NameOrId;
use shipway_domain::team::TransferState;
use shipway_store::AppTransfer;

const FIELDS: &Fields<AppTransfer> = &[("created_at", |t| Key::text(t.created_at)), ("id", |t| Key::text(t.id))];

fn named(call: &Call) -> Result<AppTransfer> {
    Ok(call.platform().app_transfer(&call.caller, call.parameter("app_transfer"))?)
}

/// GET /account/app-transfers
pub async fn list(call: Call) -> Result<Answer> {
    let all = call.platform().app_transfers(&call.caller)?;
    call.page(all, FIELDS, present::app_transfer)
}

/// POST /account/app-transfers `{app, recipient}`
pub async fn create(call: Call) -> Result<Answer> {
    let payload = call.payload()?;
    payload.flag("silent")?;
    let missing = |field: &str| ApiError::invalid(format!("`{field}` is missing."));
    let app = payload.reference("app")?.ok_or_else(|| missing("app"))?;
    let app = call.platform().app(&call.caller, &NameOrId::parse(&app))?;
    let recipient = payload.reference("recipient")?.ok_or_else(|| missing("recipient"))?;
    let recipient = call.platform().acquaintance(&call.caller, &NameOrId::parse(&recipient))?;
    let transfer = call.platform().offer_app(&call.caller, &app, &recipient).await?;
    Ok(Answer::created(present::app_transfer(&transfer)))
}

/// GET /account/app-transfers/{app_transfer}: an id, or the name of an app that is on its way.
pub async fn info(call: Call) -> Result<Answer> {
    Ok(Answer::ok(present::app_transfer(&named(&call)?)))
}

/// PATCH /account/app-transfers/{app_transfer} `{state}`: by the recipient.
pub async fn update(call: Call) -> Result<Answer> {
    let transfer = named(&call)?;
    let state = TransferState::parse(&call.payload()?.required("state")?)?;
    let answered = call.platform().answer_transfer(&call.caller, transfer, state).await?;
    Ok(Answer::ok(present::app_transfer(&answered)))
}

/// DELETE /account/app-transfers/{app_transfer}: by whoever gives.
pub async fn withdraw(call: Call) -> Result<Answer> {
    let transfer = named(&call)?;
    call.platform().withdraw_transfer(&call.caller, &transfer).await?;
    Ok(Answer::ok(present::app_transfer(&transfer)))
}
