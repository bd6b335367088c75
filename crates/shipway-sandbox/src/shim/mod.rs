//! The shim: one small single-threaded process per dyno, which makes the sandbox and owns what comes out of it.
//!
//! It is a session of its own and needs nobody: server and spawner may die and come back. It reads the dyno's output
//! into the dyno's log segments (a slow disk or a flood slows the dyno, because nothing is read meanwhile), answers on
//! a socket in the dyno's directory, keeps time and memory limits, and leaves the exit status there.

mod body;
pub(crate) mod command;
mod lines;
mod serve;
mod start;
mod stream;

use body::Body;
use lines::{Log, Splitter};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use serve::Connection;
use shipway_runtime::{DynoPlan, Exit, ExitCause, Root};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};
use stream::{Side, Stream};

use crate::record::Directory;
use crate::wire::{self, Reply};

/// How much output is read at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Runs the shim: reads its launch from standard input, which a spawner made. Returns the process's exit status when
/// the dyno has ended.
pub fn main() -> i32 {
    match start::start() {
        Ok(mut shim) => {
            shim.run();
            0
        }
        // Whoever started us has been told.
        Err(()) => 1,
    }
}

/// Sets the size of a terminal.
pub(crate) fn set_size(terminal: &impl AsFd, columns: u16, lines: u16) -> std::io::Result<()> {
    let size = rustix::termios::Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Where the dyno's output goes.
enum Output {
    Log { log: Box<Log>, sources: Vec<(Option<File>, Splitter)> },
    Stream(Stream),
}

/// The status of what SIGKILL ended.
const KILLED: i32 = 137;

/// How the dyno's end comes about, when it is our doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// SIGTERM was sent; SIGKILL follows at this time.
    Grace(Instant),
    /// SIGKILL was sent, because of this.
    Kill(ExitCause),
}

struct Shim {
    plan: DynoPlan,
    uid: u32,
    directory: Directory,
    body: Body,
    /// Readable when the dyno's first process has ended.
    death: OwnedFd,
    output: Output,
    listener: UnixListener,
    connections: Vec<Connection>,
    waiting: Vec<UnixStream>,
    time_limit: Option<Instant>,
    next_look: Instant,
    ending: Option<Ending>,
    exit: Option<Exit>,
    /// Nobody wants the rest of the output.
    dismissed: bool,
}

/// What a descriptor in the poll set belongs to.
#[derive(Clone, Copy)]
enum Token {
    Death,
    Listener,
    Source(usize),
    Stream(Side),
    Connection(usize),
    Waiting(usize),
}

impl Shim {
    fn run(&mut self) {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let ready = self.wait_for_events();
            let mut hung_up = false;
            // Backwards, so that a connection that is gone does not move those still to come.
            for (token, flags) in ready.iter().rev() {
                match token {
                    Token::Death => self.reap(&mut chunk),
                    Token::Listener => self.accept(),
                    Token::Source(at) => self.read_source(*at, &mut chunk),
                    Token::Stream(side) => hung_up |= *side == Side::Client && flags.contains(PollFlags::POLLHUP),
                    Token::Connection(at) => self.hear(*at),
                    Token::Waiting(at) => drop(self.waiting.remove(*at)),
                }
            }
            if let Output::Stream(stream) = &mut self.output {
                stream.pump(hung_up);
                if self.exit.is_some() {
                    stream.finish();
                }
            }
            self.keep_limits();
            if self.exit.is_some() && (self.dismissed || !self.is_owed()) {
                return;
            }
        }
    }

    /// Whether the shim must stay after the dyno's end, because somebody may still come for its output.
    fn is_owed(&self) -> bool {
        match &self.output {
            Output::Log { .. } => false,
            Output::Stream(stream) => stream.is_owed() || stream.is_attached(),
        }
    }

    fn wait_for_events(&mut self) -> Vec<(Token, PollFlags)> {
        let now = Instant::now();
        let mut deadline = Some(self.next_look).filter(|_| self.exit.is_none());
        let mut earlier = |other: Option<Instant>| deadline = deadline.into_iter().chain(other).min();
        earlier(self.time_limit.filter(|_| self.exit.is_none()));
        earlier(match self.ending {
            Some(Ending::Grace(until)) if self.exit.is_none() => Some(until),
            _ => None,
        });
        let closed = match &mut self.output {
            Output::Log { log, .. } => log.closed_until(now),
            Output::Stream(_) => None,
        };
        earlier(closed);
        let mut tokens = vec![Token::Listener];
        let mut fds = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        if self.exit.is_none() {
            tokens.push(Token::Death);
            fds.push(PollFd::new(self.death.as_fd(), PollFlags::POLLIN));
        }
        match &self.output {
            Output::Log { sources, .. } if closed.is_none() => {
                for (at, (source, _)) in sources.iter().enumerate() {
                    if let Some(source) = source {
                        tokens.push(Token::Source(at));
                        fds.push(PollFd::new(source.as_fd(), PollFlags::POLLIN));
                    }
                }
            }
            Output::Log { .. } => {}
            Output::Stream(stream) => {
                for (side, fd, reads, writes) in stream.interests() {
                    let mut flags = PollFlags::empty();
                    flags.set(PollFlags::POLLIN, reads);
                    flags.set(PollFlags::POLLOUT, writes);
                    tokens.push(Token::Stream(side));
                    fds.push(PollFd::new(fd, flags));
                }
            }
        }
        for (at, connection) in self.connections.iter().enumerate() {
            tokens.push(Token::Connection(at));
            fds.push(PollFd::new(connection.as_fd(), PollFlags::POLLIN));
        }
        for (at, waiting) in self.waiting.iter().enumerate() {
            // Nothing is expected of them but that they hang up, which is always reported: whoever stopped waiting must
            // not count for ever.
            tokens.push(Token::Waiting(at));
            fds.push(PollFd::new(waiting.as_fd(), PollFlags::empty()));
        }
        let timeout = match deadline {
            // Rounded up, or the last millisecond would be spent turning round.
            Some(at) => PollTimeout::try_from(at.saturating_duration_since(now) + Duration::from_millis(1)),
            None => Ok(PollTimeout::NONE),
        };
        let _ = poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX));
        let ready = tokens.into_iter().zip(&fds).filter_map(|(token, fd)| {
            let flags = fd.revents()?;
            (!flags.is_empty()).then_some((token, flags))
        });
        ready.collect()
    }

    fn read_source(&mut self, at: usize, chunk: &mut [u8]) {
        let Output::Log { log, sources } = &mut self.output else { return };
        let Some((open, splitter)) = sources.get_mut(at) else { return };
        let Some(file) = open else { return };
        match file.read(chunk) {
            Ok(n) if n > 0 => splitter.feed(&chunk[..n], log),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => {
                splitter.finish(log);
                *open = None;
            }
        }
    }

    /// The dyno's first process has ended: all others are gone with it, and its output ends.
    fn reap(&mut self, chunk: &mut [u8]) {
        let pid = nix::unistd::Pid::from_raw(self.body.pid() as i32);
        let status = match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => code,
            Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
            _ => KILLED,
        };
        self.drain(chunk);
        let cause = match self.ending {
            Some(Ending::Kill(cause)) => cause,
            ending => match (self.broken_limit(status), ending) {
                (Some(limit), _) => limit,
                (None, Some(_)) => ExitCause::Stopped,
                (None, None) => ExitCause::Exited,
            },
        };
        let exit = Exit { status, cause };
        // A full disk must not keep anybody waiting: those who wait now get the answer from memory.
        let _ = self.directory.write_exit(&exit);
        self.exit = Some(exit);
        for waiting in self.waiting.drain(..) {
            let _ = wire::say(waiting, &Reply::Ended(exit));
        }
        self.body.bury();
    }

    /// Reads the log's sources to their ends.
    fn drain(&mut self, chunk: &mut [u8]) {
        let patience = Instant::now() + Duration::from_secs(5);
        let Output::Log { log, sources } = &mut self.output else {
            if let Output::Stream(stream) = &mut self.output {
                stream.finish();
            }
            return;
        };
        for (file, splitter) in sources.iter_mut() {
            while let Some(file) = file {
                while !log.retry() && Instant::now() < patience {
                    std::thread::sleep(Duration::from_millis(50));
                }
                match file.read(chunk) {
                    Ok(n) if n > 0 => splitter.feed(&chunk[..n], log),
                    // Everybody who could write is dead: nothing more can come.
                    _ => break,
                }
            }
            splitter.finish(log);
        }
        sources.clear();
        log.retry();
    }

    fn keep_limits(&mut self) {
        if let Output::Log { log, .. } = &mut self.output {
            log.retry();
        }
        if self.exit.is_some() {
            return;
        }
        let now = Instant::now();
        if matches!(self.ending, Some(Ending::Grace(until)) if now >= until) {
            self.kill(ExitCause::Killed);
        }
        if self.time_limit.is_some_and(|at| now >= at) {
            self.time_limit = None;
            self.kill(ExitCause::Time);
        }
        if now >= self.next_look {
            self.next_look = now + self.body.look_every();
            if let Some(limit) = self.broken_limit(KILLED) {
                self.kill(limit);
            }
        }
    }

    /// The limit that the processes broke, of which the first one ended with `status`, or is about to be killed.
    ///
    /// A compiler that is killed makes its build fail in words of its own, with a status of its own: a build's status is
    /// not asked. Too many processes are named before the memory that they take together.
    fn broken_limit(&self, status: i32) -> Option<ExitCause> {
        let build = matches!(self.plan.root, Root::Build { .. });
        if build && self.body.broke_process_limit() {
            return Some(ExitCause::Processes);
        }
        ((build || status == KILLED) && self.body.broke_memory_limit()).then_some(ExitCause::Memory)
    }

    fn stop(&mut self) {
        if self.exit.is_none() && self.ending.is_none() {
            self.ending = Some(Ending::Grace(Instant::now() + Duration::from_secs(self.plan.grace_seconds.into())));
            self.body.terminate();
        }
    }

    fn kill(&mut self, cause: ExitCause) {
        if !matches!(self.ending, Some(Ending::Kill(_))) {
            self.ending = Some(Ending::Kill(cause));
        }
        self.body.kill();
    }
}
