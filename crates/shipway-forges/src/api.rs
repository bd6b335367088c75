//! How a forge's API is asked: JSON both ways, one header that opens it, pages.

use crate::json;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use serde_json::Value;
use shipway_domain::address::RemoteAddress;
use shipway_domain::forge::ForgeKind;
use shipway_net::outward::Outward;
use shipway_store::ForgeConnection;

/// Pages of a list that are read.
const PAGES: usize = 40;
/// Items of a page; Gitea gives 50 at most.
const PAGE: usize = 50;

/// The API of one connection's forge.
pub(crate) struct Api<'a> {
    outward: &'a Outward,
    pub(crate) forge: &'a ForgeConnection,
    authorization: Option<String>,
}

/// An answer that is not an error.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl<'a> Api<'a> {
    pub(crate) fn new(outward: &'a Outward, forge: &'a ForgeConnection) -> Self {
        Self { outward, forge, authorization: None }
    }

    /// The same without a token.
    pub(crate) fn same(&self) -> Self {
        Self::new(self.outward, self.forge)
    }

    /// The same with a token.
    pub(crate) fn with(self, token: &str) -> Self {
        let scheme = if self.forge.kind == ForgeKind::Gitea { "token" } else { "Bearer" };
        Self { authorization: Some(format!("{scheme} {token}")), ..self }
    }

    /// Where the API begins.
    fn base(&self) -> String {
        let url = &self.forge.url;
        match self.forge.kind {
            ForgeKind::Github if url == "https://github.com" => "https://api.github.com".into(),
            ForgeKind::Github => format!("{url}/api/v3"),
            ForgeKind::Gitlab => format!("{url}/api/v4"),
            ForgeKind::Gitea => format!("{url}/api/v1"),
        }
    }

    /// The path of the repository: `/repos/owner/name`, at GitLab `/projects/owner%2Fname`.
    pub(crate) fn repository(&self) -> String {
        match self.forge.kind {
            ForgeKind::Gitlab => format!("/projects/{}", encoded(self.forge.repository.as_str())),
            ForgeKind::Github | ForgeKind::Gitea => format!("/repos/{}", self.forge.repository),
        }
    }

    /// Asks, and reads the answer. Errors: it did not answer, or with another status than `fine` or a 2xx.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        fine: &[StatusCode],
    ) -> Result<Reply, String> {
        let url = format!("{}{path}", self.base());
        let address = RemoteAddress::parse_within(&url, self.outward.private_hosts())?;
        let mut request = Request::builder()
            .method(method.clone())
            .header(header::USER_AGENT, "shipway")
            .header(header::ACCEPT, accepts(self.forge.kind));
        if let Some(authorization) = &self.authorization {
            let mut value = HeaderValue::from_str(authorization).map_err(|_| "its token cannot be sent".to_string())?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        if self.forge.kind == ForgeKind::Github {
            request = request.header("x-github-api-version", "2022-11-28");
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request.body(bytes).map_err(|e| e.to_string())?;
        let answer = self.outward.send(&address, request).await?;
        let status = answer.status();
        let body = match answer.body().is_empty() {
            true => Value::Null,
            false => json::read(answer.body()).unwrap_or_default(),
        };
        if status.is_success() || fine.contains(&status) {
            return Ok(Reply { status, body });
        }
        Err(format!("{} answered {status} to {method} {path}: {}", address.host(), said(&body)))
    }

    /// Reads something.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, String> {
        Ok(self.send(Method::GET, path, None, &[]).await?.body)
    }

    /// Makes something.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        Ok(self.send(Method::POST, path, Some(body), &[]).await?.body)
    }

    /// Reads all pages of a list.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, String> {
        let size = if self.forge.kind == ForgeKind::Gitea { "limit" } else { "per_page" };
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let answer = self.get(&format!("{path}{joint}{size}={PAGE}&page={page}")).await?;
            let Value::Array(items) = answer else { return Err(format!("GET {path} gave no list")) };
            let last = items.len() < PAGE;
            all.extend(items);
            if last {
                break;
            }
        }
        Ok(all)
    }

    /// Keeps one comment as it should be: the one that `remote` names, else the one that carries our mark, else a new
    /// one. `comments` is the path of the request's comments, `one` makes that of a comment by its id. Returns its id.
    pub(crate) async fn comment(
        &self,
        comments: &str,
        one: impl Fn(u64) -> String,
        edit: Method,
        body: &str,
        remote: Option<&Value>,
    ) -> Result<Option<Value>, String> {
        let text = serde_json::json!({ "body": body });
        let known = remote.and_then(Value::as_u64);
        let id = match known {
            Some(id) => Some(id),
            None => self.find_comment(comments, body.lines().last().unwrap_or_default()).await?,
        };
        if let Some(id) = id {
            let edited = self.send(edit, &one(id), Some(&text), &[StatusCode::NOT_FOUND]).await?;
            if edited.status != StatusCode::NOT_FOUND {
                return Ok(Some(id.into()));
            }
        }
        // It was never made, or somebody has deleted it.
        let made = self.post(comments, &text).await?;
        Ok(Some(json::number(&made, "id")?.into()))
    }

    async fn find_comment(&self, comments: &str, mark: &str) -> Result<Option<u64>, String> {
        let all = match self.forge.kind {
            // It gives all of them at once, whatever page is asked for.
            ForgeKind::Gitea => self.get(comments).await?.as_array().cloned().unwrap_or_default(),
            ForgeKind::Github | ForgeKind::Gitlab => self.list(comments).await?,
        };
        let ours = all.iter().filter(|c| c["body"].as_str().is_some_and(|body| body.trim_end().ends_with(mark)));
        // The first that there is: a later one was copied from it.
        Ok(ours.filter_map(|c| c["id"].as_u64()).min())
    }
}

fn accepts(kind: ForgeKind) -> &'static str {
    match kind {
        ForgeKind::Github => "application/vnd.github+json",
        ForgeKind::Gitlab | ForgeKind::Gitea => "application/json",
    }
}

/// What a forge says of an error, printable and short.
fn said(body: &Value) -> String {
    let text = json::maybe(body, "message").or_else(|| json::maybe(body, "error")).unwrap_or("no reason given");
    json::printable(text, 200)
}

/// One segment of a path.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
        out
    })
}
