//! `shipway env --install` and `--uninstall`: what holds in every shell, whether or not `shipway env` was evaluated there.
//!
//! Two things: a `heroku` command of ours in `~/.shipway/bin`, and a file of git settings that the user's own git settings
//! include. With them a push to git.heroku.com stops, and one to the server has its token and its authority.

use super::env::files;
use super::executable;
use crate::error::{Error, Result};
use crate::profile::{self, SignIn};
use crate::shell::Shell;
use crate::{Context, Place};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The name of the wrapper's file.
pub(super) const WRAPPER: &str = if cfg!(windows) { "heroku.cmd" } else { "heroku" };
/// The file of git settings, in our own directory.
const GIT_SETTINGS: &str = "git";

/// `~/.shipway/bin`.
pub(super) fn wrapper_directory(context: &Context) -> Option<PathBuf> {
    context.environment.home().map(|home| home.join(".shipway/bin"))
}

/// Whether git, in every shell of this user, stops before the real Heroku.
pub(super) fn git_is_held(context: &Context) -> bool {
    let path = context.config.join(GIT_SETTINGS);
    path.exists() && included(&path)
}

pub(super) async fn run(context: &Context, shell: Shell) -> Result<()> {
    let directory =
        wrapper_directory(context).ok_or_else(|| Error::new("HOME is not set, so ~/.shipway/bin is nowhere"))?;
    let path = directory.join(WRAPPER);
    write_wrapper(&path, &script(context)?)
        .map_err(|e| Error::new(format!("could not write {}: {e}", path.display())))?;
    eprintln!("Wrote {}. For every new shell, add to its start-up file:", path.display());
    match shell {
        Shell::Fish => eprintln!("  fish_add_path ~/.shipway/bin"),
        _ => eprintln!("  export PATH=\"$HOME/.shipway/bin:$PATH\""),
    }
    hold_git(context).await
}

fn script(context: &Context) -> Result<String> {
    let executable = executable()?;
    let place = match &context.place {
        Place { server: Some(url), .. } => format!(" --server {url}"),
        Place { home: Some(home), .. } => {
            let home = std::path::absolute(home).unwrap_or_else(|_| home.clone());
            format!(" --home {}", Shell::Sh.quote(&home.to_string_lossy()))
        }
        _ => String::new(),
    };
    Ok(if cfg!(windows) {
        format!("@echo off\r\n\"{executable}\"{place} heroku %*\r\n")
    } else {
        let quoted = Shell::Sh.quote(&executable);
        let settings = context.config.join(GIT_SETTINGS);
        let included = Shell::Sh.quote(&settings.to_string_lossy());
        let lines = [
            format!("error: this heroku command leads to your Shipway server by {executable}, which is not there"),
            "hint: bring Shipway back: bin/up".to_owned(),
            "hint: or have the heroku command go where it went before, and git too: rm ~/.shipway/bin/heroku"
                .to_owned(),
            format!("hint:   git config --global --fixed-value --unset-all include.path {included}"),
        ];
        let lines: Vec<String> = lines.iter().map(|line| Shell::Sh.quote(line)).collect();
        format!(
            "#!/bin/sh\n# Every heroku command goes to your Shipway server.\n\
             [ -x {quoted} ] || {{\n  printf '%s\\n' {} >&2\n  exit 127\n}}\n\
             exec {quoted}{place} heroku \"$@\"\n",
            lines.join(" \\\n    ")
        )
    })
}

fn write_wrapper(path: &Path, script: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(path))?;
    std::fs::write(path, script)?;
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

/// Writes git's settings and has the user's own include them, once.
async fn hold_git(context: &Context) -> Result<()> {
    let mut entries = profile::git_refusals();
    // Before a login to a server elsewhere there is nothing to say of it.
    if let Ok(account) = context.account().await {
        let proxy = context.environment.filled("HTTPS_PROXY").or_else(|| context.environment.filled("https_proxy"));
        let proxy = proxy.filter(|_| !account.url.is_loopback()).unwrap_or_default();
        entries.extend(profile::git_ways(&account, &files(context, &account, SignIn::Token)?, proxy));
    }
    let draft =
        tempfile::NamedTempFile::new().map_err(|e| Error::new(format!("could not write a temporary file: {e}")))?;
    let draft = draft.path().to_string_lossy();
    for (key, value) in &entries {
        config(&["--file", &draft, "--add", key, value])?;
    }
    let settings = std::fs::read_to_string(&*draft).map_err(|e| Error::new(format!("could not read {draft}: {e}")))?;
    let path = context.config.write(GIT_SETTINGS, &settings)?;
    if !included(&path) {
        config(&["--global", "--add", "include.path", &path.to_string_lossy()])?;
    }
    eprintln!("Git's settings of yours now include {}: in every shell, a push or fetch that", path.display());
    eprintln!("would go to git.heroku.com stops. To take all of it back: shipway env --uninstall");
    Ok(())
}

/// Takes back what [`run`] did. What is not there is fine.
pub(super) fn undo(context: &Context) -> Result<()> {
    let wrapper = wrapper_directory(context).map(|directory| directory.join(WRAPPER)).filter(|path| path.exists());
    if let Some(path) = wrapper {
        std::fs::remove_file(&path).map_err(|e| Error::new(format!("could not remove {}: {e}", path.display())))?;
        eprintln!("Removed {}.", path.display());
    }
    let settings = context.config.join(GIT_SETTINGS);
    if included(&settings) {
        config(&["--global", "--fixed-value", "--unset-all", "include.path", &settings.to_string_lossy()])?;
        eprintln!(
            "Git's settings of yours include {} no more: a push to git.heroku.com goes there.",
            settings.display()
        );
    }
    context.config.remove(GIT_SETTINGS)
}

/// Whether the user's git settings include a file.
fn included(path: &Path) -> bool {
    let listed = git(&["--global", "--get-all", "include.path"]);
    listed.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).lines().any(|line| Path::new(line) == path))
}

fn git(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new("git").arg("config").args(arguments).output()
}

/// Runs `git config`. Errors: there is no git, or it refuses, with its words.
fn config(arguments: &[&str]) -> Result<()> {
    let output = git(arguments).map_err(|e| Error::new(format!("could not start git: {e}")).hint("install git"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("git could not change its settings: {}", crate::terminal::printable(said.trim()))))
}
