//! The tree of a commit, written into a directory.
//!
//! Trees are read and files are written by us: no filter, attribute, hook or configuration of the repository has a
//! say (attack 26), and every name is checked before it is used. Roads not taken: `git checkout` (all of the above),
//! `git archive` (attributes of the tree leave files out and rewrite others).

use crate::git::GitError;
use crate::objects::Objects;
use crate::repo::Repo;
use shipway_domain::CommitId;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What a checkout may grow to. A tree of a few kilobytes can name billions of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckoutLimits {
    /// Files, links and directories.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Submodules, with those of submodules.
    pub submodules: usize,
}

impl Default for CheckoutLimits {
    /// 500,000 entries, 8 GiB, 32 submodules.
    fn default() -> Self {
        Self { entries: 500_000, bytes: 8 << 30, submodules: 32 }
    }
}

/// Why a commit cannot be built from. Each says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The commit or a part of it is missing.
    #[error(
        "commit {commit} is not complete in this repository; push it again from a full clone (`fetch-depth: 0` in CI)"
    )]
    Incomplete {
        /// Which commit.
        commit: String,
    },
    /// A name that would lead elsewhere.
    #[error("the file name {path:?} is not safe to write; rename it and push again")]
    BadName {
        /// The path, cut to 200 characters.
        path: String,
    },
    /// An entry of a kind or form that git does not make.
    #[error("{path:?} is damaged or of an unknown kind ({problem}); commit it again and push")]
    BadEntry {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It is too large.
    #[error("this commit has more than {limit}; remove what the app does not need and push again")]
    TooLarge {
        /// The limit that it broke, with its unit.
        limit: String,
    },
    /// Files that live elsewhere.
    #[error(
        "{count} files are Git LFS pointers, not their content (first: {first:?}), and LFS is not supported; \
         run `git lfs migrate export --include='*' --everything` or keep large files outside the repository"
    )]
    LfsPointers {
        /// How many.
        count: u64,
        /// The first of them.
        first: String,
    },
    /// A submodule that cannot be fetched.
    #[error("submodule {path:?}: {problem}")]
    Submodule {
        /// Where it is in the tree.
        path: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which one.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Git did not do its part.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// What a checkout has used up, over all of its submodules.
#[derive(Default)]
pub(crate) struct Used {
    entries: u64,
    bytes: u64,
    lfs: u64,
    first_lfs: Option<String>,
}

/// A place in the tree where a submodule belongs.
pub(crate) struct Gitlink {
    /// From the root of its own repository's tree.
    pub(crate) path: PathBuf,
    pub(crate) commit: CommitId,
}

impl Repo {
    /// Writes the tree of `commit` into `directory`, which must not exist or be empty, with its submodules.
    ///
    /// Files get mode 0644 or 0755 and directories 0755, under the umask; links are made as they are, wherever they
    /// point, and never followed; there is no `.git`. What was written before an error stays: the caller removes it.
    pub async fn checkout(
        &self,
        commit: &CommitId,
        directory: &Path,
        limits: CheckoutLimits,
    ) -> Result<(), CheckoutError> {
        let mut used = Used::default();
        let mut fetched = 0;
        let mut waiting = vec![(PathBuf::new(), commit.clone(), 0)];
        while let Some((place, commit, depth)) = waiting.pop() {
            let (repo, target, id) = (self.clone(), directory.join(&place), commit.clone());
            let written = tokio::task::spawn_blocking(move || {
                let mut used = used;
                write_tree(&repo, &id, &target, limits, &mut used).map(|links| (links, used))
            });
            let links;
            (links, used) = written.await.map_err(|error| GitError::io("cat-file")(io::Error::other(error)))??;
            if links.is_empty() {
                continue;
            }
            let addresses = self.submodule_addresses(&commit).await?;
            for link in links {
                let path = place.join(&link.path);
                fetched += 1;
                self.fetch_submodule(&link, &path, &addresses, depth, fetched, limits.submodules).await?;
                waiting.push((path, link.commit, depth + 1));
            }
        }
        match used.first_lfs {
            Some(first) => Err(CheckoutError::LfsPointers { count: used.lfs, first }),
            None => Ok(()),
        }
    }
}

const LONGEST_PATH: usize = 2048;
/// Far above what a person makes; git has no limit of its own.
const LARGEST_TREE: u64 = 64 << 20;
const LARGEST_LINK: u64 = 4095;
const LFS_MAGIC: &[u8] = b"version https://git-lfs.github.com/spec/";
const LARGEST_LFS_POINTER: u64 = 1024;

struct FileToWrite {
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Executable,
    Link,
}

fn write_tree(
    repo: &Repo,
    commit: &CommitId,
    target: &Path,
    limits: CheckoutLimits,
    used: &mut Used,
) -> Result<Vec<Gitlink>, CheckoutError> {
    let incomplete = || CheckoutError::Incomplete { commit: commit.to_string() };
    let mut objects = Objects::open(&repo.git, &repo.path)?;
    let mut links = Vec::new();
    let mut files = Vec::new();
    let mut level = vec![PathBuf::new()];
    objects.request(&format!("{commit}^{{tree}}"));
    make_directory(target, Path::new(""))?;
    while !level.is_empty() {
        objects.flush();
        let mut below = Vec::new();
        for directory in level {
            let header = objects.next().map_err(|_| incomplete())?.ok_or_else(incomplete)?;
            if header.kind != "tree" || header.size > LARGEST_TREE {
                return Err(bad_entry(&directory, "not a directory that can be read"));
            }
            let tree = objects.content(header.size).map_err(|_| incomplete())?;
            for entry in Entries(&tree) {
                let (mode, name, id) = entry.ok_or_else(|| bad_entry(&directory, "a broken tree"))?;
                let path = directory.join(safe_name(name, &directory)?);
                used.entries += 1;
                if used.entries > limits.entries {
                    return Err(CheckoutError::TooLarge { limit: format!("{} files", limits.entries) });
                }
                if path.as_os_str().len() > LONGEST_PATH {
                    return Err(bad_entry(&path, "a path that is too long"));
                }
                let kind = match mode {
                    b"40000" | b"040000" => {
                        make_directory(target, &path)?;
                        objects.request(&id);
                        below.push(path);
                        continue;
                    }
                    b"160000" => {
                        make_directory(target, &path)?;
                        let commit = CommitId::parse(&id).map_err(|_| bad_entry(&path, "no commit"))?;
                        links.push(Gitlink { path, commit });
                        continue;
                    }
                    b"120000" => Kind::Link,
                    b"100755" => Kind::Executable,
                    b"100644" | b"100664" => Kind::File,
                    _ => return Err(bad_entry(&path, "an unknown mode")),
                };
                files.push((FileToWrite { path, kind }, id));
            }
        }
        level = below;
    }
    let (files, ids): (Vec<_>, Vec<_>) = files.into_iter().unzip();
    ids.iter().for_each(|id| objects.request(id));
    objects.flush();
    for file in files {
        let header = objects.next().map_err(|_| incomplete())?.ok_or_else(incomplete)?;
        if header.kind != "blob" {
            return Err(bad_entry(&file.path, "not a file"));
        }
        used.bytes = used.bytes.saturating_add(header.size);
        if used.bytes > limits.bytes {
            return Err(CheckoutError::TooLarge { limit: format!("{} MiB", limits.bytes >> 20) });
        }
        write_file(&mut objects, target, &file, header.size, used)?;
    }
    Ok(links)
}

fn write_file(
    objects: &mut Objects,
    target: &Path,
    file: &FileToWrite,
    size: u64,
    used: &mut Used,
) -> Result<(), CheckoutError> {
    let failed = |source| write_error(&file.path, source);
    let full = target.join(&file.path);
    if file.kind == Kind::Link {
        if size > LARGEST_LINK {
            return Err(bad_entry(&file.path, "a link that is too long"));
        }
        let to = objects.content(size).map_err(failed)?;
        if to.is_empty() || to.contains(&0) {
            return Err(bad_entry(&file.path, "a link to nowhere"));
        }
        return std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&to), full).map_err(failed);
    }
    let mode = if file.kind == Kind::Executable { 0o755 } else { 0o644 };
    // Made anew or not at all: nothing that is there already, a link least of all, is written through.
    let mut to: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(full).map_err(failed)?;
    if size > LARGEST_LFS_POINTER {
        return objects.copy(size, &mut to).map_err(failed);
    }
    let content = objects.content(size).map_err(failed)?;
    if content.starts_with(LFS_MAGIC) {
        used.lfs += 1;
        used.first_lfs.get_or_insert_with(|| shown(&file.path));
    }
    io::Write::write_all(&mut to, &content).map_err(failed)
}

fn make_directory(target: &Path, path: &Path) -> Result<(), CheckoutError> {
    let full = target.join(path);
    match DirBuilder::new().mode(0o755).create(&full) {
        // The root, or the place of a submodule, made before it is filled. Anywhere else a name appears twice.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.as_os_str().is_empty() => Ok(()),
        result => result.map_err(|source| write_error(path, source)),
    }
}

fn write_error(path: &Path, source: io::Error) -> CheckoutError {
    if source.kind() == io::ErrorKind::AlreadyExists {
        return bad_entry(path, "its name appears twice in its directory");
    }
    CheckoutError::Write { path: shown(path), source }
}

/// The entries of a tree object: mode, name, id in hex. None for an entry that is cut off.
struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Option<(&'a [u8], &'a [u8], String)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let tree = std::mem::take(&mut self.0);
        let entry = || {
            let space = tree.iter().position(|b| *b == b' ')?;
            let end = space + tree[space..].iter().position(|b| *b == 0)?;
            let id = tree.get(end + 1..end + 21)?;
            let hex = id.iter().map(|byte| format!("{byte:02x}")).collect();
            Some((&tree[..space], &tree[space + 1..end], hex, &tree[end + 21..]))
        };
        let Some((mode, name, id, rest)) = entry() else { return Some(None) };
        self.0 = rest;
        Some(Some((mode, name, id)))
    }
}

/// Refuses names that mean another place: `..`, paths, and whatever some file system takes for `.git`.
fn safe_name<'a>(name: &'a [u8], directory: &Path) -> Result<&'a std::ffi::OsStr, CheckoutError> {
    let lower = String::from_utf8_lossy(name).to_lowercase();
    // HFS+ ignores these characters; NTFS drops dots and spaces at the end and has short names.
    let ignored = |c: &char| !matches!(*c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let folded: String = lower.chars().filter(ignored).collect();
    let folded = folded.trim_end_matches(['.', ' ']);
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || matches!(folded, ".git" | "git~1") {
        return Err(CheckoutError::BadName { path: shown(&directory.join(std::ffi::OsStr::from_bytes(name))) });
    }
    Ok(std::ffi::OsStr::from_bytes(name))
}

fn bad_entry(path: &Path, problem: &str) -> CheckoutError {
    CheckoutError::BadEntry { path: shown(path), problem: problem.into() }
}

pub(crate) fn shown(path: &Path) -> String {
    crate::text::one_line(&path.to_string_lossy(), 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_26_names() {
        for good in ["a", ".gitignore", "git", "..a", "a\nb", "-rf", "GIT~2"] {
            assert!(safe_name(good.as_bytes(), Path::new("")).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "a/b", ".git", ".GIT", ".Git.", ".git ", "git~1", "GIT~1", ".g\u{200c}it"] {
            assert!(safe_name(bad.as_bytes(), Path::new("")).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_cut_tree_is_noticed() {
        let tree = [b"100644 a\0".as_slice(), &[1; 20], b"40000 b\0", &[2; 20]].concat();
        assert_eq!(Entries(&tree).filter(Option::is_some).count(), 2);
        assert!(Entries(&tree[..tree.len() - 1]).any(|entry| entry.is_none()));
    }
}
