//! The file system of a dyno, put together in a mount namespace of its own.
//!
//! Everything is on the machine already: the host's `/usr`, unpacked layers, the dyno's disk. What is made is a small
//! tmpfs for the root directory, which is read-only afterwards, and mounts.

use super::etc;
use super::mount::{Access, attach, bind, owners, set_attributes};
use crate::config::{Config, UidBlock};
use crate::wire::{Doing, Failure};
use nix::mount::{MntFlags, MsFlags};
use rustix::fs::{AtFlags, CWD, Gid, Uid};
use shipway_domain::BuildId;
use shipway_runtime::{BuildMount, BuildSource, DynoPlan, Root};
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// Device nodes that are harmless.
const DEVICES: &[&str] = &["full", "null", "random", "tty", "urandom", "zero"];

/// What the root file system is made of.
pub(super) struct Parts<'a> {
    pub(super) plan: &'a DynoPlan,
    pub(super) config: &'a Config,
    pub(super) block: UidBlock,
    pub(super) disk: &'a OwnedFd,
    pub(super) owners: &'a OwnedFd,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) resolvers: &'a [Ipv4Addr],
    /// An empty directory of the host on which the new root is built.
    pub(super) staging: &'a Path,
}

/// Owners' map for the layers and build directories of the server's user.
pub(super) fn owners_of(config: &Config, block: UidBlock) -> Result<OwnedFd, Failure> {
    owners((config.uid, config.gid), block).doing(|| "mapping the owners of layers".into())
}

/// Checks, before anything is made, that every directory the plan names is there.
///
/// Returns the layers' directories, lowest first.
pub(crate) fn layers(plan: &DynoPlan, config: &Config) -> Result<Vec<PathBuf>, Failure> {
    let Root::Slug { layers } = &plan.root else { return Ok(Vec::new()) };
    let directory = |layer: &shipway_domain::Digest| {
        let path = config.home.join("layers").join(layer.hex());
        if path.is_dir() { Ok(path) } else { Err(Failure::MissingLayer(layer.clone())) }
    };
    layers.iter().map(directory).collect()
}

/// Builds the root and makes it the calling process's. The process must be root in a mount namespace of its own.
pub(super) fn enter(parts: &Parts<'_>) -> Result<(), Failure> {
    let root = parts.staging;
    let none = None::<&str>;
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .doing(|| "parting the mounts from the host's".into())?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    nix::mount::mount(Some("tmpfs"), root, Some("tmpfs"), flags, Some("mode=755,size=4m,nr_inodes=8192"))
        .doing(|| "mounting the root directory".into())?;
    for name in ["app", "dev", "etc", "home", "opt", "proc", "root", "run", "tmp", "usr", "var", ".disk"] {
        directory(&root.join(name))?;
    }
    symlink("/tmp", root.join("var/tmp")).doing(|| "linking /var/tmp".into())?;
    symlink("/run", root.join("var/run")).doing(|| "linking /var/run".into())?;
    programs(root, &parts.config.toolchains)?;
    made_etc(parts)?;
    devices(root, parts.block)?;
    let options = Some("hidepid=invisible");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("proc"), &root.join("proc"), Some("proc"), flags, options)
        .doing(|| "mounting /proc".into())?;
    disk(parts)?;
    match &parts.plan.root {
        Root::Slug { .. } => slug(parts)?,
        Root::Build { build, mounts, .. } => build_mounts(parts, *build, mounts)?,
    }
    nix::mount::umount2(&root.join(".disk"), MntFlags::MNT_DETACH).doing(|| "hiding the disk's own root".into())?;
    fs::remove_dir(root.join(".disk")).doing(|| "removing its place".into())?;
    change_root(root)
}

fn directory(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).doing(|| format!("making {}", path.display()))
}

/// The host's programs: `/usr` and what leads there, and the operator's toolchains.
fn programs(root: &Path, toolchains: &[PathBuf]) -> Result<(), Failure> {
    bind(Path::new("/usr"), &root.join("usr"), Access::Read, None)?;
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let host = Path::new("/").join(name);
        match fs::read_link(&host) {
            Ok(target) => symlink(target, root.join(name)).doing(|| format!("linking /{name}"))?,
            // A host that keeps them apart from /usr.
            Err(_) if host.is_dir() => {
                directory(&root.join(name))?;
                bind(&host, &root.join(name), Access::Read, None)?;
            }
            Err(_) => {}
        }
    }
    for path in toolchains {
        let target = inside(root, path)?;
        directory(&target)?;
        bind(path, &target, Access::Read, None)?;
    }
    Ok(())
}

/// `path` below the new root. The plan's and the operator's paths are absolute and never go up.
fn inside(root: &Path, path: &Path) -> Result<PathBuf, Failure> {
    let relative = path.strip_prefix("/").ok().filter(|p| p.components().all(|c| matches!(c, Component::Normal(_))));
    relative.map(|p| root.join(p)).ok_or_else(|| Failure::new(format!("mounting at {}", path.display()), "not a path"))
}

fn made_etc(parts: &Parts<'_>) -> Result<(), Failure> {
    let etc = parts.staging.join("etc");
    let services = parts.address.map(|_| parts.config.network().services());
    let hostname = etc::hostname(&parts.plan.name);
    for (name, text) in etc::files(&hostname, parts.address, services, &parts.plan.hosts, parts.resolvers) {
        fs::write(etc.join(name), text).doing(|| format!("writing /etc/{name}"))?;
    }
    symlink("/usr/share/zoneinfo/Etc/UTC", etc.join("localtime")).doing(|| "linking /etc/localtime".into())?;
    symlink("/proc/self/mounts", etc.join("mtab")).doing(|| "linking /etc/mtab".into())?;
    directory(&etc.join("ssl"))?;
    for name in etc::FROM_HOST {
        let host = Path::new("/etc").join(name);
        let Ok(kind) = fs::metadata(&host) else { continue };
        let target = etc.join(name);
        if kind.is_dir() {
            directory(&target)?;
        } else {
            fs::write(&target, "").doing(|| format!("making /etc/{name}"))?;
        }
        bind(&host, &target, Access::Read, None)?;
    }
    Ok(())
}

fn devices(root: &Path, block: UidBlock) -> Result<(), Failure> {
    let dev = root.join("dev");
    for name in DEVICES {
        fs::write(dev.join(name), "").doing(|| format!("making /dev/{name}"))?;
        bind(&Path::new("/dev").join(name), &dev.join(name), Access::Device, None)?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        symlink(target, dev.join(name)).doing(|| format!("linking /dev/{name}"))?;
    }
    directory(&dev.join("pts"))?;
    directory(&dev.join("shm"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = format!("newinstance,ptmxmode=0666,mode=0620,uid={},gid={}", block.outside(), block.base + 5);
    nix::mount::mount(Some("devpts"), &dev.join("pts"), Some("devpts"), flags, Some(options.as_str()))
        .doing(|| "mounting /dev/pts".into())?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    nix::mount::mount(Some("tmpfs"), &dev.join("shm"), Some("tmpfs"), flags, Some("mode=1777,size=64m,nr_inodes=4096"))
        .doing(|| "mounting /dev/shm".into())
}

/// Puts the disk in, gives its directories to the app, and its `tmp` to the dyno.
fn disk(parts: &Parts<'_>) -> Result<(), Failure> {
    let root = parts.staging;
    let uid = parts.block.outside();
    rustix::fs::chownat(parts.disk, "app", Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)), AtFlags::empty())
        .doing(|| "giving the disk to the app".into())?;
    attach(parts.disk, &root.join(".disk"))?;
    bind(&root.join(".disk/tmp"), &root.join("tmp"), Access::Write, None)
}

/// `/app`: a private writable overlay of the layers, or an empty directory of the disk when there are none.
fn slug(parts: &Parts<'_>) -> Result<(), Failure> {
    let root = parts.staging;
    let layers = layers(parts.plan, parts.config)?;
    if layers.is_empty() {
        return bind(&root.join(".disk/app"), &root.join("app"), Access::Write, None);
    }
    let stage = root.join(".layers");
    // Short relative names: the options of a mount must fit one page, however long the data directory's path is.
    for (n, layer) in layers.iter().enumerate() {
        let place = stage.join(n.to_string());
        directory(&place)?;
        bind(layer, &place, Access::Read, Some(parts.owners))?;
    }
    let highest_first: Vec<String> = (0..layers.len()).rev().map(|n| n.to_string()).collect();
    let options = format!("lowerdir={},upperdir=../.disk/app,workdir=../.disk/work", highest_first.join(":"));
    std::env::set_current_dir(&stage).doing(|| "entering the layers".into())?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    nix::mount::mount(Some("overlay"), &root.join("app"), Some("overlay"), flags, Some(options.as_str()))
        .doing(|| "mounting /app".into())?;
    std::env::set_current_dir("/").doing(|| "leaving the layers".into())?;
    // The overlay holds them; their names are not for the dyno.
    for n in 0..layers.len() {
        nix::mount::umount2(&stage.join(n.to_string()), MntFlags::MNT_DETACH).doing(|| "hiding the layers".into())?;
    }
    fs::remove_dir_all(&stage).doing(|| "removing the layers' places".into())
}

fn build_mounts(parts: &Parts<'_>, build: BuildId, mounts: &[BuildMount]) -> Result<(), Failure> {
    // Parents before what lies in them.
    let mut mounts: Vec<&BuildMount> = mounts.iter().collect();
    mounts.sort_by_key(|m| m.target.len());
    if !mounts.iter().any(|m| m.target == "/app") {
        bind(&parts.staging.join(".disk/app"), &parts.staging.join("app"), Access::Write, None)?;
    }
    for mount in mounts {
        let source = build_source(parts.config, parts.plan, build, &mount.source)?;
        let target = inside(parts.staging, Path::new(&mount.target))?;
        directory(&target)?;
        let access = if mount.writable { Access::Write } else { Access::Read };
        bind(&source, &target, access, Some(parts.owners))?;
    }
    Ok(())
}

/// The host's directory that a build source means.
///
/// Errors: a name that is not one path segment, a directory that is not there.
pub(crate) fn build_source(
    config: &Config,
    plan: &DynoPlan,
    build: BuildId,
    source: &BuildSource,
) -> Result<PathBuf, Failure> {
    let segment = |name: &str| {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']) && name.len() < 200;
        if plain {
            Ok(name.to_owned())
        } else {
            Err(Failure::new(format!("mounting {name:?}"), "not a directory's name"))
        }
    };
    let home = &config.home;
    let path = match source {
        BuildSource::Work(name) => home.join("work").join(build.to_string()).join(segment(name)?),
        BuildSource::Cache => home.join("cache").join(plan.app.to_string()),
        BuildSource::Buildpack(hex) => home.join("buildpacks").join(segment(hex)?),
        BuildSource::Toolchain(name) => home.join("toolchains").join(segment(name)?),
    };
    // Not through a link: what the server's user can write must not lead root elsewhere.
    match fs::symlink_metadata(&path) {
        Ok(kind) if kind.is_dir() => Ok(path),
        _ => Err(Failure::new(format!("mounting {}", path.display()), "there is no such directory")),
    }
}

fn change_root(root: &Path) -> Result<(), Failure> {
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).doing(|| "opening the root directory".into())?;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let here = rustix::fs::openat(CWD, root, flags, rustix::fs::Mode::empty())
        .doing(|| "opening the root directory".into())?;
    set_attributes(&here, Access::Read, None).doing(|| "closing the root directory".into())?;
    std::env::set_current_dir(root).doing(|| "entering the root directory".into())?;
    // Stacks the old root under the new one's name, from where it is taken away: no place for it is needed.
    nix::unistd::pivot_root(".", ".").doing(|| "changing the root".into())?;
    nix::mount::umount2(".", MntFlags::MNT_DETACH).doing(|| "leaving the host's root".into())?;
    std::env::set_current_dir("/").doing(|| "entering the new root".into())
}
