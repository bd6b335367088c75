//! Apps and builds from repositories that are here already, as `pipelines:setup` makes them.

use crate::stage::Stage;
use serde_json::{Value, json};
use shipway_domain::forge::ForgeKind;
use shipway_testkit::forge::TOKEN;
use shipway_testkit::{ForgeDouble, until};
use std::process::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_is_set_up_from_code_that_is_here() {
    let stage = Stage::open().await;
    stage.create("shop-src").await;
    let checkout = stage.checkout();
    let commit = checkout.write(&[("Procfile", "web: listen\n"), ("app.json", "{}")], "Sell things");
    checkout.deploy("shop-src").await;

    let call = async |method: &str, path: &str, body: Value| stage.call(&stage.token, method, path, &body).await;
    let repository = call("GET", "/repos/shipway/shop-src", Value::Null).await.json();
    assert_eq!(repository["default_branch"], "main");
    let pipeline = call("POST", "/pipelines", json!({ "name": "shop" })).await.json();
    let id = pipeline["id"].as_str().unwrap();
    let at = format!("/pipelines/{id}/repository");
    let connected = call("POST", &at, json!({ "repository": repository["id"] })).await;
    assert_eq!((connected.status, &connected.json()["repository"]["name"]), (201, &json!("shipway/shop-src")));
    let link = call("GET", "/github/repos/shipway/shop-src/tarball/main", Value::Null).await.json();
    let link = link["archive_link"].as_str().unwrap();

    // Anybody who has the link can read it, for an hour.
    let unpacked = tempfile::tempdir().unwrap();
    let mut tar = Command::new("sh");
    tar.args(["-c", "curl -sSf \"$0\" | tar -xz -C \"$1\"", link, unpacked.path().to_str().unwrap()]);
    assert!(crate::stage::run(tar).await.status.success());
    let procfile = std::fs::read_to_string(unpacked.path().join(&commit).join("Procfile")).unwrap();
    assert_eq!(procfile, "web: listen\n");

    let mut setups = Vec::new();
    for (name, place) in [("shop", "production"), ("shop-staging", "staging")] {
        let order = json!({
            "app": { "name": name, "personal": true },
            "pipeline_coupling": { "pipeline": id, "stage": place },
            "source_blob": { "url": link },
        });
        let setup = call("POST", "/app-setups", order).await;
        assert_eq!(setup.status, 202, "{}", setup.body);
        setups.push(setup.json()["id"].as_str().unwrap().to_string());
    }
    for setup in setups {
        let ended = until("a setup that ended", async || {
            let setup = call("GET", &format!("/app-setups/{setup}"), Value::Null).await.json();
            (setup["status"] != "pending").then_some(setup)
        });
        assert_eq!(ended.await["status"], "succeeded");
    }
    let (found, screen) = checkout.run(&["ls-remote", &checkout.remote("shop"), "refs/heads/main"]).await;
    assert!(found && screen.starts_with(&commit), "the same commit, with its history: {screen}");

    let settings = json!({ "auto_deploy": true, "wait_for_ci": true,
        "pull_requests": { "enabled": true, "auto_deploy": true, "auto_destroy": true } });
    let linked = call("PATCH", "/apps/shop-staging/github", settings.clone()).await;
    assert_eq!((linked.status, &linked.json()["pull_requests"]["auto_deploy"]), (200, &json!(true)), "{}", linked.body);
    let triggers = async || {
        let all = call("GET", "/shipway/v1/apps/shop-staging/triggers", Value::Null).await.json();
        let shown = |t: &Value| format!("{} {} {}", t["kind"], t["pattern"], t["wait_for_ci"]).replace('"', "");
        all["triggers"].as_array().unwrap().iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(triggers().await, ["branch main true"]);
    for (change, expected) in [
        (settings, Some("branch main true")),
        (json!({ "wait_for_ci": false }), Some("branch main false")),
        (json!({ "pull_requests": { "auto_destroy": true } }), Some("branch main false")),
        (json!({ "auto_deploy": false }), None),
    ] {
        let linked = call("PATCH", "/apps/shop-staging/github", change).await;
        assert_eq!((linked.status, linked.json()["auto_deploy"].as_bool()), (200, Some(expected.is_some())));
        assert_eq!(triggers().await, Vec::from_iter(expected));
    }
    let repository = call("PATCH", &at, json!({ "ci": true })).await.json();
    assert_eq!((&repository["ci"], &repository["organization"]), (&json!(false), &Value::Null));
    let config = call("GET", &format!("/pipelines/{id}/review-app-config"), Value::Null).await.json();
    assert!(!config["repo"]["id"].is_null(), "{config}");

    // A build takes such a link as well; not after its app is gone.
    let build = json!({ "source_blob": { "url": link } });
    assert_eq!(call("POST", "/apps/shop/builds", build.clone()).await.status, 201);
    call("DELETE", "/apps/shop-src", Value::Null).await;
    let gone = until("an archive that is gone", async || {
        let answer = stage.curl(&["-sS", "-i", link]).await;
        (answer.status == 404).then_some(answer)
    });
    assert!(gone.await.body.contains("not_found"));
    assert_eq!(call("POST", "/apps/shop/builds", build).await.status, 404);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_23_only_code_that_one_may_see_is_taken_and_nothing_private_is_fetched() {
    let stage = Stage::open().await;
    let (_, token) = stage.person("stranger@example.org").await;
    stage.pipeline().await;
    let checkout = stage.checkout();
    checkout.write(&[("Procfile", "web: listen\n")], "Sell things");
    checkout.deploy("shop").await;
    for repository in ["shipway/shop", "acme/shop", "../shop", "shipway/.."] {
        let path = format!("/github/repos/{repository}/tarball/main");
        let answer = stage.call(&token, "GET", &path, &Value::Null).await;
        assert_eq!(answer.status, 404, "{repository}: {}", answer.body);
    }
    for reference in ["nothing", "--output=/tmp/x", "HEAD@%7B1%7D", "main%0a", "refs/../../x"] {
        let path = format!("/github/repos/shipway/shop/tarball/{reference}");
        let answer = stage.call(&stage.token, "GET", &path, &Value::Null).await;
        assert_eq!(answer.status, 404, "{reference}: {}", answer.body);
    }
    let link = stage.ask("/github/repos/shipway/shop/tarball/main").await;
    let link = link["archive_link"].as_str().unwrap();
    let forged = link.replace("/app/", "/pipeline/");
    let shortened = &link[..link.len() - 1];
    for url in [
        "http://169.254.169.254/latest",
        "https://169.254.169.254/latest",
        "https://[::ffff:127.0.0.1]/x.tgz",
        "https://localhost/x.tgz",
        "file:///etc/passwd",
        "ext::sh -c id",
        &forged,
        shortened,
    ] {
        let body = json!({ "source_blob": { "url": url } });
        let answer = stage.call(&stage.token, "POST", "/app-setups", &body).await;
        assert_eq!(answer.status, 422, "{url}: {}", answer.body);
    }
    stage.end().await;
}

/// A server that gives an archive to whoever asks, as often as it is asked.
async fn serving(archive: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", archive.len());
            let _ = stream.write_all(&[head.as_bytes(), &archive].concat()).await;
        }
    });
    format!("http://{address}/shop.tgz")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_elsewhere_is_fetched_and_its_checksum_holds() {
    let stage = Stage::open().await;
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("Procfile"), "web: listen\n").unwrap();
    let mut tar = Command::new("tar");
    tar.args(["-cz", "-C", place.path().to_str().unwrap(), "Procfile"]);
    let archive = crate::stage::run(tar).await.stdout;
    let digest = ring::digest::digest(&ring::digest::SHA256, &archive);
    let checksum = format!("SHA256:{}", shipway_store::hex(digest.as_ref()));
    let at = serving(archive).await;
    let url = format!("{at}?signature=s3cret");
    let call = async |path: &str, body: Value| stage.call(&stage.token, "POST", path, &body).await;

    let order =
        |checksum: &str| json!({ "app": { "name": "shop" }, "source_blob": { "url": url, "checksum": checksum } });
    let refused = call("/app-setups", order("SHA256:00")).await;
    assert!(refused.status == 422 && refused.body.contains("checksum"), "{}", refused.body);
    let setup = call("/app-setups", order(&checksum)).await;
    assert_eq!(setup.status, 202, "{}", setup.body);
    let path = format!("/app-setups/{}", setup.json()["id"].as_str().unwrap());
    let ended = until("a setup that ended", async || {
        let setup = stage.call(&stage.token, "GET", &path, &Value::Null).await.json();
        (setup["status"] != "pending").then_some(setup)
    });
    assert_eq!(ended.await["status"], "succeeded");
    let build = call("/apps/shop/builds", json!({ "source_blob": { "url": url, "version": "v2" } })).await;
    assert_eq!((build.status, &build.json()["source_blob"]["url"]), (201, &json!(at)), "{}", build.body);
    let left = std::fs::read_dir(stage.home.path().join("sources")).unwrap().count();
    assert_eq!(left, 0, "nothing of an archive stays");
    stage.end().await;
}

/// A forge with the repository `acme/shop`, and the commits of its branches main and login.
async fn forge(home: &std::path::Path) -> (ForgeDouble, String, String) {
    let repository = home.join("forge/acme/shop.git");
    std::fs::create_dir_all(&repository).unwrap();
    let git = async |arguments: &[&str]| {
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=A", "-c", "user.email=a@example.org", "--git-dir"])
            .arg(&repository)
            .args(arguments);
        let output = crate::stage::run(command).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q", "--bare", "-b", "main"]).await;
    let tree = git(&["mktree"]).await;
    let main = git(&["commit-tree", "-m", "First", &tree]).await;
    let login = git(&["commit-tree", "-m", "Second", "-p", &main, &tree]).await;
    git(&["update-ref", "refs/heads/main", &main]).await;
    git(&["update-ref", "refs/heads/login", &login]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    (ForgeDouble::serve(ForgeKind::Github, listener, Some(home.join("forge"))), main, login)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_is_not_here_is_asked_of_the_connected_forge() {
    let stage = Stage::open().await;
    let (forge, main, login) = forge(stage.home.path()).await;
    let pipeline = stage.platform.create_pipeline(&stage.caller, "shop").await.unwrap();
    let connect = json!({ "kind": "github", "url": forge.url(), "repository": "acme/shop", "token": TOKEN });
    let connected = stage.call(&stage.token, "POST", "/shipway/v1/pipelines/shop/forge", &connect).await;
    assert_eq!(connected.status, 201, "{}", connected.body);
    let (_, stranger) = stage.person("stranger@example.org").await;
    for (reference, commit) in [("main", &main), ("login", &login), (login.as_str(), &login)] {
        let path = format!("/github/repos/acme/shop/tarball/{reference}");
        assert_eq!(stage.call(&stranger, "GET", &path, &Value::Null).await.status, 404, "{reference}");
        let answer = stage.call(&stage.token, "GET", &path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{reference}: {}", answer.body);
        let link = answer.json()["archive_link"].as_str().unwrap().to_owned();
        assert!(link.contains(commit.as_str()), "{reference}: {link}");
        assert_eq!(stage.curl(&["-sS", "-i", "-o", "/dev/null", "-D", "-", &link]).await.status, 200, "{reference}");
    }
    for reference in ["nothing", "--upload-pack=id", &"1".repeat(40)] {
        let path = format!("/github/repos/acme/shop/tarball/{reference}");
        let answer = stage.call(&stage.token, "GET", &path, &Value::Null).await;
        assert!(answer.status == 404 && answer.body.contains("Its forge was asked"), "{reference}: {}", answer.body);
    }

    // The line that the team works on is fetched with the same token.
    let now = stage.platform.now();
    let upstream = shipway_store::Upstream {
        pipeline: pipeline.id,
        branch: shipway_domain::BranchName::parse("main").unwrap(),
        url: None,
        tip: None,
        heard_at: None,
        failure: None,
        created_at: now,
        updated_at: now,
    };
    stage.platform.store().write(move |c| c.put_upstream(&upstream)).await.unwrap();
    let fetched = stage.platform.fetch_upstream(&stage.caller, &pipeline).await.unwrap();
    assert_eq!(fetched.tip.unwrap().as_str(), main);
    stage.end().await;
}
