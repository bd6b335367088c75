//! A session for whoever this machine's kernel vouches for.

use crate::serve::Peer;
use crate::{Answer, ApiError, Result, Web};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::json;

/// POST /shipway/v1/session: a token of the admin's, for root, the server's own user, and the owner of its data.
///
/// Only over the socket in the data directory: there the kernel says who asks. A stored token is a hash, so each call
/// makes a new one.
pub async fn create(State(web): State<Web>, peer: Option<Extension<Peer>>) -> Result<Answer> {
    let Some(Extension(peer)) = peer else {
        return Err(ApiError::forbidden(
            "A session without a token is only given on the server's own machine, over the socket in its data directory. \
             From elsewhere: shipway login --server URL",
        ));
    };
    if !peer.trusted {
        return Err(ApiError::forbidden(format!(
            "User id {} of this machine is nobody here. Run it as the user who started the server or as root, or let an \
             administrator make you an account (shipway users add) and log in with its token (heroku login).",
            peer.uid
        )));
    }
    let accounts = web.platform().store().read(|c| c.accounts())?;
    let admin = accounts.into_iter().find(|account| account.admin).ok_or_else(|| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "The server has no administrator yet: it is still starting.",
        )
    })?;
    let token = web.platform().session_for(admin.id, &format!("shipway env (user id {})", peer.uid)).await?;
    let base = web.base();
    let local = ["http://127.0.0.1", "http://localhost"].iter().any(|local| base.http.starts_with(local));
    Ok(Answer::created(json!({
        "token": token,
        "email": admin.email,
        "url": if local { &base.http } else { &base.https },
        "ca": web.authority(),
    })))
}
