//! A builder that reads a Procfile and is done.

use async_trait::async_trait;
use serde_json::Value;
use shipway_domain::size::DynoSize;
use shipway_domain::{AppId, Digest, procfile};
use shipway_engine::ports::{BuildFailure, BuildOrder, Builder, Built, Lines, PortError, Runnable};
use shipway_store::{hex, sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A Procfile that holds `broken-build` is refused; one with `slow-build` waits for [`Self::go`].
#[derive(Default)]
pub struct ProcfileBuilder {
    /// How many builds were begun.
    pub builds: AtomicU32,
    /// Lets one slow build go on.
    pub go: Notify,
    /// With whether a collection has seen it: what was made since the list of what to keep was drawn up is not collected.
    artifacts: Mutex<BTreeMap<String, bool>>,
}

impl ProcfileBuilder {
    /// Damages all artifacts that there are, as a disk does.
    pub fn damage(&self) {
        self.artifacts.lock().unwrap().clear();
    }

    /// How many artifacts there are.
    pub fn artifacts(&self) -> usize {
        self.artifacts.lock().unwrap().len()
    }
}

#[async_trait]
impl Builder for ProcfileBuilder {
    async fn inputs(&self, order: &BuildOrder) -> Result<String, BuildFailure> {
        Ok(format!("{} {} {:?} {:?}", order.commit, order.app, order.env, order.buildpacks))
    }
    async fn build(
        &self,
        order: &BuildOrder,
        out: Arc<dyn Lines>,
        _: CancellationToken,
    ) -> Result<Built, BuildFailure> {
        self.builds.fetch_add(1, Ordering::Relaxed);
        out.line("-----> Procfile app detected");
        let text = std::fs::read_to_string(order.source.join("Procfile")).unwrap();
        if text.contains("slow-build") {
            out.line("       waiting");
            self.go.notified().await;
        }
        if text.contains("broken-build") {
            return Err(BuildFailure::User("The build is broken on purpose.".into()));
        }
        let types = procfile::parse(&text).map_err(|e| BuildFailure::User(e.to_string()))?;
        let manifest = serde_json::json!({ "process_types": types });
        let bytes = format!("{text}{}", order.buildpacks.join(","));
        let digest = Digest::parse(&format!("sha256:{}", hex(&sha256(bytes.as_bytes())))).unwrap();
        self.artifacts.lock().unwrap().insert(manifest.to_string(), false);
        let language = Some("Procfile".into());
        let mut buildpacks = order.buildpacks.clone();
        if buildpacks.is_empty() {
            buildpacks.push("heroku/procfile".into());
        }
        Ok(Built { digest, manifest, size_bytes: 1024, language, buildpacks })
    }
    fn runnable(&self, manifest: &Value, _: &DynoSize) -> Result<Runnable, PortError> {
        let types = serde_json::from_value(manifest["process_types"].clone());
        let types = types.map_err(|e| PortError::new("reading a manifest", e))?;
        // As a language would have it.
        let env = [("LANG", "C.UTF-8"), ("NODE_ENV", "production")];
        let env = env.map(|(name, value)| (name.into(), value.into())).into();
        Ok(Runnable { process_types: types, env, ..Runnable::default() })
    }
    async fn ensure(&self, manifest: &Value) -> Result<(), PortError> {
        match self.artifacts.lock().unwrap().contains_key(&manifest.to_string()) {
            true => Ok(()),
            false => Err(PortError(format!("it was collected: {manifest}"))),
        }
    }
    async fn whole(&self, manifest: &Value) -> Result<bool, PortError> {
        Ok(self.artifacts.lock().unwrap().contains_key(&manifest.to_string()))
    }
    async fn collect(&self, keep: &[Value]) -> Result<u64, PortError> {
        let keep: BTreeSet<String> = keep.iter().map(Value::to_string).collect();
        let mut artifacts = self.artifacts.lock().unwrap();
        let before = artifacts.len();
        artifacts.retain(|artifact, seen| !std::mem::replace(seen, true) || keep.contains(artifact));
        Ok((before - artifacts.len()) as u64)
    }
    async fn purge_cache(&self, _: AppId) -> Result<(), PortError> {
        Ok(())
    }
}
