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

    /// Removes what interrupted calls of earlier processes left. Call it once, at start.
    pub fn sweep(&self) -> Result<(), BlobError> {
        let sweeping = || format!("sweeping {}", self.directory.display());
        for entry in fs::read_dir(&self.directory).map_err(BlobError::io(sweeping()))? {
            let entry = entry.map_err(BlobError::io(sweeping()))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                fs::remove_dir_all(entry.path()).map_err(BlobError::io(sweeping()))?;
            }
        }
        Ok(())
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
