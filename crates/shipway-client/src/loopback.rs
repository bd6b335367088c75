//! A port of this machine, for as long as it is needed.

use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// An open port; closed, with its connections, when dropped.
pub struct Loopback {
    /// The port, on 127.0.0.1.
    pub port: u16,
    accepting: JoinHandle<()>,
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Listens on `port` of 127.0.0.1, where 0 takes a free one, and has each connection served. Errors: the port cannot be had.
pub async fn listen<S, F>(port: u16, serve: S) -> io::Result<Loopback>
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let port = listener.local_addr()?.port();
    Ok(Loopback { port, accepting: tokio::spawn(accept(listener, serve)) })
}

async fn accept<S, F>(listener: TcpListener, serve: S)
where
    S: Fn(TcpStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = open.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => drop(open.spawn(serve(stream))),
            // Out of descriptors, most likely: the connections that run will give some back.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
