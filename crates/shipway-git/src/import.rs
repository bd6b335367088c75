//! A directory becomes a commit, so that everything that is built is built from one.

use crate::git::GitError;
use crate::repo::{Change, Repo};
use shipway_domain::CommitId;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

/// Below this are the commits that were made of directories.
const IMPORTS: &str = "refs/shipway/imports/";

impl Repo {
    /// Commits the files below `directory` as they are, kept by a hidden ref named after the commit.
    ///
    /// No ignore file, attribute or filter has a say; links are kept as links and never followed; a `.git`, anything
    /// that is no file, and empty directories are left out. `time`: seconds since 1970. `message`: its first line is what
    /// people will read. The same files and first line give the commit that they gave before, so that what somebody signed
    /// is what a second upload of it brings.
    pub async fn import_tree(&self, directory: &Path, message: &str, time: u64) -> Result<CommitId, GitError> {
        let (repo, directory, message) = (self.clone(), directory.to_path_buf(), message.to_string());
        let import = tokio::task::spawn_blocking(move || repo.import_blocking(&directory, &message, time));
        let commit = import.await.map_err(|error| GitError::io("fast-import")(io::Error::other(error)))??;
        if let Some(before) = self.imported_before(&commit).await? {
            return Ok(before);
        }
        self.transaction(&[Change::set(format!("{IMPORTS}{commit}"), &commit)]).await?;
        Ok(commit)
    }

    /// The oldest import of the same files with the same first line.
    async fn imported_before(&self, commit: &CommitId) -> Result<Option<CommitId>, GitError> {
        let made = self.run(&["show", "--no-patch", "--format=%T %s", commit.as_str()], b"").await?;
        let all = ["for-each-ref", "--sort=creatordate", "--format=%(objectname) %(tree) %(contents:subject)", IMPORTS];
        let (made, known) = (String::from_utf8_lossy(&made).into_owned(), self.run(&all, b"").await?);
        let known = String::from_utf8_lossy(&known);
        let mut known = known.lines().filter_map(|line| line.split_once(' '));
        let same = known.find(|(_, what)| what.trim_end() == made.trim_end());
        Ok(same.and_then(|(id, _)| id.parse().ok()))
    }

    fn import_blocking(&self, directory: &Path, message: &str, time: u64) -> Result<CommitId, GitError> {
        let failed = || GitError::io("fast-import");
        let mut command = self.git.command(&self.path);
        command.args(["fast-import", "--quiet", "--date-format=raw", "--done"]).stdin(Stdio::piped());
        let mut child = command.spawn().map_err(failed())?;
        let stdin = child.stdin.take().ok_or_else(|| failed()(io::ErrorKind::BrokenPipe.into()))?;
        // A ref of its own for each import: two at once must not see each other.
        let temporary = format!("refs/shipway/importing/{}", uuid::Uuid::new_v4());
        let mut stream = io::BufWriter::with_capacity(64 << 10, stdin);
        let written = write_stream(&mut stream, directory, &temporary, message, time);
        // Closing its input is what ends fast-import, also after an error of ours.
        drop(stream);
        let output = child.wait_with_output().map_err(failed())?;
        written.map_err(failed())?;
        if !output.status.success() {
            let message = crate::git::stderr_text(&output.stderr);
            return Err(GitError::Failed { what: "fast-import".into(), message });
        }
        let commit = String::from_utf8_lossy(&output.stdout).trim().parse();
        commit.map_err(|error| failed()(io::Error::other(error)))
    }
}

fn write_stream(to: &mut impl Write, root: &Path, refname: &str, message: &str, time: u64) -> io::Result<()> {
    writeln!(to, "feature done\ncommit {refname}\nmark :1")?;
    writeln!(to, "committer Shipway <shipway@localhost> {time} +0000\ndata {}\n{message}", message.len())?;
    write_directory(to, root, &mut Vec::new())?;
    // The mark's id is printed; the ref that named it meanwhile goes.
    writeln!(to, "\nget-mark :1\nreset {refname}\nfrom 0000000000000000000000000000000000000000\n\ndone")?;
    to.flush()
}

fn write_directory(to: &mut impl Write, directory: &Path, prefix: &mut Vec<u8>) -> io::Result<()> {
    let mut entries = std::fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (name, kind, length) = (entry.file_name(), entry.file_type()?, prefix.len());
        if name.eq_ignore_ascii_case(".git") {
            continue;
        }
        prefix.extend_from_slice(name.as_bytes());
        if kind.is_dir() {
            prefix.push(b'/');
            write_directory(to, &entry.path(), prefix)?;
        } else if kind.is_symlink() {
            let link = std::fs::read_link(entry.path())?;
            write_entry(to, "120000", prefix, link.as_os_str().len() as u64, &mut link.as_os_str().as_bytes())?;
        } else if kind.is_file() {
            let mut file = std::fs::File::open(entry.path())?;
            let metadata = file.metadata()?;
            let mode = if metadata.mode() & 0o100 != 0 { "100755" } else { "100644" };
            write_entry(to, mode, prefix, metadata.len(), &mut file)?;
        }
        prefix.truncate(length);
    }
    Ok(())
}

fn write_entry(to: &mut impl Write, mode: &str, path: &[u8], size: u64, from: &mut impl io::Read) -> io::Result<()> {
    write!(to, "M {mode} inline \"")?;
    for byte in path {
        match byte {
            b'"' | b'\\' => to.write_all(&[b'\\', *byte])?,
            b'\n' => to.write_all(b"\\n")?,
            byte => to.write_all(&[*byte])?,
        }
    }
    write!(to, "\"\ndata {size}\n")?;
    let copied = io::copy(&mut io::Read::take(from, size), to)?;
    if copied != size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file changed while it was read"));
    }
    to.write_all(b"\n")
}
