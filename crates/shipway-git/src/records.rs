//! Git's long answers, read record by record, so that neither a long history nor a long message fills the memory.

use crate::git::{Git, GitError, stderr_text};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// What is kept of one record, in bytes; the rest of a longer one is passed over.
const RECORD: usize = 64 << 10;
/// How long a question about a history may take. The longest known histories need a few seconds.
const PATIENCE: Duration = Duration::from_secs(30);

impl Git {
    /// Runs git and gives each record of its answer, which ends in `end`, to `take`.
    pub(crate) async fn records(
        &self,
        repository: &Path,
        arguments: &[&str],
        end: u8,
        take: impl FnMut(&[u8]),
    ) -> Result<(), GitError> {
        let child = self.start(repository, arguments, Stdio::null())?;
        finish(arguments[0], vec![child], end, take).await
    }

    /// The same for what `second` says of what `first` says.
    pub(crate) async fn piped_records(
        &self,
        repository: &Path,
        first: &[&str],
        second: &[&str],
        take: impl FnMut(&[u8]),
    ) -> Result<(), GitError> {
        let mut from = self.start(repository, first, Stdio::null())?;
        let output = from.stdout.take().ok_or_else(|| GitError::io(first[0])(std::io::ErrorKind::BrokenPipe.into()))?;
        let input: Stdio = output.try_into().map_err(GitError::io(first[0]))?;
        let to = self.start(repository, second, input)?;
        finish(second[0], vec![to, from], b'\n', take).await
    }

    fn start(&self, repository: &Path, arguments: &[&str], stdin: Stdio) -> Result<Child, GitError> {
        let mut command = Command::from(self.command(repository));
        command.args(arguments).stdin(stdin).kill_on_drop(true);
        command.spawn().map_err(GitError::io(arguments[0]))
    }
}

/// Reads the first child's answer to its end and sees that all of them ended well.
async fn finish(what: &str, mut children: Vec<Child>, end: u8, mut take: impl FnMut(&[u8])) -> Result<(), GitError> {
    let failed = || GitError::io(what);
    let reading = async {
        let output = children[0].stdout.take().ok_or_else(|| failed()(std::io::ErrorKind::BrokenPipe.into()))?;
        read(output, end, &mut take).await.map_err(failed())?;
        for child in children {
            let output = child.wait_with_output().await.map_err(failed())?;
            if !output.status.success() {
                return Err(GitError::Failed { what: what.into(), message: stderr_text(&output.stderr) });
            }
        }
        Ok(())
    };
    let slow = || GitError::Failed { what: what.into(), message: format!("no answer in {} s", PATIENCE.as_secs()) };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| Err(slow()))
}

async fn read(output: impl AsyncRead + Unpin, end: u8, take: &mut impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut output = BufReader::with_capacity(RECORD, output);
    let mut piece = vec![0; RECORD];
    let mut record = Vec::new();
    loop {
        let n = output.read(&mut piece).await?;
        if n == 0 {
            break;
        }
        let mut rest = &piece[..n];
        while let Some(at) = rest.iter().position(|byte| *byte == end) {
            keep(&mut record, &rest[..at]);
            take(&record);
            record.clear();
            rest = &rest[at + 1..];
        }
        keep(&mut record, rest);
    }
    if !record.is_empty() {
        take(&record);
    }
    Ok(())
}

fn keep(record: &mut Vec<u8>, more: &[u8]) {
    let room = RECORD.saturating_sub(record.len()).min(more.len());
    record.extend_from_slice(&more[..room]);
}
