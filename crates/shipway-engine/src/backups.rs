//! The files of backups: `backups/<transfer-id>.sealed` of the data directory, 0600, PostgreSQL's custom format sealed with
//! the platform's key. Whoever takes the disk without `keys/` has nothing to read.
//!
//! PostgreSQL's tools read and write plain files: while a transfer is under way its dump lies open beside them
//! (`<transfer-id>.part`, 0600), and the transfer's end removes it, as does the next run of one that was killed.

use crate::error::Error;
use crate::{Platform, Result};
use shipway_domain::TransferId;
use shipway_domain::addon::TransferKind;
use shipway_store::{SealedFile, plain_bytes};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

impl Platform {
    /// A complete backup's data, and its size in bytes. Reading it blocks.
    pub async fn open_backup(&self, id: TransferId) -> Result<(SealedFile<File>, u64)> {
        let transfer = self.store().read(|c| c.transfer(id))?;
        let complete = transfer.filter(|t| t.kind == TransferKind::Backup && t.succeeded == Some(true));
        complete.ok_or_else(|| Error::missing("backup"))?;
        self.opened(id).await
    }

    async fn opened(&self, id: TransferId) -> Result<(SealedFile<File>, u64)> {
        let platform = self.clone();
        blocking(move || {
            let file = File::open(platform.sealed_dump(id))?;
            let bytes = plain_bytes(file.metadata()?.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok((platform.store().keys().open_file(&context(id), file)?, bytes))
        })
        .await
    }

    /// Where a dump lies open while its transfer is under way.
    pub(crate) fn open_dump(&self, id: TransferId) -> PathBuf {
        self.backups().join(format!("{id}.part"))
    }

    fn sealed_dump(&self, id: TransferId) -> PathBuf {
        self.backups().join(format!("{id}.sealed"))
    }

    fn backups(&self) -> PathBuf {
        self.settings().home.join("backups")
    }

    /// Makes a dump a backup: sealed, on disk, whole or not at all. Returns the dump's bytes.
    pub(crate) async fn seal_backup(&self, id: TransferId, dump: &Path) -> Result<u64> {
        let (platform, dump) = (self.clone(), dump.to_path_buf());
        blocking(move || {
            let (sealed, draft) = (platform.sealed_dump(id), platform.sealed_dump(id).with_extension("sealed.new"));
            let file = create(&draft)?;
            let bytes = platform.store().keys().seal_file(&context(id), File::open(dump)?, &file)?;
            file.sync_all()?;
            std::fs::rename(&draft, sealed)?;
            File::open(platform.backups())?.sync_all()?;
            Ok(bytes)
        })
        .await
    }

    /// Makes an empty file for a dump that comes from elsewhere.
    pub(crate) async fn make_open_dump(&self, dump: &Path) -> Result<()> {
        let (directory, dump) = (self.backups(), dump.to_path_buf());
        blocking(move || {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            create(&dump).map(drop)
        })
        .await
    }

    /// Opens a backup into a file, for the tools.
    pub(crate) async fn unseal_backup(&self, id: TransferId, dump: &Path) -> Result<()> {
        let (sealed, _) = self.opened(id).await?;
        let dump = dump.to_path_buf();
        blocking(move || sealed.copy(create(&dump)?)).await
    }

    /// Removes all that there is of a transfer's dump.
    pub(crate) async fn remove_backup(&self, id: TransferId) -> Result<()> {
        let draft = self.sealed_dump(id).with_extension("sealed.new");
        for file in [self.sealed_dump(id), draft, self.open_dump(id)] {
            match tokio::fs::remove_file(file).await {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::platform(e)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn context(id: TransferId) -> String {
    format!("backup {id}")
}

/// An empty file that nobody else may read.
fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::platform)?.map_err(Error::platform)
}
