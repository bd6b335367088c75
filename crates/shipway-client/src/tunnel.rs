//! A port of this machine whose connections end at a database of a server elsewhere.
//!
//! The server carries the database's own protocol: whoever connects still has to know its password.

use crate::error::{Error, Result};
use crate::http::{Client, Proxy};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the server is asked to speak.
pub const PROTOCOL: &str = "postgresql";

/// Where an add-on's tunnel is, by the add-on's id or name.
pub fn path(addon: &str) -> String {
    format!("/shipway/v1/addons/{addon}/tunnel")
}

/// The way that each connection goes.
pub enum Way {
    /// To the server, which is asked at this path.
    Server(Client, String),
    /// By the bridge of the `shipway heroku` that started us, to this name.
    Bridge(Proxy, String),
}

impl Way {
    async fn carry(&self, mut local: TcpStream) -> Result<()> {
        // How a connection ends is for the two ends to say.
        match self {
            Self::Server(client, path) => {
                let mut database = client.upgrade(path, PROTOCOL).await?;
                let _ = copy_bidirectional(&mut local, &mut database).await;
            }
            Self::Bridge(bridge, to) => {
                // Why not, the bridge has said.
                let Ok(mut database) = bridge.connect(to).await else { return Ok(()) };
                let _ = copy_bidirectional(&mut local, &mut database).await;
            }
        }
        Ok(())
    }
}

/// An open port; closed, with its connections, when dropped.
pub struct Tunnel {
    /// The port, on 127.0.0.1.
    pub port: u16,
    accepting: JoinHandle<()>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Listens on `port` of 127.0.0.1; 0 takes a free one. A connection that the server refuses is closed, and why is said on
/// standard error. Errors: the port cannot be had.
pub async fn open(port: u16, way: Way) -> Result<Tunnel> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let bound = listener.and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
    let (port, listener) = bound.map_err(|e| {
        Error::new(format!("port {port} of 127.0.0.1 cannot be listened on: {e}"))
            .hint("name another one with --port, or none for one that is free")
    })?;
    let accepting = tokio::spawn(accept(listener, Arc::new(way)));
    Ok(Tunnel { port, accepting })
}

async fn accept(listener: TcpListener, way: Arc<Way>) {
    let mut open = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = open.join_next() => continue,
        };
        let Ok((local, _)) = accepted else {
            // Out of descriptors, most likely: the connections that run will give some back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let way = way.clone();
        open.spawn(async move {
            // A prompt is a small answer to a small question.
            let _ = local.set_nodelay(true);
            if let Err(error) = way.carry(local).await {
                error.show();
            }
        });
    }
}
