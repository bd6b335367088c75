//! The user's own directory: sessions, tokens of remote servers, bundles of authorities.

use crate::environment::Environment;
use crate::error::{Error, Result};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// `$XDG_CONFIG_HOME/shipway`, `~/.config/shipway`, or `%APPDATA%\shipway`.
#[derive(Debug, Clone)]
pub struct ConfigDir(PathBuf);

impl ConfigDir {
    /// Finds the directory, without making it.
    pub fn of(environment: &Environment) -> Result<Self> {
        let base = environment
            .filled("XDG_CONFIG_HOME")
            .or_else(|| environment.filled("APPDATA"))
            .map(PathBuf::from)
            .or_else(|| environment.home().map(|home| home.join(".config")));
        let base =
            base.ok_or_else(|| Error::new("there is no place for your settings: HOME is not set").hint("set HOME"))?;
        Ok(Self(base.join("shipway")))
    }

    /// A path in the directory.
    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.0.join(relative)
    }

    /// Whether `path` is a file of ours.
    pub fn owns(&self, path: &Path) -> bool {
        path.starts_with(&self.0)
    }

    /// The file's text, `None` when it is not there.
    pub fn read(&self, relative: &str) -> Result<Option<String>> {
        let path = self.join(relative);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::new(format!("could not read {}: {e}", path.display()))),
        }
    }

    /// Replaces a file whole. On Unix only its user can read it, from its first byte on.
    ///
    /// Nothing is written when the file says the same already.
    pub fn write(&self, relative: &str, contents: &str) -> Result<PathBuf> {
        let path = self.join(relative);
        if self.read(relative).ok().flatten().as_deref() == Some(contents) {
            return Ok(path);
        }
        let failed = |e: std::io::Error| {
            Error::new(format!("could not write {}: {e}", path.display())).hint("see that the directory is yours")
        };
        let directory = path.parent().unwrap_or(&self.0);
        make_private_directory(directory).map_err(failed)?;
        // A temporary file of this crate is created with mode 0600 and a name nobody can foresee.
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory).map_err(failed)?;
        file.write_all(contents.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(&path).map_err(|e| failed(e.error))?;
        Ok(path)
    }

    /// Removes a file; one that is not there is fine.
    pub fn remove(&self, relative: &str) -> Result<()> {
        match fs::remove_file(self.join(relative)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::new(format!("could not remove {}: {e}", self.join(relative).display())))
            }
            _ => Ok(()),
        }
    }

    /// The names in a subdirectory, sorted; none when it is not there.
    pub fn names(&self, relative: &str) -> Vec<String> {
        let entries = fs::read_dir(self.join(relative)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

fn make_private_directory(path: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn attack_17_files_with_secrets_are_the_users_alone() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let config = ConfigDir::of(&Environment::from_iter([("HOME", home.path().to_str().unwrap())])).unwrap();
        let path = config.write("sessions/a.json", "secret").unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        config.write("sessions/a.json", "other").unwrap();
        assert_eq!((mode(&path), fs::read_to_string(&path).unwrap().as_str()), (0o600, "other"));
        assert_eq!(config.names("sessions"), ["a.json"]);
    }
}
