//! The blob store: `blobs/sha256/<hex>`.

use ring::digest::{Context, SHA256};
use shipway_domain::Digest;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Why a blob could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// No blob has this digest.
    #[error("blob {0} is not in the store")]
    Missing(Digest),
    /// The file's bytes are not those that its name promises. It is never served.
    #[error("blob {digest} is corrupt: its bytes have the digest {found}; restore {path} from a backup or build again")]
    Corrupt {
        /// What the blob is called.
        digest: Digest,
        /// What its bytes hash to.
        found: Digest,
        /// Where it lies.
        path: PathBuf,
    },
    /// The machine refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with its object.
        doing: String,
        /// The machine's answer.
        #[source]
        source: io::Error,
    },
}

impl BlobError {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// The blobs of one data directory. Cheap to clone; safe to use from many threads and processes at once.
#[derive(Debug, Clone)]
pub struct Blobs {
    directory: Arc<PathBuf>,
}

static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

impl Blobs {
    /// Opens `<home>/blobs/sha256`, making it where it is missing.
    pub fn open(home: &Path) -> Result<Self, BlobError> {
        let directory = home.join("blobs/sha256");
        fs::create_dir_all(&directory).map_err(BlobError::io(format!("making {}", directory.display())))?;
        Ok(Self { directory: Arc::new(directory) })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// Stores everything that `reader` gives and returns its digest and size in bytes.
    ///
    /// The blob is complete and on disk when this returns; an interrupted call leaves nothing that could be mistaken for it.
    pub fn put(&self, mut reader: impl Read) -> Result<(Digest, u64), BlobError> {
        let mut put = self.writer()?;
        io::copy(&mut reader, &mut put).map_err(BlobError::io("writing a blob"))?;
        put.finish()
    }

    /// Begins a blob that is written piece by piece; it appears in the store with [`Put::finish`].
    pub fn writer(&self) -> Result<Put, BlobError> {
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!(".new-{}-{number}", std::process::id()));
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .map_err(BlobError::io(format!("making {}", temporary.display())))?;
        Ok(Put {
            directory: self.directory.clone(),
            temporary,
            file,
            hash: Context::new(&SHA256),
            size: 0,
            finished: false,
        })
    }

    /// Reads a whole blob, checked against its name.
    ///
    /// For small ones (manifests); layers are read with [`Blobs::verified`].
    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>, BlobError> {
        let mut bytes = Vec::new();
        self.file(digest)?
            .read_to_end(&mut bytes)
            .map_err(BlobError::io(format!("reading {}", self.path(digest).display())))?;
        self.check(digest, from_hash(ring::digest::digest(&SHA256, &bytes)))?;
        Ok(bytes)
    }

    /// Opens a blob after its bytes were read once and found to be what its name promises.
    pub fn verified(&self, digest: &Digest) -> Result<File, BlobError> {
        use std::io::{Seek, SeekFrom};
        let mut file = self.file(digest)?;
        let reading = || format!("reading {}", self.path(digest).display());
        let mut hash = Context::new(&SHA256);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match file.read(&mut buffer).map_err(BlobError::io(reading()))? {
                0 => break,
                n => hash.update(&buffer[..n]),
            }
        }
        self.check(digest, from_hash(hash.finish()))?;
        file.seek(SeekFrom::Start(0)).map_err(BlobError::io(reading()))?;
        Ok(file)
    }

    /// Whether a blob of this digest and size lies in the store. Its bytes are not read.
    pub fn exists(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// A blob's size in bytes.
    pub fn size(&self, digest: &Digest) -> Result<u64, BlobError> {
        match fs::metadata(self.path(digest)) {
            Ok(meta) => Ok(meta.len()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(BlobError::Missing(digest.clone())),
            Err(e) => Err(BlobError::io(format!("looking at {}", self.path(digest).display()))(e)),
        }
    }

    /// How long ago a blob was stored or touched; zero after the clock was set back.
    pub fn age(&self, digest: &Digest) -> Result<Duration, BlobError> {
        match fs::metadata(self.path(digest)).and_then(|meta| meta.modified()) {
            Ok(then) => Ok(then.elapsed().unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(BlobError::Missing(digest.clone())),
            Err(e) => Err(BlobError::io(format!("looking at {}", self.path(digest).display()))(e)),
        }
    }

    /// Makes a blob as young as one that was just stored.
    pub fn touch(&self, digest: &Digest) -> Result<(), BlobError> {
        let touched =
            File::options().write(true).open(self.path(digest)).and_then(|f| f.set_modified(SystemTime::now()));
        match touched {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(BlobError::Missing(digest.clone())),
            other => other.map_err(BlobError::io(format!("touching {}", self.path(digest).display()))),
        }
    }

    /// Removes a blob; one that is not there is removed already.
    pub fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        match fs::remove_file(self.path(digest)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(BlobError::io(format!("removing {}", self.path(digest).display()))(e))
            }
            _ => Ok(()),
        }
    }

    /// Every blob with its size in bytes, in no order.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, BlobError> {
        let listing = || format!("listing {}", self.directory.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&*self.directory).map_err(BlobError::io(listing()))? {
            let entry = entry.map_err(BlobError::io(listing()))?;
            let Some(digest) = entry.file_name().to_str().and_then(|hex| Digest::parse(&format!("sha256:{hex}")).ok())
            else {
                continue;
            };
            // One that is removed meanwhile is not in the store any more.
            if let Ok(meta) = entry.metadata() {
                found.push((digest, meta.len()));
            }
        }
        Ok(found)
    }

    /// Removes what interrupted writes of earlier processes left. Call it once, at start.
    pub fn sweep(&self) -> Result<(), BlobError> {
        let sweeping = || format!("sweeping {}", self.directory.display());
        for entry in fs::read_dir(&*self.directory).map_err(BlobError::io(sweeping()))? {
            let entry = entry.map_err(BlobError::io(sweeping()))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".new-") {
                fs::remove_file(entry.path()).map_err(BlobError::io(sweeping()))?;
            }
        }
        Ok(())
    }

    fn file(&self, digest: &Digest) -> Result<File, BlobError> {
        match File::open(self.path(digest)) {
            Ok(file) => Ok(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(BlobError::Missing(digest.clone())),
            Err(e) => Err(BlobError::io(format!("opening {}", self.path(digest).display()))(e)),
        }
    }

    /// A corrupt blob is put aside: what asks whether it is there makes it again then, such as the next build.
    fn check(&self, digest: &Digest, found: Digest) -> Result<(), BlobError> {
        if found == *digest {
            return Ok(());
        }
        let path = self.directory.join(format!(".corrupt-{}", digest.hex()));
        fs::rename(self.path(digest), &path)
            .map_err(BlobError::io(format!("putting the corrupt blob {digest} aside as {}", path.display())))?;
        Err(BlobError::Corrupt { digest: digest.clone(), found, path })
    }
}

/// A blob that is being written. Dropped without [`Put::finish`], it never was.
pub struct Put {
    directory: Arc<PathBuf>,
    temporary: PathBuf,
    file: File,
    hash: Context,
    size: u64,
    finished: bool,
}

impl Put {
    /// Makes the blob appear under its digest: file synced, renamed, directory synced.
    ///
    /// A corrupt file under the same name is replaced by this good one.
    pub fn finish(mut self) -> Result<(Digest, u64), BlobError> {
        let digest = from_hash(self.hash.clone().finish());
        let path = self.directory.join(digest.hex());
        self.file.sync_all().map_err(BlobError::io(format!("syncing {}", self.temporary.display())))?;
        fs::rename(&self.temporary, &path).map_err(BlobError::io(format!("renaming a blob to {}", path.display())))?;
        self.finished = true;
        File::open(&*self.directory)
            .and_then(|d| d.sync_all())
            .map_err(BlobError::io(format!("syncing {}", self.directory.display())))?;
        Ok((digest, self.size))
    }
}

impl Write for Put {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Put {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing refers to it; one that cannot be removed is only space.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn from_hash(hash: ring::digest::Digest) -> Digest {
    let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    Digest::parse(&format!("sha256:{hex}")).expect("a SHA-256 is a digest")
}
