//! A stage for the client: a small server that records who asked for what, a user with a scratch home, and the two
//! as the commands see them (a socket, one port for HTTP and TLS). It answers what these sessions need and no more.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// One request that was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    pub line: String,
    pub host: String,
    pub authorization: String,
}

/// The scene: everything is gone when it is dropped.
pub struct Stage {
    pub root: TempDir,
    pub port: u16,
    pub authority: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    _runtime: tokio::runtime::Runtime,
}

/// The token of the session that the stage's server gives.
pub const TOKEN: &str = "HRKU-stage-token";
/// The token that somebody else got by `heroku login`.
pub const LOGIN_TOKEN: &str = "HRKU-login-token";
/// The add-on to whose database the stage's server leads.
pub const ADDON: &str = "01234567-89ab-cdef-0123-456789abcdef";

impl Stage {
    /// A server that is up, and a user who never used it.
    pub fn open() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (authority, tls) = certificates();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        for directory in ["home", "data/run", "repos", "checkout"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Arc::new(Server {
            port,
            authority: authority.clone(),
            repos: root.path().join("repos"),
            seen: seen.clone(),
        });
        let socket = {
            let _guard = runtime.enter();
            UnixListener::bind(root.path().join("data/run/api.sock")).unwrap()
        };
        let by_socket = server.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                tokio::spawn(by_socket.clone().serve(stream));
            }
        });
        runtime.spawn(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(tls);
            while let Ok((stream, _)) = listener.accept().await {
                let (server, acceptor) = (server.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let mut first = [0];
                    match stream.peek(&mut first).await {
                        Ok(1) if first[0] == 0x16 => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                server.serve(stream).await;
                            }
                        }
                        _ => server.serve(stream).await,
                    }
                });
            }
        });
        Self { root, port, authority, seen, _runtime: runtime }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn https(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Requests since the last call.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// The program under test, as the stage's user, in the checkout. Only what a login gives is in the environment.
    pub fn shipway(&self, args: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_shipway-client"), args)
    }

    /// Any program, as the stage's user.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap_or_default();
        let path = match heroku() {
            Some(cli) => format!("{}:{path}", cli.parent().unwrap().display()),
            None => path,
        };
        command
            .args(args)
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path("home"))
            .env("SHIPWAY_HOME", self.path("data"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "Ada")
            .env("GIT_AUTHOR_EMAIL", "ada@example.org")
            .env("GIT_COMMITTER_NAME", "Ada")
            .env("GIT_COMMITTER_EMAIL", "ada@example.org")
            .env("GIT_TERMINAL_PROMPT", "0")
            .current_dir(self.path("checkout"));
        command
    }

    /// A shell in which `shipway env` was evaluated first.
    pub fn shell(&self, script: &str) -> Command {
        let bin = Path::new(env!("CARGO_BIN_EXE_shipway-client"));
        let script =
            format!("shipway() {{ '{}' \"$@\"; }}\neval \"$(shipway env --shell sh)\"\n{script}", bin.display());
        self.command("sh", &["-ec", &script])
    }

    /// A checkout with one commit and a bare repository `shop` at the server.
    pub fn checkout(&self) {
        let script = "git init -q -b main . && echo hello > file && git add . && git commit -q -m First";
        assert_done(self.command("sh", &["-ec", script]).output().unwrap());
        let repository = self.path("repos/shop.git");
        assert_done(self.command("git", &["init", "-q", "--bare", repository.to_str().unwrap()]).output().unwrap());
    }
}

/// The unmodified Heroku CLI, as `bin/test` names it.
pub fn heroku() -> Option<PathBuf> {
    std::env::var_os("SHIPWAY_TEST_HEROKU").map(PathBuf::from)
}

/// What a program that must succeed wrote to standard output and standard error.
#[track_caller]
pub fn assert_done(output: Output) -> (String, String) {
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{}\nstdout: {out}\nstderr: {err}", output.status);
    (out, err)
}

pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn certificates() -> (String, Arc<rustls::ServerConfig>) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Stage authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], der)
        .unwrap();
    (authority, Arc::new(config))
}

struct Server {
    port: u16,
    authority: String,
    repos: PathBuf,
    seen: Arc<Mutex<Vec<Seen>>>,
}

type Reply = Response<Full<Bytes>>;

impl Server {
    async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(move |request| {
            let server = self.clone();
            async move { Ok::<_, std::convert::Infallible>(server.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let _ = connection.with_upgrades().await;
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Reply {
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let line = format!("{} {}", head.method, head.uri.path_and_query().map_or("/", |p| p.as_str()));
        let authorization = header("authorization");
        self.seen.lock().unwrap().push(Seen {
            line: line.clone(),
            host: header("host"),
            authorization: authorization.clone(),
        });
        if line.contains(".git/") {
            return self.git(head.uri.path(), head.uri.query().unwrap_or_default(), &authorization, &body);
        }
        if line == "POST /shipway/v1/session" {
            return reply(
                201,
                &json!({
                    "token": TOKEN, "email": "ada@example.org", "url": format!("http://127.0.0.1:{}", self.port), "ca": self.authority,
                }),
            );
        }
        if authorization == format!("Bearer {LOGIN_TOKEN}") && line == "GET /account" {
            return reply(200, &json!({ "id": "2", "email": "grace@example.org" }));
        }
        if authorization != format!("Bearer {TOKEN}") {
            return reply(401, &json!({ "id": "unauthorized", "message": "Invalid credentials provided." }));
        }
        let app = json!({
            "id": "01", "name": "shop", "owner": { "id": "1", "email": "ada@example.org" }, "region": { "name": "us" },
            "stack": { "name": "container" }, "build_stack": { "name": "container" }, "web_url": "http://shop.localhost:8080/",
            "git_url": "", "generation": "cedar", "space": null, "team": null, "create_status": "complete",
        });
        if line == format!("GET /shipway/v1/addons/{ADDON}/tunnel") && header("upgrade") == "postgresql" {
            tokio::spawn(async move {
                // A database that repeats what it is told.
                let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
                tokio::io::copy(&mut from, &mut to).await
            });
            let answer =
                Response::builder().status(101).header("connection", "upgrade").header("upgrade", "postgresql");
            return answer.body(Full::default()).unwrap();
        }
        match line.as_str() {
            "GET /account" => reply(200, &json!({ "id": "1", "email": "ada@example.org" })),
            "POST /apps" => reply(201, &app),
            "GET /apps" => reply(200, &json!([app])),
            "GET /apps/shop" | "DELETE /apps/shop" => reply(200, &app),
            "PATCH /apps/shop/config-vars" | "GET /apps/shop/config-vars" => reply(200, &json!({ "A": "1" })),
            "GET /apps/shop/releases" => reply(200, &json!([{ "id": "r", "version": 4, "status": "succeeded" }])),
            "GET /pipelines/shop" => reply(200, &json!({ "id": "01", "name": "shop" })),
            "GET /shipway/v1/operations" => reply(
                200,
                &json!([
                    { "id": "op1", "kind": "release", "state": "failed", "app": { "name": "shop" }, "step": "healthy", "created_at": "soon" },
                    { "id": "op2", "kind": "deploy", "state": "running", "app": { "name": "shop" }, "step": "build", "created_at": "soon",
                      "user": { "email": "ada@example.org" }, "cancellable": true },
                ]),
            ),
            "GET /shipway/v1/operations?app=quiet" => reply(200, &json!([])),
            "GET /shipway/v1/users" => {
                reply(200, &json!([{ "email": "bob@example.org", "admin": true, "created_at": "soon" }]))
            }
            "POST /shipway/v1/users" => {
                reply(422, &json!({ "id": "invalid_params", "message": "bob is not an e-mail address." }))
            }
            "POST /shipway/v1/users/bob%40example.org/tokens" => {
                reply(201, &json!({ "email": "bob@example.org", "token": "SWAY-new", "revoked": 2 }))
            }
            "GET /shipway/v1/apps/shop/settings" | "PATCH /shipway/v1/apps/shop/settings" => reply(
                200,
                &json!({
                    "health_check_path": "/up", "health_check_status": null, "overlap": { "worker": true },
                    "store_other_branches": false, "release_phase_last": true, "locked": false,
                }),
            ),
            "DELETE /apps/shop/build-cache" => reply(202, &json!({})),
            _ => reply(404, &json!({ "id": "not_found", "resource": "thing", "message": "Couldn't find that thing." })),
        }
    }

    /// Git's smart HTTP by git's own programs, for one repository.
    fn git(&self, path: &str, query: &str, authorization: &str, body: &[u8]) -> Reply {
        use base64::Engine;
        let password = base64::engine::general_purpose::STANDARD.encode(format!("heroku:{TOKEN}"));
        if authorization != format!("Basic {password}") {
            let answer = Response::builder().status(401).header("www-authenticate", "Basic realm=\"Shipway\"");
            return answer.body(Full::default()).unwrap();
        }
        let (repository, action) = path.trim_start_matches('/').split_once(".git/").unwrap();
        let directory = self.repos.join(format!("{}.git", repository.replace(['/', '.'], "")));
        let (service, advertise) = match query.strip_prefix("service=") {
            Some(service) => (service.to_owned(), true),
            None => (action.to_owned(), false),
        };
        let mut arguments = vec![service.trim_start_matches("git-"), "--stateless-rpc"];
        if advertise {
            arguments.push("--advertise-refs");
        }
        let mut child = Command::new("git")
            .args(arguments)
            .arg(&directory)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), body).unwrap();
        let output = child.wait_with_output().unwrap().stdout;
        let kind = if advertise { "advertisement" } else { "result" };
        let mut bytes = Vec::new();
        if advertise {
            let line = format!("# service={service}\n");
            bytes.extend(format!("{:04x}{line}0000", line.len() + 4).bytes());
        }
        bytes.extend(output);
        let answer = Response::builder().header("content-type", format!("application/x-{service}-{kind}"));
        answer.body(Full::from(bytes)).unwrap()
    }
}

fn reply(status: u16, body: &Value) -> Reply {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Full::from(body.to_string())).unwrap()
}
