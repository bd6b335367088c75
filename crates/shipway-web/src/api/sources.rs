//! Sources: a place to put an archive that a build then reads. The URL is the key.

use crate::{Answer, ApiError, Call, Result, Web, present};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use futures::TryStreamExt;
use serde_json::json;
use shipway_engine::SourceBlob;
use std::io::{Error, ErrorKind};
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
    let stream = request.into_body().into_data_stream().map_err(|e| Error::new(ErrorKind::UnexpectedEof, e));
    web.platform().put_source(id, StreamReader::new(stream)).await?;
    Ok(Answer::ok(json!({})))
}

/// What a URL names: an upload here, a commit's archive here, or an archive at a server elsewhere, which is fetched under
/// guard (attack 23): who names an address could read what this machine can reach and they cannot.
pub(super) fn source_blob(call: &Call, url: &str) -> Result<SourceBlob> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = match path.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or((rest, ""), |at| rest.split_at(at)),
        None => ("", path),
    };
    if let Some(at) = call.web.signed().read_archive(path, call.platform().now().as_second()) {
        return Ok(SourceBlob::Commit(at));
    }
    let mut segments = path.rsplit('/');
    let found = match (segments.next(), segments.next(), segments.next()) {
        (Some(signature), Some(id), Some("sources")) => call.web.signed().read_source(id, signature),
        _ => None,
    };
    if let Some(id) = found {
        return Ok(SourceBlob::Uploaded(id));
    }
    let here = [call.origin.url(""), call.web.base().http.clone(), call.web.base().https.clone()];
    if !host.is_empty() && !here.iter().any(|address| address.ends_with(&format!("//{host}"))) {
        return Ok(SourceBlob::Elsewhere(url.to_owned()));
    }
    Err(ApiError::invalid(
        "`source_blob.url` must be the `get_url` of a source that was made here: POST /sources, PUT the tar archive \
         to its `put_url`, then build its `get_url`; or an archive link of a repository here that has not expired; or the \
         https:// address of a tar archive elsewhere.",
    ))
}
