//! Sources: a place to put an archive that a build then reads. The URL is the key.

use crate::{Answer, ApiError, Call, Result, Web, present};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use futures::TryStreamExt;
use serde_json::json;
use tokio_util::io::StreamReader;

/// POST /sources
pub async fn create(call: Call) -> Result<Answer> {
    let source = call.platform().create_source(&call.caller).await?;
    Ok(Answer::created(present::source(&call.web, &call.origin, &source)))
}

/// POST /apps/{app}/sources
pub async fn create_for_app(call: Call) -> Result<Answer> {
    call.app()?;
    create(call).await
}

/// PUT /sources/{source}/{signature}
pub async fn upload(
    State(web): State<Web>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Answer> {
    let missing = || ApiError::missing("source");
    let Path((id, signature)) = path.map_err(|_| missing())?;
    let id = web.signed().read_source(&id, &signature).ok_or_else(missing)?;
    let stream = request.into_body().into_data_stream().map_err(std::io::Error::other);
    web.platform().put_source(id, StreamReader::new(stream)).await?;
    Ok(Answer::ok(json!({})))
}
