//! The server of static sites, asked over a real connection.

use shipway_build::static_site::{SiteConfig, serve};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

struct Site {
    address: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn site(app: &Path) -> Site {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let app = app.to_owned();
    let served = tokio::spawn(async move {
        serve(&app, listener, async {
            let _ = stopped.await;
        })
        .await
    });
    Site { address, stop: Some(stop), served }
}

impl Site {
    /// Sends one request; returns the whole answer.
    async fn ask(&self, line: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: site.example\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn check(&self, line: &str, headers: &str, status: u16, parts: &[&str]) -> String {
        let answer = self.ask(line, headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        for part in parts {
            assert!(answer.contains(part), "{line} should have {part:?}: {answer}");
        }
        answer
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        self.served.await.unwrap().unwrap();
    }
}

fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/apps/static")
}

#[tokio::test]
async fn a_site_is_served_as_static_json_says() {
    let site = site(&fixture()).await;
    site.check(
        "GET /",
        "",
        200,
        &["<h1>static site</h1>", "content-type: text/html; charset=utf-8", "x-frame-options: DENY"],
    )
    .await;
    site.check("GET /about", "", 200, &["<h1>about</h1>"]).await;
    site.check("GET /app/any/where", "", 200, &["<h1>static site</h1>"]).await;
    site.check("GET /old", "", 302, &["location: /about"]).await;
    site.check("GET /none", "", 404, &["<h1>lost</h1>"]).await;
    site.check("POST /", "Content-Length: 0\r\n", 405, &["allow: GET, HEAD"]).await;
    let head = site.check("HEAD /", "", 200, &["content-length: "]).await;
    assert!(head.ends_with("\r\n\r\n"));

    let answer = site.ask("GET /", "").await;
    let etag = answer.lines().find_map(|l| l.strip_prefix("etag: ")).unwrap();
    site.check("GET /", &format!("If-None-Match: {etag}\r\n"), 304, &[]).await;
    let ranged = site.check("GET /", "Range: bytes=0-14\r\n", 206, &["content-range: bytes 0-14/"]).await;
    assert!(ranged.ends_with("\r\n\r\n<!doctype html>"));
    site.check("GET /", "Range: bytes=9999-\r\n", 416, &["content-range: bytes */"]).await;
    site.stop().await;
}

#[tokio::test]
async fn large_files_come_whole_and_folders_get_their_slash() {
    let app = tempfile::tempdir().unwrap();
    fs::create_dir(app.path().join("docs")).unwrap();
    fs::write(app.path().join("docs/index.html"), "docs").unwrap();
    fs::write(app.path().join("large.bin"), vec![b'x'; 5 << 20]).unwrap();
    let site = site(app.path()).await;
    let answer = site.check("GET /large.bin", "", 200, &["content-length: 5242880"]).await;
    assert_eq!(answer.split("\r\n\r\n").nth(1).unwrap().len(), 5 << 20);
    site.check("GET /docs?a=1", "", 301, &["location: /docs/?a=1"]).await;
    site.check("GET /docs/", "", 200, &["docs"]).await;
    site.check("GET /none", "", 404, &["Not found."]).await;
    site.stop().await;
}

#[tokio::test]
async fn attack_28_no_path_leads_out_of_the_site() {
    let outer = tempfile::tempdir().unwrap();
    let app = outer.path().join("app");
    fs::create_dir_all(app.join(".git")).unwrap();
    fs::create_dir_all(app.join("evil.example")).unwrap();
    for file in ["index.html", ".env", ".git/config", "static.json", "Procfile", "evil.example/index.html"] {
        fs::write(app.join(file), "{}").unwrap();
    }
    fs::write(app.join("static.json"), r#"{"root": "/"}"#).unwrap();
    fs::write(outer.path().join("secret"), "secret").unwrap();
    symlink("../secret", app.join("out")).unwrap();
    symlink("/etc/passwd", app.join("absolute")).unwrap();
    let site = site(&app).await;
    for path in [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "//../secret",
        "/out",
        "/absolute",
        "/.env",
        "/.git/config",
        "/static.json",
        "/Procfile",
        "/%2egit/config",
        "/etc/passwd",
        "//etc/passwd",
        "/a%00b",
    ] {
        let answer = site.ask(&format!("GET {path}"), "").await;
        assert!(answer.starts_with("HTTP/1.1 404 ") || answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
    // A folder's missing slash is added on this host.
    site.check("GET //evil.example", "", 301, &["location: /evil.example/"]).await;
    site.stop().await;
}

#[test]
fn attack_09_attack_10_nothing_in_static_json_leaves_its_place() {
    for root in ["..", "../..", "dist/../../x", "/../etc", "a/.."] {
        let told = SiteConfig::parse(Some(&serde_json::json!({ "root": root }).to_string())).unwrap_err();
        assert_eq!(told, format!("root {root:?} leads out of the app"));
    }
    for (name, value) in
        [("X-A", "b\r\nSet-Cookie: c=d"), ("X-A\r\nX-B", "c"), ("X A", "b"), ("X-A:", "b"), ("", "b"), ("X-A", "\0")]
    {
        let text = serde_json::json!({ "headers": { "/**": { name: value } } }).to_string();
        assert_eq!(SiteConfig::parse(Some(&text)).unwrap_err(), format!("{name:?}: {value:?} is not a header"));
    }
    for url in ["/new\r\nSet-Cookie: c=d", "\n", "\0"] {
        let text = serde_json::json!({ "redirects": { "/old": { "url": url } } }).to_string();
        let told = SiteConfig::parse(Some(&text)).unwrap_err();
        assert!(told.starts_with("the redirect of \"/old\" needs a url"), "{told}");
    }
}
