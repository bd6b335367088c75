//! An app that several people deploy to: who has it, what is overwritten, the way back.

use jiff::SignedDuration;
use shipway_domain::admission::{Actor, Scope};
use shipway_domain::triggers::{RefKind, RefName};
use shipway_domain::{BranchName, CommitId, Email, Stage};
use shipway_engine::ports::{Caller, PullRequestNews};
use shipway_engine::{RefNews, RefOrigin};
use shipway_store::App;
use shipway_testkit::{Ground, Server, until};

/// A collaborator of an app.
async fn person(server: &Server, app: &App, email: &str) -> Caller {
    let email = Email::parse(email).unwrap();
    let (account, _) = server.platform.add_account(&server.caller, &email, None, false).await.unwrap();
    server.platform.add_collaborator(&server.caller, app, email.as_str()).await.unwrap();
    let actor = Actor { account: account.id, email: email.to_string(), admin: false, scope: Scope::Global };
    Caller { actor, via: "git" }
}

async fn push(server: &Server, who: &Caller, app: &App, procfile: &str) -> Result<String, String> {
    let commit = server.ground.repositories.commit(procfile);
    let (_, operation) =
        server.platform.deploy(who, &server.app(app.name.as_str()), commit).await.map_err(|e| e.message)?;
    server.outcome(operation).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_overwritten_is_told_and_one_command_brings_it_back() {
    let server = Ground::new().server(None).await;
    let platform = &server.platform;
    let app = server.create("dev").await;
    let (ana, ben) = (person(&server, &app, "ana@example.org").await, person(&server, &app, "ben@example.org").await);
    // Both exist before either deploys; ben's is older and so lacks ana's.
    let bens = server.ground.repositories.commit("web: listen-after 2ms");
    let anas = server.ground.repositories.commit("web: listen-after 1ms");
    assert_eq!(push(&server, &ana, &app, "web: listen-after 1ms").await.as_deref(), Ok("v2"));
    let app = server.app("dev");
    assert!(platform.previous_code(&app).unwrap().is_none());
    assert!(platform.replaces(&ana, &app, &bens).await.unwrap().is_none(), "one's own");
    let there = platform.replaces(&ben, &app, &bens).await.unwrap().unwrap();
    assert_eq!((there.by.as_str(), there.words()), ("ana@example.org", format!("v2: {}", anas.short())));
    assert_eq!(push(&server, &ben, &app, "web: listen-after 2ms").await.as_deref(), Ok("v3"));

    let told = |who: &Caller| platform.notices(who, Some(&app)).unwrap();
    let text = format!(
        "ben@example.org replaced what you had deployed to dev (v2: {}) by v3: {}. To bring it back: shipway previous -a dev",
        anas.short(),
        bens.short()
    );
    assert_eq!(told(&ana).into_iter().map(|n| n.text).collect::<Vec<_>>(), [text]);
    assert!(told(&ben).is_empty());
    platform.notices_read(&ana, Some(&app)).await.unwrap();
    assert!(told(&ana).is_empty() && platform.notices(&ana, None).unwrap().len() == 1, "read, and kept");

    let (_, before, operation) = platform.bring_back(&ana, &server.app("dev")).await.unwrap();
    assert_eq!((before.release.version, server.outcome(operation).await), (2, Ok("v4".into())));
    let release = platform.release(&app, "current").unwrap();
    assert_eq!(release.description, format!("Bring back v2 {}", anas.short()));
    // Ana's has all that ben's had: nobody's work is lost, nobody is told.
    assert!(told(&ben).is_empty());
    // A change of config brings no code: twice is the way forward again, and nobody is told again.
    let before = platform.notices(&ben, None).unwrap().len() + platform.notices(&ana, None).unwrap().len();
    server.platform.set_config_vars(&ben, &server.app("dev"), [("A".into(), Some("1".into()))].into()).await.unwrap();
    server.settled(&app).await;
    server.quiet().await;
    assert_eq!(platform.notices(&ben, None).unwrap().len() + platform.notices(&ana, None).unwrap().len(), before);
    let (_, before, operation) = platform.bring_back(&ana, &server.app("dev")).await.unwrap();
    assert_eq!((before.release.version, server.outcome(operation).await), (3, Ok("v6".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_waited_is_told_what_came_meanwhile() {
    let server = Ground::new().server(None).await;
    let app = server.create("dev").await;
    let (ana, ben) = (person(&server, &app, "ana@example.org").await, person(&server, &app, "ben@example.org").await);
    let commit = |text: &str| server.ground.repositories.commit(text);
    let (bens, anas) = (commit("web: listen-after 2ms"), commit("web: listen; echo slow-build"));
    let (_, first) = server.platform.deploy(&ana, &server.app("dev"), anas.clone()).await.unwrap();
    let (_, second) = server.platform.deploy(&ben, &server.app("dev"), bens).await.unwrap();
    until("ben's waits", async || server.platform.waiting_behind(second)).await;
    server.ground.builder.go.notify_one();
    assert_eq!(server.outcome(first).await.as_deref(), Ok("v2"));
    assert_eq!(server.outcome(second).await.as_deref(), Ok("v3"));
    let screen = server.transcript(&app);
    let told = format!("You replace what ana@example.org deployed 0 min ago: v2: {}", anas.short());
    assert!(screen.contains("Waiting behind a deploy by ana@example.org") && screen.contains(&told), "{screen}");
    assert!(screen.contains("To bring it back afterwards: shipway previous -a dev"), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_has_the_name_of_the_branch_that_it_was_heard_to_be_on() {
    let server = Ground::new().server(None).await;
    let platform = &server.platform;
    let pipeline = platform.create_pipeline(&server.caller, "penny").await.unwrap();
    let qa = server.create("penny-qa").await;
    platform.couple(&server.caller, &pipeline, &qa, Stage::Staging).await.unwrap();
    let code = |n: u32| format!("web: listen-after {n}ms");
    let commits: Vec<CommitId> = (0..4).map(|n| server.ground.repositories.commit(&code(n))).collect();
    let heard = async |origin: RefOrigin, branch: &str, commit: &CommitId| {
        let reference = RefName::new(RefKind::Branch, branch).unwrap();
        platform.ref_moved(RefNews { origin, reference, commit: commit.clone(), by: "ana".into() }).await.unwrap();
    };
    let forge =
        || RefOrigin::Forge { pipeline: pipeline.id, repository: "acme/penny".into(), before: None, pusher: None };
    let here = || RefOrigin::App { app: qa.id, actor: server.caller.actor.clone() };
    let runs = async |n: u32| {
        push(&server, &server.caller, &qa, &code(n)).await.unwrap();
        platform.deployed(&server.app("penny-qa")).unwrap().unwrap().words()
    };

    // A forge tells of the branch, which has gone on when qa gets it, and is merged afterwards.
    heard(forge(), "grades", &commits[0]).await;
    heard(forge(), "grades", &commits[1]).await;
    heard(forge(), "main", &commits[0]).await;
    assert_eq!(runs(0).await, format!("v2: grades, {}", commits[0].short()));
    // At an app's own remote main is whatever was pushed there.
    heard(here(), "main", &commits[2]).await;
    assert_eq!(runs(2).await, format!("v3: {}", commits[2].short()));
    heard(here(), "experiment", &commits[2]).await;
    assert_eq!(platform.deployed(&qa).unwrap().unwrap().name(), Some("experiment"), "heard of since");
    // A pull request names it as well, but a fork's, whose branch may have any name.
    let request = |number, branch: &str, commit: usize, fork: Option<&str>| PullRequestNews {
        number,
        title: "Give grades".into(),
        branch: BranchName::parse(branch).unwrap(),
        commit: commits[commit].clone(),
        fork: fork.map(str::to_string),
        open: true,
        changed_at: platform.now(),
    };
    platform.pull_request_changed(pipeline.id, request(1, "main", 3, Some("eve/penny"))).await.unwrap();
    assert_eq!(runs(3).await, format!("v4: {}", commits[3].short()));
    platform.pull_request_changed(pipeline.id, request(2, "reports", 3, None)).await.unwrap();
    assert_eq!(platform.deployed(&qa).unwrap().unwrap().name(), Some("reports"));
    // A busy repository is not remembered for ever.
    let (of, newest) = (pipeline.id, commits[1].clone());
    let later = platform.now() + SignedDuration::from_secs(1);
    let busy = platform.store().write(move |c| {
        (0..5_000)
            .try_for_each(|n| c.put_branch_tip(of, &format!("b{n}"), &newest, later + SignedDuration::from_secs(n)))
    });
    busy.await.unwrap();
    assert_eq!(platform.deployed(&qa).unwrap().unwrap().name(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_19_a_reserved_app_takes_code_from_its_holder_alone() {
    let ground = Ground::new();
    let server = ground.server(None).await;
    let platform = &server.platform;
    let app = server.create("dev").await;
    let (ana, ben) = (person(&server, &app, "ana@example.org").await, person(&server, &app, "ben@example.org").await);
    push(&server, &ben, &app, "web: listen").await.unwrap();
    let hours = SignedDuration::from_hours;
    for wrong in [SignedDuration::ZERO, hours(-1), hours(24 * 8)] {
        let refused = platform.reserve(&ana, &app, wrong, None).await.unwrap_err();
        assert!(refused.message.contains("a minute to seven days"), "{}", refused.message);
    }
    let held = platform.reserve(&ana, &app, hours(2), Some("the demo")).await.unwrap();
    let until = held.until.strftime("%Y-%m-%d %H:%M UTC");
    let reserved = format!("dev is reserved by ana@example.org (the demo). It lifts at {until}.");
    let ask = "Ask ana@example.org, or owner@example.org, who owns dev.";
    let v2 = platform.release(&app, "v2").unwrap();
    for (who, way_out) in [(&ben, ask), (&server.caller, "You can end that: shipway unreserve -a dev")] {
        let refusal = format!("{reserved} {way_out}");
        let app = server.app("dev");
        let refused = [
            push(&server, who, &app, "web: listen-after 1ms").await.unwrap_err(),
            platform.redeploy(who, &app).await.unwrap_err().message,
            platform.rollback(who, &app, &v2).await.unwrap_err().message,
            platform.release_slug(who, &app, v2.slug.unwrap(), None).await.unwrap_err().message,
            platform.bring_back(who, &app).await.unwrap_err().message,
            platform.reserve(who, &app, hours(1), None).await.unwrap_err().message,
        ];
        assert!(refused.iter().all(|told| *told == refusal), "{refused:?}");
    }
    let not_his = format!("dev is reserved by ana@example.org until {until}. {ask}");
    assert_eq!(platform.unreserve(&ben, &app).await.unwrap_err().message, not_his);
    push(&server, &ana, &app, "web: listen-after 1ms").await.unwrap();
    // What is no code is not held; a deploy that was admitted before is asked again at the switch.
    server.platform.set_config_vars(&ben, &server.app("dev"), [("A".into(), Some("1".into()))].into()).await.unwrap();
    server.settled(&app).await;
    platform.unreserve(&server.caller, &app).await.unwrap();
    let slow = server.ground.repositories.commit("web: listen; echo slow-build");
    let (_, operation) = platform.deploy(&ben, &server.app("dev"), slow).await.unwrap();
    platform.reserve(&ana, &app, hours(1), None).await.unwrap();
    server.ground.builder.go.notify_one();
    assert!(server.outcome(operation).await.unwrap_err().starts_with("dev is reserved by ana@example.org."));
    // It ends by itself, also over a restart.
    ground.world.jump(hours(1));
    assert!(platform.reservation(&app).unwrap().is_none());
    push(&server, &ben, &app, "web: listen-after 3ms").await.unwrap();
}
