//! A router that serves whatever table it was given.

use async_trait::async_trait;
use shipway_domain::DynoId;
use shipway_domain::route::{RouteMode, RouteTable};
use shipway_engine::ports::{InFlight, PortError, Router};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Keeps the newest table, as the router process does, and has nothing under way.
#[derive(Default)]
pub struct TableRouter {
    table: Mutex<RouteTable>,
    modes: Mutex<Vec<RouteMode>>,
}

impl TableRouter {
    /// The table that it serves.
    pub fn table(&self) -> RouteTable {
        self.table.lock().unwrap().clone()
    }

    /// What visitors of the first app met with since the last call, one entry a change.
    pub fn modes(&self) -> Vec<RouteMode> {
        std::mem::take(&mut self.modes.lock().unwrap())
    }
}

#[async_trait]
impl Router for TableRouter {
    async fn push(&self, table: &RouteTable) -> Result<u64, PortError> {
        let mut mine = self.table.lock().unwrap();
        if table.epoch >= mine.epoch {
            let mut modes = self.modes.lock().unwrap();
            let mode = table.apps.first().map(|app| app.mode).filter(|mode| modes.last() != Some(mode));
            modes.extend(mode);
            *mine = table.clone();
        }
        Ok(mine.epoch)
    }
    async fn epoch(&self) -> Result<u64, PortError> {
        Ok(self.table().epoch)
    }
    async fn in_flight(&self, _: &[DynoId]) -> Result<BTreeMap<DynoId, InFlight>, PortError> {
        Ok(BTreeMap::new())
    }
}
