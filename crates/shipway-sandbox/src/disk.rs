//! A dyno's disk: a sparse ext4 without a journal, in a file that has no name any more.
//!
//! The file is unlinked as soon as it is a device, the device clears itself with its last mount: a disk cannot outlive
//! its dyno, nor be used by another. (A tmpfs would be: its pages stay charged to the memory of who wrote them.)

use crate::loopback;
use crate::wire::{Doing, Failure};
use rustix::fs::{AtFlags, Mode};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

/// A mounted disk that is attached nowhere yet, with empty directories `app`, `work` and `tmp`.
#[derive(Debug)]
pub(crate) struct Disk {
    /// What can be moved to a place in the file system.
    pub(crate) mount: OwnedFd,
    pub(crate) mib: u64,
}

impl Disk {
    /// Makes a disk of `mib` MiB, as a file below `directory` for a moment.
    ///
    /// Errors: no room, no `mke2fs`, no loop device.
    pub(crate) fn make(directory: &Path, mib: u64) -> Result<Self, Failure> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::fs::create_dir_all(directory).doing(|| format!("making the directory {}", directory.display()))?;
        let path = directory.join(format!("{}-{number}.img", std::process::id()));
        let made = Self::make_at(&path, mib);
        let _ = std::fs::remove_file(&path);
        made.map_err(|why| Failure::new(format!("making a disk of {mib} MiB"), why))
    }

    fn make_at(path: &Path, mib: u64) -> Result<Self, Failure> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.doing(|| format!("creating {}", path.display()))?;
        file.set_len(mib << 20).doing(|| "sizing it".into())?;
        run(mke2fs(path))?;
        let (device, device_path) = loopback::attach(&file).doing(|| "attaching a loop device".into())?;
        let mount = Self::mount(&device_path).doing(|| format!("mounting {}", device_path.display()))?;
        drop(device);
        for name in ["app", "work", "tmp"] {
            rustix::fs::mkdirat(&mount, name, Mode::from_raw_mode(0o755)).doing(|| format!("making {name} in it"))?;
        }
        rustix::fs::chmodat(&mount, "tmp", Mode::from_raw_mode(0o1777), AtFlags::empty())
            .doing(|| "opening its tmp to everybody".into())?;
        Ok(Self { mount, mib })
    }

    fn mount(device: &Path) -> rustix::io::Result<OwnedFd> {
        let context = rustix::mount::fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&context, "source", device)?;
        // What the dyno deletes is given back to the host; what it writes need not survive a power cut.
        rustix::mount::fsconfig_set_flag(&context, "discard")?;
        rustix::mount::fsconfig_set_flag(&context, "nobarrier")?;
        rustix::mount::fsconfig_create(&context)?;
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
    }
}

/// The command that makes the file system. One inode per 16 KiB; nothing is reserved for root.
fn mke2fs(path: &Path) -> Command {
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal,^resize_inode,^metadata_csum", "-m", "0"]);
    command.args(["-i", "16384", "-E", "nodiscard,lazy_itable_init=1,root_owner=0:0"]).arg(path);
    command
}

/// Runs a command of the machine; its first line on standard error is the reason when it fails.
pub(crate) fn run(mut command: Command) -> Result<Vec<u8>, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    // Administrators' tools live where a service's PATH may not look.
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    let output = command.stdin(Stdio::null()).output().doing(|| format!("running {name}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let why = errors.lines().find(|l| !l.trim().is_empty()).map_or_else(|| output.status.to_string(), str::to_owned);
    Err(Failure::new(format!("running {name}"), why))
}
