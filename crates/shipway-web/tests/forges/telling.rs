//! What forges are told.

use crate::world::{KINDS, World};
use serde_json::json;
use shipway_domain::forge::ForgeKind;
use shipway_testkit::until;

/// The last lines of comments are marks.
fn without_mark(comment: &str) -> String {
    let (text, mark) = comment.rsplit_once("\n\n").unwrap_or_default();
    assert!(mark.starts_with("<!-- shipway "), "{comment}");
    text.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_is_told_of_its_review_app() {
    for kind in KINDS {
        let world = World::new(kind).await;
        let platform = &world.server.platform;
        let (first, next) = (world.commit("web: listen"), world.commit("web: listen-after 1ms"));
        world.pull(7, &first, true).await;
        assert_eq!(world.screen().await, "acorn-pr-7 created", "{kind}");
        platform.tell_forges().await.unwrap();
        let url = "http://acorn-pr-7.localhost:8080/";
        let comments = until("the comment is there", async || {
            let comments = world.forge.comments(7);
            comments.iter().any(|c| c.contains("runs `")).then_some(comments)
        })
        .await;
        let runs = |commit: &shipway_domain::CommitId| format!("**[acorn-pr-7]({url})** runs `{}`.", commit.short());
        assert_eq!(comments.iter().map(|c| without_mark(c)).collect::<Vec<_>>(), [runs(&first)], "{kind}");
        assert_eq!(world.forge.statuses(first.as_str()).last().unwrap(), &format!("success shipway/acorn {url}"));

        // Another commit: the same comment.
        world.pull(7, &next, true).await;
        world.screen().await;
        platform.tell_forges().await.unwrap();
        until("the comment has changed", async || world.forge.comments(7)[0].contains(&runs(&next)).then_some(()))
            .await;
        assert_eq!(world.forge.comments(7).len(), 1, "{kind}");
        if kind != ForgeKind::Gitea {
            let deployments = until("the deployment is there", async || {
                let all = world.forge.deployments("acorn-pr-7");
                all.last().is_some_and(|d| d["sha"] == next.as_str()).then_some(all)
            })
            .await;
            assert_eq!(deployments.len(), 2, "{kind}");
            assert_eq!(deployments[0]["sha"], first.as_str());
        }
        if kind == ForgeKind::Github {
            let deployment = until("the old one is inactive", async || {
                let all = world.forge.deployments("acorn-pr-7");
                (all[0]["states"] == json!(["success", "inactive"])).then(|| all[1].clone())
            })
            .await;
            assert_eq!((&deployment["states"], &deployment["transient"]), (&json!(["success"]), &json!(true)));
            let process = &deployment["payload"]["acorn-pr-7"]["web"];
            assert!(process["digest"].as_str().is_some_and(|d| d.starts_with("sha256:")), "{deployment}");
            assert!(process["image_id"].is_string() && process["config_hash"].is_string(), "{deployment}");
        }

        // Closed: it says so, and the environment is over.
        world.pull(7, &next, false).await;
        assert_eq!(world.screen().await, "", "{kind}");
        platform.tell_forges().await.unwrap();
        until("the comment says so", async || world.forge.comments(7)[0].contains("was removed").then_some(())).await;
        assert_eq!(world.forge.comments(7).len(), 1, "{kind}");
        if kind != ForgeKind::Gitea {
            until("the deployment is inactive", async || {
                let all = world.forge.deployments("acorn-pr-7");
                all.iter().all(|d| d["states"].as_array().unwrap().last() == Some(&json!("inactive"))).then_some(())
            })
            .await;
        }
        // Nothing is said twice.
        let before = world.forge.asked().len();
        platform.tell_forges().await.unwrap();
        assert_eq!(world.forge.asked().len(), before, "{kind}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_that_is_down_holds_nothing_up_and_is_told_later() {
    let world = World::new(ForgeKind::Github).await;
    let platform = &world.server.platform;
    world.forge.set_down(true);
    let commit = world.commit("web: listen");
    world.pull(7, &commit, true).await;
    assert_eq!(world.screen().await, "acorn-pr-7 created");
    platform.tell_forges().await.unwrap();
    let failure = || platform.forge_of(&world.pipeline).unwrap().failure;
    let words = until("the failure is noted", async || failure()).await;
    assert!(words.contains("503") && words.contains("down for maintenance"), "{words}");
    assert!(world.forge.comments(7).is_empty());
    world.forge.set_down(false);
    // Not before its time.
    let asked = world.forge.asked().len();
    platform.tell_forges().await.unwrap();
    let said = |a: &shipway_testkit::forge::Asked| a.path.contains("comments");
    assert!(!world.forge.asked()[asked..].iter().any(said));
    world.server.ground.world.jump(jiff::SignedDuration::from_hours(1));
    platform.tell_forges().await.unwrap();
    until("it is told", async || world.forge.comments(7).first().filter(|c| c.contains("runs `")).map(drop)).await;
    until("the failure is over", async || failure().is_none().then_some(())).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_is_found_again_and_nobody_elses_is_touched() {
    let world = World::new(ForgeKind::Github).await;
    let commit = world.commit("web: exit 3");
    world.forge.add_comment(7, "Nice work!");
    world.pull(7, &commit, true).await;
    assert_eq!(world.screen().await, "acorn-pr-7 errored");
    world.server.platform.tell_forges().await.unwrap();
    let ours = until("the comment says why", async || {
        world.forge.comments(7).into_iter().find(|c| c.contains("H10: web.1 ended with status 3"))
    })
    .await;
    // Output of anybody's mentions nobody and marks nothing up.
    assert!(ours.contains("```text\n"), "{ours}");
    // Somebody repeats our mark: the older one is ours.
    world.forge.add_comment(7, &ours);
    let connection = world.connection.id;
    let forget = move |c: &shipway_store::Conn<'_>| c.delete_forge_message(connection, "comment 7");
    world.server.platform.store().write(forget).await.unwrap();
    world.pull(7, &commit, false).await;
    world.pull(7, &world.commit("web: listen"), true).await;
    world.screen().await;
    world.server.platform.tell_forges().await.unwrap();
    let comments = until("ours has changed", async || {
        let all = world.forge.comments(7);
        all[1].contains("runs `").then_some(all)
    })
    .await;
    assert_eq!((comments.len(), comments[0].as_str(), comments[2].as_str()), (3, "Nice work!", ours.as_str()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_fails_is_told_once_beside_what_runs() {
    for kind in KINDS {
        let mut world = World::new(kind).await;
        let failed = if kind == ForgeKind::Gitlab { "failed" } else { "failure" };
        // What the forge shows of the environment: commit and states, oldest first.
        let shown = |world: &World| {
            let line = |d: &serde_json::Value| format!("{} {}", &d["sha"].as_str().unwrap()[..7], d["states"]);
            world.forge.deployments("acorn-staging").iter().map(line).collect::<Vec<_>>()
        };
        let deploy = async |world: &World, commit: &shipway_domain::CommitId| {
            let app = world.server.app("acorn-staging");
            let begun = world.server.platform.deploy(&world.server.caller, &app, commit.clone()).await.unwrap();
            let outcome = world.server.outcome(begun.1).await;
            world.server.platform.tell_forges().await.unwrap();
            (begun.1, outcome)
        };
        let (good, bad, better) =
            (world.commit("web: listen"), world.commit("web: exit 3"), world.commit("web: listen-after 1ms"));
        let line = |commit: &shipway_domain::CommitId, states: &[&str]| format!("{} {}", commit.short(), json!(states));
        deploy(&world, &good).await.1.unwrap();
        let (operation, outcome) = deploy(&world, &bad).await;
        assert!(outcome.is_err(), "{kind}");
        if kind == ForgeKind::Gitea {
            // It has no deployments.
            assert_eq!(shown(&world), [""; 0]);
            world.end().await;
            continue;
        }
        let both = [line(&good, &["success"]), line(&bad, &[failed])];
        until("the failure is told", async || (shown(&world) == both).then_some(())).await;
        if kind == ForgeKind::Github {
            let statuses = world.forge.asked().into_iter().filter(|asked| asked.body["state"] == failed);
            let urls: Vec<_> = statuses.map(|asked| asked.body["log_url"].clone()).collect();
            assert_eq!(urls, [json!(format!("http://shipway.test/dashboard/operations/{operation}"))]);
        }

        // Not again: neither by another server, nor for what brings no code.
        world = world.restarted().await;
        let app = world.server.app("acorn-staging");
        let vars = [("A".to_string(), Some("1".to_string()))].into();
        world.server.platform.set_config_vars(&world.server.caller, &app, vars).await.unwrap();
        world.server.settled(&app).await;
        world.server.platform.tell_forges().await.unwrap();
        let failures = || shown(&world).iter().filter(|line| line.contains(failed)).count();
        assert_eq!((failures(), &shown(&world)[1]), (1, &both[1]), "{kind}");

        // What works takes the place of what worked; what failed has failed.
        deploy(&world, &better).await.1.unwrap();
        until("the next one is told", async || shown(&world).last().unwrap().starts_with(better.short()).then_some(()))
            .await;
        assert_eq!((shown(&world).len(), &shown(&world)[1]), (3, &both[1]), "{kind}");
        // The same commit fails once more: that is another failure.
        assert!(deploy(&world, &bad).await.1.is_err(), "{kind}");
        let last = until("the failure is told again", async || {
            let all = shown(&world);
            all.iter().map(|line| line.matches(failed).count()).sum::<usize>().eq(&2).then_some(all)
        })
        .await;
        let active = last.iter().find(|line| line.starts_with(better.short())).unwrap();
        assert!(active.ends_with("[\"success\"]"), "{kind}: {active}");
        world.end().await;
    }
}
