//! Objects read one after another from one `git cat-file`, without filters, attributes or hooks.

use crate::git::{Git, GitError};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// A git that answers requests for objects in their order. Blocks.
pub(crate) struct Objects {
    child: Child,
    requests: Option<mpsc::Sender<String>>,
    writer: Option<JoinHandle<()>>,
    output: BufReader<ChildStdout>,
    unflushed: usize,
}

/// After this many requests git is told to answer, at the latest.
const FLUSH_EVERY: usize = 256;

/// What an object is; its content must be taken next.
pub(crate) struct Header {
    pub(crate) kind: String,
    pub(crate) size: u64,
}

impl Objects {
    pub(crate) fn open(git: &Git, repository: &Path) -> Result<Self, GitError> {
        let failed = || GitError::io("cat-file");
        let mut command = git.command(repository);
        command.args(["cat-file", "--batch-command", "--buffer"]).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(failed())?;
        let missing = || failed()(io::ErrorKind::BrokenPipe.into());
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let (requests, receiver) = mpsc::channel::<String>();
        // A thread of its own: git stops reading requests while nobody reads its answers.
        let writer = std::thread::spawn(move || {
            let mut stdin = BufWriter::new(stdin);
            while let Ok(first) = receiver.recv() {
                for request in std::iter::once(first).chain(receiver.try_iter()) {
                    if writeln!(stdin, "{request}").is_err() {
                        return;
                    }
                }
                if stdin.flush().is_err() {
                    return;
                }
            }
        });
        let output = BufReader::with_capacity(128 << 10, stdout);
        Ok(Self { child, requests: Some(requests), writer: Some(writer), output, unflushed: 0 })
    }

    /// Asks for an object; as many as one likes before [`Objects::flush`], after which the answers can be read.
    pub(crate) fn request(&mut self, name: &str) {
        self.send(format!("contents {name}"));
        self.unflushed += 1;
        if self.unflushed == FLUSH_EVERY {
            self.flush();
        }
    }

    /// Lets git answer. Answers come in large pieces: one at a time would mean two changes of process for each file.
    pub(crate) fn flush(&mut self) {
        if std::mem::take(&mut self.unflushed) > 0 {
            self.send("flush".into());
        }
    }

    fn send(&self, line: String) {
        // When git is gone, the answer that does not come says so.
        let _ = self.requests.as_ref().map(|requests| requests.send(line));
    }

    /// The next answer's header; none when there is no such object.
    pub(crate) fn next(&mut self) -> io::Result<Option<Header>> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut words = line.trim_end().split(' ');
        let header = (words.next(), words.next(), words.next().and_then(|size| size.parse().ok()));
        match header {
            (Some(_), Some(kind), Some(size)) => Ok(Some(Header { kind: kind.to_string(), size })),
            _ => Ok(None),
        }
    }

    /// The content of an object that is known to be small.
    pub(crate) fn content(&mut self, size: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::with_capacity(size as usize);
        self.copy(size, &mut content)?;
        Ok(content)
    }

    /// Copies the content of an object, in pieces.
    pub(crate) fn copy(&mut self, size: u64, to: &mut impl Write) -> io::Result<()> {
        let copied = io::copy(&mut (&mut self.output).take(size), to)?;
        let mut end = [0];
        self.output.read_exact(&mut end)?;
        if copied == size && end == *b"\n" { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        self.requests = None;
        // Killed, for it may have answers that nobody reads any more; waited for, so that no zombie stays.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}
