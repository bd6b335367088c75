//! The double's door: requests read, told apart, answered.

use super::{Asked, ForgeDouble, TOKEN};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use shipway_domain::forge::ForgeKind;
use std::convert::Infallible;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

pub(super) async fn serve(double: ForgeDouble, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let double = double.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let double = double.clone();
                async move { Ok::<_, Infallible>(answer(&double, request).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(double: &ForgeDouble, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let (path, query) = (head.uri.path().to_string(), head.uri.query().unwrap_or_default().to_string());
    let given = head.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if path.starts_with("/_double/") {
        return json_answer(200, &double.control(&path, &serde_json::from_slice(&body).unwrap_or_default()));
    }
    let statement = double.kind == ForgeKind::Github && is_statement(given);
    if !is_ours(given) && !statement {
        return json_answer(401, &json!({ "message": "Bad credentials" }));
    }
    if let Some(root) = double.repositories.as_ref().filter(|_| path.contains(".git/")) {
        return git(root, &head, &path, &query, &body).await;
    }
    let begin = match double.kind {
        ForgeKind::Github => "/api/v3",
        ForgeKind::Gitlab => "/api/v4",
        ForgeKind::Gitea => "/api/v1",
    };
    let path = path.strip_prefix(begin).unwrap_or("nothing of the API").to_string();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (status, answer) = match statement {
        true => double.ask_as_app(head.method.as_str(), &path),
        false => double.ask(head.method.as_str(), &path, &query, &body),
    };
    let asked = Asked { method: head.method.to_string(), path, query, body, status, answer: answer.clone() };
    if double.note(asked) {
        std::future::pending::<()>().await;
    }
    json_answer(status, &answer)
}

impl ForgeDouble {
    /// Keeps what was asked. Whether it is not to be answered.
    fn note(&self, asked: Asked) -> bool {
        let mut state = self.state.lock().unwrap();
        let changes = asked.method != "GET" && asked.status < 400;
        state.asked.push(asked);
        match state.hangs_after.filter(|_| changes) {
            Some(0) => {
                (state.hangs_after, state.hung) = (None, true);
                true
            }
            Some(n) => {
                state.hangs_after = Some(n - 1);
                false
            }
            None => false,
        }
    }
}

/// Whether a header shows the token, in whichever form it is shown.
fn is_ours(authorization: &str) -> bool {
    match authorization.split_once(' ') {
        Some(("Bearer" | "token", token)) => token == TOKEN,
        Some(("Basic", both)) => STANDARD.decode(both).is_ok_and(|both| both.ends_with(format!(":{TOKEN}").as_bytes())),
        _ => false,
    }
}

/// Whether a header shows what an App says of itself: a JSON Web Token. That it is signed right is not looked at.
fn is_statement(authorization: &str) -> bool {
    authorization.strip_prefix("Bearer ").is_some_and(|token| token.split('.').count() == 3)
}

fn json_answer(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

/// Serves a repository by git's own CGI program.
async fn git(
    root: &std::path::Path,
    head: &hyper::http::request::Parts,
    path: &str,
    query: &str,
    body: &[u8],
) -> Response<Full<Bytes>> {
    let text = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let child = tokio::process::Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", head.method.as_str())
        .env("CONTENT_TYPE", text("content-type"))
        .env("GIT_PROTOCOL", text("git-protocol"))
        .env("HTTP_CONTENT_ENCODING", text("content-encoding"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return json_answer(500, &json!({ "message": "no git" })) };
    let mut stdin = child.stdin.take().unwrap();
    let (_, output) = tokio::join!(
        async move {
            let _ = stdin.write_all(body).await;
        },
        child.wait_with_output()
    );
    let output = output.map(|o| o.stdout).unwrap_or_default();
    let end = output.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(0);
    let (lines, body) = output.split_at(end);
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(body.get(4..).unwrap_or_default())));
    for line in String::from_utf8_lossy(lines).lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => {
                let code = status.split(' ').next().and_then(|c| c.parse().ok()).unwrap_or(500);
                *answer.status_mut() = StatusCode::from_u16(code).unwrap();
            }
            Some((name, value)) => {
                let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
                answer.headers_mut().insert(name, value.parse().unwrap());
            }
            None => {}
        }
    }
    answer
}
