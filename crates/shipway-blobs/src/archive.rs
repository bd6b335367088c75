//! Unpacking a tar that a stranger may have made.
//!
//! Each entry is resolved with `openat2` below the target directory without following any link, so an archive that first
//! makes `a -> /etc` and then writes `a/passwd` fails at the second. Names with `..` or a leading `/` are refused, not
//! cleaned: an archive that has them is wrong. Nothing is overwritten; an entry that comes twice is refused.

use crate::blobs::BlobError;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// How much an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of any kind.
    pub entries: u64,
    /// Bytes of all files together, as they are unpacked.
    pub bytes: u64,
    /// Bytes of one path.
    pub path_bytes: usize,
}

impl Default for Limits {
    /// 500,000 entries, 4 GiB, paths of 4,096 bytes (the kernel's own limit).
    fn default() -> Self {
        Self { entries: 500_000, bytes: 4 << 30, path_bytes: 4096 }
    }
}

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// An entry that must not be unpacked.
    #[error("the archive's entry {path:?} {problem}")]
    Entry {
        /// Its path, cut to 200 characters.
        path: String,
        /// What is wrong with it, as the end of a sentence.
        problem: String,
    },
    /// It holds more than the limits.
    #[error("the archive holds more than {limit} {what}")]
    TooLarge {
        /// `entries` or `bytes`.
        what: &'static str,
        /// The limit that was passed.
        limit: u64,
    },
    /// It is not a tar archive, or it ends in the middle.
    #[error("the archive cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The blob that should hold it is missing or corrupt, or the machine refused.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// Unpacks a plain tar into `target`, an existing empty directory that nobody else writes to.
///
/// Takes regular files, directories, symbolic links (never followed here) and hard links to files of the same archive.
/// Set-user-id, set-group-id and sticky bits are dropped, owners and times ignored.
pub fn unpack(reader: impl Read, target: &Path, limits: &Limits) -> Result<(), ArchiveError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(target, flags, Mode::empty())
        .map_err(|e| BlobError::io(format!("opening {}", target.display()))(e.into()))?;
    let mut unpacking = Unpacking { root, limits, parent: None, files: HashSet::new(), entries: 0, bytes: 0, target };
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(256 * 1024, reader));
    for entry in archive.entries().map_err(ArchiveError::Unreadable)? {
        unpacking.entry(entry.map_err(ArchiveError::Unreadable)?)?;
    }
    Ok(())
}

struct Unpacking<'a> {
    root: OwnedFd,
    limits: &'a Limits,
    target: &'a Path,
    /// The directory of the last entry: archives are mostly sorted, so it is mostly the next one's too.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Regular files so far, for hard links.
    files: HashSet<PathBuf>,
    entries: u64,
    bytes: u64,
}

impl Unpacking<'_> {
    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), ArchiveError> {
        use tar::EntryType;
        let raw = entry.path_bytes().into_owned();
        let refuse = |problem: &str| refusal(&raw, problem);
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(ArchiveError::TooLarge { what: "entries", limit: self.limits.entries });
        }
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            // `git archive` writes the commit here.
            return Ok(());
        }
        let path = self.clean(&raw)?;
        let mode = entry.header().mode().unwrap_or(0o644);
        let Some(name) = path.file_name() else {
            // `./` itself.
            return if kind == EntryType::Directory { Ok(()) } else { Err(refuse("has no name")) };
        };
        match kind {
            EntryType::Directory => {
                let parent = self.parent(&path)?;
                match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode & 0o755 | 0o700)) {
                    Ok(()) => Ok(()),
                    // A directory may be named again; anything else in its place may not.
                    Err(rustix::io::Errno::EXIST) if self.is_directory(&path) => Ok(()),
                    Err(e) => Err(self.failed(&raw, e.into())),
                }
            }
            EntryType::Regular | EntryType::Continuous => {
                let size = entry.size();
                self.bytes = self.bytes.saturating_add(size);
                if self.bytes > self.limits.bytes {
                    return Err(ArchiveError::TooLarge { what: "bytes", limit: self.limits.bytes });
                }
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let parent = self.parent(&path)?;
                let mode = Mode::from_raw_mode(mode & 0o755 | 0o400);
                let file = rustix::fs::openat(parent, name, flags, mode).map_err(|e| self.failed(&raw, e.into()))?;
                let copied = io::copy(&mut entry, &mut File::from(file)).map_err(ArchiveError::Unreadable)?;
                if copied != size {
                    return Err(refuse("is shorter than its header says"));
                }
                self.files.insert(path);
                Ok(())
            }
            EntryType::Symlink => {
                let link = entry.link_name_bytes().ok_or_else(|| refuse("is a link to nothing"))?;
                if link.is_empty() || link.len() > self.limits.path_bytes || link.contains(&0) {
                    return Err(refuse("is a link to nothing"));
                }
                let parent = self.parent(&path)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&link), parent, name).map_err(|e| self.failed(&raw, e.into()))
            }
            EntryType::Link => {
                let link = entry.link_name_bytes().ok_or_else(|| refuse("is a link to nothing"))?.into_owned();
                let original = self.clean(&link)?;
                if !self.files.contains(&original) {
                    return Err(refuse("is a hard link to something that is not a file of this archive"));
                }
                let from =
                    self.parent(&original)?.try_clone_to_owned().map_err(BlobError::io("unpacking a hard link"))?;
                let original_name = original.file_name().unwrap_or_default().to_owned();
                let parent = self.parent(&path)?;
                rustix::fs::linkat(from, original_name, parent, name, rustix::fs::AtFlags::empty())
                    .map_err(|e| self.failed(&raw, e.into()))?;
                self.files.insert(path);
                Ok(())
            }
            EntryType::Char | EntryType::Block => Err(refuse("is a device; remove it")),
            EntryType::Fifo => Err(refuse("is a named pipe; remove it")),
            EntryType::GNUSparse => Err(refuse("is a sparse file; pack it without --sparse")),
            other => Err(refuse(&format!("is of a kind that is not taken ({:?})", other.as_byte() as char))),
        }
    }

    /// The path without `.` parts; refuses what leads out.
    fn clean(&self, raw: &[u8]) -> Result<PathBuf, ArchiveError> {
        let refuse = |problem: &str| Err(refusal(raw, problem));
        if raw.len() > self.limits.path_bytes {
            return refuse("has a path that is too long");
        }
        if raw.contains(&0) {
            return refuse("has a NUL in its name");
        }
        let mut clean = PathBuf::new();
        for part in Path::new(OsStr::from_bytes(raw)).components() {
            match part {
                Component::Normal(name) => clean.push(name),
                Component::CurDir => {}
                Component::ParentDir => return refuse("leads out of the archive with `..`"),
                Component::RootDir | Component::Prefix(_) => return refuse("has an absolute path"),
            }
        }
        Ok(clean)
    }

    /// The directory that `path` belongs into, made where the archive did not name it.
    fn parent(&mut self, path: &Path) -> Result<rustix::fd::BorrowedFd<'_>, ArchiveError> {
        let wanted = path.parent().unwrap_or(Path::new(""));
        if wanted.as_os_str().is_empty() {
            return Ok(self.root.as_fd());
        }
        if self.parent.as_ref().is_none_or(|(have, _)| have != wanted) {
            let fd = match self.open_beneath(wanted) {
                Err(rustix::io::Errno::NOENT) => {
                    let mut made = PathBuf::new();
                    for part in wanted.components() {
                        made.push(part);
                        let step = match self.open_beneath(&made) {
                            // What lies above was opened just now, without a link on the way.
                            Err(rustix::io::Errno::NOENT) => {
                                rustix::fs::mkdirat(&self.root, &made, Mode::from_raw_mode(0o755))
                            }
                            other => other.map(drop),
                        };
                        step.map_err(|e| self.failed(path.as_os_str().as_bytes(), e.into()))?;
                    }
                    self.open_beneath(wanted)
                }
                other => other,
            };
            let fd = fd.map_err(|e| self.failed(path.as_os_str().as_bytes(), e.into()))?;
            self.parent = Some((wanted.to_owned(), fd));
        }
        let (_, fd) = self.parent.as_ref().expect("set above");
        Ok(fd.as_fd())
    }

    fn open_beneath(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat2(
            &self.root,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        )
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.open_beneath(path).is_ok()
    }

    fn failed(&self, raw: &[u8], error: io::Error) -> ArchiveError {
        use rustix::io::Errno;
        match Errno::from_io_error(&error) {
            Some(Errno::EXIST) => refusal(raw, "comes twice"),
            Some(Errno::LOOP | Errno::XDEV) => refusal(raw, "goes through a symbolic link"),
            Some(Errno::NOTDIR) => refusal(raw, "goes through a file or a symbolic link"),
            Some(Errno::NAMETOOLONG) => refusal(raw, "has a name that is too long"),
            _ => BlobError::io(format!("unpacking into {}", self.target.display()))(error).into(),
        }
    }
}

fn refusal(raw: &[u8], problem: &str) -> ArchiveError {
    ArchiveError::Entry { path: String::from_utf8_lossy(raw).chars().take(200).collect(), problem: problem.into() }
}
