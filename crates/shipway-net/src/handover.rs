//! Listening sockets that outlive the process that uses them.
//!
//! Two roads. A holder keeps the sockets and starts the process with them inherited: [`give`] and [`inherit`]. A running
//! process passes them to its successor over a Unix socket: [`send`] and [`receive`]. Either way the socket stays the
//! same, so connections that come in between wait in its queue. `SO_REUSEPORT` would give each process a queue of its own
//! and lose what is in it.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Names the inherited sockets: `api=3,router=4`.
pub const LISTENERS_VARIABLE: &str = "SHIPWAY_LISTENERS";
/// Sockets passed at once, at most.
pub const MAX_SOCKETS: usize = 16;

/// Sockets by name. Names hold neither `=` nor `,`.
pub type Listeners = BTreeMap<String, OwnedFd>;

/// Lets `command`'s process inherit `listeners` under their names, for [`inherit`] to find.
pub fn give(command: &mut Command, listeners: &BTreeMap<String, BorrowedFd<'_>>) {
    let names: Vec<String> = listeners.iter().map(|(name, fd)| format!("{name}={}", fd.as_raw_fd())).collect();
    let numbers: Vec<RawFd> = listeners.values().map(|fd| fd.as_raw_fd()).collect();
    command.env(LISTENERS_VARIABLE, names.join(","));
    // SAFETY: between fork and exec only fcntl is called, which is async-signal-safe and allocates nothing. The numbers
    // are open in the child because it is a copy of this process, which keeps them while it spawns.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || {
            for number in &numbers {
                let fd = BorrowedFd::borrow_raw(*number);
                fcntl_setfd(fd, fcntl_getfd(fd)? - FdFlags::CLOEXEC)?;
            }
            Ok(())
        });
    }
}

/// Takes the sockets that a holder gave, as named in `value`, the content of [`LISTENERS_VARIABLE`].
///
/// Call it once, early in `main`: the numbers belong to whoever takes them. Each is made close-on-exec again.
/// Errors: a malformed entry, or a number that is not an open descriptor.
pub fn inherit(value: &str) -> io::Result<Listeners> {
    let bad = |entry: &str| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{LISTENERS_VARIABLE}: {entry:?} is not name=descriptor"))
    };
    let mut listeners = Listeners::new();
    for entry in value.split(',').filter(|entry| !entry.is_empty()) {
        let (name, number) = entry.split_once('=').ok_or_else(|| bad(entry))?;
        let number: RawFd = number.parse().ok().filter(|number| *number > 2).ok_or_else(|| bad(entry))?;
        // SAFETY: only borrowed to ask whether it is open.
        #[allow(unsafe_code)]
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let flags = fcntl_getfd(fd).map_err(|_| bad(entry))?;
        fcntl_setfd(fd, flags | FdFlags::CLOEXEC)?;
        if listeners.contains_key(name) {
            return Err(bad(entry));
        }
        // SAFETY: the holder opened this descriptor for us and named it in the variable; nobody else in this process
        // knows its number.
        #[allow(unsafe_code)]
        let owned = unsafe { OwnedFd::from_raw_fd(number) };
        listeners.insert(name.to_string(), owned);
    }
    Ok(listeners)
}

/// A listener of the async runtime from a passed or inherited socket. Call it within the runtime.
pub fn into_tokio(fd: OwnedFd) -> io::Result<tokio::net::TcpListener> {
    fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
    tokio::net::TcpListener::from_std(TcpListener::from(fd))
}

/// Sends sockets with their names in one message. Returns `WouldBlock` on a non-blocking socket that is full.
pub fn send(socket: BorrowedFd<'_>, listeners: &BTreeMap<String, BorrowedFd<'_>>) -> io::Result<()> {
    let names = listeners.keys().map(String::as_str).collect::<Vec<_>>().join(",");
    let fds: Vec<BorrowedFd<'_>> = listeners.values().copied().collect();
    if fds.len() > MAX_SOCKETS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many sockets for one message"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let message = format!("{names}\n");
    let sent = sendmsg(socket, &[IoSlice::new(message.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives what [`send`] sent. Returns `WouldBlock` on a non-blocking socket without a message.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Listeners> {
    let mut text = [0; 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(bad("some of the passed sockets were lost"));
    }
    let names = std::str::from_utf8(&text[..message.bytes]).ok().and_then(|names| names.strip_suffix('\n'));
    let names: Vec<&str> =
        names.ok_or_else(|| bad("no sockets were passed"))?.split(',').filter(|n| !n.is_empty()).collect();
    if names.len() != fds.len() {
        return Err(bad("the passed sockets do not match their names"));
    }
    Ok(names.into_iter().map(String::from).zip(fds).collect())
}

/// The sockets of `listeners`, borrowed, as [`give`] and [`send`] take them.
pub fn borrowed<F: AsFd>(listeners: &BTreeMap<String, F>) -> BTreeMap<String, BorrowedFd<'_>> {
    listeners.iter().map(|(name, fd)| (name.clone(), fd.as_fd())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;

    fn listeners() -> BTreeMap<String, TcpListener> {
        ["api", "router"].map(|name| (name.to_string(), TcpListener::bind("127.0.0.1:0").unwrap())).into()
    }

    #[test]
    fn sockets_pass_with_their_queue() {
        let listeners = listeners();
        let address = listeners["router"].local_addr().unwrap();
        let _waiting = TcpStream::connect(address).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(ours.as_fd(), &borrowed(&listeners)).unwrap();
        drop(listeners);
        let mut passed = receive(theirs.as_fd()).unwrap();
        let router = TcpListener::from(passed.remove("router").unwrap());
        assert_eq!(router.local_addr().unwrap(), address);
        router.accept().unwrap();
        assert!(passed.contains_key("api"));
    }

    #[test]
    fn a_child_inherits_the_sockets_it_is_given_and_no_other() {
        let listeners = listeners();
        let given = borrowed(&listeners).into_iter().filter(|(name, _)| name == "api").collect();
        let mut command = Command::new("/bin/ls");
        command.arg("-l").arg("/proc/self/fd").stdout(std::process::Stdio::piped());
        give(&mut command, &given);
        let mut child = command.spawn().unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        assert_eq!(text.matches("socket:").count(), 1, "{text}");
        assert!(text.contains(&format!(" {} -> socket:", listeners["api"].as_raw_fd())), "{text}");
    }

    #[test]
    fn bad_names_are_refused() {
        for value in ["api", "api=x", "api=0", "api=99999", "=,=", "api=3000,api=3000"] {
            assert!(inherit(value).is_err(), "{value}");
        }
        assert!(inherit("").unwrap().is_empty());
    }
}
