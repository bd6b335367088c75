//! Large pushes stay small in the server, and small ones quick. Times are printed, not judged: machines differ.

use crate::support::*;
use shipway_git::CheckoutLimits;
use std::time::Instant;

/// This process's resident memory in KiB: now, and at its highest.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (field("VmRSS:"), field("VmHWM:"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_push_and_its_checkout_take_little_memory() {
    let server = Server::start().await;
    let work = server.clone_dir("work");
    work.init().await;
    // A hundredth of the files of the largest push and a tenth of its bytes, in the time that a test may take; what
    // the server holds does not depend on either.
    for directory in 0..20 {
        std::fs::create_dir_all(work.path.join(format!("d{directory}"))).unwrap();
        for file in 0..50 {
            std::fs::write(work.path.join(format!("d{directory}/f{file}")), format!("{directory} {file}")).unwrap();
        }
    }
    {
        let noise = noise(1 << 20);
        let mut large = std::fs::File::create(work.path.join("large")).unwrap();
        for i in 0..50_usize {
            std::io::Write::write_all(&mut large, &noise.as_bytes()[i..]).unwrap();
            std::io::Write::write_all(&mut large, noise[..i * 1000].chars().rev().collect::<String>().as_bytes())
                .unwrap();
        }
    }
    let commit = work.commit("a", "1").await;
    let (before, _) = memory();
    let begin = Instant::now();
    work.ok(&["push", "-q", "heroku", "main"]).await;
    println!("push: {:?}", begin.elapsed());
    let begin = Instant::now();
    let out = server.directory.path().join("out");
    server.repo.checkout(&commit, &out, CheckoutLimits::default()).await.unwrap();
    println!("checkout: {:?}", begin.elapsed());
    let (_, highest) = memory();
    println!("memory: {before} KiB before, {highest} KiB at most");
    assert!(highest - before < 64 << 10, "{before} KiB before, {highest} KiB at most");
    assert_eq!(tree(&out).len(), 1002);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_push_takes_as_long_as_it_takes() {
    let server = Server::start().await;
    let work = server.clone_dir("work");
    work.init().await;
    for file in 0..50 {
        std::fs::write(work.path.join(format!("f{file}")), noise(2000)).unwrap();
    }
    work.commit("a", "0").await;
    work.ok(&["push", "-q", "heroku", "main"]).await;
    let (mut pushes, mut checkouts) = (Vec::new(), Vec::new());
    for round in 1..=9 {
        let commit = work.commit("a", &round.to_string()).await;
        let begin = Instant::now();
        work.ok(&["push", "-q", "heroku", "main"]).await;
        pushes.push(begin.elapsed());
        let out = server.directory.path().join(format!("out{round}"));
        let begin = Instant::now();
        server.repo.checkout(&commit, &out, CheckoutLimits::default()).await.unwrap();
        checkouts.push(begin.elapsed());
    }
    pushes.sort();
    checkouts.sort();
    println!("push of one changed file, median: {:?}; checkout of 51 files, median: {:?}", pushes[4], checkouts[4]);
    assert_eq!(server.handler.seen.lock().unwrap().len(), 10);
}
