//! A real ssh server of our own account, which serves one repository to one key.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const PROGRAM: &str = "/usr/sbin/sshd";

/// The server. It lives as long as this.
pub struct Sshd {
    pub port: u16,
    pub user: String,
    place: TempDir,
}

impl Sshd {
    /// One with a repository of one commit. None, and said, where OpenSSH's server is not installed.
    pub fn start() -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            eprintln!("skipped: {PROGRAM} is not there (openssh-server)");
            return None;
        }
        if rustix::process::geteuid().is_root() {
            // The package's service would make it.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sshd = Self { port: listener.local_addr().unwrap().port(), user: said("id", &["-un"]), place };
        sshd.new_host_key();
        sshd.allow("");
        let repository = sshd.path("shop.git");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        said("git", &["init", "--quiet", "--bare", "--initial-branch=main", &text(&repository)]);
        let tree = said("git", &["--git-dir", &text(&repository), "mktree"]);
        let author = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
        let at = ["--git-dir", &text(&repository), "commit-tree", "-m", "First", &tree];
        let commit = said("git", &[author.as_slice(), &at].concat());
        said("git", &["--git-dir", &text(&repository), "update-ref", "refs/heads/main", &commit]);
        let serve = sshd.path("serve");
        fs::write(
            &serve,
            format!(
                "#!/bin/sh\nprintf '%s\\n' \"$SSH_ORIGINAL_COMMAND\" >> {0}/asked\nsh {0}/look >> {0}/seen\n\
                 exec git-upload-pack {0}/shop.git\n",
                sshd.place.path().display()
            ),
        )
        .unwrap();
        fs::set_permissions(&serve, Permissions::from_mode(0o755)).unwrap();
        fs::write(sshd.path("look"), "true").unwrap();
        let config = format!(
            "HostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized_keys\nStrictModes no\nUsePAM no\nPidFile none\n\
             PermitRootLogin yes\nPasswordAuthentication no\nAcceptEnv GIT_PROTOCOL\nForceCommand {0}/serve\n",
            sshd.place.path().display()
        );
        let file = sshd.path("sshd_config");
        fs::write(&file, config).unwrap();
        // A process each connection, as inetd has it: so the port is one that was free.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (input, output) = (OwnedFd::from(stream.try_clone().unwrap()), OwnedFd::from(stream));
                let mut command = Command::new(PROGRAM);
                command.arg("-i").arg("-f").arg(&file).stdin(input).stdout(output).stderr(Stdio::null());
                if let Ok(mut child) = command.spawn() {
                    std::thread::spawn(move || child.wait());
                }
            }
        });
        Some(sshd)
    }

    /// Another key by which the server is known from now on.
    pub fn new_host_key(&self) {
        let file = self.path("host_key");
        let _ = fs::remove_file(&file);
        said("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", file.to_str().unwrap()]);
    }

    /// The host key as a line of `known_hosts`.
    pub fn known_as(&self) -> String {
        let public = fs::read_to_string(self.path("host_key.pub")).unwrap();
        format!("[127.0.0.1]:{} {public}", self.port)
    }

    /// Lets a key in, and no other.
    pub fn allow(&self, public: &str) {
        fs::write(self.path("authorized_keys"), format!("{public}\n")).unwrap();
    }

    /// Has a command run in each session, and gives what was seen by it.
    pub fn look(&self, command: &str) -> impl Fn() -> String + use<> {
        fs::write(self.path("look"), command).unwrap();
        let seen = self.path("seen");
        move || fs::read_to_string(&seen).unwrap_or_default()
    }

    /// What it was asked for in its sessions.
    pub fn asked(&self) -> String {
        fs::read_to_string(self.path("asked")).unwrap_or_default()
    }

    /// The commit of its branch main.
    pub fn main(&self) -> String {
        said("git", &["--git-dir", self.path("shop.git").to_str().unwrap(), "rev-parse", "main"])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
