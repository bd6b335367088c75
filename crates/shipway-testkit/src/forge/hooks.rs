//! The webhooks that the double sends, signed as the forges sign theirs.

use super::{ForgeDouble, Pull, REPOSITORY, routes, time};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Value, json};
use shipway_domain::forge::ForgeKind;
use shipway_store::hex;

/// A webhook that is ready to be sent.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Hook {
    /// A header's value, changed or added.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same without a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }
}

/// The HMAC-SHA256 of a text in hex.
fn signature(secret: &str, body: &str) -> String {
    hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body.as_bytes()).as_ref())
}

impl ForgeDouble {
    /// What it sends when a pull request has changed.
    pub fn pull_hook(&self, secret: &str, id: &str, pull: &Pull) -> Hook {
        let body = match self.kind {
            ForgeKind::Gitlab => json!({
                "object_kind": "merge_request",
                "project": { "path_with_namespace": REPOSITORY },
                "object_attributes": {
                    "iid": pull.number, "title": format!("Change {}", pull.number), "source_branch": pull.branch,
                    "state": if pull.open { "opened" } else { "closed" }, "updated_at": time(pull.changed_at),
                    "last_commit": { "id": pull.commit }, "target_project_id": 17,
                    "source_project_id": routes::project(pull),
                    "source": { "path_with_namespace": pull.fork.as_deref().unwrap_or(REPOSITORY) },
                },
            }),
            ForgeKind::Github | ForgeKind::Gitea => json!({
                "action": if pull.open { "synchronize" } else { "closed" },
                "number": pull.number,
                "pull_request": routes::pull(pull),
                "repository": { "full_name": REPOSITORY },
            }),
        };
        self.hook(secret, id, "pull_request", &body)
    }

    /// What it sends when a branch or tag has moved (`refs/heads/main`).
    pub fn push_hook(&self, secret: &str, id: &str, reference: &str, commit: &str) -> Hook {
        self.moved_hook(secret, id, reference, "0000000000000000000000000000000000000000", commit)
    }

    /// The same of one that was at `before`.
    pub fn moved_hook(&self, secret: &str, id: &str, reference: &str, before: &str, commit: &str) -> Hook {
        let pusher = if self.kind == ForgeKind::Github { "name" } else { "login" };
        let body = match self.kind {
            ForgeKind::Gitlab => json!({
                "object_kind": if reference.starts_with("refs/tags/") { "tag_push" } else { "push" },
                "ref": reference, "before": before, "after": commit, "user_username": "ada",
                "user_email": "ada@acme.example",
                "project": { "path_with_namespace": REPOSITORY, "default_branch": "main" },
            }),
            ForgeKind::Github | ForgeKind::Gitea => json!({
                "ref": reference, "before": before, "after": commit,
                "pusher": { pusher: "ada", "email": "ada@acme.example" },
                "repository": { "full_name": REPOSITORY, "default_branch": "main" },
            }),
        };
        self.hook(secret, id, "push", &body)
    }

    /// What it sends when a check has said something of a commit: `success`, `pending`, `failure`.
    pub fn check_hook(&self, secret: &str, id: &str, commit: &str, state: &str) -> Hook {
        let at = time(super::BEGINNING + i64::try_from(id.len()).unwrap());
        let body = match self.kind {
            ForgeKind::Gitlab => json!({
                "object_kind": "pipeline", "project": { "path_with_namespace": REPOSITORY },
                "object_attributes": {
                    "sha": commit, "status": state.replace("failure", "failed"), "created_at": at, "finished_at": at,
                },
            }),
            ForgeKind::Github | ForgeKind::Gitea => json!({
                "sha": commit, "state": state, "context": "ci/test", "updated_at": at,
                "repository": { "full_name": REPOSITORY },
            }),
        };
        self.hook(secret, id, "status", &body)
    }

    /// The signature of any text, as its header has it; none where the header is a plain token.
    pub fn sign(&self, secret: &str, body: &str) -> Option<String> {
        match self.kind {
            ForgeKind::Github => Some(format!("sha256={}", signature(secret, body))),
            ForgeKind::Gitea => Some(signature(secret, body)),
            ForgeKind::Gitlab => None,
        }
    }

    /// Any body as this forge sends it.
    pub fn hook(&self, secret: &str, id: &str, event: &str, body: &Value) -> Hook {
        let body = body.to_string();
        let prefix = match self.kind {
            ForgeKind::Github => {
                let signature = ("x-hub-signature-256", format!("sha256={}", signature(secret, &body)));
                return self
                    .headed(&[signature, ("x-github-event", event.into()), ("x-github-delivery", id.into())], body);
            }
            ForgeKind::Gitlab => {
                let token = ("x-gitlab-token", secret.to_string());
                return self.headed(&[token, ("x-gitlab-event", event.into()), ("idempotency-key", id.into())], body);
            }
            ForgeKind::Gitea => signature(secret, &body),
        };
        let headers = [("x-gitea-signature", prefix), ("x-gitea-event", event.into()), ("x-gitea-delivery", id.into())];
        self.headed(&headers, body)
    }

    /// A hook of GitLab's signed at a time, in seconds, as newer versions do it.
    pub fn signed_by_time(&self, secret: &str, id: &str, at: i64, hook: Hook) -> Hook {
        let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
        let signed = format!("{id}.{at}.{}", hook.body);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(tag.as_ref()));
        hook.without("x-gitlab-token")
            .with("webhook-id", id)
            .with("webhook-timestamp", &at.to_string())
            .with("webhook-signature", &signature)
    }

    fn headed(&self, headers: &[(&str, String)], body: String) -> Hook {
        let headers = headers.iter().map(|(name, value)| ((*name).to_string(), value.clone()));
        let media = ("content-type".to_string(), "application/json".to_string());
        Hook { headers: headers.chain([media]).collect(), body }
    }
}
