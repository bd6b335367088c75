//! The sandbox of the `bwrap` tier, for trying Shipway without root: files and processes hidden, the host's network.

use crate::config::{Config, UidBlock};
use crate::sandbox::{Ends, etc, rootfs};
use crate::shim::{command, set_size};
use crate::wire::{Doing, Failure};
use shipway_runtime::{BuildMount, DynoPlan, Root};
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What one dyno's `bwrap` is told, as a value.
struct Arguments<'a> {
    plan: &'a DynoPlan,
    toolchains: &'a [PathBuf],
    /// The dyno's directory: `app`, `tmp` and `etc` lie in it.
    directory: &'a Path,
    environment: &'a [(String, String)],
    /// Where the build's directories are, with the mounts that name them.
    mounts: Vec<(PathBuf, &'a BuildMount)>,
}

impl Arguments<'_> {
    /// The options. They go through a descriptor: the environment must not be seen in the list of processes.
    fn options(&self) -> Vec<String> {
        let id = UidBlock::INSIDE.to_string();
        let mut all: Vec<String> = Vec::new();
        let mut say = |words: &[&str]| all.extend(words.iter().map(|word| (*word).to_owned()));
        say(&["--unshare-user", "--uid", &id, "--gid", &id, "--unshare-pid", "--unshare-ipc", "--unshare-uts"]);
        say(&["--unshare-cgroup-try", "--die-with-parent", "--hostname", &etc::hostname(&self.plan.name)]);
        say(&["--ro-bind", "/usr", "/usr"]);
        for name in ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
            match fs::read_link(name) {
                Ok(target) => say(&["--symlink", &target.to_string_lossy(), name]),
                Err(_) => say(&["--ro-bind-try", name, name]),
            }
        }
        for path in self.toolchains {
            say(&["--ro-bind", &path.to_string_lossy(), &path.to_string_lossy()]);
        }
        let own = |name: &str| self.directory.join(name).to_string_lossy().into_owned();
        say(&["--ro-bind", &own("etc"), "/etc"]);
        for name in etc::FROM_HOST {
            let path = Path::new("/etc").join(name).to_string_lossy().into_owned();
            say(&["--ro-bind-try", &path, &path]);
        }
        say(&["--proc", "/proc", "--dev", "/dev", "--bind", &own("tmp"), "/tmp", "--bind", &own("app"), "/app"]);
        say(&["--dir", "/home", "--dir", "/root", "--dir", "/run", "--dir", "/var", "--symlink", "/tmp", "/var/tmp"]);
        for (source, mount) in &self.mounts {
            let bind = if mount.writable { "--bind" } else { "--ro-bind" };
            say(&[bind, &source.to_string_lossy(), &mount.target]);
        }
        say(&["--chdir", command::working_directory(self.plan), "--clearenv"]);
        for (name, value) in self.environment {
            say(&["--setenv", name, value]);
        }
        all
    }
}

/// Starts the dyno; `bwrap`'s pid, and the terminal's near end where one was asked for.
pub(crate) fn start(
    plan: &DynoPlan,
    config: &Config,
    directory: &Path,
    environment: Vec<(String, String)>,
    ends: Ends,
) -> Result<(u32, Option<OwnedFd>), Failure> {
    for name in ["app", "tmp", "etc"] {
        fs::create_dir(directory.join(name)).doing(|| format!("making the dyno's {name}"))?;
    }
    let app = directory.join("app");
    for layer in rootfs::layers(plan, config)? {
        copy(&layer, &app).doing(|| format!("copying the layer {}", layer.display()))?;
    }
    made_etc(plan, &directory.join("etc"))?;
    let mut mounts = Vec::new();
    if let Root::Build { build, mounts: wanted, .. } = &plan.root {
        for mount in wanted {
            mounts.push((rootfs::build_source(config, plan, *build, &mount.source)?, mount));
        }
        mounts.sort_by_key(|(_, mount)| mount.target.len());
    }
    let arguments = Arguments { plan, toolchains: &config.toolchains, directory, environment: &environment, mounts };
    let options = inherited(&arguments.options()).doing(|| "handing bwrap its options".into())?;
    let argv = command::argv(&plan.command, plan.profile && command::has_profile(&app));
    let mut bwrap = Command::new("bwrap");
    let pids = match plan.root {
        Root::Slug { .. } => plan.size.pids,
        // An eighth more than it may have: a build that wants too many is seen to have them by the shim, which looks now and
        // then, and is ended and named instead of being refused.
        Root::Build { .. } => plan.size.pids.saturating_add(plan.size.pids / 8 + 2),
    };
    bwrap.arg("--args").arg(options.as_raw_fd().to_string()).args(command::limited(argv, pids));
    let mut terminal = None;
    let files = match ends {
        Ends::Files(files) => files,
        Ends::Terminal(columns, lines) => {
            let (near, far) = open_terminal(columns, lines).doing(|| "making a terminal".into())?;
            let copy = || far.try_clone().doing(|| "copying the terminal".into());
            terminal = Some(near);
            [copy()?, copy()?, far]
        }
    };
    let [input, output, error] = files;
    let is_terminal = terminal.is_some();
    let (inside, inside_far) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing(|| "making a pipe".into())?;
    let inside_raw = inside_far.as_raw_fd();
    bwrap.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    bwrap.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(error));
    // SAFETY: between fork and exec of a single-threaded process; only system calls are made.
    unsafe {
        bwrap.pre_exec(move || {
            nix::unistd::setsid()?;
            if is_terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)?;
            if libc::dup2(inside_raw, command::READY_FD) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = bwrap.spawn().doing(|| "running bwrap".into())?;
    drop((bwrap, inside_far));
    // Until the dyno's own process runs there is nobody whom SIGTERM could reach.
    if fs::File::from(inside).read(&mut [0]).doing(|| "waiting for bwrap".into())? == 0 {
        let status = child.wait().doing(|| "waiting for bwrap".into())?;
        return Err(Failure::new("making the sandbox", format!("bwrap ended with {status}; see the dyno's log")));
    }
    Ok((child.id(), terminal))
}

/// A file in memory with the options, separated by NUL, that `bwrap` inherits.
fn inherited(options: &[String]) -> std::io::Result<fs::File> {
    if options.iter().any(|option| option.contains('\0')) {
        return Err(std::io::Error::other("a NUL in the plan"));
    }
    let mut file = fs::File::from(rustix::fs::memfd_create("bwrap", rustix::fs::MemfdFlags::empty())?);
    for option in options {
        file.write_all(option.as_bytes())?;
        file.write_all(b"\0")?;
    }
    file.rewind()?;
    Ok(file)
}

fn open_terminal(columns: u16, lines: u16) -> std::io::Result<(OwnedFd, OwnedFd)> {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
    let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&near)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let far = rustix::fs::open(ptsname(&near, Vec::new())?.as_c_str(), flags, Mode::empty())?;
    set_size(&near, columns, lines)?;
    Ok((near, far))
}

fn made_etc(plan: &DynoPlan, etc: &Path) -> Result<(), Failure> {
    let resolvers = crate::network::resolvers();
    for (name, text) in etc::files(&etc::hostname(&plan.name), None, None, &plan.hosts, &resolvers) {
        fs::write(etc.join(name), text).doing(|| format!("writing /etc/{name}"))?;
    }
    // With the host's network, the host's forwarder on its loopback is there too.
    if let Ok(resolve) = fs::read("/etc/resolv.conf") {
        fs::write(etc.join("resolv.conf"), resolve).doing(|| "writing /etc/resolv.conf".into())?;
    }
    symlink("/usr/share/zoneinfo/Etc/UTC", etc.join("localtime")).doing(|| "linking /etc/localtime".into())?;
    // Places for what is bound from the host: bwrap cannot make them in a read-only directory.
    for name in etc::FROM_HOST {
        let Ok(kind) = fs::metadata(Path::new("/etc").join(name)) else { continue };
        let place = etc.join(name);
        let parent = if kind.is_dir() { Some(place.as_path()) } else { place.parent() };
        let made = parent.map_or(Ok(()), fs::create_dir_all);
        let made = made.and_then(|()| if kind.is_dir() { Ok(()) } else { fs::write(&place, "") });
        made.doing(|| format!("making /etc/{name}"))?;
    }
    Ok(())
}

/// Copies a layer over what is there; a file takes the place of a directory and the other way round.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        let there = fs::symlink_metadata(&target).ok().map(|m| m.is_dir());
        match there {
            Some(true) if !kind.is_dir() => fs::remove_dir_all(&target)?,
            Some(false) => fs::remove_file(&target)?,
            _ => {}
        }
        if kind.is_dir() {
            if there != Some(true) {
                fs::create_dir(&target)?;
            }
            copy(&source, &target)?;
            fs::set_permissions(&target, entry.metadata()?.permissions())?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_cover_each_other() {
        let home = tempfile::tempdir().expect("a directory");
        let (low, high, app) = (home.path().join("low"), home.path().join("high"), home.path().join("app"));
        for directory in [&low.join("a"), &high, &app] {
            fs::create_dir_all(directory).expect("a directory");
        }
        fs::write(low.join("a/file"), "low").expect("a file");
        fs::write(low.join("b"), "low").expect("a file");
        fs::write(high.join("a"), "high").expect("a file");
        symlink("/etc/passwd", high.join("b")).expect("a link");
        copy(&low, &app).and_then(|()| copy(&high, &app)).expect("copies");
        assert_eq!(fs::read_to_string(app.join("a")).expect("a file"), "high");
        assert_eq!(fs::read_link(app.join("b")).expect("a link"), Path::new("/etc/passwd"));
        assert_eq!(fs::read_to_string(low.join("b")).expect("a file"), "low");
    }
}
