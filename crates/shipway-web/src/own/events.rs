//! What changes, as it changes.

use crate::sse::{self, HEARTBEAT, event};
use crate::{Call, Result};
use axum::response::Response;
use serde_json::json;
use shipway_domain::NameOrId;
use shipway_engine::Event;
use tokio::sync::broadcast::error::RecvError;

/// GET /shipway/v1/events: an event stream. `event: app` with `{id, name}` when something of an app has changed,
/// `event: pipeline` with `{id, name}` of a pipeline, `event: apps` when the list has, or when some changes were missed: then look at everything again.
pub async fn follow(call: Call) -> Result<Response> {
    let (events, response) = sse::stream();
    let mut changes = call.platform().events();
    tokio::spawn(async move {
        let stop = call.web.closing();
        loop {
            let mut text = String::new();
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(Event::App(id)) => {
                        let Ok(app) = call.platform().app(&call.caller, &NameOrId::Id(id.0)) else { continue };
                        event(&mut text, Some("app"), None, &json!({ "id": app.id, "name": app.name }).to_string());
                    }
                    Ok(Event::Pipeline(id)) => {
                        let found = call.platform().pipeline(&call.caller, &NameOrId::Id(id.0));
                        let Ok(pipeline) = found else { continue };
                        let shown = json!({ "id": id, "name": pipeline.name });
                        event(&mut text, Some("pipeline"), None, &shown.to_string());
                    }
                    Ok(Event::Apps) | Err(RecvError::Lagged(_)) => event(&mut text, Some("apps"), None, "{}"),
                    Err(RecvError::Closed) => return,
                },
                () = tokio::time::sleep(HEARTBEAT) => text.push_str(":\n\n"),
                () = events.gone() => return,
                () = stop.cancelled() => return,
            }
            if events.send(text).await.is_err() {
                return;
            }
        }
    });
    Ok(response)
}
