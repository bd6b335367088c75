//! The router, over its control socket.

use async_trait::async_trait;
use shipway_domain::DynoId;
use shipway_domain::route::RouteTable;
use shipway_engine::ports::{InFlight, PortError, Router};
use shipway_router::RouterClient;
use std::collections::BTreeMap;

/// The router of one data directory, whichever process plays it now.
pub struct SocketRouter(pub RouterClient);

#[async_trait]
impl Router for SocketRouter {
    async fn push(&self, table: &RouteTable) -> Result<u64, PortError> {
        self.0.push(table).await.map_err(|e| PortError::new("handing the routes to the router", e))
    }

    async fn epoch(&self) -> Result<u64, PortError> {
        let status = self.0.status().await.map_err(|e| PortError::new("asking the router for its epoch", e))?;
        Ok(status.epoch)
    }

    async fn in_flight(&self, dynos: &[DynoId]) -> Result<BTreeMap<DynoId, InFlight>, PortError> {
        let counted = self.0.in_flight(dynos).await;
        let counted = counted.map_err(|e| PortError::new("asking the router what is under way", e))?;
        let few = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(counted
            .into_iter()
            .map(|(dyno, n)| (dyno, InFlight { requests: few(n.requests), streams: few(n.streams) }))
            .collect())
    }
}
