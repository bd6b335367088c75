//! Streams that are opened by a signed URL, without a token: logs, the output of builds and release phases, backups.
//!
//! Nothing about a stream is kept on the server: a log session goes on behind `Last-Event-ID` on any server that has
//! the platform's keys. When this server retires it ends its streams, and those who follow come back to its successor.

use crate::follow::Follower;
use crate::routes::table;
use crate::sse::{self, Events, Gone, HEARTBEAT, event};
use crate::{ApiError, LogSession, Result, Web};
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use shipway_domain::lifecycle::{BuildStatus, ReleaseStatus};
use shipway_domain::{BuildId, ReleaseId};
use shipway_engine::ports::Caller;
use shipway_engine::{Ended, Platform, Standing};
use shipway_logs::{Entry, EventId, Filter, Source};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long an answer waits for the first bytes of an output before it begins without.
const FIRST_BYTES: Duration = Duration::from_secs(1);
/// Where to come back to after the server has ended a stream that is not over, in ms.
const COME_BACK: &str = "retry: 1000\n\n";

/// The routes of this door.
pub fn routes(_: &Web) -> Router<Web> {
    declared()
}

table! { Streams:
    GET "/streams/logs/{session}/{signature}" => logs;
    GET "/streams/output/{id}/{signature}" => output;
    GET "/backups/{id}/{expires_at}/{signature}" => backup;
    GET "/archives/{kind}/{id}/{commit}/{expires_at}/{signature}" => archive;
}

/// What the path says, or that it is no UTF-8: then it names nothing of ours.
type Segments<T> = std::result::Result<Path<T>, PathRejection>;

/// A backup's data, as the CLI and `curl` download it. Nobody on the way may keep it.
async fn backup(State(web): State<Web>, path: Segments<(String, String, String)>) -> Result<Response> {
    let Path((id, expires_at, signature)) = path.map_err(|_| ApiError::missing("backup"))?;
    let now = web.platform().now().as_second();
    let id = web.signed().read_backup(&id, &expires_at, &signature, now).ok_or_else(|| ApiError::missing("backup"))?;
    let (backup, bytes) = web.platform().open_backup(id).await?;
    let pieces = futures::stream::try_unfold(backup, |mut backup| async {
        let read = tokio::task::spawn_blocking(move || Ok(backup.piece()?.map(|piece| (piece, backup)))).await;
        read.unwrap_or_else(|e| Err(std::io::Error::other(e)))
    });
    let body = axum::body::Body::from_stream(pieces);
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"backup.dump\""));
    Ok(response)
}

/// A commit's tree, as `curl` and CI download it.
async fn archive(State(web): State<Web>, uri: axum::http::Uri) -> Result<Response> {
    let now = web.platform().now().as_second();
    let at = web.signed().read_archive(uri.path(), now).ok_or_else(|| ApiError::missing("archive"))?;
    let archive = web.platform().archive(&at).await?;
    let stream = tokio_util::io::ReaderStream::with_capacity(archive, 64 * 1024);
    let mut response = Response::new(axum::body::Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn logs(State(web): State<Web>, path: Segments<(String, String)>, headers: HeaderMap) -> Result<Response> {
    let Path((session, signature)) = path.map_err(|_| ApiError::missing("log_session"))?;
    let session = web.signed().read_logs(&session, &signature).ok_or_else(|| ApiError::missing("log_session"))?;
    let over = || expired("This log session has ended. Run `heroku logs` again for a new one.");
    if session.expires_at <= web.platform().now().as_second() {
        return Err(over());
    }
    let standing = web.platform().stand_before(session.holder.clone(), "logs", session.app);
    let standing = standing.map_err(|ended| match ended {
        Ended::Token => over(),
        // The logs of an app that is gone are too.
        Ended::Right => ApiError::missing("app"),
    })?;
    let directory = web.platform().log_dir(session.app);
    let filter = Filter { source: session.source.as_deref().and_then(|s| s.parse().ok()), dyno: session.dyno.clone() };
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse::<EventId>().ok());
    let (past, follower) = match seen {
        Some(seen) => (Vec::new(), Follower::after(&directory, filter, seen).await.map_err(unreadable)?),
        None => Follower::last(&directory, filter, session.lines as usize).await.map_err(unreadable)?,
    };
    let resumed = headers.contains_key("last-event-id");
    // Clients older than the official one read lines.
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let shape = match accepts.into_iter().any(|accept| accept.contains("text/event-stream")) {
        true => Shape::Events,
        false => Shape::Lines,
    };
    let (events, response) = match shape {
        Shape::Events => sse::stream(),
        Shape::Lines => sse::lines(),
    };
    tokio::spawn(async move {
        // Whoever reads is gone or has all: either way there is nobody left to tell.
        let _ = send_log(web, (session, standing), (past, follower), resumed, shape, events).await;
    });
    Ok(response)
}

/// How lines are written.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// As events with ids, after which a client that lost its connection goes on.
    Events,
    /// As they are.
    Lines,
}

async fn send_log(
    web: Web,
    (session, mut standing): (LogSession, Standing),
    (past, mut follower): (Vec<Entry>, Follower),
    resumed: bool,
    shape: Shape,
    events: Events,
) -> Result<(), Gone> {
    let stop = web.closing();
    let mut last = Instant::now();
    if session.tail && shape == Shape::Events {
        events.send(COME_BACK.into()).await?;
    }
    for lines in past.chunks(500) {
        if let Err(ended) = standing.stands() {
            return events.send(farewell(ended, web.platform(), shape)).await;
        }
        events.send(written(lines, shape)).await?;
    }
    if !session.tail && !resumed {
        return Ok(());
    }
    loop {
        let now_us = u64::try_from(web.platform().now().as_microsecond()).unwrap_or(0);
        let lines = follower.next(now_us).await.map_err(|error| {
            tracing::warn!(app.id = %session.app, %error, "a log could not be read on");
            Gone
        })?;
        let beats = last.elapsed() >= HEARTBEAT;
        if let Err(ended) = standing.stands() {
            return events.send(farewell(ended, web.platform(), shape)).await;
        }
        if !lines.is_empty() {
            events.send(written(&lines, shape)).await?;
            last = Instant::now();
            continue;
        }
        if !session.tail {
            return Ok(());
        }
        if beats {
            if shape == Shape::Events {
                events.beat().await?;
            }
            last = Instant::now();
        }
        tokio::select! {
            () = tokio::time::sleep(follower.pause()) => {}
            // The next look says why.
            _ = standing.ended() => {}
            () = events.gone() => return Err(Gone),
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// A last line of a log that says why there is no other. It is none of the log, so nobody can go on behind it.
fn farewell(ended: Ended, platform: &Platform, shape: Shape) -> String {
    let now = u64::try_from(platform.now().as_microsecond()).unwrap_or(0);
    let id = EventId { time_us: now, writer: "platform".into(), sequence: 0 };
    let entry = Entry { id, source: Source::Heroku, dyno: "logplex".into(), message: ended.words().into() };
    let mut text = String::new();
    match shape {
        Shape::Events => event(&mut text, None, None, &entry.line()),
        Shape::Lines => text = entry.line() + "\n",
    }
    text
}

fn expired(message: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "expired", message)
}

fn written(lines: &[Entry], shape: Shape) -> String {
    let mut text = String::with_capacity(lines.len() * 160);
    for entry in lines {
        match shape {
            Shape::Events => event(&mut text, None, Some(&entry.id), &entry.line()),
            Shape::Lines => {
                text.push_str(&entry.line());
                text.push('\n');
            }
        }
    }
    text
}

fn unreadable(error: std::io::Error) -> ApiError {
    shipway_engine::Error::unavailable("The log cannot be read just now. Try again in a moment.", error).into()
}

/// The whole output of a build or a release phase, from its beginning, while it grows. 404 before it has begun: its
/// readers come back.
async fn output(State(web): State<Web>, path: Segments<(String, String)>) -> Result<Response> {
    let Path((id, signature)) = path.map_err(|_| ApiError::missing("output"))?;
    let shown = web.signed().read_output(&id, &signature).ok_or_else(|| ApiError::missing("output"))?;
    let (id, app) = (shown.id, shown.app);
    let right = move |platform: &Platform, caller: &Caller| platform.may_read_output(caller, app);
    let standing = web.platform().stand(shown.holder, "output", right);
    let mut standing = standing.map_err(|ended| match ended {
        Ended::Token => {
            expired("The token that this output was shown to has ended. Ask for the build or the release again.")
        }
        Ended::Right => ApiError::missing("output"),
    })?;
    let mut reader = web.platform().read_output(id);
    let (pieces, mut response) = sse::chunks("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // What builds print is anybody's text: a browser that opens it must not take it for a page.
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let (begun, beginning) = tokio::sync::oneshot::channel();
    let stop = web.closing();
    tokio::spawn(async move {
        let mut begun = Some(begun);
        loop {
            let next = tokio::select! {
                biased;
                ended = standing.ended() => {
                    let _ = pieces.send(sse::last_line(ended)).await;
                    return;
                }
                next = reader.next() => next,
                () = pieces.closed() => return,
                () = stop.cancelled() => return,
            };
            let bytes = next.unwrap_or_else(|error| {
                tracing::warn!(output.id = %id, %error, "an output could not be read on");
                None
            });
            if let Some(begun) = begun.take() {
                let _ = begun.send(bytes.is_some());
            }
            let Some(bytes) = bytes else { return };
            if pieces.send(bytes.into()).await.is_err() {
                return;
            }
        }
    });
    match tokio::time::timeout(FIRST_BYTES, beginning).await {
        Ok(Ok(false)) if !has_ended(web.platform(), id)? => Err(ApiError::missing("output")),
        _ => Ok(response.into_response()),
    }
}

/// Whether nothing more can come: then an output without a byte is just that.
fn has_ended(platform: &Platform, id: Uuid) -> Result<bool> {
    Ok(platform.store().read(|c| {
        let build = c.build(BuildId(id))?.is_some_and(|build| build.status != BuildStatus::Pending);
        let release = c.release(ReleaseId(id))?;
        Ok(build || release.is_some_and(|r| r.has_output && r.status != ReleaseStatus::Pending))
    })?)
}
