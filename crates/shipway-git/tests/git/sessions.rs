//! What people do with git, by the real client over a real port.

use crate::support::*;
use shipway_git::{Git, GitConfig, Repo};
use std::process::Stdio;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn pushes_and_their_screens() {
    let server = Server::start().await;
    let work = server.clone_dir("work");
    let first = work.init().await.commit("Procfile", "web: ./run").await;

    let screen = work.ok(&["push", "heroku", "main"]).await;
    assert!(screen.contains("remote: -----> Building on the Shipway stack"), "{screen}");
    assert!(!screen.contains('\x07') && screen.contains("* [new branch]      main -> main"), "{screen}");
    assert_eq!(server.head("refs/heads/main").await, Some(first.to_string()));
    assert_eq!(server.head("refs/heads/master").await, Some(first.to_string()), "one branch under two names");
    assert!(work.ok(&["push", "heroku", "main"]).await.contains("Everything up-to-date"));

    let second = work.commit("Procfile", "web: ./run 2").await;
    work.ok(&["push", "-o", "hello=world", "heroku", "main:master"]).await;
    assert_eq!(server.head("refs/heads/main").await, Some(second.to_string()));
    assert_eq!(*server.handler.options.lock().unwrap(), ["hello=world"]);

    work.ok(&["push", "-f", "heroku", &format!("{first}:main")]).await;
    assert_eq!(
        server.head("refs/heads/master").await,
        Some(first.to_string()),
        "an older state is a push that does something"
    );
    let screen = work.fails(&["push", "heroku", "main:broken"]).await;
    assert!(
        screen
            .contains("! [remote rejected] main -> broken (the build failed: `pip install` exited with 1 second line)"),
        "{screen}"
    );
    assert_eq!(server.head("refs/heads/broken").await, None);

    let screen = work.fails(&["push", "heroku", ":main"]).await;
    assert!(screen.contains("main is what runs and cannot be deleted"), "{screen}");
    let screen = work.fails(&["push", "heroku", "main:refs/notes/x"]).await;
    assert!(screen.contains("only branches (refs/heads/) and tags (refs/tags/) can be pushed"), "{screen}");
    let screen = work.fails(&["push", "heroku", "main:refs/shipway/releases/v9"]).await;
    assert!(screen.contains("deny updating a hidden ref"), "{screen}");

    work.ok(&["tag", "-a", "v1", "-m", "one"]).await;
    work.ok(&["push", "heroku", "v1", "main:feature/x"]).await;
    let tag = server.repo.resolve("refs/tags/v1").await.unwrap().unwrap();
    assert_eq!(server.repo.peel(&tag).await.unwrap().unwrap(), second);
    work.ok(&["push", "heroku", ":feature/x", ":v1"]).await;
    assert_eq!(server.head("refs/heads/feature/x").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_and_fetches() {
    let server = Server::start().await;
    let work = server.clone_dir("work");
    let first = work.init().await.commit("a", "1").await;
    work.ok(&["push", "-q", "heroku", "main", "main:feature"]).await;
    server.repo.keep_release(3, &first).await.unwrap();
    server.repo.pin("22222222-2222-4222-8222-222222222222".parse().unwrap(), &first).await.unwrap();

    let other = server.clone_dir("other");
    other.ok(&["clone", "-q", &server.url(), other.path.to_str().unwrap()]).await;
    assert_eq!(tree(&other.path).len(), 1);
    other.ok(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/staging/*"]).await;
    other.ok(&["fetch", "-q", "origin"]).await;
    assert_eq!(other.ok(&["rev-parse", "staging/main", "staging/feature"]).await.lines().count(), 2);
    for version in ["0", "2"] {
        let refs = other.ok(&["-c", &format!("protocol.version={version}"), "ls-remote", "origin"]).await;
        let names: Vec<&str> = refs.lines().filter_map(|line| line.split('\t').nth(1)).collect();
        let expected =
            ["HEAD", "refs/heads/feature", "refs/heads/main", "refs/heads/master", "refs/shipway/releases/v3"];
        assert_eq!(names, expected, "operations are hidden, releases are not (version {version})");
    }
    let mut traced = other.command(&["fetch", "origin"]);
    traced.env("GIT_TRACE_PACKET", "1");
    let traced = tokio::task::spawn_blocking(move || traced.output().unwrap()).await.unwrap();
    assert!(String::from_utf8_lossy(&traced.stderr).contains("fetch< version 2"));

    let second = work.commit("a", "2").await;
    work.ok(&["push", "-q", "heroku", "main"]).await;
    assert_eq!(other.ok(&["pull", "-q", "origin", "main"]).await, "");
    assert_eq!(other.ok(&["rev-parse", "HEAD"]).await.trim(), second.as_str());
    server.repo.set_branch(&first).await.unwrap();
    other.ok(&["fetch", "-q", "origin"]).await;
    assert_eq!(other.ok(&["rev-parse", "staging/main"]).await.trim(), first.as_str(), "a rollback shows in a fetch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_carried_to_another_repository_whole() {
    let server = Server::start().await;
    let work = server.clone_dir("work");
    let first = work.init().await.commit("Procfile", "web: ./run").await;
    let second = work.commit("Procfile", "web: ./run 2").await;
    work.ok(&["push", "heroku", "main"]).await;
    let git = Git::new(GitConfig::new(hook_program(), server.directory.path().join("run")));

    // On top of what is there, and an older one than that: each is there whole.
    for (name, order) in [("up.git", [&first, &second]), ("down.git", [&second, &first])] {
        let target = Repo::create(&git, &server.directory.path().join(name)).await.unwrap();
        for (version, commit) in (1..).zip(order) {
            target.take(&server.repo, commit, "refs/shipway/op/1").await.unwrap();
            target.keep_release(version, commit).await.unwrap();
            target.take(&server.repo, commit, "refs/shipway/op/1").await.unwrap();
            target.set_branch(commit).await.unwrap();
            let clone = server.clone_dir(&format!("{name}-{version}"));
            let (from, to) = (target.path().to_str().unwrap(), clone.path.to_str().unwrap());
            clone.ok(&["-c", "protocol.file.allow=always", "clone", "--quiet", from, to]).await;
            let commits = if commit == &first { "1" } else { "2" };
            assert_eq!(clone.ok(&["rev-list", "--count", "HEAD"]).await.trim(), commits, "{name} {version}");
        }
    }

    let target = Repo::create(&git, &server.directory.path().join("empty.git")).await.unwrap();
    let nowhere = shipway_domain::CommitId::parse(&"ab".repeat(20)).unwrap();
    let refused = target.take(&server.repo, &nowhere, "refs/shipway/op/1").await.unwrap_err().to_string();
    assert!(refused.starts_with("git pack-objects failed: ") && refused.contains(nowhere.as_str()), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_login_is_asked_for_and_readers_are_told() {
    let server = Server::start().await;
    let work = server.clone_dir("work");
    work.init().await.commit("a", "1").await;
    let bare = format!("http://{}/shop.git", server.address);
    assert!(work.fails(&["push", &bare, "main"]).await.contains("could not read Username"));
    let helper = "credential.helper=!f() { echo username=heroku; echo password=token; }; f";
    work.ok(&["-c", helper, "push", &bare, "main"]).await;
    let readonly = format!("http://u:t@{}/readonly.git", server.address);
    let screen = work.fails(&["push", &readonly, "main"]).await;
    assert!(screen.contains("fatal: remote error: you may fetch from this app but not push to it"), "{screen}");
    work.ok(&["ls-remote", &readonly]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_vanishes_and_the_deploy_goes_on() {
    let server = Server::start().await;
    let work = server.clone_dir("work");
    let commit = work.init().await.commit("a", "1").await;
    let mut client = work.command(&["push", "-o", "wait", "heroku", "main"]).stderr(Stdio::null()).spawn().unwrap();
    tokio::time::timeout(WAIT, server.handler.waiting.notified()).await.unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    server.handler.go.notify_one();
    tokio::time::timeout(WAIT, server.handler.done.notified()).await.unwrap();
    assert_eq!(server.head("refs/heads/main").await, Some(commit.to_string()));
    work.ok(&["push", "heroku", "main"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_live_and_two_pushes_run_at_once() {
    let server = Server::start().await;
    let one = server.clone_dir("one");
    one.init().await.commit("a", "1").await;
    let mut waiting = tokio::process::Command::from(one.command(&["push", "-o", "wait", "heroku", "main"]))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut screen = tokio::io::BufReader::new(waiting.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("remote: waiting") {
        line.clear();
        let read = tokio::io::AsyncBufReadExt::read_line(&mut screen, &mut line);
        assert_ne!(tokio::time::timeout(WAIT, read).await.unwrap().unwrap(), 0, "the line comes while the push runs");
    }
    let two = server.clone_dir("two");
    let second = two.init().await.commit("a", "2").await;
    two.ok(&["push", "heroku", "main"]).await;
    server.handler.go.notify_one();
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut screen, &mut rest).await.unwrap();
    assert!(!waiting.wait().await.unwrap().success());
    assert!(rest.contains("refs/heads/main has moved meanwhile"), "{rest}");
    assert_eq!(server.head("refs/heads/main").await, Some(second.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_over_the_limit_is_refused_with_its_size() {
    let server = Server::start_with(|config| config.max_push_bytes = 100_000).await;
    let work = server.clone_dir("work");
    work.init().await.commit("small", "1").await;
    work.ok(&["push", "heroku", "main"]).await;
    let noise = noise(400_000);
    work.commit("large", &noise).await;
    let screen = work.fails(&["push", "heroku", "main"]).await;
    assert!(screen.contains("pack exceeds maximum allowed size"), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shallow_clones_push() {
    let server = Server::start().await;
    let work = server.clone_dir("work");
    work.init().await.commit("a", "1").await;
    work.commit("a", "2").await;
    let third = work.commit("a", "3").await;
    let shallow = server.clone_dir("shallow");
    let from = format!("file://{}", work.path.display());
    shallow.ok(&["clone", "-q", "--depth=1", &from, shallow.path.to_str().unwrap()]).await;
    let screen = shallow.fails(&["push", &server.url(), "main"]).await;
    assert!(
        screen.contains("run `git fetch --unshallow` and push again (in GitHub Actions: `fetch-depth: 0`)"),
        "{screen}"
    );
    assert_eq!(server.head("refs/heads/main").await, None);
    work.ok(&["push", "heroku", "main"]).await;
    let fourth = shallow.commit("a", "4").await;
    shallow.ok(&["push", &server.url(), "main"]).await;
    assert_eq!(server.head("refs/heads/main").await, Some(fourth.to_string()), "what it lacks is here by now");
    assert_eq!(server.repo.log(None, &fourth, 10).await.unwrap().len(), 4);
    assert_eq!(server.repo.log(Some(&third), &fourth, 10).await.unwrap()[0].subject, "Change a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_missing_is_a_sentence() {
    let server = Server::start().await;
    let work = server.clone_dir("work");
    work.init().await.commit("a", "1").await;
    std::fs::remove_dir_all(server.repo.path()).unwrap();
    let screen = work.fails(&["push", "heroku", "main"]).await;
    assert!(screen.contains("remote error: git could not work on this request"), "{screen}");
    Repo::create(server.git.git(), server.repo.path()).await.unwrap();
    work.ok(&["push", "heroku", "main"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_01_branch_names_are_only_names() {
    let server = Server::start().await;
    let work = server.clone_dir("work");
    let commit = work.init().await.commit("a", "1").await;
    for name in ["$(id)", "a;curl$IFS-x|sh", "`id`", "-h", "--upload-pack=id", "ünï", "a'b\"c", "%0a"] {
        let refname = format!("refs/heads/{name}");
        work.ok(&["push", "heroku", &format!("main:{refname}")]).await;
        assert_eq!(server.head(&refname).await, Some(commit.to_string()), "{name}");
        work.ok(&["push", "heroku", &format!(":{refname}")]).await;
        assert_eq!(server.head(&refname).await, None, "{name}");
    }
}

/// Starts a server whose hook is this script.
async fn with_hook(script: &str) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("hook");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut server = Server::start_with(|config| config.hook_program = program).await;
    server.kept = Some(directory);
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pusher_is_told_when_git_or_the_hook_dies() {
    let check = async |script: &str, expected: &str| {
        let server = with_hook(script).await;
        let work = server.clone_dir("work");
        work.init().await.commit("a", "1").await;
        let screen =
            tokio::time::timeout(WAIT, work.fails(&["push", "heroku", "main"])).await.expect("no client hangs");
        assert!(screen.contains(expected), "{screen}");
        assert_eq!(server.head("refs/heads/main").await, None);
    };
    check("#!/bin/sh\nkill -9 $PPID\n", "git ended before the push did; try it again").await;
    check("#!/bin/sh\nexit 1\n", "! [remote rejected] main -> main").await;
    let stranger = format!("#!/bin/sh\nSHIPWAY_PUSH_TICKET=guessed exec {} \"$@\"\n", hook_program().display());
    check(&stranger, "the server stopped while it worked on this push").await;
}
