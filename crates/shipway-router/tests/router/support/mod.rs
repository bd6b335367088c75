//! A router in this process, dynos that are told what to do, clients that speak raw bytes.

#![allow(missing_docs)]

use shipway_domain::route::{AppRoute, RouteMode, RouteTable, Target};
use shipway_domain::{AppId, DynoId};
use shipway_net::{Lifecycle, Phase};
use shipway_router::proxy::Timeouts;
use shipway_router::{RouterClient, RouterConfig, run};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Site {
    pub home: Arc<TempDir>,
    pub address: SocketAddr,
    pub stop: Lifecycle,
    pub client: RouterClient,
    pub task: JoinHandle<std::io::Result<()>>,
    epoch: AtomicU64,
}

pub fn config(home: &TempDir) -> RouterConfig {
    let mut config = RouterConfig::new(home.path().to_path_buf());
    config.retire = Duration::from_millis(300);
    config.linger = Duration::from_secs(5);
    config
}

impl Site {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Timeouts)) -> Self {
        Self::configured(|config| change(&mut config.timeouts)).await
    }

    pub async fn configured(change: impl FnOnce(&mut RouterConfig)) -> Self {
        let home = Arc::new(tempfile::tempdir().unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = config(&home);
        change(&mut config);
        let listeners = BTreeMap::from([("router".to_string(), listener.into())]);
        let (stop, client) = (Lifecycle::new(), RouterClient::new(home.path()));
        let task = tokio::spawn(run(config, listeners, stop.clone()));
        let site = Self { home, address, stop, client, task, epoch: AtomicU64::new(0) };
        until("the router answers", || async { site.client.status().await.is_ok() }).await;
        site
    }

    /// Pushes a table with one app, `app.test`.
    pub async fn route(&self, mode: RouteMode, dynos: &[&Dyno]) {
        self.push(vec![route(1, &["app.test"], mode, dynos)]).await;
    }

    pub async fn push(&self, apps: Vec<AppRoute>) {
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        assert_eq!(self.client.push(&RouteTable { epoch, apps }).await.unwrap(), epoch);
    }

    /// Sends raw bytes, returns everything until the router closes.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        raw(self.address, bytes).await
    }

    /// One GET on a connection of its own.
    pub async fn get(&self, path: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n")).await
    }

    /// What the request log holds.
    pub fn log(&self) -> String {
        log_text(&self.home.path().join("logs").join(app_id(1).to_string()))
    }

    /// Waits until the request log holds every word of `words` in one line.
    pub async fn logged(&self, words: &[&str]) -> String {
        let found = std::sync::Mutex::new(String::new());
        until(&format!("a log line with {words:?}"), || async {
            let text = self.log();
            let line =
                text.split("at=").map(|line| format!("at={line}")).find(|l| words.iter().all(|word| l.contains(word)));
            line.map(|line| *found.lock().unwrap() = line).is_some()
        })
        .await;
        found.into_inner().unwrap()
    }

    pub async fn end(self) {
        self.stop.advance(Phase::Retiring);
        tokio::time::timeout(PATIENCE, self.task).await.expect("the router ends").unwrap().unwrap();
    }
}

pub fn log_text(dir: &std::path::Path) -> String {
    let mut text = String::new();
    for chain in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        for segment in std::fs::read_dir(chain.path()).into_iter().flatten().flatten() {
            text += &String::from_utf8_lossy(&std::fs::read(segment.path()).unwrap_or_default());
        }
    }
    text
}

pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "timed out waiting until {what}");
}

pub async fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes.as_ref()).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the router kept the connection open after {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn app_id(n: u128) -> AppId {
    AppId(uuid::Uuid::from_u128(n))
}

pub fn route(app: u128, hosts: &[&str], mode: RouteMode, dynos: &[&Dyno]) -> AppRoute {
    AppRoute {
        app: app_id(app),
        name: format!("app-{app}"),
        hosts: hosts.iter().map(ToString::to_string).collect(),
        mode,
        targets: dynos.iter().map(|dyno| dyno.target()).collect(),
        password: None,
    }
}

/// A dyno: whatever its handler does with a connection.
pub struct Dyno {
    pub id: DynoId,
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Dyno {
    pub async fn start<F, R>(handler: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(handler(stream));
            }
        });
        Self { id: DynoId(uuid::Uuid::new_v4()), address, connections, task }
    }

    /// Answers every request with the request's own head and body as text, and keeps the connection.
    pub async fn mirror() -> Self {
        Self::start(|mut stream| async move {
            let mut read = Vec::new();
            while let Some(request) = next_request(&mut stream, &mut read).await {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{request}", request.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    /// Reads one request head and says `answer`, then closes.
    pub async fn says(answer: &'static str) -> Self {
        Self::start(move |mut stream| async move {
            let mut read = Vec::new();
            if next_request(&mut stream, &mut read).await.is_some() {
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    /// Reads and never answers.
    pub async fn silent() -> Self {
        Self::start(|mut stream| async move {
            let mut sink = [0; 4096];
            while matches!(stream.read(&mut sink).await, Ok(1..)) {}
        })
        .await
    }

    /// A dyno that nobody listens for.
    pub async fn absent() -> Self {
        let mut dyno = Self::silent().await;
        dyno.task.abort();
        let _ = (&mut dyno.task).await;
        dyno
    }

    /// A dyno that is too busy to take connections: the kernel holds as many as it may, and is silent to the next.
    pub async fn overwhelmed() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        // One more than was asked for.
        let held = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let task = tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop((listener, held));
        });
        Self { id: DynoId(uuid::Uuid::new_v4()), address, connections: Arc::default(), task }
    }

    pub fn target(&self) -> Target {
        Target { dyno: self.id, name: "web.1".into(), address: self.address }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Dyno {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The next request of a connection, framed as strictly as a simple server would. `None` at the end.
pub async fn next_request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(request) = whole_request(read) {
            let rest = read.split_off(request);
            let request = std::mem::replace(read, rest);
            return Some(String::from_utf8_lossy(&request).into_owned());
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

fn whole_request(read: &[u8]) -> Option<usize> {
    let head = read.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
    if text.contains("transfer-encoding: chunked") {
        return read[head..].windows(5).position(|w| w == b"0\r\n\r\n").map(|at| head + at + 5);
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    (read.len() >= head + length).then_some(head + length)
}
