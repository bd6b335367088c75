//! Who has an app, what its last deploy replaced, and who is told.

use crate::api::releases::coming;
use crate::present::time;
use crate::{Answer, ApiError, Call, Result};
use jiff::SignedDuration;
use serde_json::{Value, json};
use shipway_engine::Deployed;
use shipway_store::{Notice, Reservation};

fn reservation(reservation: Option<&Reservation>) -> Value {
    reservation.map_or(Value::Null, |r| {
        json!({
            "holder": { "email": r.email }, "until": time(r.until), "reason": r.reason, "created_at": time(r.created_at),
        })
    })
}

/// GET /shipway/v1/apps/{app}/reservation: `reservation` is null when nobody has it.
pub async fn info(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let found = call.platform().reservation(&app)?;
    let now = call.platform().deployed(&app)?;
    Ok(Answer::ok(json!({
        "app": { "id": app.id, "name": app.name },
        "reservation": reservation(found.as_ref()),
        "deployed": now.as_ref().map(deployed),
    })))
}

/// PUT /shipway/v1/apps/{app}/reservation `{seconds, reason?}`
pub async fn reserve(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    let seconds = payload.number("seconds")?.ok_or_else(|| ApiError::invalid("`seconds` is missing."))?;
    let length = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    let reason = payload.text("reason")?;
    let made = call.platform().reserve(&call.caller, &app, length, reason.as_deref()).await?;
    Ok(Answer::ok(reservation(Some(&made))))
}

/// DELETE /shipway/v1/apps/{app}/reservation
pub async fn unreserve(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let ended = call.platform().unreserve(&call.caller, &app).await?;
    Ok(Answer::ok(reservation(Some(&ended))))
}

fn deployed(code: &Deployed) -> Value {
    json!({
        "version": code.release.version, "commit": code.slug.commit, "tag": code.tag,
        "branch": code.branch, "by": code.by,
        "words": code.words(), "created_at": time(code.release.created_at),
    })
}

/// GET /shipway/v1/apps/{app}/previous: the code before the last deploy, which can be brought back.
pub async fn previous(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let (now, before) = (call.platform().deployed(&app)?, call.platform().previous_code(&app)?);
    Ok(Answer::ok(json!({
        "app": { "id": app.id, "name": app.name },
        "now": now.as_ref().map(deployed),
        "previous": before.as_ref().map(deployed),
    })))
}

/// POST /shipway/v1/apps/{app}/previous: brings it back, with today's config vars.
pub async fn bring_back(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let coming = coming(call.platform(), &app)?;
    let (release, before, operation) = call.platform().bring_back(&call.caller, &app).await?;
    Ok(Answer::created(json!({
        "app": { "id": app.id, "name": app.name },
        "version": release.version, "previous": deployed(&before), "operation": { "id": operation },
        "coming": coming,
    })))
}

fn notice(notice: &Notice) -> Value {
    json!({
        "id": notice.id, "text": notice.text, "read": notice.read_at.is_some(), "created_at": time(notice.created_at),
    })
}

/// GET /shipway/v1/notices: what the caller is to be told, newest first.
pub async fn notices(call: Call) -> Result<Answer> {
    let all = call.platform().notices(&call.caller, None)?;
    Ok(Answer::ok(all.iter().map(notice).collect()))
}

/// POST /shipway/v1/notices/actions/read: the caller has read them.
pub async fn read(call: Call) -> Result<Answer> {
    call.may_write()?;
    call.platform().notices_read(&call.caller, None).await?;
    notices(call).await
}
