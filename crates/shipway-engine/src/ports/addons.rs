//! What makes add-ons: the port that a provider of databases implements.

use super::{Lines, PortError};
use async_trait::async_trait;
use shipway_domain::addon::PlanName;
use shipway_domain::{AddonId, AppId, TransferId};
use shipway_store::AddonConfig;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Why a provider did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AddonFailure {
    /// The user's to solve; the text says what, which and what next.
    #[error("{0}")]
    User(String),
    /// Somebody asked for it to stop.
    #[error("it was cancelled")]
    Cancelled,
    /// The operator's to solve; the text says what is missing on the machine, and users may read it.
    #[error("{0}")]
    Missing(String),
    /// Ours.
    #[error("{0}")]
    Platform(String),
}

impl From<PortError> for AddonFailure {
    fn from(e: PortError) -> Self {
        Self::Platform(e.0)
    }
}

/// A database that a transfer reads or writes.
#[derive(Debug, Clone)]
pub struct DatabaseOrder {
    /// The transfer.
    pub transfer: TransferId,
    /// The app on whose behalf.
    pub app: AppId,
    /// Which uids its tools run under.
    pub uid_block: u32,
    /// The add-on.
    pub addon: AddonId,
    /// How it is reached.
    pub config: AddonConfig,
    /// The dump: written by [`AddonProvider::dump`], read by [`AddonProvider::restore`].
    pub file: PathBuf,
    /// Bytes of the database that a dump of ours was made of; none for somebody else's dump, whose word does not count.
    pub source_bytes: Option<u64>,
}

/// What a provider says of an add-on, for people: name and values, in order.
pub type AddonInfo = Vec<(String, Vec<String>)>;

/// Makes add-ons, and does what is done to their data.
///
/// Every call names the add-on by its id and can be repeated: a second one finds what the first one made.
#[async_trait]
pub trait AddonProvider: Send + Sync {
    /// Makes what an add-on is and returns its config, secrets included. A second time may return other secrets; the
    /// last ones count.
    async fn provision(&self, addon: AddonId, plan: PlanName) -> Result<AddonConfig, AddonFailure>;

    /// Removes an add-on with its data. One that is not there is fine.
    async fn deprovision(&self, addon: AddonId) -> Result<(), PortError>;

    /// Where dynos reach the add-on of this config, when it is at an address of ours.
    fn endpoint(&self, config: &AddonConfig) -> Option<SocketAddr>;

    /// The same config with the address of now, when another one stands in it: the data directory was moved.
    fn relocated(&self, config: &AddonConfig) -> Option<AddonConfig>;

    /// What there is to say of an add-on.
    async fn info(&self, addon: AddonId, plan: PlanName) -> Result<AddonInfo, AddonFailure>;

    /// Bytes of its data.
    async fn size_bytes(&self, addon: AddonId) -> Result<u64, AddonFailure>;

    /// Empties it, whole or not at all.
    async fn reset(&self, addon: AddonId, plan: PlanName) -> Result<(), AddonFailure>;

    /// Ends all connections to it.
    async fn reset_connections(&self, addon: AddonId) -> Result<(), AddonFailure>;

    /// Writes everything in it to `order.file`, which is replaced. What the tools say goes to `out`.
    async fn dump(
        &self,
        order: &DatabaseOrder,
        out: Arc<dyn Lines>,
        cancel: CancellationToken,
    ) -> Result<(), AddonFailure>;

    /// Replaces everything in it by `order.file`, which nobody trusts: whole or not at all. Returns how many objects
    /// could not be made. Errors: what would be in it takes more room than there is for it.
    async fn restore(
        &self,
        order: &DatabaseOrder,
        plan: PlanName,
        out: Arc<dyn Lines>,
        cancel: CancellationToken,
    ) -> Result<u64, AddonFailure>;

    /// Ends what a transfer that was interrupted left running. A second time does nothing.
    async fn abandon(&self, transfer: TransferId, addon: AddonId) -> Result<(), PortError>;

    /// The most bytes that a dump from elsewhere may have now.
    fn most_dump_bytes(&self) -> Result<u64, PortError>;
}
