//! Mounts by descriptor: take a tree, say what it may do and whose it looks, put it somewhere.

use crate::config::UidBlock;
use crate::wire::{Doing, Failure};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// What may be done on a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Read and run, set-user-id bits ignored, devices dead.
    Read,
    /// The same, and write.
    Write,
    /// A device node.
    Device,
}

/// Puts the file or directory `source` of the host at `target`, seen through `ids` where given.
pub(super) fn bind(source: &Path, target: &Path, access: Access, ids: Option<&OwnedFd>) -> Result<(), Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, source, flags).doing(|| format!("taking {}", source.display()))?;
    set_attributes(&tree, access, ids).doing(|| format!("limiting {}", source.display()))?;
    attach(&tree, target)
}

/// Puts a detached mount at `target`.
pub(super) fn attach(tree: &OwnedFd, target: &Path) -> Result<(), Failure> {
    rustix::mount::move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .doing(|| format!("mounting at {}", target.display()))
}

/// Changes what may be done on a mount, and whose its files look.
pub(super) fn set_attributes(mount: &impl AsFd, access: Access, ids: Option<&OwnedFd>) -> io::Result<()> {
    let set = libc::MOUNT_ATTR_NOSUID
        | match access {
            Access::Read => libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV,
            Access::Write => libc::MOUNT_ATTR_NODEV,
            Access::Device => libc::MOUNT_ATTR_NOEXEC,
        }
        | if ids.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 };
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: ids.map_or(0, |ids| ids.as_raw_fd() as u64),
    };
    // SAFETY: the path is a C string, `attributes` has the size that is given, both live through the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A map of owners for idmapped mounts: what the server's user owns on disk looks like the dyno's own, what root owns
/// like root's inside, and what others own like nobody's. Files that are made inside are the server's outside.
///
/// Errors: the kernel's, before 5.19.
pub(super) fn owners(server: (u32, u32), block: UidBlock) -> io::Result<OwnedFd> {
    let line = |id: u32| {
        let own = format!("{id} {} 1\n", block.outside());
        if id == 0 { own } else { format!("0 {} 1\n{own}", block.base) }
    };
    // A user namespace needs somebody in it to be made; it lives on in its descriptor.
    // SAFETY: a fork of a single-threaded process, which only sleeps.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        loop {
            // SAFETY: takes nothing, returns when killed.
            unsafe { libc::pause() };
        }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let namespace = || {
        std::fs::write(format!("/proc/{pid}/uid_map"), line(server.0))?;
        std::fs::write(format!("/proc/{pid}/gid_map"), line(server.1))?;
        std::fs::File::open(format!("/proc/{pid}/ns/user"))
    };
    let namespace = namespace();
    let pid = nix::unistd::Pid::from_raw(pid as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL)?;
    nix::sys::wait::waitpid(pid, None)?;
    Ok(namespace?.into())
}

/// Whether this kernel makes idmapped mounts of the file system at `directory`.
pub(crate) fn can_map_owners(directory: &Path) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, directory, flags)?;
    let block = UidBlock::new(1).ok_or(io::ErrorKind::InvalidInput)?;
    set_attributes(&tree, Access::Read, Some(&owners((0, 0), block)?))
}
