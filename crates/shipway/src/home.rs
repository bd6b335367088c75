//! The data directory: who owns what in it, and who may look.

use crate::problem::Problem;
use nix::unistd::{Gid, Uid, User};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Whoever owns the data directory: the roles that read what strangers send run as this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// The system user's name, when Shipway is started as root.
pub const USER: &str = "shipway";

impl Owner {
    /// The user `shipway` for root, oneself for anybody else.
    pub fn choose() -> Result<Self, Problem> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Self { uid: Uid::current().as_raw(), gid: Gid::current().as_raw() });
        }
        match User::from_name(USER) {
            Ok(Some(user)) => Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
            _ => Err(Problem::new(format!("there is no user {USER}, as whom the server and the router run"))
                .hint(format!("useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {USER}"))
                .hint("bin/up does this for you")),
        }
    }
}

/// What is in it, with who else may: nobody looks around, everybody passes to the socket for the machine's own users.
const DIRECTORIES: &[(&str, u32)] = &[
    ("", 0o711),
    ("run", 0o711),
    ("keys", 0o700),
    ("blobs", 0o700),
    ("layers", 0o700),
    ("repos", 0o700),
    ("outputs", 0o700),
    ("sources", 0o700),
    ("logs", 0o700),
    ("backups", 0o700),
    ("work", 0o700),
    ("cache", 0o700),
    ("buildpacks", 0o700),
    ("toolchains", 0o700),
];

/// A socket's address has room for 107 bytes; the longest name of one below the data directory takes the rest.
const LONGEST_PATH: usize = 80;

/// Less free space than this is too little to start with: databases and logs need to be written.
const LEAST_FREE_BYTES: u64 = 64 << 20;

/// Makes the data directory, or checks the one that is there, and gives it to `owner`. Can be repeated.
///
/// Errors: it cannot be made or written, it is another user's, its path is too long, its disk is full, or `owner` cannot
/// pass to it.
pub fn prepare(home: &Path, owner: Owner) -> Result<(), Problem> {
    if home.as_os_str().len() > LONGEST_PATH {
        let what = format!("{} is too long a path for a data directory with sockets in it", home.display());
        return Err(Problem::new(what).hint(format!("choose one of at most {LONGEST_PATH} bytes with --home DIR")));
    }
    for (name, mode) in DIRECTORIES {
        let path = if name.is_empty() { home.to_path_buf() } else { home.join(name) };
        directory(&path, *mode, owner).map_err(|e| cannot_write(&path, &e))?;
    }
    passable(home, owner)?;
    let probe = home.join("run/.probe");
    let written = fs::write(&probe, b"written to see whether it can be").and_then(|()| fs::remove_file(&probe));
    written.map_err(|e| cannot_write(home, &e))?;
    match free_bytes(home) {
        Ok(free) if free < LEAST_FREE_BYTES => Err(full(home)),
        _ => Ok(()),
    }
}

/// Bytes that we may still write to the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn directory(path: &Path, mode: u32, owner: Owner) -> io::Result<()> {
    // What lies above it is not ours to close.
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let meta = fs::metadata(path)?;
    if !meta.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if (meta.uid(), meta.gid()) != (owner.uid, owner.gid) {
        chown(path, Some(owner.uid), Some(owner.gid))?;
    }
    if meta.mode() & 0o7777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Whether `owner` can reach the directory: every one above it must let others pass.
fn passable(home: &Path, owner: Owner) -> Result<(), Problem> {
    for above in home.ancestors().skip(1) {
        let meta = fs::metadata(above).map_err(|e| cannot_write(above, &e))?;
        let may = if meta.uid() == owner.uid {
            0o100
        } else if meta.gid() == owner.gid {
            0o010
        } else {
            0o001
        };
        if owner.uid != 0 && meta.mode() & may == 0 {
            let what = format!("{} is closed to the user {USER}, who must pass to {}", above.display(), home.display());
            return Err(Problem::new(what)
                .hint(format!("chmod a+x {}", above.display()))
                .hint("or choose another data directory with --home DIR"));
        }
    }
    Ok(())
}

fn cannot_write(path: &Path, why: &io::Error) -> Problem {
    let problem = Problem::new(format!("the data directory cannot be used: {}: {why}", path.display()));
    match why.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => full(path),
        io::ErrorKind::ReadOnlyFilesystem => problem.hint("mount it writable, or choose another with --home DIR"),
        io::ErrorKind::PermissionDenied => {
            problem.hint("choose one of your own with --home DIR, or start Shipway as the user that it belongs to")
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            problem.hint("a file is in the way: move it, or choose another with --home DIR")
        }
        _ => problem.hint("choose another with --home DIR"),
    }
}

fn full(path: &Path) -> Problem {
    Problem::new(format!("the disk of {} is full", path.display()))
        .hint(format!("make room: at least {} MiB must be free", LEAST_FREE_BYTES >> 20))
}

/// Where `up` keeps its lock and its process id.
pub fn lock_file(home: &Path) -> PathBuf {
    home.join("run/up.lock")
}

/// Where the token of the first administrator waits to be read.
pub fn first_token_file(home: &Path) -> PathBuf {
    home.join("run/first-admin-token")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ourselves() -> Owner {
        Owner { uid: Uid::current().as_raw(), gid: Gid::current().as_raw() }
    }

    #[test]
    fn nobody_else_looks_into_it() {
        let base = std::env::temp_dir().join(format!("shipway-home-{}", std::process::id()));
        let home = base.join("data");
        fs::create_dir_all(home.join("keys")).unwrap();
        fs::set_permissions(home.join("keys"), Permissions::from_mode(0o777)).unwrap();
        prepare(&home, ourselves()).unwrap();
        prepare(&home, ourselves()).unwrap();
        let mode = |name: &str| fs::metadata(home.join(name)).unwrap().mode() & 0o777;
        assert_eq!((mode(""), mode("run"), mode("keys"), mode("repos")), (0o711, 0o711, 0o700, 0o700));
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let file = std::env::temp_dir().join(format!("shipway-file-{}", std::process::id()));
        fs::write(&file, "").unwrap();
        for home in [file.join("data"), file.clone()] {
            let problem = prepare(&home, ourselves()).unwrap_err();
            assert!(problem.what().contains(&*file.to_string_lossy()), "{problem:?}");
            assert!(problem.hints()[0].contains("in the way"), "{problem:?}");
        }
        fs::remove_file(&file).unwrap();
    }
}
