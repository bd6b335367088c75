//! Attached one-off dynos: the byte protocol of `heroku run`.
//!
//! ```text
//! client: SECRET CR LF                 over TLS, on the API's port
//! server: rendezvous CR LF             the first TLS record, alone: the client throws its first read away
//! server: output, client: input        until either closes
//! ```
//!
//! With `--exit-code` the last line is `U+FFFF heroku-command-exit-status: N`, printed by the dyno's shell. The client
//! looks for it in each read by itself, so it is sent whole and apart from what precedes it. Without a pty an 0x04 at
//! the end of the input is its end: the client cannot say so by closing. It says so at any time, and falls over when the
//! connection is closed before: a dyno that ends first waits for it a moment.
//!
//! Where that line is waited for and the dyno ends without it (it was killed, or the shell is not what ended it), the platform
//! says the dyno's own status: without one the client falls over. It says one, too, wherever it ends the process itself: with
//! the token or the right of whoever ordered it, and with the server; each time after a line that says why.
//!
//! Source: the Heroku CLI's `Dyno` class, whose reader this is written for.

use crate::Web;
use shipway_net::{ConnInfo, RawHandler};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

/// The first line, in bytes.
const MAX_SECRET: usize = 512;
/// How long a client may take to send it.
const SECRET_TIME: Duration = Duration::from_secs(10);
/// After the greeting: how long the client's own first byte is waited for before output is sent.
const GREETING_TIME: Duration = Duration::from_millis(50);
/// An 0x04 that nothing follows for this long is the end of the input.
const END_TIME: Duration = Duration::from_millis(200);
/// What may be the beginning of the exit status is held back for this long.
const HELD_TIME: Duration = Duration::from_millis(200);
/// How long a client whose dyno has ended may take to say that its input has ended. One at a terminal never says so, and
/// would see the delay.
const FAREWELL_TIME: Duration = Duration::from_secs(2);
const FAREWELL_TIME_PTY: Duration = Duration::from_millis(200);
/// How the exit status begins.
const MARK: &[u8] = "\u{ffff} heroku-command-exit-status: ".as_bytes();
/// The longest line that is taken for one.
const MAX_MARK: usize = MARK.len() + 16;
/// End of transmission.
const EOT: u8 = 0x04;
/// How long a dyno whose output has ended may take to end.
const EXIT_TIME: Duration = Duration::from_secs(2);
/// How long a command may still take when the server ends: most are over by then. Less than the server waits.
const LAST_TIME: Duration = Duration::from_secs(3);
/// What a shell shows of a process that was asked to stop: 128 and SIGTERM.
const STOPPED: i32 = 143;
/// What is said of a command that nothing runs for.
const NOT_RUN: i32 = 1;
/// What a client is told whose command ends with the server.
const RESTARTED: &str =
    "The platform is being restarted, so this process is stopped. Run the command again in a moment.";

/// What takes the connections of the API's port that speak TLS and not HTTP.
pub fn handler(web: Web) -> RawHandler {
    Arc::new(move |stream, info: ConnInfo| {
        let web = web.clone();
        Box::pin(async move {
            if let Err(error) = serve(&web, stream).await {
                tracing::debug!(peer = %info.peer, %error, "a rendezvous ended early");
            }
        })
    })
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(web: &Web, mut client: S) -> io::Result<()> {
    let (secret, first) = tokio::time::timeout(SECRET_TIME, read_secret(&mut client)).await??;
    let attached = web.platform().attach(&secret).await;
    client.write_all(b"rendezvous\r\n").await?;
    client.flush().await?;
    match attached {
        Ok(mut attached) => {
            let awaited = attached.command.as_bytes().windows(MARK.len()).any(|piece| piece == MARK);
            let (dyno, platform, closing) = (attached.dyno, web.platform(), web.closing());
            let status = async {
                let exit = tokio::time::timeout(EXIT_TIME, platform.runtime().wait(dyno));
                match awaited {
                    // One that goes on without output is stopped, as its visitor leaves.
                    true => Some(exit.await.ok().and_then(Result::ok).map_or(STOPPED, |exit| exit.status)),
                    false => None,
                }
            };
            let server_ends = async {
                closing.cancelled().await;
                tokio::time::sleep(LAST_TIME).await;
            };
            let words = tokio::select! {
                biased;
                ended = attached.standing.ended() => ended.words_of_process(),
                done = converse(&mut client, &mut attached.stream, attached.pty, first, status) => return done,
                () = server_ends => RESTARTED,
            };
            // Without its visitor the dyno ends, whether or not they read why.
            drop(attached);
            let words = format!("\r\n{words}\r\n");
            tokio::time::timeout(FAREWELL_TIME, end(&mut client, &words, STOPPED)).await?
        }
        Err(refused) => {
            tokio::time::sleep(GREETING_TIME).await;
            end(&mut client, &format!("{}\r\n", refused.message), NOT_RUN).await
        }
    }
}

/// Says why there is no more, and the status, and hangs up.
async fn end<W: AsyncWrite + Unpin>(client: &mut W, words: &str, status: i32) -> io::Result<()> {
    write(client, words.as_bytes()).await?;
    write(client, &status_line(status)).await?;
    client.shutdown().await
}

/// What the client takes an exit status from.
fn status_line(status: i32) -> Vec<u8> {
    [MARK, format!("{status}\n").as_bytes()].concat()
}

/// The first line without its end, and what was read behind it.
async fn read_secret<S: AsyncRead + Unpin>(client: &mut S) -> io::Result<(String, Vec<u8>)> {
    let mut read = Vec::with_capacity(128);
    loop {
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let rest = read.split_off(end + 1);
            let secret = String::from_utf8_lossy(read.trim_ascii()).into_owned();
            return Ok((secret, rest));
        }
        if read.len() > MAX_SECRET || client.read_buf(&mut read).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no secret"));
        }
    }
}

/// Until either has left. `status`: the dyno's, where the client waits for one.
async fn converse<C, D>(
    client: C,
    dyno: D,
    pty: bool,
    mut first: Vec<u8>,
    status: impl Future<Output = Option<i32>>,
) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (from_dyno, to_dyno) = tokio::io::split(dyno);
    let mut input = Input { to_dyno, pty, held: false };
    if first.is_empty() {
        let mut buffer = [0; 4096];
        match tokio::time::timeout(GREETING_TIME, from_client.read(&mut buffer)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(read) => first.extend_from_slice(&buffer[..read?]),
            Err(_) => {}
        }
    }
    // A dyno that has closed its input, or has ended already, still has its output.
    let _ = input.take(&first).await;
    let said_all = Notify::new();
    if first.ends_with(&[EOT]) {
        said_all.notify_one();
    }
    // Where the client leaves, what it started has lost its terminal.
    let leaving = copy_input(&mut from_client, input, &said_all);
    tokio::pin!(leaving);
    let saying = async {
        let said = copy_output(from_dyno, &mut to_client).await?;
        if !said && let Some(status) = status.await {
            write(&mut to_client, &status_line(status)).await?;
        }
        io::Result::Ok(())
    };
    tokio::select! {
        ended = saying => ended?,
        left = &mut leaving => return left,
    }
    tokio::select! {
        _ = &mut leaving => {}
        () = said_all.notified() => {}
        () = tokio::time::sleep(if pty { FAREWELL_TIME_PTY } else { FAREWELL_TIME }) => {}
    }
    to_client.shutdown().await
}

/// The dyno's input, with the end of it where there is no pty.
struct Input<W> {
    to_dyno: W,
    pty: bool,
    /// Whether the last byte was an 0x04 that may be the end.
    held: bool,
}

impl<W: AsyncWrite + Unpin> Input<W> {
    /// Passes bytes on.
    async fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.held) {
            self.to_dyno.write_all(&[EOT]).await?;
        }
        let bytes = match bytes.split_last() {
            Some((&EOT, rest)) if !self.pty => {
                self.held = true;
                rest
            }
            _ => bytes,
        };
        self.to_dyno.write_all(bytes).await?;
        self.to_dyno.flush().await
    }
}

/// Copies until the client leaves, and tells `said_all` when its input may have ended. A dyno that has closed its input is
/// not the end: it may still speak.
async fn copy_input<R, W>(from_client: &mut R, mut input: Input<W>, said_all: &Notify) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 16 * 1024];
    let mut open = true;
    loop {
        let patience = if input.held && open { END_TIME } else { Duration::MAX };
        match tokio::time::timeout(patience, from_client.read(&mut buffer)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(read) => {
                let bytes = &buffer[..read?];
                if bytes.ends_with(&[EOT]) {
                    said_all.notify_one();
                }
                open = open && input.take(bytes).await.is_ok();
            }
            Err(_) => {
                open = false;
                let _ = input.to_dyno.shutdown().await;
            }
        }
    }
}

/// Copies until the dyno has ended, with the exit status by itself. Returns whether there was one.
async fn copy_output<R, W>(mut from_dyno: R, to_client: &mut W) -> io::Result<bool>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 16 * 1024];
    let (mut held, mut said) = (Vec::new(), false);
    loop {
        let patience = if held.is_empty() { Duration::MAX } else { HELD_TIME };
        let ended = match tokio::time::timeout(patience, from_dyno.read(&mut buffer)).await {
            // A pty whose other end is gone says EIO.
            Ok(Ok(0) | Err(_)) => true,
            Ok(Ok(read)) => {
                held.extend_from_slice(&buffer[..read]);
                false
            }
            Err(_) => {
                write(to_client, &held).await?;
                held.clear();
                continue;
            }
        };
        loop {
            let length = next_piece(&held, ended);
            if length == 0 {
                break;
            }
            said |= held[..length].starts_with(MARK);
            write(to_client, &held[..length]).await?;
            held.drain(..length);
        }
        if ended {
            return Ok(said);
        }
    }
}

/// One TLS record, up to 16 KiB.
async fn write<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// How many of `held`'s bytes are sent next, by themselves; 0 is to wait for more.
fn next_piece(held: &[u8], ended: bool) -> usize {
    let marked = |at: usize| held[at..].starts_with(&MARK[..MARK.len().min(held.len() - at)]);
    let Some(at) = (0..held.len()).filter(|at| held[*at] == MARK[0]).find(|at| marked(*at)) else {
        return held.len();
    };
    if at > 0 {
        return at;
    }
    match held.iter().position(|byte| *byte == b'\n') {
        Some(end) => end + 1,
        None if ended || held.len() > MAX_MARK => held.len(),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    #[test]
    fn the_exit_status_is_whole_and_apart() {
        let check = |held: &str, ended: bool, expected: &[&str]| {
            let mut held = held.as_bytes();
            let mut pieces = Vec::new();
            loop {
                let length = next_piece(held, ended);
                if length == 0 {
                    break;
                }
                pieces.push(String::from_utf8_lossy(&held[..length]).into_owned());
                held = &held[length..];
            }
            assert_eq!(pieces, expected);
        };
        let status = "\u{ffff} heroku-command-exit-status: 3\r\n";
        check("plain\n", false, &["plain\n"]);
        check(&format!("no line end{status}"), false, &["no line end", status]);
        check(&format!("{status}after"), false, &[status, "after"]);
        check("out\u{ffff} heroku-comm", false, &["out"]);
        check("out\u{ffff} heroku-comm", true, &["out", "\u{ffff} heroku-comm"]);
        check("a\u{ffff}b", false, &["a\u{ffff}b"]);
        let endless = format!("\u{ffff} heroku-command-exit-status: {}", "9".repeat(40));
        check(&endless, false, &[&endless]);
    }

    #[tokio::test]
    async fn a_mark_that_comes_in_parts_is_sent_in_one() {
        let (mut dyno, from_dyno) = duplex(1024);
        let (mut to_client, mut client) = duplex(1024);
        let copying = tokio::spawn(async move { copy_output(from_dyno, &mut to_client).await });
        dyno.write_all(b"done\n\xef\xbf").await.unwrap();
        let mut buffer = [0; 256];
        let read = client.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..read], b"done\n");
        dyno.write_all(b"\xbf heroku-command-exit-status: 0\n").await.unwrap();
        let read = client.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..read], "\u{ffff} heroku-command-exit-status: 0\n".as_bytes());
        drop(dyno);
        assert!(copying.await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn a_dyno_that_ends_without_its_status_has_the_platform_say_it() {
        let (mut dyno, to_dyno) = duplex(1024);
        let (mut client, to_client) = duplex(1024);
        tokio::spawn(converse(to_client, to_dyno, true, Vec::new(), async { Some(137) }));
        dyno.write_all(b"half a line").await.unwrap();
        drop(dyno);
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert_eq!(String::from_utf8(said).unwrap(), "half a line\u{ffff} heroku-command-exit-status: 137\n");
    }

    /// The client reads what a dyno has said that is gone, and says the end of its input `after` that, or never. Gives for
    /// how long the connection stays open from there.
    async fn check_farewell(pty: bool, after: Option<Duration>) -> Duration {
        let (mut dyno, to_dyno) = duplex(1024);
        dyno.write_all(b"bridged\n").await.unwrap();
        drop(dyno);
        let (mut client, to_client) = duplex(1024);
        let conversation = tokio::spawn(converse(to_client, to_dyno, pty, Vec::new(), async { None }));
        let mut said = [0; 8];
        client.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"bridged\n");
        let from = tokio::time::Instant::now();
        if let Some(after) = after {
            tokio::time::sleep(after).await;
            client.write_all(&[EOT]).await.unwrap();
        }
        assert_eq!(client.read(&mut said).await.unwrap(), 0);
        conversation.await.unwrap().unwrap();
        from.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_dyno_that_ended_waits_for_the_end_of_its_clients_input() {
        let late = Duration::from_millis(500);
        assert_eq!(check_farewell(false, Some(late)).await, late);
        assert_eq!(check_farewell(false, None).await, FAREWELL_TIME);
        assert_eq!(check_farewell(true, None).await, FAREWELL_TIME_PTY);
        assert_eq!(check_farewell(true, Some(Duration::ZERO)).await, Duration::ZERO);
    }

    /// Takes `parts`, each as one read, and then nothing more; the client stays.
    async fn check_input(pty: bool, parts: &[&[u8]], expected: &[u8]) {
        let (client, mut from_client) = duplex(1024);
        let (to_dyno, mut dyno) = duplex(1024);
        let mut input = Input { to_dyno, pty, held: false };
        for part in parts {
            input.take(part).await.unwrap();
        }
        let copying = tokio::spawn(async move { copy_input(&mut from_client, input, &Notify::new()).await });
        let mut seen = vec![0; expected.len()];
        dyno.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, expected);
        if !pty {
            assert_eq!(dyno.read(&mut [0; 1]).await.unwrap(), 0, "the input has ended");
        }
        drop(client);
        copying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn without_a_pty_a_last_0x04_is_the_end_of_the_input() {
        check_input(false, &[b"a\nb", b"\x04"], b"a\nb").await;
    }

    #[tokio::test]
    async fn an_0x04_in_the_middle_is_data() {
        check_input(false, &[b"a\x04", b"b\x04\x04"], b"a\x04b\x04").await;
    }

    #[tokio::test]
    async fn with_a_pty_it_is_the_terminals() {
        check_input(true, &[b"a\x04"], b"a\x04").await;
    }
}
