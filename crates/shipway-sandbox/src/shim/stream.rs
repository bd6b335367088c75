//! The one stream of a dyno that somebody can attach to.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// How much is held in each direction before the writer waits.
const HELD_BYTES: usize = 64 * 1024;

/// The shim's side of a pipe or terminal, and the client that is attached to it.
pub(super) struct Stream {
    /// The dyno's input. None once it was closed; a terminal is written through `output`.
    input: Option<File>,
    output: Option<File>,
    is_terminal: bool,
    client: Option<UnixStream>,
    /// The client will send nothing more.
    input_ends: bool,
    to_dyno: Vec<u8>,
    to_client: Vec<u8>,
    was_attached: bool,
}

/// Whose end a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Dyno,
    Client,
}

impl Stream {
    pub(super) fn pipe(input: OwnedFd, output: OwnedFd) -> Self {
        Self::new(Some(input.into()), output.into(), false)
    }

    pub(super) fn terminal(near: OwnedFd) -> Self {
        Self::new(None, near.into(), true)
    }

    fn new(input: Option<File>, output: File, is_terminal: bool) -> Self {
        for file in input.iter().chain([&output]) {
            let _ = rustix::io::ioctl_fionbio(file, true);
        }
        Self {
            input,
            output: Some(output),
            is_terminal,
            client: None,
            input_ends: false,
            to_dyno: Vec::new(),
            to_client: Vec::new(),
            was_attached: false,
        }
    }

    /// Hands the stream to a client; `early` is what it has sent already. None when somebody has it.
    pub(super) fn attach(&mut self, client: UnixStream, early: &[u8]) -> Option<()> {
        if self.client.is_some() {
            return None;
        }
        self.client = Some(client);
        self.was_attached = true;
        self.to_dyno.extend_from_slice(early);
        Some(())
    }

    pub(super) fn is_attached(&self) -> bool {
        self.client.is_some()
    }

    pub(super) fn terminal_fd(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().filter(|_| self.is_terminal).map(AsFd::as_fd)
    }

    /// Whether there is something that a client should still get: a dyno's last words wait for a reader.
    pub(super) fn is_owed(&self) -> bool {
        !self.was_attached || !self.to_client.is_empty()
    }

    /// The descriptors to wait for, with what for: readable, writable.
    pub(super) fn interests(&self) -> Vec<(Side, BorrowedFd<'_>, bool, bool)> {
        let mut all = Vec::new();
        if let Some(output) = &self.output {
            let writes = self.is_terminal && !self.to_dyno.is_empty();
            let reads = self.to_client.len() < HELD_BYTES;
            if reads || writes {
                all.push((Side::Dyno, output.as_fd(), reads, writes));
            }
        }
        if let Some(input) = self.input.as_ref().filter(|_| !self.to_dyno.is_empty()) {
            all.push((Side::Dyno, input.as_fd(), false, true));
        }
        if let Some(client) = &self.client {
            let reads = !self.input_ends && self.to_dyno.len() < HELD_BYTES;
            all.push((Side::Client, client.as_fd(), reads, !self.to_client.is_empty()));
        }
        all
    }

    /// Moves what can be moved now. `hung_up`: the client has closed both directions.
    pub(super) fn pump(&mut self, hung_up: bool) {
        self.read_output();
        self.write_client();
        self.read_client();
        self.write_input();
        if hung_up && self.client.is_some() {
            // The dyno's input stays open: another client may take over.
            (self.client, self.input_ends) = (None, false);
        }
    }

    fn read_output(&mut self) {
        let mut chunk = [0; 16 * 1024];
        while self.to_client.len() < HELD_BYTES {
            let Some(output) = &mut self.output else { return };
            match output.read(&mut chunk) {
                Ok(n) if n > 0 => self.to_client.extend_from_slice(&chunk[..n]),
                Err(e) if retriable(&e) => return,
                // A terminal answers EIO once nobody has its far end open.
                _ => self.output = None,
            }
        }
    }

    fn write_client(&mut self) {
        let Some(client) = &mut self.client else { return };
        match write_some(client, &mut self.to_client) {
            Ok(()) => {}
            // It will not be read; what is held waits for the next client.
            Err(_) => (self.client, self.input_ends) = (None, false),
        }
    }

    fn read_client(&mut self) {
        let mut chunk = [0; 16 * 1024];
        while !self.input_ends && self.to_dyno.len() < HELD_BYTES {
            let Some(client) = &mut self.client else { return };
            match client.read(&mut chunk) {
                Ok(n) if n > 0 => self.to_dyno.extend_from_slice(&chunk[..n]),
                Err(e) if retriable(&e) => return,
                _ => self.input_ends = true,
            }
        }
    }

    fn write_input(&mut self) {
        let Some(input) = (if self.is_terminal { self.output.as_mut() } else { self.input.as_mut() }) else {
            // Nobody reads any more: what is typed goes nowhere, as in any shell.
            self.to_dyno.clear();
            return;
        };
        if write_some(input, &mut self.to_dyno).is_err() {
            self.to_dyno.clear();
            self.input = None;
        }
        if self.input_ends && self.to_dyno.is_empty() {
            self.input = None;
        }
    }

    /// After the dyno's end: reads what is left of its output, tells the client when it has everything.
    pub(super) fn finish(&mut self) {
        self.input = None;
        self.pump(false);
        if self.output.is_none() && self.to_client.is_empty() {
            self.client = None;
        }
    }
}

fn write_some(to: &mut impl Write, bytes: &mut Vec<u8>) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes.drain(..n);
            }
            Err(e) if retriable(&e) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn retriable(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
