//! Output of builds and release phases: kept in a file each, followed while it grows.

use crate::ports::Lines;
use shipway_domain::BuildId;
use std::collections::HashMap;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

/// More output than this of one build or release phase is dropped, with a line that says so. Bytes.
pub(crate) const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// How a transcript says what a dyno wrote that did not become healthy: a head, and what each of its lines begins with.
pub(crate) const LAST_WORDS: &str = " !     Its last lines:";
pub(crate) const LAST_WORD: &str = " !         ";
/// The end of a transcript that is searched for them. Bytes.
const MAX_LAST_WORDS: u64 = 8 * 1024;

/// The open outputs. One that is not open has ended.
pub(crate) struct Outputs {
    dir: PathBuf,
    open: Mutex<HashMap<uuid::Uuid, watch::Receiver<u64>>>,
}

impl Outputs {
    pub(crate) fn new(dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir, open: Mutex::default() })
    }

    fn path(&self, id: uuid::Uuid) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// Removes an output.
    pub(crate) fn remove(&self, id: uuid::Uuid) {
        let _ = std::fs::remove_file(self.path(id));
    }
}

/// The writing end of an output; dropping it ends the output.
pub(crate) struct Output {
    state: Mutex<(std::fs::File, u64)>,
    length: watch::Sender<u64>,
    _close: Close,
}

/// Takes an output from among the open ones when it is dropped.
struct Close(Box<dyn Fn() + Send + Sync>);

impl Drop for Close {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl crate::Platform {
    /// Opens an output for appending. Errors: what the file system says.
    pub(crate) fn output(&self, id: uuid::Uuid) -> io::Result<Arc<Output>> {
        let outputs = &self.inner.outputs;
        let (length, seen) = watch::channel(0);
        // Before there is a file: whoever finds one that is not open takes it for ended.
        outputs.open.lock().expect("no panic while registered").insert(id, seen);
        let inner = Arc::downgrade(&self.inner);
        let close = Close(Box::new(move || {
            if let Some(inner) = inner.upgrade() {
                inner.outputs.open.lock().expect("no panic while registered").remove(&id);
            }
        }));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(outputs.path(id))?;
        let there = file.metadata()?.len();
        length.send_replace(there);
        Ok(Arc::new(Output { state: Mutex::new((file, there)), length, _close: close }))
    }

    /// The last lines of a dyno that did not become healthy, as the transcript of its build ends with them. Empty where it
    /// ends otherwise.
    pub fn last_words(&self, build: BuildId) -> Vec<String> {
        let read = || {
            let mut file = std::fs::File::open(self.inner.outputs.path(build.0))?;
            let length = file.metadata()?.len();
            file.seek(io::SeekFrom::Start(length.saturating_sub(MAX_LAST_WORDS)))?;
            let mut end = Vec::new();
            file.take(MAX_LAST_WORDS).read_to_end(&mut end)?;
            io::Result::Ok(String::from_utf8_lossy(&end).into_owned())
        };
        // What cannot be read is not shown here; the page of the output says why.
        let end = read().unwrap_or_default();
        let Some((_, words)) = end.rsplit_once(LAST_WORDS) else { return Vec::new() };
        words.lines().skip(1).map_while(|line| line.strip_prefix(LAST_WORD)).map(str::to_string).collect()
    }

    /// Follows an output from its beginning: what is there, then what comes, until it has ended.
    /// Empty for an output that never was.
    pub fn read_output(&self, id: uuid::Uuid) -> OutputReader {
        let outputs = &self.inner.outputs;
        let file = match std::fs::File::open(outputs.path(id)) {
            Ok(file) => Ok(Some(tokio::fs::File::from_std(file))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        };
        // After the file was found: one that begins in between grows.
        let growing = outputs.open.lock().expect("no panic while registered").get(&id).cloned();
        OutputReader { file, growing }
    }
}

impl Lines for Output {
    fn line(&self, line: &str) {
        let mut state = self.state.lock().expect("no panic while writing");
        let (file, length) = &mut *state;
        if *length >= MAX_BYTES {
            return;
        }
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        if *length + bytes.len() as u64 >= MAX_BYTES {
            bytes = b" !     More output than 64 MiB: the rest is not kept.\n".to_vec();
            *length = MAX_BYTES;
        }
        // A full disk must not stop a build that is nearly done; the line is lost, the file's reader sees a gap.
        if file.write_all(&bytes).is_ok() {
            *length += bytes.len() as u64;
            self.length.send_replace(*length);
        }
    }
}

/// The reading end of an output.
pub struct OutputReader {
    /// None where there is none, or nothing more to say of why it could not be opened.
    file: io::Result<Option<tokio::fs::File>>,
    growing: Option<watch::Receiver<u64>>,
}

impl OutputReader {
    /// The next bytes, at most 64 KiB; `None` at the end. Waits while the output grows.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let file = match &mut self.file {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(_) => return std::mem::replace(&mut self.file, Ok(None)).map(|_| None),
        };
        let mut buffer = vec![0; 64 * 1024];
        loop {
            // Marked as seen before reading: what is written meanwhile wakes the wait below.
            if let Some(growing) = &mut self.growing {
                growing.borrow_and_update();
            }
            let n = file.read(&mut buffer).await?;
            if n > 0 {
                buffer.truncate(n);
                return Ok(Some(buffer));
            }
            match &mut self.growing {
                None => return Ok(None),
                // The writer is gone: one more read finds what it wrote last.
                Some(growing) => {
                    if growing.changed().await.is_err() {
                        self.growing = None;
                    }
                }
            }
        }
    }
}
