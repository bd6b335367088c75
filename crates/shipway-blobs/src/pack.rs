//! From a directory to a deterministic tar: the same tree gives the same bytes, whoever built it and when.

use crate::blobs::BlobError;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How much one layer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackLimits {
    /// Files, directories and links together.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Levels of directories.
    pub depth: usize,
}

impl Default for PackLimits {
    /// 500,000 entries, 4 GiB, 128 levels: several times the largest slugs that Heroku takes (500 MiB compressed).
    fn default() -> Self {
        Self { entries: 500_000, bytes: 4 << 30, depth: 128 }
    }
}

/// What is packed.
pub struct PackSpec<'a> {
    /// The directory whose content becomes the layer's root.
    pub root: &'a Path,
    /// Only this subtree of `root` (`node_modules`), with its parents as directories; empty for everything.
    pub subtree: &'a Path,
    /// Whether a path relative to `root` stays out; a directory that stays out is not looked into.
    pub exclude: &'a dyn Fn(&Path, bool) -> bool,
    /// How much it may hold.
    pub limits: PackLimits,
}

/// What was packed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Paths that an archive of an app cannot hold and that were passed over: devices, sockets, pipes.
    pub skipped: Vec<PathBuf>,
}

/// Why a directory could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The tree is larger than the limits.
    #[error("the tree has more than {limit} {what} (at {path})")]
    TooLarge {
        /// `entries`, `bytes` or `levels of directories`.
        what: &'static str,
        /// The limit that was passed.
        limit: u64,
        /// Where it was passed.
        path: PathBuf,
    },
    /// Something in the tree could not be read.
    #[error("reading {path}: {source}")]
    Read {
        /// Relative to the tree.
        path: PathBuf,
        /// The machine's answer.
        #[source]
        source: io::Error,
    },
    /// The blob store refused.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// One thing in a tree, as [`walk`] shows it.
pub(crate) enum Item {
    Directory,
    File { file: File, size: u64 },
    Link(CString),
}

/// Writes the tree as a tar into `writer`: sorted by name, mtime 0, no owner, `rwxr-xr-x` at most.
pub fn pack(spec: &PackSpec<'_>, writer: impl Write) -> Result<Packed, PackError> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(256 * 1024, writer));
    let packed = walk_items(spec, &mut |path, mode, item| {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        match item {
            Item::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(mode & 0o755 | 0o700);
                archive.append_data(&mut header, path, io::empty())
            }
            Item::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                archive.append_link(&mut header, path, std::ffi::OsStr::from_bytes(target.to_bytes()))
            }
            Item::File { file, size } => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(mode & 0o755 | 0o400);
                header.set_size(size);
                // A file that grows or shrinks while it is read must not shift what comes after it.
                let mut exact = Exact { file, left: size };
                archive.append_data(&mut header, path, &mut exact)
            }
        }
    })?;
    let doing = || BlobError::io("writing a layer");
    archive.into_inner().and_then(|mut buffer| buffer.flush()).map_err(doing())?;
    Ok(packed)
}

/// Calls `see` with every path (relative to `spec.root`), its permission bits and its size, in the order of a layer.
///
/// Nothing is followed and nothing is read; directories have the size 0, links the length of their target.
pub fn walk(spec: &PackSpec<'_>, see: &mut dyn FnMut(&Path, &rustix::fs::Stat)) -> Result<Packed, PackError> {
    let mut packed = Packed::default();
    let root = open_directory(rustix::fs::CWD, &c_path(spec.root))
        .map_err(|source| PackError::Read { path: spec.root.into(), source })?;
    descend(spec, root, Path::new(""), 0, &mut packed, &mut |_, path, _, stat| {
        see(path, stat);
        Ok(())
    })?;
    Ok(packed)
}

fn walk_items(
    spec: &PackSpec<'_>,
    see: &mut dyn FnMut(&Path, u32, Item) -> io::Result<()>,
) -> Result<Packed, PackError> {
    let mut packed = Packed::default();
    let root = open_directory(rustix::fs::CWD, &c_path(spec.root))
        .map_err(|source| PackError::Read { path: spec.root.into(), source })?;
    descend(spec, root, Path::new(""), 0, &mut packed, &mut |directory, path, name, stat| {
        let item = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Item::Directory,
            FileType::Symlink => Item::Link(rustix::fs::readlinkat(directory, name, Vec::new())?),
            _ => {
                let file = File::from(open(directory, name, OFlags::NONBLOCK, Mode::RUSR)?);
                let size = file.metadata()?.len();
                Item::File { file, size }
            }
        };
        see(path, stat.st_mode, item)
    })?;
    Ok(packed)
}

type See<'a> = dyn FnMut(BorrowedFd<'_>, &Path, &CStr, &rustix::fs::Stat) -> io::Result<()> + 'a;

fn descend(
    spec: &PackSpec<'_>,
    directory: OwnedFd,
    path: &Path,
    depth: usize,
    packed: &mut Packed,
    see: &mut See<'_>,
) -> Result<(), PackError> {
    let read = |path: &Path, source: io::Error| PackError::Read { path: path.into(), source };
    let too_large = |what, limit, path: &Path| PackError::TooLarge { what, limit, path: path.into() };
    if depth > spec.limits.depth {
        return Err(too_large("levels of directories", spec.limits.depth as u64, path));
    }
    let mut names: Vec<CString> = Vec::new();
    for entry in Dir::read_from(&directory).map_err(|e| read(path, e.into()))? {
        let entry = entry.map_err(|e| read(path, e.into()))?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
        if names.len() as u64 > spec.limits.entries {
            return Err(too_large("entries", spec.limits.entries, path));
        }
    }
    names.sort_unstable();
    for name in names {
        let below = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        // Inside the subtree, or one of its parents.
        if !below.starts_with(spec.subtree) && !spec.subtree.starts_with(&below) {
            continue;
        }
        let stat =
            rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| read(&below, e.into()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_directory = kind == FileType::Directory;
        if (spec.exclude)(&below, is_directory) {
            continue;
        }
        if !matches!(kind, FileType::Directory | FileType::RegularFile | FileType::Symlink) {
            if packed.skipped.len() < 100 {
                packed.skipped.push(below);
            }
            continue;
        }
        packed.entries += 1;
        if packed.entries > spec.limits.entries {
            return Err(too_large("entries", spec.limits.entries, &below));
        }
        if kind == FileType::RegularFile {
            packed.bytes += stat.st_size as u64;
            if packed.bytes > spec.limits.bytes {
                return Err(too_large("bytes", spec.limits.bytes, &below));
            }
        }
        see(directory.as_fd(), &below, &name, &stat).map_err(|e| read(&below, e))?;
        if is_directory {
            let child = match open_directory(directory.as_fd(), &name) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|e| read(&below, e))?,
            };
            descend(spec, child, &below, depth + 1, packed, see)?;
        }
    }
    Ok(())
}

fn open_directory(at: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    open(at, name, OFlags::DIRECTORY, Mode::RWXU)
}

/// Opens for reading what is not a link. What its mode keeps from its owner is given `needed` first: a build may not hide
/// what it holds from those who measure and pack it.
fn open(at: BorrowedFd<'_>, name: &CStr, kind: OFlags, needed: Mode) -> io::Result<OwnedFd> {
    let flags = kind | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let read = || rustix::fs::openat(at, name, flags | OFlags::RDONLY, Mode::empty());
    match read() {
        Err(rustix::io::Errno::ACCESS) => {
            let closed = rustix::fs::openat(at, name, flags | OFlags::PATH, Mode::empty())?;
            let mode = Mode::from_raw_mode(rustix::fs::fstat(&closed)?.st_mode) | needed;
            // By the descriptor: whatever the name leads to by now.
            rustix::fs::chmod(format!("/proc/self/fd/{}", closed.as_raw_fd()), mode)?;
            Ok(read()?)
        }
        opened => Ok(opened?),
    }
}

fn c_path(path: &Path) -> CString {
    // A path with a NUL names nothing; the empty path that stands for it is refused by the kernel.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// Reads exactly `left` bytes of a file: zeros when it has become shorter, nothing of what was added.
struct Exact {
    file: File,
    left: u64,
}

impl io::Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let mut n = self.file.read(&mut buffer[..want])?;
        if n == 0 {
            buffer[..want].fill(0);
            n = want;
        }
        self.left -= n as u64;
        Ok(n)
    }
}
