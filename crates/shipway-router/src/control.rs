//! How the server talks to the router: one JSON object per line over `SHIPWAY_HOME/run/router.sock`, one answer each.
//!
//! ```text
//! {"op":"push","table":{"epoch":7,"apps":[…]}}   {"ok":{"epoch":7}}
//! {"op":"status"}                                 {"ok":{"epoch":7,"pid":4711,…}}
//! {"op":"in_flight","dynos":["…"]}                {"ok":{"dynos":{"…":{"requests":0,"streams":1}}}}
//! {"op":"handover"}                               {"ok":{"listeners":1}}, then the sockets
//! ```
//!
//! A successor keeps the connection on which it said `handover` and relays pushes and counts to the router that retires,
//! so that the server has one router to talk to: what is in flight in either counts.

use serde::{Deserialize, Serialize};
use shipway_domain::DynoId;
use shipway_domain::route::RouteTable;
use shipway_net::handover::{self, Listeners};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes of one line: a table of tens of thousands of apps.
const MAX_LINE: u64 = 64 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a call is made anew when the router is just being replaced.
const TRIES: u32 = 3;

/// What the router can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Call {
    /// Use this table, unless it is older than the present one.
    Push {
        /// The whole table.
        table: RouteTable,
    },
    /// How are you?
    Status,
    /// What is in flight at these dynos?
    InFlight {
        /// The dynos.
        dynos: Vec<DynoId>,
    },
    /// Pass your listeners on to me.
    Handover,
    /// I serve now: retire.
    Ready,
}

/// The answer to a [`Call`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It was done.
    Ok(Done),
    /// It was not, and why.
    Error(String),
    /// Another router took over: connect again.
    Moved,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Done {
    /// To `status`.
    Status(Status),
    /// To `in_flight`.
    InFlight {
        /// By dyno; all that were asked for.
        dynos: BTreeMap<DynoId, InFlight>,
    },
    /// To `ready`: the last table.
    Retiring {
        /// The table in use.
        table: RouteTable,
    },
    /// To `handover`: how many sockets follow in a message of their own.
    Handover {
        /// Their number.
        listeners: usize,
    },
    /// To `push`: the epoch in use, stored and active.
    Pushed {
        /// The epoch.
        epoch: u64,
    },
}

/// How a router is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The epoch in use.
    pub epoch: u64,
    /// The process.
    pub pid: u32,
    /// Client connections open, of this process.
    pub connections: usize,
    /// Requests logged since this process started.
    pub logged: u64,
    /// Requests that wait for an app to start.
    pub waiting: usize,
    /// Whether a router that retires still has connections.
    pub predecessor: bool,
}

/// What is in flight at a dyno.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// Requests whose answer is not complete.
    pub requests: usize,
    /// Upgraded connections and event streams, which a drain does not wait for.
    pub streams: usize,
}

/// Calls the router. Each call connects anew, so it reaches whichever router serves.
#[derive(Debug, Clone)]
pub struct RouterClient {
    socket: PathBuf,
}

impl RouterClient {
    /// For the router of `home`.
    pub fn new(home: &Path) -> Self {
        Self { socket: socket_path(home) }
    }

    /// Pushes a table; returns once it is stored and in use, with the epoch in use: higher than the table's when the
    /// router has a newer one.
    pub async fn push(&self, table: &RouteTable) -> io::Result<u64> {
        match self.call(&Call::Push { table: table.clone() }).await? {
            Done::Pushed { epoch } => Ok(epoch),
            other => Err(unexpected(&other)),
        }
    }

    /// How the router is.
    pub async fn status(&self) -> io::Result<Status> {
        match self.call(&Call::Status).await? {
            Done::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// What is in flight at each of `dynos`, whether they are still in the table or not.
    pub async fn in_flight(&self, dynos: &[DynoId]) -> io::Result<BTreeMap<DynoId, InFlight>> {
        match self.call(&Call::InFlight { dynos: dynos.to_vec() }).await? {
            Done::InFlight { dynos } => Ok(dynos),
            other => Err(unexpected(&other)),
        }
    }

    /// The listening sockets of the router that serves, which keeps them too: for who holds them for its successors.
    pub async fn listeners(&self) -> io::Result<Listeners> {
        Link::connect(&self.socket).await?.take_listeners().await
    }

    async fn call(&self, call: &Call) -> io::Result<Done> {
        for _ in 0..TRIES {
            let mut link = Link::connect(&self.socket).await?;
            match link.call(call).await {
                Ok(Reply::Ok(done)) => return Ok(done),
                Ok(Reply::Error(error)) => return Err(io::Error::other(format!("the router refused: {error}"))),
                // All calls may be made twice.
                Ok(Reply::Moved) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "the router went away while it was asked; is it being replaced?",
        ))
    }
}

/// Where the router of `home` listens.
pub fn socket_path(home: &Path) -> PathBuf {
    home.join("run/router.sock")
}

fn unexpected(done: &Done) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the router gave an answer that does not fit: {done:?}"))
}

/// One control connection, either end.
pub(crate) struct Link {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line: Vec<u8>,
}

impl Link {
    pub(crate) async fn connect(socket: &Path) -> io::Result<Self> {
        Ok(Self::new(UnixStream::connect(socket).await?))
    }

    pub(crate) fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer, line: Vec::new() }
    }

    /// Asks and waits for the answer. Errors: `TimedOut`, `UnexpectedEof` when the other end went, `InvalidData`.
    pub(crate) async fn call(&mut self, call: &Call) -> io::Result<Reply> {
        let exchange = async {
            self.write(call).await?;
            self.read().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Asks for the other end's listening sockets.
    pub(crate) async fn take_listeners(&mut self) -> io::Result<Listeners> {
        match self.call(&Call::Handover).await? {
            Reply::Ok(Done::Handover { .. }) => {}
            other => return Err(io::Error::other(format!("it does not hand over: {other:?}"))),
        }
        // The line was read before the message with the sockets is sent, so nothing of it can be in the line's buffer.
        self.write(&Call::Status).await?;
        let received = self.socket().async_io(Interest::READABLE, || handover::receive(self.socket().as_fd()));
        tokio::time::timeout(PATIENCE, received).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// The next object. `None` at the end of the connection.
    pub(crate) async fn read<T: serde::de::DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        self.line.clear();
        (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut self.line).await?;
        if self.line.is_empty() {
            return Ok(None);
        }
        if self.line.last() != Some(&b'\n') {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line that does not end"));
        }
        Ok(Some(serde_json::from_slice(&self.line)?))
    }

    pub(crate) async fn write(&mut self, object: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(object)?;
        line.push(b'\n');
        self.writer.write_all(&line).await
    }

    /// The socket itself, for a message with descriptors. Nothing may be buffered at that point: the sender waits for
    /// [`Call::Status`] as a sign that the line before was read.
    pub(crate) fn socket(&self) -> &UnixStream {
        self.writer.as_ref()
    }
}
