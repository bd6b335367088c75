//! What the double answers, and what tests may change of it from outside (`/_double/…`).

use super::{ForgeDouble, Pull, REPOSITORY, State, TOKEN, time};
use serde_json::{Value, json};
use shipway_domain::forge::ForgeKind;

/// Numbers of projects at GitLab: ours, and that of every fork.
const PROJECT: u64 = 17;
const FORK: u64 = 18;

impl ForgeDouble {
    /// Answers a request to the API.
    pub(super) fn ask(&self, method: &str, path: &str, query: &str, body: &Value) -> (u16, Value) {
        let mut state = self.state.lock().unwrap();
        if state.down {
            return (503, json!({ "message": "down for maintenance" }));
        }
        let gitlab = format!("/projects/{}", REPOSITORY.replace('/', "%2F"));
        let repository = if self.kind == ForgeKind::Gitlab { gitlab } else { format!("/repos/{REPOSITORY}") };
        if self.kind == ForgeKind::Gitlab && path == format!("/projects/{FORK}") {
            return (200, json!({ "id": FORK, "path_with_namespace": "eve/shop" }));
        }
        let Some(rest) = path.strip_prefix(&repository) else { return missing() };
        let parts: Vec<&str> = rest.trim_start_matches('/').split('/').collect();
        match (self.kind, method, parts.as_slice()) {
            (ForgeKind::Gitlab, _, _) => state.gitlab(method, &parts, query, body),
            (kind, "GET", ["pulls"]) => {
                let pulls = state.pulls.values().filter(|p| p.open).map(pull).collect();
                (200, page(pulls, query, kind))
            }
            // As Gitea does it: all at once.
            (ForgeKind::Gitea, "GET", ["issues", number, "comments"]) => (200, state.comments_of(number).into()),
            (kind, "GET", ["issues", number, "comments"]) => (200, page(state.comments_of(number), query, kind)),
            (_, "POST", ["issues", number, "comments"]) => (201, state.comment(number, body)),
            (_, "PATCH", ["issues", "comments", id]) => state.edit(id, body),
            (_, "POST", ["statuses", sha]) => (201, state.status(sha, body)),
            (kind, "GET", ["commits", sha, "statuses"]) => (200, page(state.statuses_of(sha, kind), query, kind)),
            (ForgeKind::Github, "GET", ["deployments"]) => {
                let of = |d: &&Value| {
                    let has = |name: &str| query.contains(&format!("{name}={}", d[name].as_str().unwrap_or_default()));
                    has("sha") && has("environment")
                };
                (200, state.deployments.iter().filter(of).map(|d| json!({ "id": d["id"] })).collect())
            }
            (ForgeKind::Github, "POST", ["deployments"]) => {
                let id = state.deployment(body["environment"].clone(), body["ref"].clone(), body);
                (201, json!({ "id": id }))
            }
            (ForgeKind::Github, "GET", ["deployments", id, "statuses"]) => {
                let found = state.deployments.iter().find(|d| is(&d["id"], id));
                let states = found.and_then(|d| d["states"].as_array().cloned()).unwrap_or_default();
                let said = states.iter().enumerate().map(|(n, word)| json!({ "id": n + 1, "state": word }));
                (200, said.rev().collect())
            }
            (ForgeKind::Github, "POST", ["deployments", id, "statuses"]) => state.deployed(id, body["state"].clone()),
            _ => missing(),
        }
    }

    /// Answers an App that has no token yet.
    pub(super) fn ask_as_app(&self, method: &str, path: &str) -> (u16, Value) {
        match (method, path) {
            ("GET", path) if path == format!("/repos/{REPOSITORY}/installation") => (200, json!({ "id": 99 })),
            ("POST", "/app/installations/99/access_tokens") => {
                (201, json!({ "token": TOKEN, "expires_at": "2999-01-01T00:00:00Z" }))
            }
            _ => missing(),
        }
    }

    /// What a test changes or reads: `/_double/pulls` `{number, branch, commit, open}`, `/_double/comments`,
    /// `/_double/statuses`, `/_double/deployments`.
    pub(super) fn control(&self, path: &str, body: &Value) -> Value {
        if path == "/_double/pulls" {
            let text = |name: &str| body[name].as_str().unwrap_or_default();
            let number = body["number"].as_u64().unwrap_or_default();
            let pull = self.set_pull(number, text("branch"), text("commit"), body["open"] == true);
            return json!({ "changed_at": time(pull.changed_at) });
        }
        let state = self.state.lock().unwrap();
        match path {
            "/_double/comments" => json!(state.comments),
            "/_double/statuses" => json!(state.statuses),
            "/_double/deployments" => json!(state.deployments),
            _ => Value::Null,
        }
    }
}

impl State {
    fn gitlab(&mut self, method: &str, parts: &[&str], query: &str, body: &Value) -> (u16, Value) {
        let kind = ForgeKind::Gitlab;
        match (method, parts) {
            ("GET", ["merge_requests"]) => {
                let open = self.pulls.values().filter(|p| p.open).map(merge_request).collect();
                (200, page(open, query, kind))
            }
            ("GET", ["merge_requests", number, "notes"]) => (200, page(self.comments_of(number), query, kind)),
            ("POST", ["merge_requests", number, "notes"]) => (201, self.comment(number, body)),
            ("PUT", ["merge_requests", _, "notes", id]) => self.edit(id, body),
            ("POST", ["statuses", sha]) => {
                let again =
                    self.statuses.iter().rfind(|s| s["sha"] == *sha).is_some_and(|s| s["state"] == body["state"]);
                match again {
                    true => (400, json!({ "message": "Cannot transition status via :enqueue from :pending" })),
                    false => {
                        self.status(sha, body);
                        (201, json!({ "sha": sha, "status": body["state"], "name": body["name"] }))
                    }
                }
            }
            ("GET", ["deployments"]) => {
                let of = |d: &&Value| {
                    d["environment"].as_str().is_some_and(|name| query.contains(&format!("environment={name}&")))
                };
                let mut found: Vec<&Value> = self.deployments.iter().filter(of).collect();
                let environment = found.first().map(|first| first["id"].clone());
                found.reverse();
                let shown = found.iter().map(|d| {
                    let status = d["states"].as_array().and_then(|states| states.last());
                    json!({ "id": d["id"], "sha": d["sha"], "status": status, "environment": { "id": environment } })
                });
                (200, page(shown.collect(), query, kind))
            }
            ("POST", ["deployments"]) => {
                let id = self.deployment(body["environment"].clone(), body["sha"].clone(), body);
                let _ = self.deployed(&id.to_string(), body["status"].clone());
                let first = self.deployments.iter().find(|d| d["environment"] == body["environment"]);
                let environment = first.map_or(id, |d| d["id"].as_u64().unwrap_or_default());
                (201, json!({ "id": id, "environment": { "id": environment, "name": body["environment"] } }))
            }
            ("PUT", ["environments", id]) => (200, json!({ "id": id.parse::<u64>().unwrap_or_default() })),
            ("POST", ["environments", id, "stop"]) => {
                let of = self.deployments.iter().find(|d| is(&d["id"], id)).map(|d| d["environment"].clone());
                let ids: Vec<String> = self
                    .deployments
                    .iter()
                    .filter(|d| Some(&d["environment"]) == of.as_ref())
                    .map(|d| d["id"].to_string())
                    .collect();
                ids.iter().for_each(|id| _ = self.deployed(id, "inactive".into()));
                (200, json!({ "id": id.parse::<u64>().unwrap_or_default(), "state": "stopped" }))
            }
            _ => missing(),
        }
    }

    fn comments_of(&self, number: &str) -> Vec<Value> {
        let of = self.comments.iter().filter(|c| is(&c["number"], number));
        of.map(|c| json!({ "id": c["id"], "body": c["body"] })).collect()
    }

    fn comment(&mut self, number: &str, body: &Value) -> Value {
        self.ids += 1;
        let number: u64 = number.parse().unwrap_or_default();
        self.comments.push(json!({ "id": self.ids, "number": number, "body": body["body"] }));
        json!({ "id": self.ids, "body": body["body"] })
    }

    fn edit(&mut self, id: &str, body: &Value) -> (u16, Value) {
        match self.comments.iter_mut().find(|c| is(&c["id"], id)) {
            Some(comment) => {
                comment["body"] = body["body"].clone();
                (200, json!({ "id": comment["id"], "body": comment["body"] }))
            }
            None => missing(),
        }
    }

    fn status(&mut self, sha: &str, body: &Value) -> Value {
        let context = if body["context"].is_null() { &body["name"] } else { &body["context"] };
        let url = &body["target_url"];
        self.ids += 1;
        self.statuses.push(json!({
            "id": self.ids, "sha": sha, "state": body["state"], "context": context, "target_url": url,
            "description": body["description"],
        }));
        json!({ "state": body["state"], "context": context })
    }

    /// What was said of a commit, newest first.
    fn statuses_of(&self, sha: &str, kind: ForgeKind) -> Vec<Value> {
        let word = if kind == ForgeKind::Gitea { "status" } else { "state" };
        let of = self.statuses.iter().rev().filter(|s| s["sha"] == sha);
        let shown = |s: &Value| json!({ "id": s["id"], word: s["state"], "context": s["context"], "description": s["description"] });
        of.map(shown).collect()
    }

    fn deployment(&mut self, environment: Value, sha: Value, body: &Value) -> u64 {
        self.ids += 1;
        self.deployments.push(json!({
            "id": self.ids, "environment": environment, "sha": sha, "payload": body["payload"],
            "transient": body["transient_environment"], "states": [],
        }));
        self.ids
    }

    fn deployed(&mut self, id: &str, word: Value) -> (u16, Value) {
        match self.deployments.iter_mut().find(|d| is(&d["id"], id)) {
            Some(deployment) => {
                deployment["states"].as_array_mut().unwrap().push(word.clone());
                (201, json!({ "state": word }))
            }
            None => missing(),
        }
    }
}

/// Whether a number is the one that a path writes.
fn is(value: &Value, written: &str) -> bool {
    written.parse::<u64>().is_ok_and(|number| *value == number)
}

fn missing() -> (u16, Value) {
    (404, json!({ "message": "Not Found" }))
}

/// One page of a list, as the forge's own parameters ask.
fn page(all: Vec<Value>, query: &str, kind: ForgeKind) -> Value {
    let number = |name: &str, usual: usize| {
        let found = query.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        found.and_then(|n| n.parse().ok()).unwrap_or(usual)
    };
    let size = number(if kind == ForgeKind::Gitea { "limit" } else { "per_page" }, 30);
    let page = number("page", 1);
    all.into_iter().skip((page - 1) * size).take(size).collect()
}

/// A pull request as GitHub and Gitea show it.
pub(super) fn pull(pull: &Pull) -> Value {
    json!({
        "number": pull.number,
        "title": format!("Change {}", pull.number),
        "state": if pull.open { "open" } else { "closed" },
        "updated_at": time(pull.changed_at),
        "head": {
            "ref": pull.branch, "sha": pull.commit,
            "repo": { "full_name": pull.fork.as_deref().unwrap_or(REPOSITORY) },
        },
        "base": { "ref": "main", "repo": { "full_name": REPOSITORY } },
    })
}

/// The same as GitLab lists it.
fn merge_request(pull: &Pull) -> Value {
    json!({
        "iid": pull.number,
        "title": format!("Change {}", pull.number),
        "state": if pull.open { "opened" } else { "closed" },
        "updated_at": time(pull.changed_at),
        "source_branch": pull.branch,
        "sha": pull.commit,
        "source_project_id": project(pull),
        "target_project_id": PROJECT,
    })
}

/// The project at GitLab that a merge request comes from.
pub(super) fn project(pull: &Pull) -> u64 {
    if pull.fork.is_some() { FORK } else { PROJECT }
}
