//! Small packs that want a lot of memory.

use crate::support::*;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use shipway_git::{Fetched, GitConfig};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the delta's base has, and each of its copies takes.
const MIB: usize = 1 << 20;
/// What git may have as a whole in these tests, in KiB; it is never to ask for more.
const MEMORY: usize = 512 << 10;

fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// The head of an object in a pack. Source: git, `Documentation/gitformat-pack`.
fn head(kind: u8, mut size: usize) -> Vec<u8> {
    let mut bytes = vec![kind << 4 | (size & 15) as u8];
    size >>= 4;
    while size > 0 {
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.push((size & 0x7f) as u8);
        size >>= 7;
    }
    bytes
}

fn number(mut size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while size > 0x7f {
        bytes.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    bytes.push(size as u8);
    bytes
}

/// A distance back to a base.
fn distance(mut back: usize) -> Vec<u8> {
    let mut bytes = vec![(back & 0x7f) as u8];
    while back > 0x7f {
        back = (back >> 7) - 1;
        bytes.insert(0, (back & 0x7f) as u8 | 0x80);
    }
    bytes
}

/// A pack with `plain` small files, a megabyte of zeros and a delta that repeats it `times` times.
fn bomb(plain: usize, times: usize) -> Vec<u8> {
    let mut pack = [b"PACK\0\0\0\x02".as_slice(), &(plain as u32 + 2).to_be_bytes()].concat();
    for i in 0..plain {
        let content = i.to_string().into_bytes();
        pack.extend([head(3, content.len()), deflated(&content)].concat());
    }
    let base = pack.len();
    pack.extend([head(3, MIB), deflated(&vec![0; MIB])].concat());
    // Copy from the beginning, with the third byte of the size alone: 0x100000.
    let delta = [number(MIB), number(MIB * times), [0xc0, 0x10].repeat(times)].concat();
    let back = pack.len() - base;
    pack.extend([head(6, delta.len()), distance(back), deflated(&delta)].concat());
    let mut child = Command::new("sha1sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&pack).unwrap();
    let sum = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    pack.extend((0..20).map(|i| u8::from_str_radix(&sum[2 * i..2 * i + 2], 16).unwrap()));
    pack
}

/// A git that has so much memory and no more.
fn small_git(directory: &std::path::Path) -> std::path::PathBuf {
    let program = directory.join("git");
    std::fs::write(&program, format!("#!/bin/sh\nulimit -v {MEMORY}\nexec git \"$@\"\n")).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    program
}

/// The bytes of all files below a directory.
fn size(directory: &std::path::Path) -> u64 {
    let mut all = 0;
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.symlink_metadata().unwrap();
            all += kind.len();
            waiting.extend(Some(path).filter(|_| kind.is_dir()));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_26_a_delta_bomb_is_refused_in_little_memory_and_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let program = small_git(scratch.path());
    let server = Server::start_with(|config| config.git = program).await;
    let work = server.clone_dir("work");
    work.init().await.commit("a", "1").await;
    work.ok(&["push", "heroku", "main"]).await;
    let before = size(server.repo.path());
    let (zero, one) = ("0".repeat(40), "1".repeat(40));
    let line = format!("{zero} {one} refs/heads/bomb\0 report-status side-band-64k");
    let command = format!("{:04x}{line}0000", line.len() + 4);
    // Few objects are unpacked, many are kept as a pack: two programs of git's.
    for plain in [0, 100] {
        let pack = bomb(plain, 2048);
        assert!(pack.len() < 20_000, "{}", pack.len());
        let body = [command.as_bytes(), &pack].concat();
        let head = format!(
            "POST /shop.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Basic aGVyb2t1OnRva2Vu\r\n\
             Connection: close\r\nContent-Type: application/x-git-receive-pack-request\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("An object of this push unpacks to more than 1 GiB"), "{plain}: {answer}");
        assert!(answer.contains("ng refs/heads/bomb unpacker error"), "{plain}: {answer}");
        assert!(size(server.repo.path()) < before + 100_000, "{plain}: {before}");
    }
    assert_eq!(server.handler.seen.lock().unwrap().len(), 1, "the bombs did not reach the handler");
    work.commit("a", "2").await;
    work.ok(&["push", "heroku", "main"]).await;
}

/// What a fetch from a server says that answers with `pack`, whatever it is asked; and the size of the repository then.
async fn fetched(pack: Vec<u8>, change: impl FnOnce(&mut GitConfig)) -> (Fetched, u64) {
    let here = Server::start_with(|config| {
        config.private_hosts = vec!["127.0.0.1".into()];
        change(config);
    })
    .await;
    let there = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = here.git.git().address(&format!("http://{}/x.git", there.local_addr().unwrap())).unwrap();
    tokio::spawn(answer_with_a_pack(there, pack));
    let said = here.repo.fetch_remote(&address, None, &[], "+refs/heads/main:refs/heads/main").await.unwrap();
    (said, size(here.repo.path()))
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_26_a_delta_bomb_of_another_server_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let program = small_git(scratch.path());
    let (said, left) = fetched(bomb(0, 2048), |config| config.git = program).await;
    assert_eq!(said, Fetched::Refused("127.0.0.1 sent an object that unpacks to more than 1 GiB".into()));
    assert!(left < 100_000, "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_26_a_pack_of_another_server_has_an_end() {
    let content = noise(4 * MIB);
    let pack =
        [b"PACK\0\0\0\x02\0\0\0\x01".as_slice(), &head(3, content.len()), &deflated(content.as_bytes())].concat();
    let (said, left) = fetched(pack, |config| config.max_fetch_bytes = MIB as u64).await;
    assert_eq!(said, Fetched::Refused("127.0.0.1 sent more than 1 MiB, the most that is taken at once".into()));
    assert!(left < 100_000, "{left}");
}

/// Git's smart HTTP with one branch, version 0, as far as a fetch of it goes.
async fn answer_with_a_pack(listener: tokio::net::TcpListener, pack: Vec<u8>) {
    let packet = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let one = "1".repeat(40);
    let refs = [
        packet("# service=git-upload-pack\n"),
        "0000".into(),
        packet(&format!("{one} refs/heads/main\0\n")),
        "0000".into(),
    ]
    .concat();
    let sent = [packet("NAK\n").as_bytes(), &pack].concat();
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut seen = Vec::new();
        // A request is over with its last packet, or with its head where it has none.
        while !(seen.ends_with(b"done\n") || seen.starts_with(b"GET") && seen.ends_with(b"\r\n\r\n")) {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer).await {
                Ok(n @ 1..) => seen.extend_from_slice(&buffer[..n]),
                _ => break,
            }
        }
        let (kind, body) = match seen.starts_with(b"GET") {
            true => ("advertisement", refs.as_bytes()),
            false => ("result", sent.as_slice()),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/x-git-upload-pack-{kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
    }
}
