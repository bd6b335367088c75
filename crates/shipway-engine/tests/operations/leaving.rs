//! People who leave: what ends with them, what they leave behind, and who has it then.

use jiff::SignedDuration;
use shipway_domain::admission::{Actor, Permission, Scope};
use shipway_domain::team::Role;
use shipway_domain::triggers::{RefKind, RefName};
use shipway_domain::{AccountId, Email, NameOrId, Stage};
use shipway_engine::ports::Caller;
use shipway_engine::{NewApp, NewToken, RefNews, RefOrigin};
use shipway_store::App;
use shipway_testkit::{Ground, OWNER, Server};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";

fn named(text: &str) -> NameOrId {
    NameOrId::parse(text)
}

/// Somebody with an account, and their first token.
async fn person(server: &Server, email: &str, admin: bool) -> (Caller, String) {
    let email = Email::parse(email).unwrap();
    let (account, token) = server.platform.add_account(&server.caller, &email, None, admin).await.unwrap();
    let actor = Actor { account: account.id, email: email.to_string(), admin, scope: Scope::Global };
    (Caller { actor, via: "api" }, token)
}

async fn app_of(server: &Server, who: &Caller, name: &str) -> App {
    let new = NewApp { name: Some(name.into()), ..NewApp::default() };
    server.platform.create_app(who, new).await.unwrap()
}

async fn remove(server: &Server, by: &Caller, who: &str, give_to: Option<&str>) -> Result<(), String> {
    let removed = server.platform.remove_account(by, &named(who), give_to.map(named).as_ref()).await;
    removed.map(drop).map_err(|e| e.to_string())
}

/// All that waits for an account or lets it in, as counts of rows.
fn traces(server: &Server, account: AccountId, app: &App) -> Vec<bool> {
    let now = server.platform.now();
    let found = server.platform.store().read(|c| {
        Ok(vec![
            !c.tokens(account, now)?.is_empty(),
            !c.keys_of(account)?.is_empty(),
            c.collaborators(app.id)?.iter().any(|one| one.account == account),
            c.reservation(app.id, now)?.is_some(),
            c.access_requests(app.id)?.iter().any(|one| one.account == account),
            !c.app_transfers_of(account)?.is_empty(),
            !c.notices(account, 10)?.is_empty(),
            c.teams()?.iter().any(|team| c.role(team.id, account).unwrap().is_some()),
        ])
    });
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_has_nothing_left_and_what_they_did_stays_theirs() {
    let server = Ground::new().server(None).await;
    let (platform, owner) = (&server.platform, &server.caller);
    let (ada, token) = person(&server, ADA, false).await;
    let shop = server.create("shop").await;
    platform.give_access(owner, &shop, ADA, Permission::Operate).await.unwrap();
    let team = platform.create_team(owner, "acme").await.unwrap();
    platform.put_team_member(owner, &team, ADA, Role::Member).await.unwrap();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ada@example.org";
    platform.add_key(&ada, key).await.unwrap();
    let narrow = NewToken { description: "CI".into(), scope: Scope::Deploy { app: shop.id }, expires_in_seconds: None };
    let (_, narrow) = platform.create_token(&ada, narrow).await.unwrap();
    // The owner's commit is older than hers, and so lacks it: of what replaces it she is told.
    let [older, hers] = ["2ms", "1ms"].map(|ms| server.ground.repositories.commit(&format!("web: listen-after {ms}")));
    for (who, commit, version) in [(&ada, hers, "v2"), (owner, older, "v3")] {
        let (_, operation) = platform.deploy(who, &server.app("shop"), commit).await.unwrap();
        assert_eq!(server.outcome(operation).await.as_deref(), Ok(version));
    }
    platform.reserve(&ada, &shop, SignedDuration::from_hours(1), None).await.unwrap();
    let to = platform.acquaintance(owner, &named(ADA)).unwrap();
    platform.offer_app(owner, &server.app("shop"), &to).await.unwrap();
    let dark = server.create("dark").await;
    platform.ask_for_access(&ada, "dark").await.unwrap();
    let mut all = traces(&server, ada.actor.account, &shop);
    all[4] = traces(&server, ada.actor.account, &dark)[4];
    assert_eq!(all, [true; 8]);

    assert_eq!(remove(&server, owner, ADA, None).await, Ok(()));
    assert_eq!(traces(&server, ada.actor.account, &shop), [false; 8]);
    assert!(!traces(&server, ada.actor.account, &dark)[4]);
    for secret in [&token, &narrow] {
        assert!(platform.authenticate(secret).is_err());
    }
    assert!(platform.session_for(ada.actor.account, "a page that was open").await.is_err());
    // Nobody reserves it any more, and what runs runs on.
    assert_eq!(server.push(&server.app("shop"), "web: listen-after 3ms").await.as_deref(), Ok("v4"));
    let release = platform.release(&shop, "v2").unwrap();
    assert_eq!(platform.store().read(|c| c.address_of(release.account)).unwrap().as_str(), ADA);
    let ledger = platform.store().read(|c| c.ledger(None, 50)).unwrap();
    assert!(ledger.iter().any(|entry| entry.actor == ADA && entry.action == "deploy"), "{ledger:?}");
    let entry = ledger.iter().find(|entry| entry.action == "account-removed").unwrap();
    assert_eq!((entry.actor.as_str(), &entry.detail["email"]), (OWNER, &serde_json::json!(ADA)));

    // The same address is a new person, with nothing.
    assert!(
        remove(&server, owner, ADA, None).await.unwrap_err().starts_with("Couldn't find that user: ada@example.org.")
    );
    let (again, _) = person(&server, ADA, false).await;
    assert_ne!(again.actor.account, ada.actor.account);
    assert!(platform.apps(&again, false).unwrap().is_empty() && platform.teams(&again).unwrap().is_empty());
    assert!(platform.app(&again, &named("shop")).is_err());
    assert_eq!(remove(&server, owner, ADA, None).await, Ok(()), "and can leave again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_owns_is_somebody_elses_before_they_go() {
    let server = Ground::new().server(None).await;
    let (platform, owner) = (&server.platform, &server.caller);
    let ((ada, _), (bob, _)) = (person(&server, ADA, false).await, person(&server, BOB, false).await);
    let shop = app_of(&server, &ada, "shop").await;
    platform.give_access(&ada, &shop, BOB, Permission::View).await.unwrap();
    let commit = server.ground.repositories.commit("web: listen");
    let (_, operation) = platform.deploy(&ada, &shop, commit).await.unwrap();
    server.outcome(operation).await.unwrap();
    let pipeline = platform.create_pipeline(&ada, "tills").await.unwrap();
    platform.couple(&ada, &pipeline, &shop, Stage::Production).await.unwrap();
    platform.create_product(&ada, "kiosk", &["tills".into()]).await.unwrap();
    platform.create_team(&ada, "acme").await.unwrap();
    let shared = platform.create_team(&ada, "shared").await.unwrap();
    platform.put_team_member(&ada, &shared, OWNER, Role::Admin).await.unwrap();

    let list =
        "ada@example.org owns what nobody would own without them. Give all of it to somebody: shipway users remove \
                ada@example.org --give-to EMAIL. Or each by itself:
  pipeline tills: heroku pipelines:transfer EMAIL -p tills -c tills
  app shop: heroku apps:transfer EMAIL -a shop -c shop
  the only admin of team acme: heroku members:add EMAIL -r admin -t acme
  product kiosk: only with --give-to";
    assert_eq!(remove(&server, owner, ADA, None).await, Err(list.into()));
    assert_eq!(remove(&server, &ada, ADA, None).await, Err(list.into()), "the same for herself");
    for (to, refused) in [
        (ADA, "ada@example.org cannot be given what is theirs when they go."),
        ("acme@herokumanager.com", "acme@herokumanager.com is the address of the team acme, and no person's."),
        (
            "nobody@example.org",
            "Couldn't find that user: nobody@example.org. Whoever is new here is added by an administrator: shipway users add ADDRESS",
        ),
    ] {
        assert_eq!(remove(&server, owner, ADA, Some(to)).await, Err(refused.into()));
    }
    assert!(platform.app(&ada, &named("shop")).is_ok(), "nothing was done");

    assert_eq!(remove(&server, owner, ADA, Some(BOB)).await, Ok(()));
    let shop = platform.app(&bob, &named("shop")).unwrap();
    assert_eq!((shop.owner, shop.owner_email.as_str()), (bob.actor.account, BOB));
    assert!(platform.store().read(|c| c.collaborators(shop.id)).unwrap().is_empty(), "an owner is no collaborator");
    assert_eq!(platform.pipeline(&bob, &named("tills")).unwrap().owner, bob.actor.account);
    assert_eq!(platform.product(&bob, &named("kiosk")).unwrap().owner, bob.actor.account);
    let (acme, role) = platform.team(&bob, &named("acme")).unwrap();
    assert_eq!((role, platform.team_members(&acme).unwrap().len()), (Role::Admin, 1));
    assert!(platform.team(&bob, &named("shared")).is_err(), "that has another admin");
    assert_eq!(server.served(&shop).await, "v2");
    let told = platform.store().read(|c| c.ledger(Some(shop.id), 50)).unwrap();
    let given = told.iter().find(|entry| entry.action == "app-transferred").unwrap();
    assert_eq!(given.detail, serde_json::json!({ "from": ADA, "to": BOB }));
    // What bob does with it is bob's.
    let vars = [("COLOUR".to_string(), Some("blue".to_string()))].into();
    platform.set_config_vars(&bob, &shop, vars).await.unwrap();
    server.quiet().await;
    assert_eq!(server.served(&shop).await, "v3");
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_remove_others_and_the_last_one_stays() {
    let server = Ground::new().server(None).await;
    let (platform, owner) = (&server.platform, &server.caller);
    let last = "owner@example.org is the only administrator. Make another one first: shipway users add EMAIL --admin";
    assert_eq!(remove(&server, owner, OWNER, None).await, Err(last.into()));
    let ((ada, _), (bob, _)) = (person(&server, ADA, false).await, person(&server, BOB, true).await);
    let only =
        "Only an administrator may remove people and give away what is theirs. Ask one to run `shipway users remove`.";
    for who in [BOB, OWNER, "nobody@example.org"] {
        assert_eq!(remove(&server, &ada, who, None).await, Err(only.into()), "{who}");
    }
    assert_eq!(
        remove(&server, &ada, ADA, Some(BOB)).await,
        Err(only.into()),
        "nobody is given what they did not ask for"
    );
    for scope in [Scope::WriteProtected, Scope::Read, Scope::Identity] {
        let narrow = Caller { actor: Actor { scope, ..owner.actor.clone() }, via: "api" };
        assert!(
            remove(&server, &narrow, BOB, None)
                .await
                .unwrap_err()
                .starts_with("The token that was used may not remove")
        );
    }
    assert_eq!(remove(&server, &ada, ADA, None).await, Ok(()), "oneself, by oneself");

    // Two who remove each other: the one who was removed removes nobody.
    assert_eq!(remove(&server, &bob, OWNER, None).await, Ok(()));
    assert_eq!(remove(&server, owner, BOB, None).await, Err("Invalid credentials provided.".into()));
    // The first start's administrator is made where nobody is there at all, and here is somebody.
    assert!(platform.first_admin(&Email::parse(OWNER).unwrap()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_goes_on_and_nothing_new_begins() {
    let server = Ground::new().server(None).await;
    let (platform, owner) = (&server.platform, &server.caller);
    let (ada, _) = person(&server, ADA, false).await;
    let (bob, _) = person(&server, BOB, true).await;
    let shop = server.create("shop").await;
    platform.give_access(owner, &shop, ADA, Permission::Deploy).await.unwrap();
    let slow = server.ground.repositories.commit("web: listen; echo slow-build");
    let (_, operation) = platform.deploy(&ada, &shop, slow).await.unwrap();
    assert_eq!(remove(&server, owner, ADA, None).await, Ok(()));
    server.ground.builder.go.notify_one();
    assert_eq!(server.outcome(operation).await.as_deref(), Ok("v2"));
    let release = platform.release(&shop, "current").unwrap();
    assert_eq!(platform.store().read(|c| c.address_of(release.account)).unwrap().as_str(), ADA);

    // Who asked while they were removed: a request whose body came late, a push that took its time.
    let commit = server.ground.repositories.commit("web: listen-after 1ms");
    let late = platform.deploy(&ada, &server.app("shop"), commit.clone()).await.unwrap_err();
    assert!(late.message.starts_with("You (ada@example.org) may not deploy to shop"), "{late}");
    assert_eq!(remove(&server, owner, BOB, None).await, Ok(()));
    let late = platform.deploy(&bob, &server.app("shop"), commit).await.unwrap_err();
    assert_eq!(
        late.message, "Couldn't find that account: it was removed.",
        "an administrator's token no more than others"
    );

    // Whose access was taken before they were removed is not let in by that.
    let (carol, _) = person(&server, "carol@example.org", false).await;
    platform.give_access(owner, &shop, "carol@example.org", Permission::Deploy).await.unwrap();
    let slow = server.ground.repositories.commit("web: listen; echo another slow-build");
    let (_, operation) = platform.deploy(&carol, &server.app("shop"), slow).await.unwrap();
    platform.remove_collaborator(owner, &shop, "carol@example.org").await.unwrap();
    assert_eq!(remove(&server, owner, "carol@example.org", None).await, Ok(()));
    server.ground.builder.go.notify_one();
    let refused = server.outcome(operation).await.unwrap_err();
    assert!(refused.starts_with("You (carol@example.org) may not deploy to shop"), "{refused}");
    assert_eq!(server.served(&shop).await, "v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_not_deployed_for_somebody_who_has_left() {
    let server = Ground::new().server(None).await;
    let (platform, owner) = (&server.platform, &server.caller);
    let ((ada, _), (bob, _)) = (person(&server, ADA, true).await, person(&server, BOB, false).await);
    let shop = app_of(&server, &ada, "shop").await;
    let pipeline = platform.create_pipeline(&ada, "shop").await.unwrap();
    platform.couple(&ada, &pipeline, &shop, Stage::Production).await.unwrap();
    platform.add_trigger(&ada, &shop, RefKind::Branch, "main", true).await.unwrap();
    let wait = async |by: Option<&Caller>, name: &str| {
        let commit = server.ground.repositories.commit(&format!("web: listen; echo {name}"));
        let origin = RefOrigin::Upstream { pipeline: pipeline.id, actor: by.map(|caller| caller.actor.clone()) };
        let reference = RefName::new(RefKind::Branch, "main").unwrap();
        let news = RefNews { origin, reference, commit: commit.clone(), by: "ada".into() };
        platform.ref_moved(news).await.unwrap();
        platform.deploy_triggered().await.unwrap();
        commit
    };
    let screen = async || {
        platform.deploy_triggered().await.unwrap();
        server.quiet().await;
        let newest = platform.triggered(&shop, 1).unwrap().pop().unwrap();
        (newest.state, newest.message.unwrap_or_default())
    };
    // CI passes it when she, who pushed it, is gone; an administrator's word has no longer weight than another's.
    let hers = wait(Some(&ada), "hers").await;
    assert_eq!(remove(&server, owner, ADA, Some(BOB)).await, Ok(()));
    let passed = shipway_domain::review::Checks::Succeeded;
    platform.report_checks(&bob, &named("shop"), hers, passed).await.unwrap();
    let gone = "ada@example.org asked for it, and was removed since. Push it again to deploy it.";
    assert_eq!(screen().await, ("refused", gone.into()));

    // What nobody of here pushed is deployed for the pipeline's owner, whoever that is by then.
    let fetched = wait(None, "fetched").await;
    assert_eq!(remove(&server, owner, BOB, Some(OWNER)).await, Ok(()));
    platform.report_checks(owner, &named("shop"), fetched, passed).await.unwrap();
    assert_eq!(screen().await, ("succeeded", String::new()));
}
