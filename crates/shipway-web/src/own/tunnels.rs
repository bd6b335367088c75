//! Tunnels: the API's port carries a connection to a database.
//!
//! ```text
//! client: GET /shipway/v1/addons/{addon}/tunnel    Connection: Upgrade    Upgrade: postgresql
//! server: 101, and from there the database's own bytes both ways, its TLS and passwords included
//! ```
//!
//! It ends with either end, with the right to it, with the server, and when nothing was said for long. A piece is read
//! when the one before it was taken: neither end can fill the server's memory.

use crate::{Answer, ApiError, Call, Result, Web};
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::json;
use shipway_domain::AddonId;
use shipway_engine::ports::Caller;
use shipway_engine::{Ended, Platform, Standing, Tunnel};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What the client's `Upgrade` says.
const PROTOCOL: &str = "postgresql";
/// For the connection to change hands.
const CHANGE_TIME: Duration = Duration::from_secs(10);
/// How often is looked whether a tunnel is used.
const LOOK: Duration = Duration::from_secs(60);
/// Without a byte either way: longer than a statement that somebody waits for.
const IDLE: Duration = Duration::from_secs(4 * 3600);
/// Read at once, in bytes.
const PIECE: usize = 16 * 1024;

/// GET /shipway/v1/addons/{addon}/tunnel. 426 for who may open one and did not ask to change the protocol.
pub async fn open(State(web): State<Web>, mut request: Request) -> Result<Response> {
    let changes = request.headers().get(header::UPGRADE).is_some_and(|to| to.as_bytes() == PROTOCOL.as_bytes());
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().filter(|_| changes);
    let call = Call::from_request(request, &web).await?;
    let addon = call.platform().tunnelled(&call.caller, call.parameter("addon"))?;
    let Some(upgrade) = upgrade else { return Ok(how()) };
    let right = move |platform: &Platform, caller: &Caller| platform.may_tunnel(caller, addon).map(drop);
    let standing = call.platform().stand(call.holder.clone(), "api", right).map_err(|_| ApiError::unauthorized())?;
    let tunnel = call.platform().open_tunnel(&call.caller, addon).await?;
    tokio::spawn(carry(call, addon, standing, upgrade, tunnel));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

fn how() -> Response {
    let message = "A tunnel is opened by HTTP/1.1 with `Connection: Upgrade` and `Upgrade: postgresql`, as `shipway pg tunnel` does it.";
    let body = json!({ "id": "upgrade_required", "message": message });
    Answer::new(StatusCode::UPGRADE_REQUIRED, body).header("upgrade", PROTOCOL).into_response()
}

/// Carries bytes until the tunnel ends.
async fn carry(call: Call, addon: AddonId, mut standing: Standing, upgrade: OnUpgrade, mut tunnel: Tunnel) {
    let Ok(Ok(client)) = tokio::time::timeout(CHANGE_TIME, upgrade).await else { return };
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_database, mut to_database) = tunnel.stream.split();
    let (moved, stop) = (AtomicU64::new(0), call.web.closing());
    let asking = async {
        pass(&mut from_client, &mut to_database, &moved).await?;
        // The client has said all: the database has the last word.
        std::future::pending::<io::Result<()>>().await
    };
    // An error is an end that left.
    let why = tokio::select! {
        _ = asking => "the client left",
        _ = pass(&mut from_database, &mut to_client, &moved) => "it was closed",
        ended = standing.ended() => match ended {
            Ended::Token => "the token has ended",
            Ended::Right => "the right to it is gone",
        },
        () = unused(&moved) => "nobody used it",
        () = stop.cancelled() => "the server ends",
    };
    tracing::debug!(addon.id = %addon, user = call.caller.actor.email, why, "a tunnel has ended");
}

/// Copies until `from` ends, and says so to `to`.
async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        moved.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until nobody has used the tunnel for long.
async fn unused(moved: &AtomicU64) {
    let mut last = (moved.load(Ordering::Relaxed), Instant::now());
    while last.1.elapsed() < IDLE {
        tokio::time::sleep(LOOK).await;
        let now = moved.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
}
