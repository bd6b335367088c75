//! What changes, as it changes.

use crate::sse::{self, HEARTBEAT, event};
use crate::{ApiError, Call, Result};
use axum::response::Response;
use serde_json::json;
use shipway_engine::Event;
use tokio::sync::broadcast::error::RecvError;

/// GET /shipway/v1/events: an event stream. `event: app` with `{id, name}` when something of an app has changed,
/// `event: pipeline` with `{id, name}` of a pipeline, `event: apps` when the list has, or when some changes were missed: then look at everything again.
/// Ends with the token: `event: ended` with `{message}`.
pub async fn follow(call: Call) -> Result<Response> {
    let standing = call.platform().stand(call.holder.clone(), "api", |_, _| Ok(()));
    let mut standing = standing.map_err(|_| ApiError::unauthorized())?;
    let (events, response) = sse::stream();
    let mut changes = call.platform().events();
    tokio::spawn(async move {
        let stop = call.web.closing();
        loop {
            let change = tokio::select! {
                biased;
                // Said below.
                _ = standing.ended() => None,
                change = changes.recv() => Some(change),
                () = tokio::time::sleep(HEARTBEAT) => None,
                () = events.gone() => return,
                () = stop.cancelled() => return,
            };
            let mut text = String::new();
            if let Err(ended) = standing.stands() {
                event(&mut text, Some("ended"), None, &json!({ "message": ended.words() }).to_string());
                let _ = events.send(text).await;
                return;
            }
            let caller = standing.caller();
            match change {
                Some(Ok(Event::App(id))) => {
                    let Ok(app) = call.platform().app(caller, &id.into()) else { continue };
                    event(&mut text, Some("app"), None, &json!({ "id": app.id, "name": app.name }).to_string());
                }
                Some(Ok(Event::Pipeline(id))) => {
                    let Ok(pipeline) = call.platform().pipeline(caller, &id.into()) else { continue };
                    let shown = json!({ "id": id, "name": pipeline.name });
                    event(&mut text, Some("pipeline"), None, &shown.to_string());
                }
                Some(Ok(Event::Apps) | Err(RecvError::Lagged(_))) => event(&mut text, Some("apps"), None, "{}"),
                Some(Err(RecvError::Closed)) => return,
                None => text.push_str(":\n\n"),
            }
            if events.send(text).await.is_err() {
                return;
            }
        }
    });
    Ok(response)
}
