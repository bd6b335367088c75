//! The parts of a slug: its layers packed, its manifest stored, and what a build step changed in a dependency tree.

use crate::model::{BuildError, BuildRequest, BuilderConfig, LayerKind, LayerRef, SlugManifest};
use crate::sources::Source;
use crate::tree::{SlugIgnore, hex};
use ring::hmac;
use serde_json::json;
use shipway_blobs::{BlobError, Blobs, Layers, PackLimits, PackSpec, archive};
use shipway_domain::Digest;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A layer to be packed. Owns what it needs, because it is packed on another thread.
pub(crate) struct Packing {
    pub(crate) root: PathBuf,
    pub(crate) subtree: PathBuf,
    pub(crate) kind: LayerKind,
    pub(crate) inputs: Option<String>,
    pub(crate) apart: Vec<PathBuf>,
    pub(crate) touched: Vec<PathBuf>,
    pub(crate) ignore: SlugIgnore,
}

impl Packing {
    pub(crate) fn everything(root: PathBuf, kind: LayerKind, inputs: Option<String>) -> Self {
        Self {
            root,
            subtree: PathBuf::new(),
            kind,
            inputs,
            apart: Vec::new(),
            touched: Vec::new(),
            ignore: SlugIgnore::default(),
        }
    }

    fn excluded(&self, path: &Path, is_directory: bool) -> bool {
        if path == Path::new(".git") {
            return true;
        }
        if path == Path::new("node_modules/.cache") {
            // Build tools keep notes to themselves here.
            return true;
        }
        if self.apart.iter().any(|apart| path.starts_with(apart)) {
            return !self.touched.iter().any(|touched| touched.starts_with(path));
        }
        self.ignore.matches(path, is_directory)
    }
}

/// Packs and unpacks a layer. Returns it and what could not be packed.
pub(crate) async fn pack(layers: &Layers, packing: Packing) -> Result<(LayerRef, Vec<PathBuf>), BuildError> {
    let layers = layers.clone();
    let work = move || -> Result<_, BuildError> {
        let spec = PackSpec {
            root: &packing.root,
            subtree: &packing.subtree,
            exclude: &|path, is_directory| packing.excluded(path, is_directory),
            limits: PackLimits::default(),
        };
        let (digest, size_bytes, packed) = layers.pack(&spec)?;
        layers.unpack(&digest)?;
        Ok((LayerRef { digest, size_bytes, kind: packing.kind, inputs: packing.inputs }, packed.skipped))
    };
    blocking(work).await
}

/// Unpacks a layer over a tree of ours: for build steps that need what it holds.
pub(crate) async fn unpack_into(blobs: &Blobs, layer: &LayerRef, target: &Path) -> Result<(), BuildError> {
    let (blobs, digest, target) = (blobs.clone(), layer.digest.clone(), target.to_owned());
    blocking(move || Ok(archive::unpack(blobs.verified(&digest)?, &target, &archive::Limits::default())?)).await
}

/// Copies a subtree of `from` to the same place below `to`, which is made.
pub(crate) async fn duplicate(from: &Path, subtree: &Path, to: &Path) -> Result<(), BuildError> {
    let (from, subtree, to) = (from.to_owned(), subtree.to_owned(), to.to_owned());
    blocking(move || {
        fs::create_dir_all(&to).map_err(BuildError::platform("making a copy of the dependencies"))?;
        let (reader, writer) = std::io::pipe().map_err(BuildError::platform("making a pipe"))?;
        std::thread::scope(|scope| {
            let packing = scope.spawn(|| {
                let spec =
                    PackSpec { root: &from, subtree: &subtree, exclude: &|_, _| false, limits: PackLimits::default() };
                shipway_blobs::pack(&spec, writer)
            });
            let unpacked = archive::unpack(reader, &to, &archive::Limits::default());
            packing.join().map_err(|_| BuildError::Platform("packing panicked".into()))??;
            Ok(unpacked?)
        })
    })
    .await
}

/// Runs work on files on a thread that may wait for them.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| BuildError::Platform(e.to_string()))?
}

/// A moment on the clock of the file system, in ns: later than every change so far, not later than any from now on.
pub(crate) fn mark(work: &Path) -> Result<i128, BuildError> {
    let marking = || BuildError::platform("marking the time in the build's directory");
    let path = work.join("mark");
    let now = || -> Result<i128, BuildError> {
        fs::write(&path, "mark").map_err(marking())?;
        let meta = fs::symlink_metadata(&path).map_err(marking())?;
        Ok(nanoseconds(meta.ctime(), meta.ctime_nsec()))
    };
    let first = now()?;
    loop {
        // That clock stands still for some milliseconds: what was written in the same tick came before.
        let next = now()?;
        if next > first {
            return Ok(next);
        }
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(rest)
}

/// Files and links below `subtree` that were written since the mark.
pub(crate) fn touched(root: &Path, subtree: &Path, mark: i128) -> Result<Vec<PathBuf>, BuildError> {
    let mut found = Vec::new();
    let spec = PackSpec {
        root,
        subtree,
        exclude: &|path, _| path == Path::new("node_modules/.cache"),
        limits: PackLimits::default(),
    };
    shipway_blobs::walk(&spec, &mut |path, stat| {
        let directory = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
        let changed = nanoseconds(stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0));
        if !directory && changed >= mark && path.starts_with(subtree) {
            found.push(path.to_owned());
        }
    })?;
    Ok(found)
}

/// Makes the directories above `path` below `root`; whatever of the app's is in their place makes way.
pub(crate) fn make_parents(root: &Path, path: &Path) -> std::io::Result<()> {
    let mut at = root.to_owned();
    for part in path.parent().into_iter().flat_map(Path::components) {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => continue,
            Ok(_) => fs::remove_file(&at)?,
            Err(_) => {}
        }
        fs::create_dir(&at)?;
    }
    Ok(())
}

/// Whether `path` below `root` is a directory that is reached through directories alone.
pub(crate) fn is_plain_directory(root: &Path, path: &Path) -> bool {
    path.ancestors().all(|at| fs::symlink_metadata(root.join(at)).is_ok_and(|meta| meta.is_dir()))
}

/// Stores the slug as an OCI manifest and its config. Returns the digests of both, the manifest's first.
pub(crate) fn store(slug: &SlugManifest, blobs: &Blobs) -> Result<(Digest, Digest), BlobError> {
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {
            "Env": slug.env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
            "WorkingDir": "/app",
        },
        "rootfs": { "type": "layers", "diff_ids": slug.layers.iter().map(|l| l.digest.as_str()).collect::<Vec<_>>() },
        "shipway": {
            "process_types": slug.process_types,
            "language": slug.language,
            "buildpacks": slug.buildpacks,
            "stack": slug.stack,
        },
    });
    let config = config.to_string();
    let (config_digest, config_size) = blobs.put(config.as_bytes())?;
    let layers: Vec<_> = slug
        .layers
        .iter()
        .map(|layer| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer.digest.as_str(),
                "size": layer.size_bytes,
            })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.shipway.slug.v1",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest.as_str(),
            "size": config_size,
        },
        "layers": layers,
    });
    let (manifest_digest, _) = blobs.put(manifest.to_string().as_bytes())?;
    Ok((manifest_digest, config_digest))
}

/// Keyed digest of all that a build of a commit depends on.
///
/// None when it is not known beforehand: without a commit, or with buildpacks whose upstream may have moved.
pub(crate) fn request_inputs(request: &BuildRequest, config: &BuilderConfig, sources: &[Source]) -> Option<String> {
    let commit = request.commit.as_ref()?;
    if !sources.iter().all(|s| matches!(s, Source::BuiltIn(_))) {
        return None;
    }
    let parts = json!([
        1,
        env!("CARGO_PKG_VERSION"),
        commit,
        request.app,
        request.buildpacks,
        request.env,
        config.stack,
        config.stack_fingerprint,
        config.client_settings,
    ]);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &config.inputs_key);
    Some(hex(hmac::sign(&key, parts.to_string().as_bytes()).as_ref()))
}
