//! Layers: blobs that hold a tar, unpacked once into `layers/<hex>/`.

use crate::archive::{self, ArchiveError, Limits};
use crate::blobs::{BlobError, Blobs};
use crate::pack::{self, PackError, PackSpec, Packed};
use shipway_domain::Digest;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The unpacked layers of one data directory.
#[derive(Debug, Clone)]
pub struct Layers {
    blobs: Blobs,
    directory: PathBuf,
}

/// Names the boot of the machine in which the layers were unpacked.
const BOOT: &str = ".boot";

static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

impl Layers {
    /// Opens `<home>/layers`, making it where it is missing.
    pub fn open(home: &Path, blobs: Blobs) -> Result<Self, BlobError> {
        let directory = home.join("layers");
        fs::create_dir_all(&directory).map_err(BlobError::io(format!("making {}", directory.display())))?;
        Ok(Self { blobs, directory })
    }

    /// Packs a directory as a plain deterministic tar and stores it. Returns its digest, its size in bytes, what it holds.
    pub fn pack(&self, spec: &PackSpec<'_>) -> Result<(Digest, u64, Packed), PackError> {
        let mut put = self.blobs.writer()?;
        let packed = pack::pack(spec, &mut put)?;
        let (digest, size) = put.finish()?;
        Ok((digest, size, packed))
    }

    /// Where the unpacked layer lies (or will lie).
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// Unpacks the layer unless it is unpacked; returns its directory.
    ///
    /// The blob is checked against its digest first; the directory appears whole, by rename.
    pub fn unpack(&self, digest: &Digest) -> Result<PathBuf, ArchiveError> {
        let path = self.path(digest);
        if path.is_dir() {
            return Ok(path);
        }
        let blob = self.blobs.verified(digest)?;
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!(".new-{}-{number}", std::process::id()));
        let making = || format!("making the layer {}", path.display());
        fs::create_dir(&temporary).map_err(BlobError::io(making()))?;
        let result = archive::unpack(blob, &temporary, &Limits::default());
        if let Err(error) = result {
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
        match fs::rename(&temporary, &path) {
            Ok(()) => Ok(path),
            // Somebody else was faster with the same bytes.
            Err(_) if path.is_dir() => {
                let _ = fs::remove_dir_all(&temporary);
                Ok(path)
            }
            Err(e) => Err(BlobError::io(making())(e).into()),
        }
    }

    /// Removes an unpacked layer; one that is not there is removed already. The blob stays.
    pub fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        let path = self.path(digest);
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        // Renamed first: a layer is there whole or not at all.
        let doomed = self.directory.join(format!(".old-{}-{number}", std::process::id()));
        match fs::rename(&path, &doomed) {
            Ok(()) => fs::remove_dir_all(&doomed).map_err(BlobError::io(format!("removing {}", doomed.display()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(BlobError::io(format!("removing {}", path.display()))(e)),
        }
    }

    /// Removes what interrupted calls of earlier processes left, and every layer when the machine was started anew since
    /// the last call. Call it once, at start, before anything runs.
    ///
    /// Unpacked files are not flushed one by one, which would make every push wait for the disk: after a power cut a
    /// layer may be there with empty files. Blobs are flushed and checked, so layers are unpacked from them again.
    pub fn sweep(&self) -> Result<(), BlobError> {
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(BlobError::io("reading the boot id"))?;
        self.sweep_at(boot.trim())
    }

    fn sweep_at(&self, boot: &str) -> Result<(), BlobError> {
        let sweeping = || format!("sweeping {}", self.directory.display());
        let known = self.directory.join(BOOT);
        // Without the file it is the first start, or the layers are of this boot as far as anybody knows.
        let anew = fs::read_to_string(&known).is_ok_and(|last| last != boot);
        for entry in fs::read_dir(&self.directory).map_err(BlobError::io(sweeping()))? {
            let entry = entry.map_err(BlobError::io(sweeping()))?;
            let name = entry.file_name();
            if name != BOOT && (anew || name.as_encoded_bytes().starts_with(b".")) {
                fs::remove_dir_all(entry.path()).map_err(BlobError::io(sweeping()))?;
            }
        }
        // Last: a sweep that is interrupted begins again.
        fs::write(&known, boot).map_err(BlobError::io(sweeping()))
    }

    /// The digests of all unpacked layers, in no order.
    pub fn list(&self) -> Result<Vec<Digest>, BlobError> {
        let listing = || format!("listing {}", self.directory.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(BlobError::io(listing()))? {
            let entry = entry.map_err(BlobError::io(listing()))?;
            let name = entry.file_name();
            found.extend(name.to_str().and_then(|hex| Digest::parse(&format!("sha256:{hex}")).ok()));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_40_layers_of_before_a_power_cut_are_not_trusted() {
        let home = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(home.path()).unwrap();
        let layers = Layers::open(home.path(), blobs).unwrap();
        let source = home.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("page"), "hello").unwrap();
        let spec =
            PackSpec { root: &source, subtree: Path::new(""), exclude: &|_, _| false, limits: Default::default() };
        let (digest, ..) = layers.pack(&spec).unwrap();
        let page = || fs::read_to_string(layers.unpack(&digest).unwrap().join("page")).unwrap();

        assert_eq!(page(), "hello");
        layers.sweep_at("first boot").unwrap();
        layers.sweep_at("first boot").unwrap();
        assert!(layers.path(&digest).is_dir(), "a server that is started again keeps them");
        // The rename reached the disk, the bytes did not.
        fs::write(layers.path(&digest).join("page"), "").unwrap();
        layers.sweep_at("second boot").unwrap();
        assert_eq!(page(), "hello");
        assert_eq!(layers.list().unwrap(), std::slice::from_ref(&digest));
    }
}
