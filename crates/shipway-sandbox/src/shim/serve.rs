//! What the shim answers on its socket.

use super::{Output, Shim, set_size};
use crate::wire::{self, Reply, Request};
use shipway_runtime::{ExitCause, Io, Usage};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// More connections than this at a time are not taken.
const MAX_CONNECTIONS: usize = 64;

/// No request is longer.
const MAX_REQUEST_BYTES: usize = 4096;

/// A connection that has not said what it wants yet.
pub(super) struct Connection {
    socket: UnixStream,
    heard: Vec<u8>,
}

impl Connection {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Shim {
    pub(super) fn accept(&mut self) {
        let Ok((socket, _)) = self.listener.accept() else { return };
        if self.connections.len() + self.waiting.len() < MAX_CONNECTIONS
            && wire::peer_is(&socket, self.uid)
            && socket.set_nonblocking(true).is_ok()
        {
            self.connections.push(Connection { socket, heard: Vec::new() });
        }
    }

    /// Reads from a connection, and answers once it has said a whole line.
    pub(super) fn hear(&mut self, at: usize) {
        let mut connection = self.connections.remove(at);
        let mut chunk = [0; 1024];
        match connection.socket.read(&mut chunk) {
            Ok(n) if n > 0 => connection.heard.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => return,
        }
        let Some(end) = connection.heard.iter().position(|byte| *byte == b'\n') else {
            if connection.heard.len() < MAX_REQUEST_BYTES {
                self.connections.insert(at, connection);
            }
            return;
        };
        let Connection { socket, heard } = connection;
        match serde_json::from_slice(&heard[..end]) {
            Ok(request) => self.answer(request, socket, &heard[end + 1..]),
            Err(e) => drop(wire::say(socket, &Reply::Refused(format!("the request is not understood: {e}")))),
        }
    }

    fn answer(&mut self, request: Request, socket: UnixStream, rest: &[u8]) {
        let reply = match request {
            Request::Wait => match self.exit {
                Some(exit) => Reply::Ended(exit),
                None => {
                    self.waiting.push(socket);
                    return;
                }
            },
            Request::Stop => {
                self.stop();
                Reply::Done
            }
            Request::Kill => {
                self.dismissed = true;
                if self.exit.is_none() {
                    self.kill(ExitCause::Killed);
                    // Closed when we are gone, which is what is waited for.
                    self.waiting.push(socket);
                    return;
                }
                Reply::Done
            }
            Request::Listeners if self.exit.is_none() => Reply::Listeners(self.body.listeners()),
            Request::Listeners => Reply::Listeners(Vec::new()),
            Request::Usage if self.exit.is_none() => Reply::Usage(self.body.usage()),
            Request::Usage => Reply::Usage(Usage::default()),
            Request::Attach => return self.attach(socket, rest),
            Request::Resize(columns, lines) => self.resize(columns, lines),
        };
        // Whoever asks and does not listen loses only its own answer.
        let _ = wire::say(socket, &reply);
    }

    fn attach(&mut self, socket: UnixStream, rest: &[u8]) {
        let refusal = match &mut self.output {
            Output::Log { .. } => Some("its output goes to the log, it has no stream"),
            Output::Stream(stream) if stream.is_attached() => Some("somebody is attached to it"),
            Output::Stream(stream) => {
                if wire::say(&socket, &Reply::Done).is_ok() {
                    stream.attach(socket, rest);
                }
                return;
            }
        };
        if let Some(why) = refusal {
            let _ = wire::say(socket, &Reply::Refused(why.into()));
        }
    }

    fn resize(&mut self, columns: u16, lines: u16) -> Reply {
        let terminal = match &self.output {
            Output::Stream(stream) => stream.terminal_fd(),
            Output::Log { .. } => None,
        };
        match terminal.map(|terminal| set_size(&terminal, columns, lines)) {
            Some(Ok(())) => Reply::Done,
            Some(Err(e)) => Reply::Refused(format!("the terminal refused: {e}")),
            // An ended dyno's terminal is gone; there is nobody to tell its size.
            None if matches!(self.plan.io, Io::Pty { .. }) => Reply::Done,
            None => Reply::Refused("it has no terminal".into()),
        }
    }
}
