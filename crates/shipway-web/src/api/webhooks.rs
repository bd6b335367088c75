//! App webhooks, their events and deliveries.

use crate::payload::Payload;
use crate::present::time;
use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result};
use serde_json::{Value, json};
use shipway_engine::WebhookOrder;
use shipway_store::{App, Webhook, WebhookDelivery, WebhookEvent};

/// `seq` is what the CLI sorts by.
const SEQUENCE: &Fields<(u64, Value)> =
    &[("seq", |row| Key::Number(row.0)), ("id", |row| Key::text(row.1["id"].as_str().unwrap_or_default()))];

fn show(app: &App, webhook: &Webhook) -> Value {
    json!({
        "app": { "id": app.id, "name": app.name },
        "created_at": time(webhook.created_at),
        "id": webhook.id,
        "include": webhook.include.iter().map(|include| include.as_str()).collect::<Vec<_>>(),
        "level": webhook.level,
        "updated_at": time(webhook.updated_at),
        "url": webhook.url,
    })
}

fn show_event(event: &WebhookEvent) -> Value {
    json!({
        "created_at": time(event.created_at),
        "id": event.id,
        "include": event.include.as_str(),
        "payload": shipway_engine::webhook_payload(event),
        "updated_at": time(event.created_at),
    })
}

fn show_delivery(delivery: &WebhookDelivery) -> Value {
    let last = delivery.last.as_ref().map(|attempt| {
        json!({
            "code": attempt.code, "created_at": time(attempt.at), "error_class": attempt.error, "id": attempt.id,
            "status": if attempt.error.is_none() { "succeeded" } else { "failed" }, "updated_at": time(attempt.at),
        })
    });
    json!({
        "created_at": time(delivery.created_at),
        "event": { "id": delivery.event, "include": delivery.include.as_str() },
        "id": delivery.id,
        "last_attempt": last,
        "next_attempt_at": delivery.next_attempt_at.map(time),
        "num_attempts": delivery.attempts,
        "status": delivery.status,
        "updated_at": time(delivery.updated_at),
        "webhook": { "id": delivery.webhook, "level": delivery.level },
    })
}

fn order(payload: &Payload) -> Result<WebhookOrder> {
    let given = |name: &str| payload.names().any(|there| there == name);
    let optional = |name: &str| -> Result<Option<Option<String>>> {
        Ok(if given(name) { Some(payload.text(name)?) } else { None })
    };
    Ok(WebhookOrder {
        url: payload.text("url")?,
        include: payload.texts("include")?,
        level: payload.text("level")?,
        authorization: optional("authorization")?,
        secret: optional("secret")?,
    })
}

/// GET /apps/{app}/webhooks
pub async fn list(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let all = call.platform().webhooks(&call.caller, &app).await?;
    Ok(Answer::ok(all.iter().map(|webhook| show(&app, webhook)).collect()))
}

/// GET /apps/{app}/webhooks/{webhook}
pub async fn info(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let webhook = call.platform().webhook(&call.caller, &app, call.parameter("webhook")).await?;
    Ok(Answer::ok(show(&app, &webhook)))
}

/// POST /apps/{app}/webhooks: what it is signed with is in a header of the answer, this once.
pub async fn create(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let made = call.platform().create_webhook(&call.caller, &app, order(&call.payload()?)?).await?;
    Ok(signed(Answer::created(show(&app, &made)), &made))
}

/// PATCH /apps/{app}/webhooks/{webhook}
pub async fn update(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    let changed =
        call.platform().update_webhook(&call.caller, &app, call.parameter("webhook"), order(&payload)?).await?;
    let answer = Answer::ok(show(&app, &changed));
    Ok(if payload.names().any(|name| name == "secret") { signed(answer, &changed) } else { answer })
}

fn signed(answer: Answer, webhook: &Webhook) -> Answer {
    answer.header("heroku-webhook-secret", &webhook.secret)
}

/// DELETE /apps/{app}/webhooks/{webhook}
pub async fn destroy(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let gone = call.platform().remove_webhook(&call.caller, &app, call.parameter("webhook")).await?;
    Ok(Answer::ok(show(&app, &gone)))
}

/// GET /apps/{app}/webhook-events
pub async fn events(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let all = call.platform().webhook_events(&call.caller, &app).await?;
    let rows = all.iter().map(|event| (event.sequence, show_event(event))).collect();
    call.page(rows, SEQUENCE, |row| row.1.clone())
}

/// GET /apps/{app}/webhook-events/{event}
pub async fn event(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let all = call.platform().webhook_events(&call.caller, &app).await?;
    let found = all.iter().find(|event| event.id.to_string() == call.parameter("event"));
    let next = || format!("`heroku webhooks:events -a {}` lists them with their ids.", app.name);
    let missing = || ApiError::missing_one("webhook_event", call.parameter("event"), &next());
    Ok(Answer::ok(show_event(found.ok_or_else(missing)?)))
}

/// GET /apps/{app}/webhook-deliveries, `?eq[status]=failed`
pub async fn deliveries(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let all = call.platform().webhook_deliveries(&call.caller, &app).await?;
    let wanted = call.query("eq[status]");
    let all = all.iter().filter(|delivery| wanted.is_none_or(|status| delivery.status.as_str() == status));
    // Oldest first, as they are numbered.
    let rows = all.rev().enumerate().map(|(n, delivery)| (n as u64, show_delivery(delivery))).collect();
    call.page(rows, SEQUENCE, |row| row.1.clone())
}

/// GET /apps/{app}/webhook-deliveries/{delivery}
pub async fn delivery(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let all = call.platform().webhook_deliveries(&call.caller, &app).await?;
    let found = all.iter().find(|delivery| delivery.id.to_string() == call.parameter("delivery"));
    let next = || format!("`heroku webhooks:deliveries -a {}` lists them with their ids.", app.name);
    let missing = || ApiError::missing_one("webhook_delivery", call.parameter("delivery"), &next());
    Ok(Answer::ok(show_delivery(found.ok_or_else(missing)?)))
}
