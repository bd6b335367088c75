//! A port of this machine whose connections end at a database of a server elsewhere.
//!
//! The server carries the database's own protocol: whoever connects still has to know its password.

use crate::error::{Error, Result};
use crate::http::{Client, Proxy};
use crate::loopback::{self, Loopback};
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

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

/// Listens on `port` of 127.0.0.1; 0 takes a free one. A connection that the server refuses is closed, and why is said on
/// standard error. Errors: the port cannot be had.
pub async fn open(port: u16, way: Way) -> Result<Loopback> {
    let way = Arc::new(way);
    let serve = move |local: TcpStream| {
        let way = way.clone();
        async move {
            // A prompt is a small answer to a small question.
            let _ = local.set_nodelay(true);
            if let Err(error) = way.carry(local).await {
                error.show();
            }
        }
    };
    loopback::listen(port, serve).await.map_err(|e| {
        Error::new(format!("port {port} of 127.0.0.1 cannot be listened on: {e}"))
            .hint("name another one with --port, or none for one that is free")
    })
}
