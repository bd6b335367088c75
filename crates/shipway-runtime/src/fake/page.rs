//! What a program in memory answers over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// With which status requests are answered.
pub(super) enum Answers {
    Always(u16),
    /// As frameworks do that are told their host's name, and that they are behind HTTPS.
    Strictly(String),
}

impl Answers {
    /// `head`: a request's header lines, in lower case.
    fn status(&self, head: &[String]) -> u16 {
        let has = |line: &str| head.iter().any(|h| h.trim_end() == line);
        match self {
            Self::Always(status) => *status,
            Self::Strictly(host) if !has(&format!("host: {host}")) => 400,
            Self::Strictly(_) if !has("x-forwarded-proto: https") => 301,
            Self::Strictly(_) => 200,
        }
    }
}

pub(super) struct Page {
    pub(super) name: String,
    pub(super) env: BTreeMap<String, String>,
    pub(super) answers: Answers,
}

/// Answers requests of one connection until it is closed. Bodies of requests are not expected.
pub(super) async fn answer(connection: TcpStream, page: Arc<Page>) {
    let mut connection = BufReader::new(connection);
    loop {
        let mut request = String::new();
        if connection.read_line(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        let mut head = Vec::new();
        let mut header = String::new();
        while connection.read_line(&mut header).await.unwrap_or(0) > 2 {
            head.push(std::mem::take(&mut header).to_ascii_lowercase());
        }
        let path = request.split(' ').nth(1).unwrap_or("/");
        if let Some(ms) = path.strip_prefix("/sleep/") {
            tokio::time::sleep(Duration::from_millis(ms.parse().unwrap_or(0))).await;
        }
        let value = |name: &str| page.env.get(name).cloned().unwrap_or_default();
        let body = match path.strip_prefix("/env/") {
            Some(name) => value(name),
            None => format!("{} {}\n", page.name, value("HEROKU_RELEASE_VERSION")),
        };
        let head = format!("HTTP/1.1 {} Answer\r\nContent-Length: {}\r\n\r\n", page.answers.status(&head), body.len());
        if connection.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}
