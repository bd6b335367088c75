//! Builds, by `shipway-build`, with what they made in the content-addressed store.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shipway_blobs::{Blobs, Layers};
use shipway_build::{BuildError, BuildOutput, BuildRequest, Builder as Buildpacks, Pins, SlugManifest, dyno_env};
use shipway_domain::size::DynoSize;
use shipway_domain::{AppId, Digest};
use shipway_engine::ports::{BuildFailure, BuildOrder, Builder, Built, Lines, PortError, Runnable};
use std::collections::HashSet;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

/// What is kept of a build: enough to run its slug, to build the next one from it, and to know which blobs it needs.
#[derive(Serialize, Deserialize)]
struct Manifest {
    slug: SlugManifest,
    /// Without the slug, which is above.
    pins: Pins,
    /// The OCI manifest and its config.
    documents: [Digest; 2],
}

impl Manifest {
    fn read(value: &serde_json::Value) -> Result<Self, PortError> {
        Self::deserialize(value).map_err(|e| PortError::new("reading a slug's manifest", e))
    }

    fn blobs(&self) -> impl Iterator<Item = &Digest> {
        self.layers().chain(&self.documents)
    }

    fn layers(&self) -> impl Iterator<Item = &Digest> {
        self.slug.layers.iter().chain(self.pins.dependencies.values()).map(|layer| &layer.digest)
    }
}

/// A blob younger than this stays even if no slug names it: the build that made it may be about to be written down.
const YOUNG: Duration = Duration::from_secs(3600);

/// Builds apps with buildpacks.
pub struct SlugBuilder {
    buildpacks: Buildpacks,
    blobs: Blobs,
    layers: Layers,
    time_limit: Duration,
    /// Builds share it, collection has it alone: a build may use again what nobody names any more.
    collecting: RwLock<()>,
}

impl SlugBuilder {
    /// `time_limit`: wall-clock limit of one build.
    pub fn new(buildpacks: Buildpacks, blobs: Blobs, layers: Layers, time_limit: Duration) -> Self {
        Self { buildpacks, blobs, layers, time_limit, collecting: RwLock::new(()) }
    }

    fn request(&self, order: &BuildOrder) -> BuildRequest {
        let previous = order.previous.as_ref().and_then(|manifest| match Manifest::read(manifest) {
            Ok(manifest) => Some(Pins { slug: Some(manifest.slug), ..manifest.pins }),
            Err(error) => {
                tracing::warn!(app.name = %order.app_name, %error, "the build before this one is not taken into account");
                None
            }
        });
        BuildRequest {
            build: order.build,
            app: order.app,
            app_name: order.app_name.clone(),
            uid_block: order.uid_block,
            commit: Some(order.commit.clone()),
            buildpacks: order.buildpacks.clone(),
            env: order.env.clone(),
            size: order.size.clone(),
            time_limit: self.time_limit,
            previous,
            clear_cache: false,
        }
    }
}

#[async_trait]
impl Builder for SlugBuilder {
    async fn inputs(&self, order: &BuildOrder) -> Result<String, BuildFailure> {
        let inputs = self.buildpacks.inputs(&self.request(order)).map_err(failure)?;
        // What cannot be compared (a buildpack that is fetched) is like nothing else.
        Ok(inputs.unwrap_or_else(|| order.build.to_string()))
    }

    async fn build(
        &self,
        order: &BuildOrder,
        out: Arc<dyn Lines>,
        cancel: CancellationToken,
    ) -> Result<Built, BuildFailure> {
        let _building = self.collecting.read().await;
        let outcome = self.buildpacks.build(&self.request(order), &mut Output(out), &cancel).await.map_err(failure)?;
        let size_bytes = outcome.size_bytes;
        let language = Some(outcome.slug.language.clone()).filter(|l| !l.is_empty());
        let buildpacks = outcome.slug.buildpacks.clone();
        let manifest = Manifest {
            slug: outcome.slug,
            pins: Pins { slug: None, ..outcome.pins },
            documents: [outcome.manifest_digest.clone(), outcome.config_digest],
        };
        for blob in manifest.blobs() {
            self.blobs.touch(blob).map_err(|e| BuildFailure::Platform(e.to_string()))?;
        }
        let manifest = serde_json::to_value(&manifest).map_err(|e| BuildFailure::Platform(e.to_string()))?;
        Ok(Built { digest: outcome.manifest_digest, manifest, size_bytes, language, buildpacks })
    }

    fn runnable(&self, manifest: &serde_json::Value, size: &DynoSize) -> Result<Runnable, PortError> {
        let slug = Manifest::read(manifest)?.slug;
        let cores = available_parallelism().map_or(1, |n| n.get() as u64);
        Ok(Runnable {
            env: dyno_env(&slug, size, cores),
            layers: slug.layers.into_iter().map(|layer| layer.digest).collect(),
            process_types: slug.process_types,
        })
    }

    async fn ensure(&self, manifest: &serde_json::Value) -> Result<(), PortError> {
        let manifest = Manifest::read(manifest)?;
        let layers = self.layers.clone();
        blocking(move || {
            for layer in &manifest.slug.layers {
                let unpacked = layers.unpack(&layer.digest);
                unpacked.map_err(|e| PortError::new("unpacking a layer of the slug", e))?;
            }
            Ok(())
        })
        .await
    }

    async fn whole(&self, manifest: &serde_json::Value) -> Result<bool, PortError> {
        let manifest = Manifest::read(manifest)?;
        let blobs = self.blobs.clone();
        blocking(move || Ok(manifest.slug.layers.iter().all(|layer| blobs.exists(&layer.digest)))).await
    }

    async fn collect(&self, keep: &[serde_json::Value]) -> Result<u64, PortError> {
        // The next time will do.
        let Ok(_alone) = self.collecting.try_write() else { return Ok(0) };
        let mut kept = HashSet::new();
        for manifest in keep {
            // A manifest that cannot be read may need anything: then nothing is removed.
            kept.extend(Manifest::read(manifest)?.blobs().cloned());
        }
        let (blobs, layers) = (self.blobs.clone(), self.layers.clone());
        blocking(move || collect(&blobs, &layers, &kept)).await
    }

    async fn purge_cache(&self, app: AppId) -> Result<(), PortError> {
        self.buildpacks.purge_cache(app).map_err(|e| PortError::new("emptying the build cache", e))
    }
}

/// Removes blobs and layers that are not in `kept`; how many bytes of blobs that were.
fn collect(blobs: &Blobs, layers: &Layers, kept: &HashSet<Digest>) -> Result<u64, PortError> {
    let collecting = |e: shipway_blobs::BlobError| PortError::new("collecting what no slug needs", e);
    let mut freed = 0;
    for (digest, size) in blobs.list().map_err(collecting)? {
        if kept.contains(&digest) || blobs.age(&digest).map_err(collecting)? < YOUNG {
            continue;
        }
        layers.remove(&digest).map_err(collecting)?;
        blobs.remove(&digest).map_err(collecting)?;
        freed += size;
    }
    for digest in layers.list().map_err(collecting)? {
        // Its blob was removed before it could be.
        if !kept.contains(&digest) && !blobs.exists(&digest) {
            layers.remove(&digest).map_err(collecting)?;
        }
    }
    Ok(freed)
}

/// A build's lines, to whoever follows it.
struct Output(Arc<dyn Lines>);

impl BuildOutput for Output {
    fn line(&mut self, line: &str) {
        self.0.line(line);
    }
}

fn failure(error: BuildError) -> BuildFailure {
    match error {
        BuildError::User(_) | BuildError::Limit { .. } => BuildFailure::User(error.to_string()),
        BuildError::Cancelled => BuildFailure::Cancelled,
        BuildError::Platform(why) => BuildFailure::Platform(why),
    }
}

/// Runs work on files on a thread that may wait for them.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PortError> + Send + 'static,
) -> Result<T, PortError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| PortError::new("working on files", e))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::SystemTime;

    #[test]
    fn only_what_is_old_and_unnamed_is_collected() {
        let home = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(home.path()).unwrap();
        let layers = Layers::open(home.path(), blobs.clone()).unwrap();
        let [kept, young, old] = ["kept", "young", "old"].map(|text| blobs.put(text.as_bytes()).unwrap().0);
        for digest in [&kept, &young, &old] {
            let file = File::options().write(true).open(home.path().join("blobs/sha256").join(digest.hex())).unwrap();
            file.set_modified(SystemTime::now() - 2 * YOUNG).unwrap();
            std::fs::create_dir(layers.path(digest)).unwrap();
        }
        blobs.touch(&young).unwrap();
        let freed = collect(&blobs, &layers, &HashSet::from([kept.clone()])).unwrap();
        let left = |digest: &Digest| (blobs.exists(digest), layers.path(digest).exists());
        assert_eq!(freed, 3);
        assert_eq!((left(&kept), left(&young), left(&old)), ((true, true), (true, true), (false, false)));
    }
}
