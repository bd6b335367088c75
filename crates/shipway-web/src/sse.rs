//! Event streams: `text/event-stream`, written as events come.
//!
//! Source: HTML Living Standard, "Server-sent events".

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use shipway_engine::Ended;
use std::fmt::{Display, Write};
use std::time::Duration;
use tokio::sync::mpsc;

/// A comment is sent after this long without an event: proxies and clients drop what is silent for a minute.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Pieces that wait for a slow client; the rest waits where it comes from.
const PIECES: usize = 8;

/// The writing end. The stream ends when it is dropped.
pub(crate) struct Events {
    pieces: mpsc::Sender<Bytes>,
}

/// The client is gone.
pub(crate) struct Gone;

impl Events {
    /// Writes text that [`event`] made. Waits for a slow client.
    pub(crate) async fn send(&self, text: String) -> Result<(), Gone> {
        self.pieces.send(text.into()).await.map_err(|_| Gone)
    }

    /// Keeps the connection alive.
    pub(crate) async fn beat(&self) -> Result<(), Gone> {
        self.send(":\n\n".into()).await
    }

    /// Waits until the client is gone.
    pub(crate) async fn gone(&self) {
        self.pieces.closed().await;
    }
}

/// Appends one event. `data` is one line or several; an event without a name is a `message`.
pub(crate) fn event(text: &mut String, name: Option<&str>, id: Option<&dyn Display>, data: &str) {
    if let Some(name) = name {
        let _ = writeln!(text, "event: {name}");
    }
    if let Some(id) = id {
        let _ = writeln!(text, "id: {id}");
    }
    for line in data.split('\n') {
        let _ = writeln!(text, "data: {line}");
    }
    text.push('\n');
}

/// A response and what writes into it.
pub(crate) fn stream() -> (Events, Response) {
    let (events, mut response) = chunks("text/event-stream");
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (Events { pieces: events }, response)
}

/// A response of plain lines that is written like one of events.
pub(crate) fn lines() -> (Events, Response) {
    let (pieces, mut response) = chunks("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Lines are anybody's text: a browser that opens them must not take them for a page.
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    (Events { pieces }, response)
}

/// A response of any type that is written piece by piece.
pub(crate) fn chunks(content_type: &'static str) -> (mpsc::Sender<Bytes>, Response) {
    let (pieces, mut rest) = mpsc::channel::<Bytes>(PIECES);
    let body = futures::stream::poll_fn(move |cx| {
        rest.poll_recv(cx).map(|piece| piece.map(Ok::<_, std::convert::Infallible>))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // nginx and its like gather answers unless they are told not to.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    (pieces, response)
}

/// The last line of a text that is not shown on, which says why.
pub(crate) fn last_line(ended: Ended) -> Bytes {
    format!("\n !     {}\n", ended.words()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_lines() {
        let check = |name: Option<&str>, id: Option<&dyn Display>, data: &str, expected: &str| {
            let mut text = String::new();
            event(&mut text, name, id, data);
            assert_eq!(text, expected);
        };
        check(None, Some(&"7-router-1"), "a: b", "id: 7-router-1\ndata: a: b\n\n");
        check(Some("changed"), None, "", "event: changed\ndata: \n\n");
        check(None, None, "a\nid: 9", "data: a\ndata: id: 9\n\n");
    }
}
