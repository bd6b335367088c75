//! Gitea and Forgejo, whose payloads are close to GitHub's. Source: "Webhooks" of their documentations.

use super::{Signed, digest_of, github, is_signed_in_hex, push, repository};
use crate::json::{at, maybe};
use serde_json::Value;
use shipway_engine::ports::{News, Received, WebhookRefused, WebhookRequest};

fn either<'a>(request: WebhookRequest<'a>, names: [&str; 2]) -> Option<&'a str> {
    names.into_iter().find_map(|name| request.header(name))
}

pub(super) fn signed<'a>(secret: &str, request: WebhookRequest<'a>) -> Result<Signed<'a>, WebhookRefused> {
    let signature = either(request, ["x-forgejo-signature", "x-gitea-signature"]).unwrap_or_default();
    if !is_signed_in_hex(secret, request.body, signature) {
        return Err(WebhookRefused::Unauthorized);
    }
    Ok(Signed {
        given: either(request, ["x-forgejo-delivery", "x-gitea-delivery"]),
        digest: digest_of(&[request.body]),
        event: either(request, ["x-forgejo-event", "x-gitea-event"]),
    })
}

pub(super) fn read(event: &str, value: &Value) -> Result<Received, String> {
    let news = match event {
        "push" => {
            let by = maybe(value, "pusher.username").or_else(|| maybe(value, "pusher.login")).unwrap_or("somebody");
            push(value, by, maybe(value, "pusher.email"), maybe(value, "repository.default_branch"))?
                .map_or(News::Other, News::Push)
        }
        "pull_request" | "pull_request_sync" => News::PullRequest(github::pull_request(at(value, "pull_request"))?),
        "status" => News::Check(github::status(value)?),
        _ => News::Other,
    };
    Ok(Received { repository: repository(value, "repository.full_name")?, news })
}
