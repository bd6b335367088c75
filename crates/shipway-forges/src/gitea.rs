//! What Gitea and Forgejo are asked and told. They keep no records of deployments. Source: their API's description
//! (`/swagger.v1.json`).

use crate::api::Api;
use crate::github;
use serde_json::Value;
use shipway_domain::forge::Message;

pub(crate) use crate::github::open_pull_requests;

pub(crate) async fn tell(
    api: &Api<'_>,
    message: &Message,
    remote: Option<&Value>,
    again: bool,
) -> Result<Option<Value>, String> {
    match message {
        Message::Comment { number, body } => github::comment(api, *number, body, remote).await,
        Message::Status { .. } => github::status(api, message, again).await,
        Message::Deployment { .. } => Ok(None),
    }
}
