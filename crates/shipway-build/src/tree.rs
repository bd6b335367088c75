//! Reading an app's tree without being led out of it.
//!
//! The tree is the pusher's: its links may point anywhere, its files may be pipes, and while a build step runs it changes
//! under us. Every look goes through `openat2` below the root; what leads out is an error of the app, not a file.

use crate::model::{BuildError, BuilderConfig};
use crate::versions::Version;
use ring::digest::{Context, SHA256};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Largest file of an app that the builder reads, in bytes (lock files of large apps have some MiB).
pub(crate) const MAX_READ_BYTES: u64 = 32 << 20;

pub(crate) struct Tree {
    root: OwnedFd,
    pub(crate) path: PathBuf,
}

impl Tree {
    pub(crate) fn open(path: &Path) -> Result<Self, BuildError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|e| BuildError::Platform(format!("opening {}: {e}", path.display())))?;
        Ok(Self { root, path: path.to_owned() })
    }

    fn file(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat2(
            &self.root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        )
    }

    fn kind(&self, path: &str) -> Option<FileType> {
        let fd = self.file(path, OFlags::PATH).ok()?;
        Some(FileType::from_raw_mode(rustix::fs::fstat(fd).ok()?.st_mode))
    }

    /// Whether a regular file of this name is in the tree (links inside the tree count).
    pub(crate) fn has(&self, path: &str) -> bool {
        self.kind(path) == Some(FileType::RegularFile)
    }

    /// Whether a directory of this name is in the tree.
    pub(crate) fn has_directory(&self, path: &str) -> bool {
        self.kind(path) == Some(FileType::Directory)
    }

    /// A file's text; none when there is no such file.
    ///
    /// Errors: a link that leads out, a file that is no regular file, not UTF-8, or larger than [`MAX_READ_BYTES`].
    pub(crate) fn text(&self, path: &str) -> Result<Option<String>, BuildError> {
        match self.bytes(path)? {
            None => Ok(None),
            Some(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| {
                BuildError::User(format!("{path} is not a UTF-8 text file. Save it as UTF-8 and push again."))
            }),
        }
    }

    pub(crate) fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>, BuildError> {
        use rustix::io::Errno;
        let user = |problem: &str| Err(BuildError::User(format!("{path} {problem}")));
        let fd = match self.file(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::XDEV | Errno::LOOP) => {
                return user("is a symbolic link that leads out of the app. Commit the file itself.");
            }
            Err(e) => return Err(BuildError::Platform(format!("opening {path} of the app: {e}"))),
        };
        let mut file = File::from(fd);
        let meta = file.metadata().map_err(BuildError::platform(format!("looking at {path} of the app")))?;
        if !meta.is_file() {
            return user("is not a regular file.");
        }
        if meta.len() > MAX_READ_BYTES {
            return user(&format!("is larger than {} MiB.", MAX_READ_BYTES >> 20));
        }
        let mut bytes = Vec::with_capacity(meta.len() as usize);
        (&mut file)
            .take(MAX_READ_BYTES)
            .read_to_end(&mut bytes)
            .map_err(BuildError::platform(format!("reading {path} of the app")))?;
        Ok(Some(bytes))
    }

    /// The names in a directory of the tree (`.` is its top), sorted; empty when there is none. At most 10,000.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let Ok(directory) = self.file(path, OFlags::RDONLY | OFlags::DIRECTORY) else { return Vec::new() };
        let Ok(entries) = rustix::fs::Dir::read_from(&directory) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|e| e.file_name().to_str().ok().map(String::from))
            .filter(|name| name != "." && name != "..")
            .take(10_000)
            .collect();
        names.sort_unstable();
        names
    }
}

/// The directory before the first pattern of a path: `packages` of `./packages/*/lib`. None when it is the top, or leads
/// out of the app.
pub(crate) fn literal_directory(url: &str) -> Option<String> {
    let parts = url.split('/').filter(|part| !part.is_empty() && *part != ".");
    let literal: Vec<&str> = parts.take_while(|part| !part.contains(['*', '?', '[', '{'])).collect();
    let leads_out = url.starts_with(['/', '~', '$']) || url.contains('\0') || literal.contains(&"..");
    (!literal.is_empty() && !leads_out).then(|| literal.join("/"))
}

/// Collects what a layer is made from. The order counts; every part is fenced, so no two lists give one digest.
pub(crate) struct Inputs(Context);

impl Inputs {
    pub(crate) fn new(what: &str) -> Self {
        Self(Context::new(&SHA256)).with("what", what)
    }

    /// What decides about anything that a language installs: its version, and what the machine brings.
    pub(crate) fn of_language(what: &str, version: &Version, config: &BuilderConfig) -> Self {
        Self::new(what)
            .with("version", version.to_string())
            .with("stack", &config.stack_fingerprint)
            .with("platform", std::env::consts::ARCH)
    }

    pub(crate) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for part in [name.as_bytes(), value.as_ref()] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// The content of a file of the tree, or that there is none.
    pub(crate) fn with_file(self, tree: &Tree, path: &str) -> Result<Self, BuildError> {
        Ok(match tree.bytes(path)? {
            Some(bytes) => self.with(path, bytes),
            None => self.with(path, "").with("absent", path),
        })
    }

    /// Every file below a directory of the tree; all of the tree when that is no plain directory.
    pub(crate) fn with_directory(self, tree: &Tree, path: &str) -> Result<Self, BuildError> {
        let relative = Path::new(path);
        if !crate::slug::is_plain_directory(&tree.path, relative) {
            return self.with_tree(tree);
        }
        self.with_subtree(tree, relative)
    }

    /// Every file of the tree, for installers that read whatever they like.
    pub(crate) fn with_tree(self, tree: &Tree) -> Result<Self, BuildError> {
        self.with_subtree(tree, Path::new(""))
    }

    fn with_subtree(self, tree: &Tree, subtree: &Path) -> Result<Self, BuildError> {
        let mut hash = HashWriter(Context::new(&SHA256));
        let spec = shipway_blobs::PackSpec {
            root: &tree.path,
            subtree,
            exclude: &|path, _| path == Path::new(".git"),
            limits: shipway_blobs::PackLimits::default(),
        };
        shipway_blobs::pack(&spec, &mut hash)?;
        Ok(self.with("tree", hash.0.finish()))
    }

    pub(crate) fn hex(self) -> String {
        hex(self.0.finish().as_ref())
    }
}

struct HashWriter(Context);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What `.slugignore` keeps out of the slug: patterns as in `.gitignore` without negation.
#[derive(Debug, Default)]
pub(crate) struct SlugIgnore(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    text: String,
    /// Holds a `/`, so it is compared with the whole path.
    anchored: bool,
    directories_only: bool,
}

impl SlugIgnore {
    pub(crate) fn parse(text: &str) -> Self {
        let patterns =
            text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', '!'])).map(|line| {
                let directories_only = line.ends_with('/');
                let line = line.trim_end_matches('/');
                let text = line.trim_start_matches('/').to_string();
                Pattern { anchored: line.contains('/'), text, directories_only }
            });
        Self(patterns.filter(|p| !p.text.is_empty()).take(1000).collect())
    }

    pub(crate) fn matches(&self, path: &Path, is_directory: bool) -> bool {
        let (Some(whole), Some(name)) = (path.to_str(), path.file_name().and_then(|n| n.to_str())) else {
            return false;
        };
        self.0.iter().any(|p| {
            (is_directory || !p.directories_only)
                && glob(p.text.as_bytes(), if p.anchored { whole } else { name }.as_bytes())
        })
    }
}

/// `*` and `?` within one part of a path, `**` across parts. Linear in the text for each star: no pattern is slow.
pub(crate) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when a comparison fails: after the last star, one character further.
    let mut retry: Option<(usize, usize, bool)> = None;
    loop {
        match pattern.get(p) {
            Some(b'*') => {
                let deep = pattern.get(p + 1) == Some(&b'*');
                p += if deep { 2 } else { 1 };
                if deep && pattern.get(p) == Some(&b'/') {
                    p += 1;
                }
                retry = Some((p, t, deep));
                continue;
            }
            Some(b'?') if text.get(t).is_some_and(|c| *c != b'/') => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            Some(c) if text.get(t) == Some(c) => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            None if t == text.len() => return true,
            _ => {}
        }
        match retry {
            Some((after, from, deep)) if from < text.len() && (deep || text[from] != b'/') => {
                retry = Some((after, from + 1, deep));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn where_packages_of_the_app_lie() {
        for (url, expected) in [
            ("packages/*", Some("packages")),
            ("./packages/{a,b}/*", Some("packages")),
            ("lib/acme", Some("lib/acme")),
            ("*", None),
            (".", None),
            ("../elsewhere", None),
            ("packages/../..", None),
            ("/srv/packages", None),
            ("~/packages", None),
        ] {
            assert_eq!(literal_directory(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn slugignore() {
        let check = |patterns: &str, path: &str, directory: bool, expected: bool| {
            assert_eq!(SlugIgnore::parse(patterns).matches(Path::new(path), directory), expected, "{patterns} {path}");
        };
        check("*.psd\n# no\n\n", "design/a.psd", false, true);
        check("tests", "tests", true, true);
        check("tests", "app/tests", true, true);
        check("/tests", "app/tests", true, false);
        check("docs/*.md", "docs/a.md", false, true);
        check("docs/*.md", "docs/x/a.md", false, false);
        check("docs/**/a.md", "docs/x/y/a.md", false, true);
        check("tmp/", "tmp", false, false);
        check("?.txt", "ab.txt", false, false);
        check("/", "a", true, false);
        check(&"*a".repeat(200), &"a".repeat(199), false, false);
    }

    #[test]
    fn attack_28_what_leads_out_of_the_tree_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("app");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(directory.path().join("secret"), "s").unwrap();
        std::fs::write(root.join("real"), "r").unwrap();
        symlink("../secret", root.join("Procfile")).unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        symlink("real", root.join("inside")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), FileType::Fifo, 0o600.into(), 0).unwrap();
        let tree = Tree::open(&root).unwrap();
        let read = |name: &str| tree.text(name).map_err(|e| e.to_string());
        let out =
            |name: &str| Err(format!("{name} is a symbolic link that leads out of the app. Commit the file itself."));
        assert_eq!(read("Procfile"), out("Procfile"));
        assert_eq!(read("absolute"), out("absolute"));
        assert_eq!(read("loop"), out("loop"));
        assert_eq!(read("pipe"), Err("pipe is not a regular file.".into()));
        assert_eq!(read("inside"), Ok(Some("r".into())));
        assert_eq!(read("none"), Ok(None));
        assert!(!tree.has("Procfile") && tree.has("inside") && !tree.has("pipe"));
    }
}
