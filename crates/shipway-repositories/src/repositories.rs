//! The repositories of apps.

use crate::histories::Memory;
use async_trait::async_trait;
use flate2::read::MultiGzDecoder;
use shipway_blobs::archive;
use shipway_domain::forge::{DeployKey, RepositoryName};
use shipway_domain::review::BranchName;
use shipway_domain::ssh::{HostKey, SshServer};
use shipway_domain::{AppId, CommitId, OperationId};
use shipway_engine::ports::{CommitInfo, FetchRefused, Place, PortError, Remote, Repositories, Spot};
use shipway_git::{CheckoutLimits, Fetched, Git, GitError, Repo};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The repositories of one data directory.
pub struct GitRepositories {
    git: Git,
    home: PathBuf,
    memory: Memory,
}

impl GitRepositories {
    /// Those below `home`.
    pub fn new(git: Git, home: PathBuf) -> Self {
        Self { git, home, memory: Memory::default() }
    }

    fn path(&self, app: AppId) -> PathBuf {
        self.home.join("repos").join(format!("{app}.git"))
    }

    pub(crate) fn git(&self) -> &Git {
        &self.git
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn repo(&self, app: AppId) -> Repo {
        Repo::open(&self.git, &self.path(app))
    }

    /// Fetches from a server elsewhere, with what opens it. The inner error is the user's.
    pub(crate) async fn bring(
        &self,
        into: &Repo,
        from: &Remote,
        refspec: &str,
    ) -> Result<Result<(), FetchRefused>, GitError> {
        let fetched = match from {
            Remote::Http { address, authorization } => match self.git.address(address) {
                Ok(address) => into.fetch_remote(&address, authorization.as_deref(), &[], refspec).await?,
                Err(problem) => Fetched::Refused(problem),
            },
            Remote::Ssh { key, repository } => into.fetch_with_key(key, repository, &[], refspec).await?,
        };
        Ok(match fetched {
            Fetched::Done => Ok(()),
            Fetched::Refused(said) => Err(FetchRefused(said)),
        })
    }
}

#[async_trait]
impl Repositories for GitRepositories {
    async fn create(&self, app: AppId) -> Result<(), PortError> {
        let made = Repo::create(&self.git, &self.path(app)).await;
        made.map(drop).map_err(|e| PortError::new("making the app's repository", e))
    }

    async fn remove(&self, app: AppId) -> Result<(), PortError> {
        remove(self.path(app), "removing the app's repository").await
    }

    async fn pin(&self, app: AppId, operation: OperationId, commit: &CommitId) -> Result<(), PortError> {
        self.repo(app).pin(operation, commit).await.map_err(|e| PortError::new("keeping the commit", e))
    }

    async fn unpin(&self, app: AppId, operation: OperationId) -> Result<(), PortError> {
        // An app that is destroyed meanwhile takes its refs along.
        if !self.path(app).exists() {
            return Ok(());
        }
        self.repo(app).unpin(operation).await.map_err(|e| PortError::new("letting go of the commit", e))
    }

    async fn carry(&self, from: Place, to: AppId, operation: OperationId, commit: &CommitId) -> Result<(), PortError> {
        let kept = format!("refs/shipway/op/{operation}");
        let taken = self.repo(to).take(&self.at(from), commit, &kept).await;
        taken.map_err(|e| PortError::new("bringing the commit", e))
    }

    async fn fetch(
        &self,
        from: &Remote,
        to: AppId,
        operation: OperationId,
        commit: &CommitId,
    ) -> Result<Result<(), FetchRefused>, PortError> {
        let doing = |e: GitError| PortError::new("fetching a commit", e);
        let (repo, kept) = (self.repo(to), format!("refs/shipway/op/{operation}"));
        if repo.resolve(&kept).await.map_err(doing)?.as_ref() == Some(commit) {
            return Ok(Ok(()));
        }
        self.bring(&repo, from, &format!("+{commit}:{kept}")).await.map_err(doing)
    }

    async fn host_keys(&self, of: &SshServer) -> Result<Result<Vec<HostKey>, FetchRefused>, PortError> {
        let asked = self.git.host_keys(of).await.map_err(|e| PortError::new("asking for host keys", e))?;
        Ok(asked.map_err(FetchRefused))
    }

    async fn branches_with_key(
        &self,
        key: &DeployKey,
        repository: &RepositoryName,
        branches: &[BranchName],
    ) -> Result<Result<Vec<BranchName>, FetchRefused>, PortError> {
        let asked = self.git.branches_with_key(key, repository, branches).await;
        Ok(asked.map_err(|e| PortError::new("asking for branches", e))?.map_err(FetchRefused))
    }

    async fn branch(&self, app: AppId, branch: &BranchName) -> Result<Option<CommitId>, PortError> {
        let head = self.repo(app).resolve(&format!("refs/heads/{branch}")).await;
        head.map_err(|e| PortError::new("looking for the branch", e))
    }

    async fn set_branch(&self, app: AppId, commit: &CommitId) -> Result<(), PortError> {
        self.repo(app).set_branch(commit).await.map_err(|e| PortError::new("moving the branch", e))
    }

    async fn keep_release(&self, app: AppId, version: u64, commit: &CommitId) -> Result<(), PortError> {
        let kept = self.repo(app).keep_release(version, commit).await;
        kept.map_err(|e| PortError::new("keeping the release's commit", e))
    }

    async fn checkout(&self, app: AppId, commit: &CommitId, into: &Path) -> Result<(), PortError> {
        // The pusher reads this: it says itself which file and what to do.
        let done = self.repo(app).checkout(commit, into, CheckoutLimits::default()).await;
        done.map_err(|e| PortError(e.to_string()))
    }

    async fn import(
        &self,
        app: AppId,
        archive: &Path,
        checksum: Option<&str>,
        message: &str,
    ) -> Result<CommitId, PortError> {
        let tree = self.home.join("work").join(format!("import-{}", uuid::Uuid::new_v4()));
        let (into, archive, checksum) = (tree.clone(), archive.to_path_buf(), checksum.map(str::to_owned));
        let unpacked = blocking(move || unpack(&archive, checksum.as_deref(), &into)).await;
        let commit = match unpacked {
            Ok(top) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let made = self.repo(app).import_tree(&top, message, now).await;
                made.map_err(|e| PortError::new("making a commit of the source", e))
            }
            Err(refused) => Err(refused),
        };
        blocking(move || {
            // What is left is swept at the next start.
            let _ = fs::remove_dir_all(&tree);
            commit
        })
        .await
    }

    async fn adopt(&self, app: AppId, from: &Spot) -> Result<(), PortError> {
        let kept = format!("refs/shipway/imports/{}", from.commit);
        let taken = self.repo(app).take(&self.at(from.place), &from.commit, &kept).await;
        taken.map_err(|e| PortError::new("bringing the source", e))
    }

    async fn commit_info(&self, app: AppId, commit: &CommitId) -> Result<CommitInfo, PortError> {
        let info = self.repo(app).commit_info(commit).await.map_err(|e| PortError::new("reading the commit", e))?;
        Ok(CommitInfo { subject: info.subject, author: info.author })
    }

    async fn maintain(&self, app: AppId) -> Result<(), PortError> {
        self.repo(app).maintain().await.map_err(|e| PortError::new("packing the repository", e))
    }
    async fn size_bytes(&self, app: AppId) -> Result<u64, PortError> {
        let path = self.path(app);
        blocking(move || bytes_below(&path).map_err(|e| PortError::new("measuring the repository", e))).await
    }
}

/// Removes a repository; one that is not there is fine.
pub(crate) async fn remove(path: PathBuf, doing: &'static str) -> Result<(), PortError> {
    blocking(move || match fs::remove_dir_all(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(PortError::new(doing, e)),
        _ => Ok(()),
    })
    .await
}

/// Runs work on files on a thread that may wait for them.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PortError> + Send + 'static,
) -> Result<T, PortError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| PortError::new("working on files", e))?
}

/// Checks a source archive and unpacks it below `into`. Returns the tree's own top: archives made by forges have everything
/// in one directory, which is left out.
///
/// Errors: the user's to read.
fn unpack(archive: &Path, checksum: Option<&str>, into: &Path) -> Result<PathBuf, PortError> {
    let reading = |e: io::Error| PortError::new("reading the source", e);
    let mut file = File::open(archive).map_err(reading)?;
    if let Some(wanted) = checksum {
        check(&mut file, wanted)?;
        file.rewind().map_err(reading)?;
    }
    fs::create_dir_all(into).map_err(|e| PortError::new("making room for the source", e))?;
    let mut magic = [0; 2];
    let is_gzip = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    file.rewind().map_err(reading)?;
    let limits = archive::Limits::default();
    let unpacked = if is_gzip {
        archive::unpack(MultiGzDecoder::new(file), into, &limits)
    } else {
        archive::unpack(file, into, &limits)
    };
    unpacked.map_err(|e| {
        PortError(format!(
            "The source cannot be unpacked: {e}. Upload a gzipped tar, such as `git archive --format=tar.gz` makes."
        ))
    })?;
    let mut entries = fs::read_dir(into).map_err(reading)?;
    match (entries.next(), entries.next()) {
        (None, _) => Err(PortError("The source is an empty archive. Upload a gzipped tar with the app in it.".into())),
        (Some(Ok(only)), None) if only.file_type().is_ok_and(|t| t.is_dir()) => Ok(only.path()),
        _ => Ok(into.to_path_buf()),
    }
}

/// Compares a file with `SHA256:<hex>`, as the Platform API writes a source's checksum; the prefix may be missing.
fn check(file: &mut File, wanted: &str) -> Result<(), PortError> {
    let hex = wanted.strip_prefix("SHA256:").or_else(|| wanted.strip_prefix("sha256:")).unwrap_or(wanted);
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = file.read(&mut buffer).map_err(|e| PortError::new("reading the source", e))?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
    }
    let found = shipway_store::hex(hash.finish().as_ref());
    if found.eq_ignore_ascii_case(hex) {
        return Ok(());
    }
    Err(PortError(format!(
        "The source's checksum is SHA256:{found}, but the build asks for {wanted:?}. Upload it again, or correct the checksum."
    )))
}

fn bytes_below(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Git may tidy up meanwhile.
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() { bytes_below(&entry.path()).unwrap_or(0) } else { meta.len() };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn archive(directory: &Path, names: &[&str]) -> PathBuf {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(2);
            header.set_mode(0o644);
            // Names that the library itself would refuse to write.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, &b"hi"[..]).unwrap();
        }
        let path = directory.join("source.tgz");
        fs::write(&path, tar.into_inner().unwrap().finish().unwrap()).unwrap();
        path
    }

    #[test]
    fn sources_with_and_without_a_top_directory() {
        let check = |names: &[&str], expected: Result<&str, &str>| {
            let place = tempfile::tempdir().unwrap();
            let into = place.path().join("tree");
            let top = unpack(&archive(place.path(), names), None, &into);
            match (top, expected) {
                (Ok(top), Ok(name)) => assert!(top.join(name).is_file(), "{names:?} -> {}", top.display()),
                (Err(error), Err(words)) => assert!(error.0.contains(words), "{error}"),
                (top, _) => panic!("{names:?} -> {top:?}"),
            }
        };
        check(&["Procfile", "src/app.py"], Ok("Procfile"));
        check(&["shop-main/Procfile", "shop-main/src/app.py"], Ok("Procfile"));
        check(&["../../etc/passwd"], Err("cannot be unpacked"));
        check(&[], Err("empty"));
    }

    #[test]
    fn attack_28_what_is_no_archive_or_another_one_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("source");
        File::create(&path).unwrap().write_all(b"\x1f\x8b not gzip at all").unwrap();
        assert!(unpack(&path, None, &place.path().join("a")).unwrap_err().0.contains("gzipped tar"));
        let good = archive(place.path(), &["Procfile"]);
        let wrong = unpack(&good, Some("SHA256:00"), &place.path().join("b")).unwrap_err();
        assert!(wrong.0.contains("checksum"), "{wrong}");
        let right = wrong.0.split(['.', ' ', ',']).find(|word| word.starts_with("SHA256:")).unwrap().to_owned();
        unpack(&good, Some(&right), &place.path().join("c")).unwrap();
    }
}
