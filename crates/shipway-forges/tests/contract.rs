//! One suite against all forges, and what it asked held against what they have published.
//!
//! The descriptions are packages that are not ours to copy: `SHIPWAY_TEST_FORGES` names a directory whose `node_modules`
//! has `@octokit/openapi` (GitHub's OpenAPI), `@octokit/webhooks-examples` (its examples), `gitea-js` and `forgejo-js`
//! (clients that were generated from the Swagger files of Gitea and Forgejo), and `@gitbeaker/core` (a client that users
//! of GitLab wrote by its documentation: GitLab publishes no description as a package).

mod published;

use jiff::Timestamp;
use published::{Gitbeaker, Github, Swagger};
use serde_json::{Value, json};
use shipway_domain::forge::{DeploymentState, ForgeCredentials, ForgeKind, Message, RepositoryName, Verdict};
use shipway_domain::review::{BranchName, Checks};
use shipway_domain::{CommitId, ForgeConnectionId, PipelineId};
use shipway_engine::ports::{Forges, News, Remote};
use shipway_forges::HttpForges;
use shipway_store::ForgeConnection;
use shipway_testkit::ForgeDouble;
use shipway_testkit::forge::{REPOSITORY, TOKEN};
use std::path::PathBuf;

const KINDS: [ForgeKind; 3] = [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea];

fn forges() -> HttpForges {
    HttpForges::new(&["127.0.0.1".to_string()])
}

fn connection(double: &ForgeDouble, credentials: ForgeCredentials) -> ForgeConnection {
    ForgeConnection {
        id: ForgeConnectionId(uuid::Uuid::from_u128(1)),
        pipeline: PipelineId(uuid::Uuid::from_u128(2)),
        kind: double.kind,
        url: double.url(),
        repository: RepositoryName::parse(REPOSITORY).unwrap(),
        home_url: "http://shipway.test".into(),
        secret: "whsec_c2VjcmV0".into(),
        credentials,
        heard_at: None,
        failure: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn commit(digit: &str) -> CommitId {
    CommitId::parse(&digit.repeat(40)).unwrap()
}

fn comment(text: &str) -> Message {
    Message::Comment { number: 7, body: format!("{text}\n\n<!-- shipway 0123 -->") }
}

fn status(verdict: Verdict) -> Message {
    Message::Status {
        commit: commit("a"),
        branch: BranchName::parse("change-7").unwrap(),
        context: "shipway/acorn".into(),
        verdict,
        url: (verdict == Verdict::Success).then(|| "http://acorn-pr-7.localhost/".into()),
        description: "The review app is deployed.".into(),
    }
}

fn deployment(of: &CommitId, state: DeploymentState) -> Message {
    Message::Deployment {
        environment: "acorn-pr-7".into(),
        commit: of.clone(),
        branch: None,
        state,
        url: "http://acorn-pr-7.localhost/".into(),
        log_url: Some("http://shipway.test/dashboard/apps/acorn-pr-7/releases/v2".into()),
        transient: true,
        production: false,
        payload: json!({ "acorn-pr-7": { "web": { "digest": "sha256:0" } } }),
    }
}

/// Asks and tells everything that there is to ask and tell.
async fn everything(double: &ForgeDouble) {
    let (forges, kind) = (forges(), double.kind);
    let forge = connection(double, ForgeCredentials::Token { token: TOKEN.into() });
    (1..=120).for_each(|n| _ = double.set_pull(n, &format!("change-{n}"), commit("a").as_str(), n != 3));
    double.set_fork_pull(200, "eve/shop", "main", commit("b").as_str());
    let open = forges.open_pull_requests(&forge).await.unwrap();
    assert_eq!(open.len(), 120, "{kind}: 119 and the fork's, over pages");
    let fork = open.iter().find(|p| p.number == 200).unwrap();
    assert_eq!((fork.fork.as_deref(), fork.commit.clone()), (Some("eve/shop"), commit("b")), "{kind}");
    assert!(open.iter().all(|p| p.open && (p.fork.is_none() || p.number == 200)), "{kind}");

    let tell =
        async |message: &Message, remote: Option<&Value>| forges.tell(&forge, message, remote, false).await.unwrap();
    (1..=60).for_each(|n| double.add_comment(7, &format!("Talk {n}")));
    let first = tell(&comment("One"), None).await;
    assert_eq!(tell(&comment("Two"), first.as_ref()).await, first, "{kind}: edited");
    assert_eq!(tell(&comment("Three"), None).await, first, "{kind}: found again on a later page");
    assert_eq!(double.comments(7).len(), 61, "{kind}");
    let gone = tell(&comment("Four"), Some(&json!(9999))).await;
    assert_ne!(gone, first, "{kind}: one that somebody deleted is made anew");

    for verdict in [Verdict::Pending, Verdict::Pending, Verdict::Failure, Verdict::Success] {
        tell(&status(verdict), None).await;
    }
    let said = double.statuses(commit("a").as_str());
    assert!(said.last().unwrap().starts_with("success shipway/acorn"), "{kind}: {said:?}");

    // Told before, and nobody saw how that ended.
    let tell_again = async |message: &Message, remote: Option<&Value>| {
        let (statuses, deployments) = (double.statuses(commit("a").as_str()), double.deployments("acorn-pr-7"));
        let told = forges.tell(&forge, message, remote, true).await.unwrap();
        assert_eq!(double.statuses(commit("a").as_str()), statuses, "{kind}: {message:?}");
        assert_eq!(double.deployments("acorn-pr-7"), deployments, "{kind}: {message:?}");
        told
    };
    tell_again(&status(Verdict::Success), None).await;
    forges.tell(&forge, &status(Verdict::Failure), None, true).await.unwrap();
    assert!(double.statuses(commit("a").as_str()).last().unwrap().starts_with("fail"), "{kind}: said after all");

    let (a, b) = (commit("a"), commit("b"));
    let one = tell(&deployment(&a, DeploymentState::Success), None).await;
    let again = tell(&deployment(&a, DeploymentState::Success), one.as_ref()).await;
    assert_eq!(one, again, "{kind}");
    assert_eq!(tell_again(&deployment(&a, DeploymentState::Success), None).await, one, "{kind}");
    assert_eq!(tell_again(&deployment(&a, DeploymentState::Success), one.as_ref()).await, one, "{kind}");
    if kind == ForgeKind::Github {
        // Said, and never written down here.
        assert_eq!(tell(&deployment(&a, DeploymentState::Success), None).await, one);
    }
    let two = tell(&deployment(&b, DeploymentState::Success), one.as_ref()).await;
    tell(&deployment(&b, DeploymentState::Inactive), two.as_ref()).await;
    let states: Vec<Value> = double
        .deployments("acorn-pr-7")
        .iter()
        .map(|d| d["states"].as_array().unwrap().last().unwrap().clone())
        .collect();
    let expected = if kind == ForgeKind::Gitea { 0 } else { 2 };
    assert_eq!(states, vec![json!("inactive"); expected], "{kind}");

    let Remote::Http { address, authorization } = forges.remote(&forge).await.unwrap() else { panic!() };
    assert_eq!(address, format!("{}/{REPOSITORY}.git", double.url()));
    assert!(authorization.is_some_and(|a| a.starts_with("Basic ")), "{kind}");
    let wrong = connection(double, ForgeCredentials::Token { token: "wrong".into() });
    let refused = forges.open_pull_requests(&wrong).await.unwrap_err().to_string();
    assert!(refused.contains("401") && refused.contains("Bad credentials"), "{kind}: {refused}");
}

#[tokio::test]
async fn every_forge_is_asked_and_told_the_same() {
    for kind in KINDS {
        everything(&ForgeDouble::start(kind).await).await;
    }
}

fn packages() -> Option<PathBuf> {
    let found = std::env::var_os("SHIPWAY_TEST_FORGES").map(|at| PathBuf::from(at).join("node_modules"));
    let found = found.filter(|at| at.is_dir());
    if found.is_none() {
        eprintln!("skipped: SHIPWAY_TEST_FORGES names no directory with what forges have published");
    }
    found
}

#[tokio::test]
async fn github_is_asked_what_its_openapi_describes() {
    let Some(packages) = packages() else { return };
    let described = Github::read(&packages.join("@octokit/openapi/generated/api.github.com.json"));
    let double = ForgeDouble::start(ForgeKind::Github).await;
    everything(&double).await;
    for asked in double.asked().iter().filter(|asked| asked.status != 401) {
        described.check(asked).unwrap_or_else(|e| panic!("{} {}: {e}", asked.method, asked.path));
    }
}

#[tokio::test]
async fn gitea_and_forgejo_are_asked_what_their_swagger_describes() {
    let Some(packages) = packages() else { return };
    let double = ForgeDouble::start(ForgeKind::Gitea).await;
    everything(&double).await;
    for package in ["gitea-js", "forgejo-js"] {
        let described = Swagger::read(&packages.join(package).join("dist/index.d.ts"));
        for asked in double.asked().iter().filter(|asked| asked.status != 401) {
            described.check(asked).unwrap_or_else(|e| panic!("{package}: {} {}: {e}", asked.method, asked.path));
        }
    }
}

#[tokio::test]
async fn gitlab_is_asked_what_its_users_client_asks() {
    let Some(packages) = packages() else { return };
    let described = Gitbeaker::read(&packages.join("@gitbeaker/core"));
    let double = ForgeDouble::start(ForgeKind::Gitlab).await;
    everything(&double).await;
    for asked in double.asked().iter().filter(|asked| asked.status != 401) {
        described.check(asked).unwrap_or_else(|e| panic!("{} {}: {e}", asked.method, asked.path));
    }
}

/// The payloads of the double's webhooks: a pull request of a fork, a push, a check.
fn payloads(double: &ForgeDouble) -> [Value; 3] {
    let (secret, a) = ("whsec_c2VjcmV0", commit("a"));
    let pull = double.set_fork_pull(9, "eve/shop", "change-9", a.as_str());
    let hooks = [
        double.pull_hook(secret, "one", &pull),
        double.push_hook(secret, "two", "refs/heads/main", a.as_str()),
        double.check_hook(secret, "three", a.as_str(), "success"),
    ];
    hooks.map(|hook| serde_json::from_str(&hook.body).unwrap())
}

#[tokio::test]
async fn gitlab_sends_what_its_users_client_reads() {
    let Some(packages) = packages() else { return };
    let described = Gitbeaker::read(&packages.join("@gitbeaker/core"));
    let double = ForgeDouble::start(ForgeKind::Gitlab).await;
    let schemas = ["WebhookMergeRequestEventSchema", "WebhookPushEventSchema", "WebhookPipelineEventSchema"];
    for (schema, payload) in schemas.iter().zip(payloads(&double)) {
        described.fits(schema, &payload).unwrap_or_else(|e| panic!("{e}: {payload}"));
    }
}

/// Of a webhook Gitea's Swagger describes the parts that its API has too; the rest of a payload is in no package.
#[tokio::test]
async fn gitea_and_forgejo_send_parts_that_their_swagger_describes() {
    let Some(packages) = packages() else { return };
    let double = ForgeDouble::start(ForgeKind::Gitea).await;
    let [pull, push, check] = payloads(&double);
    let parts = [
        ("PullRequest", &pull["pull_request"]),
        ("Repository", &pull["repository"]),
        ("User", &push["pusher"]),
        ("Repository", &push["repository"]),
        ("Repository", &check["repository"]),
    ];
    for package in ["gitea-js", "forgejo-js"] {
        let described = Swagger::read(&packages.join(package).join("dist/index.d.ts"));
        for (interface, part) in parts {
            assert!(part.is_object(), "{interface}");
            described.fits(interface, part).unwrap_or_else(|e| panic!("{package}: {e}: {part}"));
        }
    }
}

#[test]
fn githubs_published_examples_are_read() {
    let Some(packages) = packages() else { return };
    let text = std::fs::read(packages.join("@octokit/webhooks-examples/api.github.com/index.json")).unwrap();
    let all: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let mut seen = Vec::new();
    for event in &all {
        let name = event["name"].as_str().unwrap();
        for example in event["examples"].as_array().unwrap() {
            let read = forges().read(ForgeKind::Github, name, example.to_string().as_bytes());
            let received = read.unwrap_or_else(|e| panic!("{name}: {e}"));
            match &received.news {
                News::Other => {}
                news => seen.push((name, news.clone())),
            }
        }
    }
    let count = |name: &str| seen.iter().filter(|(n, _)| *n == name).count();
    assert!(count("push") >= 5 && count("pull_request") >= 20 && count("ping") >= 1, "{}", seen.len());
    assert!(count("status") >= 1 && count("check_run") >= 1 && count("check_suite") >= 1, "{}", seen.len());
    let (_, tag) = seen.iter().find(|(name, _)| *name == "push").unwrap();
    let News::Push(push) = tag else { panic!("{tag:?}") };
    assert_eq!((push.reference.to_string(), push.before.is_none()), ("tag simple-tag".into(), true));
    let passed = |news: &News| matches!(news, News::Check(check) if check.state == Checks::Succeeded);
    assert!(seen.iter().any(|(name, news)| *name == "check_suite" && passed(news)));
}

#[tokio::test]
async fn a_github_app_gets_a_token_of_its_installation() {
    let double = ForgeDouble::start(ForgeKind::Github).await;
    let key = published::rsa_key();
    let credentials = ForgeCredentials::App { app_id: "4711".into(), key };
    let forges = forges();
    assert!(forges.check(ForgeKind::Github, "https://github.com/", &credentials).is_ok());
    let refused = forges.check(ForgeKind::Gitea, "https://example.org", &credentials).unwrap_err().to_string();
    assert!(refused.contains("Only GitHub has Apps"), "{refused}");
    let forge = connection(&double, credentials);
    assert!(forges.open_pull_requests(&forge).await.unwrap().is_empty());
    forges.open_pull_requests(&forge).await.unwrap();
    let asked: Vec<String> = double.asked().iter().map(|a| format!("{} {}", a.method, a.path)).collect();
    let expected = [
        "GET /repos/acme/shop/installation",
        "POST /app/installations/99/access_tokens",
        "GET /repos/acme/shop/pulls",
        "GET /repos/acme/shop/pulls",
    ];
    assert_eq!(asked, expected, "the token is kept");
}
