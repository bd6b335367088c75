//! Listens: HTTP and TLS on one port, attached dynos on its TLS side, and the socket for this machine's own users.

use crate::{Web, rendezvous};
use axum::body::Body;
use axum::extract::Request;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustix::net::sockopt;
use shipway_net::{Lifecycle, Options, Phase, serve};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tower::ServiceExt;

/// A request in flight without a byte either way for this long is given up: as long as a quiet build may be.
const STALLED: Duration = Duration::from_secs(15 * 60);

/// A client that is silent for so long is asked by the kernel whether it is there, again and again; then it is gone.
const ASKED_AFTER: Duration = Duration::from_secs(60);
const ASKED_EVERY: Duration = Duration::from_secs(10);
const ASKED_TIMES: u32 = 6;

/// Where the doors are.
pub struct Listeners {
    /// Ports that speak HTTP and, with `tls`, TLS.
    pub tcp: Vec<TcpListener>,
    /// Certificates; see `shipway_net::CertResolver::server_config`.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The socket that [`bind_socket`] made; none where there are no local users.
    pub socket: Option<UnixListener>,
    /// Uids besides root, the server's own and the owner of the data directory that are the admin on the socket:
    /// whoever started the server by sudo.
    pub trusted_uids: Vec<u32>,
}

/// Who is at the other end of the socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// The uid that the kernel names.
    pub(crate) uid: u32,
    /// Whether it is the admin by being who it is.
    pub(crate) trusted: bool,
}

/// Listens at `<home>/run/api.sock`, in place of a server that is gone. Everybody of this machine may connect: who
/// they are is asked then.
///
/// Errors: what the file system says; the path must fit into a socket's address (about 100 bytes).
pub fn bind_socket(home: &Path) -> io::Result<UnixListener> {
    let directory = home.join("run");
    std::fs::create_dir_all(&directory)?;
    let path = directory.join("api.sock");
    let fresh = directory.join("api.sock.new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, PermissionsExt::from_mode(0o666))?;
    // By rename: at no moment is there no server at the path.
    std::fs::rename(&fresh, &path)?;
    Ok(listener)
}

/// Serves all doors until `lifecycle` retires and its last connection has ended.
pub async fn serve_api(web: Web, listeners: Listeners, lifecycle: Lifecycle) {
    let router = web.router();
    let options =
        Options { stalled_timeout: Some(STALLED), raw: Some(rendezvous::handler(web.clone())), ..Options::default() };
    let mut serving = tokio::task::JoinSet::new();
    for listener in listeners.tcp {
        if let Err(error) = keep_alive(&listener) {
            tracing::warn!(%error, "clients that vanish will be missed late");
        }
        let router = router.clone();
        serving.spawn(serve(
            listener,
            listeners.tls.clone(),
            options.clone(),
            lifecycle.clone(),
            move |request: http::Request<shipway_net::RequestBody>, info| {
                let mut request: Request = request.map(Body::new);
                request.extensions_mut().insert(info);
                let answer = router.clone().oneshot(request);
                async move { answer.await.unwrap_or_else(|never| match never {}) }
            },
        ));
    }
    if let Some(socket) = listeners.socket {
        serving.spawn(serve_socket(web.clone(), router, socket, listeners.trusted_uids, lifecycle.clone()));
    }
    lifecycle.reached(Phase::Retiring).await;
    web.closing().cancel();
    while serving.join_next().await.is_some() {}
    lifecycle.empty().await;
}

/// Has the kernel ask clients that are silent whether they are there, and end connections to those that are not: a tunnel
/// holds one of a database's few connections. What the listener has is what it accepts.
fn keep_alive(listener: &TcpListener) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_keepidle(listener, ASKED_AFTER)?;
    sockopt::set_tcp_keepintvl(listener, ASKED_EVERY)?;
    sockopt::set_tcp_keepcnt(listener, ASKED_TIMES)
}

async fn serve_socket(
    web: Web,
    router: axum::Router,
    socket: UnixListener,
    trusted_uids: Vec<u32>,
    lifecycle: Lifecycle,
) {
    let home = web.platform().settings().home.clone();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = lifecycle.reached(Phase::Retiring) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of this machine's users; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(uid) = stream.peer_cred().map(|cred| cred.uid()) else { continue };
        let peer = Peer { uid, trusted: trusted_uids.contains(&uid) || is_ours(uid, &home) };
        let (router, guard) = (router.clone(), lifecycle.guard());
        tokio::spawn(async move {
            let _guard = guard;
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let mut request: Request = request.map(Body::new);
                request.extensions_mut().insert(peer);
                router.clone().oneshot(request)
            });
            // An error is a client that left.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Root, ourselves, and who owns the data directory can read everything of it anyway.
fn is_ours(uid: u32, home: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(home).map(|m| m.uid());
    uid == 0 || uid == rustix::process::geteuid().as_raw() || owner.is_ok_and(|owner| owner == uid)
}
