//! Databases that are a text each.

use async_trait::async_trait;
use shipway_domain::addon::PlanName;
use shipway_domain::{AddonId, TransferId};
use shipway_engine::ports::{AddonFailure, AddonInfo, AddonProvider, DatabaseOrder, Lines, PortError};
use shipway_store::AddonConfig;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A provider whose databases are texts. A dump is the text, unless it begins with `broken`.
#[derive(Default)]
pub struct TextDatabases {
    databases: Mutex<BTreeMap<AddonId, String>>,
    passwords: AtomicU32,
    /// Nothing can be made while it is set.
    pub missing: AtomicBool,
    /// While it is set, nobody answers for databases that were made.
    pub silent: AtomicBool,
    /// While it is set, databases are in the making and not made, and dumps are not written.
    pub slow: watch::Sender<bool>,
    making: AtomicU32,
    dumping: AtomicU32,
    /// How often the data directory was moved: each time they are at another port.
    pub moves: AtomicU16,
    /// Where a test answers for them; nobody does otherwise.
    pub answered_at: Mutex<Option<SocketAddr>>,
}

/// Where databases are at first.
const FIRST_PORT: u16 = 5432;

impl TextDatabases {
    /// What is in a database; none when there is no such.
    pub fn read(&self, addon: AddonId) -> Option<String> {
        self.databases.lock().unwrap().get(&addon).cloned()
    }

    /// Writes into a database.
    pub fn write(&self, addon: AddonId, text: &str) {
        self.databases.lock().unwrap().insert(addon, text.into());
    }

    /// How many databases there are.
    pub fn count(&self) -> usize {
        self.databases.lock().unwrap().len()
    }

    /// How many are in the making.
    pub fn making(&self) -> u32 {
        self.making.load(Ordering::SeqCst)
    }

    /// How many dumps are being written.
    pub fn dumping(&self) -> u32 {
        self.dumping.load(Ordering::SeqCst)
    }

    async fn go_slow(&self) {
        // The sender is ours, and there as long as we are.
        let _ = self.slow.subscribe().wait_for(|slow| !slow).await;
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], FIRST_PORT + self.moves.load(Ordering::Relaxed)).into()
    }

    fn known(&self, addon: AddonId) -> Result<String, AddonFailure> {
        self.read(addon).ok_or_else(|| AddonFailure::Platform(format!("no database {addon}")))
    }
}

#[async_trait]
impl AddonProvider for TextDatabases {
    async fn provision(&self, addon: AddonId, _: PlanName) -> Result<AddonConfig, AddonFailure> {
        if self.missing.load(Ordering::Relaxed) {
            return Err(AddonFailure::Missing("PostgreSQL is not installed here: apt-get install postgresql".into()));
        }
        self.making.fetch_add(1, Ordering::SeqCst);
        self.go_slow().await;
        self.making.fetch_sub(1, Ordering::SeqCst);
        self.databases.lock().unwrap().entry(addon).or_default();
        let password = self.passwords.fetch_add(1, Ordering::Relaxed);
        let url = format!("postgres://u:password{password}@{}/{addon}", self.address());
        Ok(AddonConfig::from([("URL".to_string(), url)]))
    }

    async fn deprovision(&self, addon: AddonId) -> Result<(), PortError> {
        self.databases.lock().unwrap().remove(&addon);
        Ok(())
    }

    fn endpoint(&self, _: &AddonConfig) -> Option<SocketAddr> {
        Some(self.answered_at.lock().unwrap().unwrap_or_else(|| self.address()))
    }

    fn relocated(&self, config: &AddonConfig) -> Option<AddonConfig> {
        let (user, at) = config.get("URL")?.split_once('@')?;
        let (was, database) = at.split_once('/')?;
        let now = self.address().to_string();
        (was != now).then(|| AddonConfig::from([("URL".to_string(), format!("{user}@{now}/{database}"))]))
    }

    async fn info(&self, addon: AddonId, _: PlanName) -> Result<AddonInfo, AddonFailure> {
        Ok(vec![("Data Size".into(), vec![format!("{} B", self.known(addon)?.len())])])
    }

    async fn size_bytes(&self, addon: AddonId) -> Result<u64, AddonFailure> {
        if self.silent.load(Ordering::Relaxed) {
            return Err(AddonFailure::Platform("it is down on purpose".into()));
        }
        Ok(self.known(addon)?.len() as u64)
    }

    async fn reset(&self, addon: AddonId, _: PlanName) -> Result<(), AddonFailure> {
        self.write(addon, "");
        Ok(())
    }

    async fn reset_connections(&self, addon: AddonId) -> Result<(), AddonFailure> {
        self.known(addon).map(drop)
    }

    async fn dump(&self, order: &DatabaseOrder, out: Arc<dyn Lines>, _: CancellationToken) -> Result<(), AddonFailure> {
        out.line("dumping");
        self.dumping.fetch_add(1, Ordering::SeqCst);
        self.go_slow().await;
        self.dumping.fetch_sub(1, Ordering::SeqCst);
        let text = self.known(order.addon)?;
        std::fs::create_dir_all(order.file.parent().unwrap()).unwrap();
        std::fs::write(&order.file, text).map_err(|e| AddonFailure::Platform(e.to_string()))
    }

    async fn restore(
        &self,
        order: &DatabaseOrder,
        _: PlanName,
        out: Arc<dyn Lines>,
        _: CancellationToken,
    ) -> Result<u64, AddonFailure> {
        out.line("restoring");
        let text = std::fs::read_to_string(&order.file).map_err(|e| AddonFailure::Platform(e.to_string()))?;
        if text.starts_with("broken") {
            return Err(AddonFailure::User("The dump is not a dump.".into()));
        }
        self.write(order.addon, &text);
        Ok(0)
    }

    async fn abandon(&self, _: TransferId, _: AddonId) -> Result<(), PortError> {
        Ok(())
    }

    fn most_dump_bytes(&self) -> Result<u64, PortError> {
        Ok(1 << 20)
    }
}
