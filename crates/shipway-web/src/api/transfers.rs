//! Backups, restores and copies, as the data API shows them.

use super::databases::named;
use crate::{Answer, ApiError, Call, Result, present};
use serde_json::json;
use shipway_engine::Within;
use shipway_store::{Addon, Transfer};

/// How long a public URL of a backup can be opened, in seconds. Source: Heroku's expires after 60 minutes.
const PUBLIC: i64 = 3600;

/// GET /client/v11/apps/{app}/transfers
pub async fn list(call: Call) -> Result<Answer> {
    let all = call.platform().transfers(&call.app()?)?;
    Ok(Answer::ok(all.iter().map(|t| present::transfer(t, None)).collect()))
}

/// GET /client/v11/apps/{app}/transfers/{transfer}: a number or an id; what it said with `?verbose=true`.
pub async fn info(call: Call) -> Result<Answer> {
    let transfer = of_path(&call)?;
    let lines = match call.query("verbose") {
        Some("true") => Some(call.platform().transfer_lines(&transfer).await?),
        _ => None,
    };
    Ok(Answer::ok(present::transfer(&transfer, lines.as_deref())))
}

/// POST /client/v11/databases/{database}/backups
pub async fn capture(call: Call) -> Result<Answer> {
    let begun = call.platform().capture(&call.caller, &named(&call)?).await?;
    Ok(Answer::created(present::transfer(&begun, None)))
}

/// POST /client/v11/databases/{database}/restores
pub async fn restore(call: Call) -> Result<Answer> {
    let addon = named(&call)?;
    let payload = call.payload()?;
    if payload.texts("extensions")?.is_some_and(|all| !all.is_empty()) {
        return Err(ApiError::invalid(
            "Extensions cannot be installed before a restore: those that the dump asks for are installed by it.",
        ));
    }
    let begun = call.platform().restore(&call.caller, &addon, &payload.required("backup_url")?).await?;
    Ok(Answer::created(present::transfer(&begun, None)))
}

/// POST /client/v11/databases/{database}/transfers: `to_url` is the database of the path.
pub async fn copy(call: Call) -> Result<Answer> {
    let to = named(&call)?;
    let payload = call.payload()?;
    let (from_url, to_url) = (payload.required("from_url")?, payload.required("to_url")?);
    let from = with_url(&call, &from_url)?;
    let (Some(from), Some(target)) = (from, with_url(&call, &to_url)?) else {
        return Err(ApiError::invalid(
            "Both ends of a copy have to be databases of this platform. For another one, dump it with pg_dump -Fc and \
             restore the file from an https address: heroku pg:backups:restore URL DATABASE",
        ));
    };
    if target.id != to.id {
        return Err(ApiError::invalid(format!("`to_url` is not the address of {}.", to.name)));
    }
    let begun = call.platform().copy_database(&call.caller, &from, &to).await?;
    Ok(Answer::created(present::transfer(&begun, None)))
}

/// DELETE /client/v11/apps/{app}/transfers/{transfer}
pub async fn remove(call: Call) -> Result<Answer> {
    let (app, transfer) = (call.app()?, of_path(&call)?);
    call.platform().delete_transfer(&call.caller, &app, &transfer).await?;
    Ok(Answer::ok(present::transfer(&transfer, None)))
}

/// POST /client/v11/apps/{app}/transfers/{transfer}/actions/public-url
pub async fn public_url(call: Call) -> Result<Answer> {
    let (app, transfer) = (call.app()?, of_path(&call)?);
    let platform = call.platform();
    platform.publish_backup(&call.caller, &app, &transfer).await?;
    let expires_at = platform.now() + jiff::SignedDuration::from_secs(PUBLIC);
    let path = call.web.signed().backup(transfer.id, expires_at.as_second());
    Ok(Answer::created(json!({
        "expires_at": present::time(expires_at),
        "url": call.origin.secure_url(&path),
    })))
}

/// POST /client/v11/apps/{app}/transfers/{transfer}/actions/cancel
pub async fn cancel(call: Call) -> Result<Answer> {
    let transfer = of_path(&call)?;
    call.platform().cancel_transfer(&call.caller, &transfer).await?;
    Ok(Answer::ok(present::transfer(&transfer, None)))
}

fn of_path(call: &Call) -> Result<Transfer> {
    Ok(call.platform().transfer(&call.app()?, call.parameter("transfer"))?)
}

/// The add-on of this address that the caller may see.
fn with_url(call: &Call, url: &str) -> Result<Option<Addon>> {
    for addon in call.platform().addons(&call.caller, Within::Everything)? {
        let config = call.platform().store().read(|c| c.addon_config(addon.id))?;
        if config.get("URL").is_some_and(|own| own == url) {
            return Ok(Some(addon));
        }
    }
    Ok(None)
}
