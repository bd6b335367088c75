//! Forks' pull requests: a maintainer says what is built.

use crate::world::{KINDS, World, send};
use hyper::Method;
use serde_json::json;
use shipway_domain::CommitId;
use shipway_domain::forge::{DeliveryStatus, ForgeKind};
use shipway_store::ReviewAppSettings;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

const WAITS: &str = "- pending";
const RUNS: &str = "acorn-pr-9 created";

impl World {
    /// Hears that a fork's pull request is at a commit.
    async fn fork(&self, commit: &CommitId) {
        let pull = self.forge.set_fork_pull(9, "eve/shop", "change-9", commit.as_str());
        let id = format!("fork-{}", pull.changed_at);
        let heard = self.hear(self.forge.pull_hook(&self.connection.secret, &id, &pull)).await;
        assert_eq!(heard.status, DeliveryStatus::Done, "{:?}", heard.message);
    }

    /// What `shipway reviewapps allow -p acorn 9` asks for.
    async fn allow(&self) {
        let owner = self.server.caller.actor.account;
        let bearer = format!("Bearer {}", self.server.platform.session_for(owner, "test").await.unwrap());
        let path = "/shipway/v1/pipelines/acorn/pull-requests/9/actions/allow";
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let reply = send(&mut self.door.connect().await, Method::POST, path, &headers, "{}".into()).await;
        assert!(reply.status.is_success(), "{}", reply.body);
    }

    fn builds(&self) -> u32 {
        self.server.ground.builder.builds.load(Ordering::SeqCst)
    }
}

async fn world(kind: ForgeKind, keep_fork_permission: bool) -> World {
    let settings =
        ReviewAppSettings { automatic_review_apps: true, keep_fork_permission, ..ReviewAppSettings::default() };
    let world = World::with(kind, settings).await;
    let parent = world.server.app("acorn-staging");
    let secret = BTreeMap::from([("API_KEY".to_string(), Some("s3cret".to_string()))]);
    world.server.platform.set_config_vars(&world.server.caller, &parent, secret).await.unwrap();
    world.server.quiet().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_27_a_fork_that_a_maintainer_allowed_is_built_without_secrets() {
    for kind in KINDS {
        let world = world(kind, false).await;
        let commits = ["web: listen-after 1ms", "web: listen-after 2ms"].map(|procfile| world.commit(procfile));
        world.fork(&commits[0]).await;
        assert_eq!((world.screen().await.as_str(), world.builds()), (WAITS, 0), "{kind}");
        world.allow().await;
        assert_eq!((world.screen().await.as_str(), world.builds()), (RUNS, 1), "{kind}");
        let app = world.server.app("acorn-pr-9");
        let config = world.server.platform.store().read(|c| c.own_config_vars(app.id)).unwrap();
        let names: Vec<String> = config.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["HEROKU_BRANCH", "HEROKU_PARENT_APP_NAME", "HEROKU_PR_NUMBER"], "{kind}");

        // Another commit is another decision; what runs runs on.
        world.fork(&commits[1]).await;
        assert_eq!((world.screen().await.as_str(), world.builds()), (RUNS, 1), "{kind}");
        let row = &world.server.platform.review_apps(&world.pipeline).unwrap()[0];
        assert_eq!(row.commit, commits[0], "{kind}");
        assert!(row.message.as_ref().is_some_and(|m| m.contains("fork")), "{kind}: {:?}", row.message);
        world.allow().await;
        assert_eq!((world.screen().await.as_str(), world.builds()), (RUNS, 2), "{kind}");
        assert_eq!(world.server.platform.review_apps(&world.pipeline).unwrap()[0].commit, commits[1], "{kind}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_commit_of_a_fork_keeps_the_permission_where_the_pipeline_says_so() {
    for kind in KINDS {
        let world = world(kind, true).await;
        let commits = ["web: listen-after 1ms", "web: listen-after 2ms"].map(|procfile| world.commit(procfile));
        world.fork(&commits[0]).await;
        assert_eq!((world.screen().await.as_str(), world.builds()), (WAITS, 0), "{kind}");
        world.allow().await;
        assert_eq!(world.screen().await, RUNS, "{kind}");
        world.fork(&commits[1]).await;
        assert_eq!((world.screen().await.as_str(), world.builds()), (RUNS, 2), "{kind}");
        assert_eq!(world.server.platform.review_apps(&world.pipeline).unwrap()[0].commit, commits[1], "{kind}");

        // Removed by hand, it may be asked for again.
        let row = world.server.platform.review_apps(&world.pipeline).unwrap().remove(0);
        world.server.platform.delete_review_app(&world.server.caller, &row).await.unwrap();
        assert_eq!(world.screen().await, "", "{kind}");
        let body = json!({ "branch": "change-9", "pipeline": world.pipeline.id, "pr_number": 9, "source_blob": { "url": "resolve" } });
        let owner = world.server.caller.actor.account;
        let bearer = format!("Bearer {}", world.server.platform.session_for(owner, "test").await.unwrap());
        let accept = ("accept", "application/vnd.heroku+json; version=3");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), accept];
        let port = &mut world.door.connect().await;
        let reply = send(port, Method::POST, "/review-apps", &headers, body.to_string().into()).await;
        assert!(reply.status.is_success(), "{kind}: {}", reply.body);
        assert_eq!(world.screen().await, RUNS, "{kind}");
        world.end().await;
    }
}
