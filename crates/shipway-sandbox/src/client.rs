//! The server's side: the [`Runtime`] that talks to the spawner and to shims.

use crate::config::Network;
use crate::record::{Directory, LOST};
use crate::wire::{self, Answer, Failure, Greeting, Order, Reply, Request};
use async_trait::async_trait;
use shipway_domain::DynoId;
use shipway_runtime::{Capabilities, DynoPlan, Exit, Observation, Runtime, RuntimeError, Stream, Usage};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// The embedded driver of one data directory. Holds no state of its own: dynos are found by their shims' directories.
#[derive(Debug, Clone)]
pub struct Embedded {
    home: PathBuf,
    greeting: Greeting,
}

impl Embedded {
    /// Greets the spawner of the data directory `home` and learns what it can.
    ///
    /// Errors: [`RuntimeError::Spawner`] when it does not answer.
    pub async fn connect(home: impl Into<PathBuf>) -> Result<Self, RuntimeError> {
        let home = home.into();
        match order(&home, &Order::Hello).await? {
            Answer::Hello(greeting) => Ok(Self { home, greeting }),
            other => Err(unexpected(&other)),
        }
    }

    /// Which sandbox is made.
    pub fn tier(&self) -> crate::Tier {
        self.greeting.config.tier
    }

    /// The services address: a router or a database that listens here is reachable from dynos, on the ports given to
    /// [`Embedded::open_services`]. None on the `bwrap` tier, where dynos have the host's network.
    pub fn services(&self) -> Option<Ipv4Addr> {
        self.greeting.services
    }

    /// Lets dynos reach exactly these TCP ports of the services address from now on.
    pub async fn open_services(&self, ports: &[u16]) -> Result<(), RuntimeError> {
        match order(&self.home, &Order::Services(ports.to_vec())).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The services address of a data directory, for who cannot ask a spawner yet. Errors: the directory's.
    pub fn services_of(home: &Path) -> io::Result<Ipv4Addr> {
        Ok(Network::claim(home)?.services())
    }

    fn known(&self, dyno: DynoId) -> Result<(Directory, Observation), RuntimeError> {
        let directory = Directory::new(&self.home, dyno);
        let seen = directory.observe().map_err(|e| machine(format!("reading the record of dyno {dyno}"), e))?;
        seen.map(|seen| (directory, seen)).ok_or(RuntimeError::Unknown(dyno))
    }

    /// Asks the dyno's shim; none when the shim is gone.
    async fn ask(&self, dyno: DynoId, request: &Request) -> Result<Option<(UnixStream, Reply)>, RuntimeError> {
        let (directory, seen) = self.known(dyno)?;
        let doing = || format!("asking the shim of dyno {}", seen.name);
        let Ok(mut shim) = dial(&directory.socket()).await else { return Ok(None) };
        let asked = async {
            send(&mut shim, request).await?;
            receive(&mut shim).await
        };
        match asked.await {
            Ok(Reply::Refused(why)) => Err(machine(doing(), io::Error::other(why))),
            Ok(reply) => Ok(Some((shim, reply))),
            // It ended while we asked.
            Err(e) if gone(&e) => Ok(None),
            Err(e) => Err(machine(doing(), e)),
        }
    }
}

#[async_trait]
impl Runtime for Embedded {
    fn capabilities(&self) -> Capabilities {
        wire::capabilities(&self.greeting)
    }

    async fn start(&self, plan: &DynoPlan) -> Result<Observation, RuntimeError> {
        match self.known(plan.dyno) {
            Ok((_, seen)) => return Ok(seen),
            Err(RuntimeError::Unknown(_)) => {}
            Err(e) => return Err(e),
        }
        match order(&self.home, &Order::Start(Box::new(plan.clone()))).await? {
            Answer::Started(seen) => Ok(seen),
            other => Err(unexpected(&other)),
        }
    }

    async fn list(&self) -> Result<Vec<Observation>, RuntimeError> {
        let listed = Directory::all(&self.home)
            .and_then(|all| all.iter().filter_map(|d| d.observe().transpose()).collect::<io::Result<Vec<_>>>());
        listed.map_err(|e| machine("listing the dynos".into(), e))
    }

    async fn observe(&self, dyno: DynoId) -> Result<Observation, RuntimeError> {
        self.known(dyno).map(|(_, seen)| seen)
    }

    async fn wait(&self, dyno: DynoId) -> Result<Exit, RuntimeError> {
        let (directory, seen) = self.known(dyno)?;
        if let Some(exit) = seen.exit {
            return Ok(exit);
        }
        match self.ask(dyno, &Request::Wait).await {
            Ok(Some((_, Reply::Ended(exit)))) => Ok(exit),
            // Without an answer the shim is gone: its directory says whether it left an exit.
            Ok(_) | Err(RuntimeError::Unknown(_)) => {
                let exit = directory.exit().map_err(|e| machine(format!("reading the exit of dyno {dyno}"), e))?;
                Ok(exit.unwrap_or(LOST))
            }
            Err(e) => Err(e),
        }
    }

    async fn stop(&self, dyno: DynoId) -> Result<(), RuntimeError> {
        self.ask(dyno, &Request::Stop).await.map(|_| ())
    }

    async fn remove(&self, dyno: DynoId) -> Result<(), RuntimeError> {
        match order(&self.home, &Order::Remove(dyno)).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn listeners(&self, dyno: DynoId) -> Result<Vec<SocketAddr>, RuntimeError> {
        match self.ask(dyno, &Request::Listeners).await? {
            Some((_, Reply::Listeners(listeners))) => Ok(listeners),
            _ => Ok(Vec::new()),
        }
    }

    async fn usage(&self, dyno: DynoId) -> Result<Usage, RuntimeError> {
        match self.ask(dyno, &Request::Usage).await? {
            Some((_, Reply::Usage(usage))) => Ok(usage),
            _ => Ok(Usage::default()),
        }
    }

    async fn attach(&self, dyno: DynoId) -> Result<Box<dyn Stream>, RuntimeError> {
        match self.ask(dyno, &Request::Attach).await? {
            Some((stream, _)) => Ok(Box::new(stream)),
            // Its shim went when the last of its output was read.
            None => Ok(Box::new(tokio::io::empty())),
        }
    }

    async fn resize(&self, dyno: DynoId, columns: u16, lines: u16) -> Result<(), RuntimeError> {
        self.ask(dyno, &Request::Resize(columns, lines)).await.map(|_| ())
    }
}

/// Gives an order to the spawner.
async fn order(home: &Path, order: &Order) -> Result<Answer, RuntimeError> {
    let spoken = async {
        let mut spawner = dial(&home.join("run/spawner.sock")).await?;
        send(&mut spawner, order).await?;
        receive(&mut BufReader::new(spawner)).await
    };
    match spoken.await {
        Ok(Answer::Failed(Failure::MissingLayer(layer))) => Err(RuntimeError::MissingLayer(layer)),
        Ok(Answer::Failed(Failure::Machine { doing, why })) => Err(machine(doing, io::Error::other(why))),
        Ok(answer) => Ok(answer),
        Err(e) => Err(RuntimeError::Spawner(e.to_string())),
    }
}

async fn dial(path: &Path) -> io::Result<UnixStream> {
    let (_directory, short) = wire::short_path(path)?;
    UnixStream::connect(short).await
}

async fn send<T: serde::Serialize>(to: &mut UnixStream, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line).await
}

/// Reads one line, and not a byte more: what follows an answer to `attach` belongs to the stream.
async fn receive<T: serde::de::DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let mut line = Vec::with_capacity(256);
    loop {
        match from.read_u8().await? {
            b'\n' => return Ok(serde_json::from_slice(&line)?),
            byte => line.push(byte),
        }
        if line.len() > wire::MAX_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

fn gone(e: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(e.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn machine(doing: String, source: io::Error) -> RuntimeError {
    RuntimeError::Io { doing, source }
}

fn unexpected(answer: &Answer) -> RuntimeError {
    RuntimeError::Spawner(format!("it answers something else: {answer:?}"))
}
