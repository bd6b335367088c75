//! What server and keeper say to each other over `run/postgres.sock`: one JSON value per line, one order per connection.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The longest line that is read, in bytes: a certificate chain with its key fits many times.
pub const MAX_LINE: u64 = 1 << 20;

/// The order: have a cluster running that answers with this certificate.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// A PEM chain for the address that the cluster listens at.
    pub certificate: String,
    /// Its private key as PEM.
    pub key: String,
}

/// What the keeper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It runs.
    Ready(Endpoint),
    /// The machine lacks something; the text says what, and what to do.
    Missing(String),
    /// It could not be started.
    Failed(String),
}

/// Where the cluster answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// For apps and people, by TCP.
    pub address: SocketAddr,
    /// For the platform: the directory of the Unix socket.
    pub socket: PathBuf,
    /// The directory of the programs that fit the cluster's version.
    pub programs: PathBuf,
}

/// Where the keeper listens.
pub fn socket(home: &Path) -> PathBuf {
    home.join("run/postgres.sock")
}
