//! Stages that take only code which all of their parties have approved, as sessions.

use shipway_domain::admission::{Actor, Permission, Scope};
use shipway_domain::triggers::{RefKind, RefName};
use shipway_domain::{CommitId, Email, Stage};
use shipway_engine::ports::Caller;
use shipway_engine::{Kind, PromotionOrder, RefNews, RefOrigin, TogetherOrder, UpdateCoupling};
use shipway_store::{App, Pipeline};
use shipway_testkit::{Ground, OWNER, Server, until};
use std::sync::atomic::Ordering;

/// `shop-staging` and `shop` in the pipeline `shop`, whose production wants `qa` (ada or bob) and `product` (carol).
struct Shop {
    server: Server,
    pipeline: Pipeline,
    staging: App,
    production: App,
    ada: Caller,
    bob: Caller,
    carol: Caller,
}

async fn person(server: &Server, app: &App, name: &str, permission: Permission) -> Caller {
    let email = Email::parse(&format!("{name}@example.org")).unwrap();
    let (account, _) = server.platform.add_account(&server.caller, &email, None, false).await.unwrap();
    server.platform.give_access(&server.caller, app, email.as_str(), permission).await.unwrap();
    let actor = Actor { account: account.id, email: email.to_string(), admin: false, scope: Scope::Global };
    Caller { actor, via: "api" }
}

fn parties(all: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let address = |name: &&str| if name.contains('@') { name.to_string() } else { format!("{name}@example.org") };
    all.iter().map(|(name, people)| (name.to_string(), people.iter().map(address).collect())).collect()
}

impl Shop {
    async fn open(ground: &Ground) -> Self {
        let server = ground.server(None).await;
        let pipeline = server.platform.create_pipeline(&server.caller, "shop").await.unwrap();
        let (staging, production) = (server.create("shop-staging").await, server.create("shop").await);
        for (app, stage) in [(&staging, Stage::Staging), (&production, Stage::Production)] {
            server.platform.couple(&server.caller, &pipeline, app, stage).await.unwrap();
        }
        let ada = person(&server, &production, "ada", Permission::Deploy).await;
        let bob = person(&server, &staging, "bob", Permission::Operate).await;
        let carol = person(&server, &production, "carol", Permission::View).await;
        let shop = Self { server, pipeline, staging, production, ada, bob, carol };
        shop.require(Stage::Production, &[("qa", &["ada", "bob"]), ("product", &["carol"])]).await.unwrap();
        shop
    }

    /// The same shop on the next server.
    async fn again(self, ground: &Ground) -> Self {
        self.server.platform.stop().await;
        drop(self.server);
        Self { server: ground.server(None).await, ..self }
    }

    async fn require(&self, stage: Stage, all: &[(&str, &[&str])]) -> Result<(), String> {
        let platform = &self.server.platform;
        let set = platform.require_sign_offs(&self.server.caller, &self.pipeline, stage, &parties(all)).await;
        set.map_err(|e| e.to_string())
    }

    async fn sign(&self, who: &Caller, commit: &CommitId, party: &str) -> Result<(), String> {
        let stage = Stage::Production;
        let signed = self.server.platform.sign_off(who, &self.pipeline, stage, commit.short(), party, None).await;
        signed.map(drop).map_err(|e| e.to_string())
    }

    async fn withdraw(&self, who: &Caller, commit: &CommitId) -> Result<(), String> {
        let stage = Stage::Production;
        let gone = self.server.platform.withdraw_sign_off(who, &self.pipeline, stage, commit.as_str()).await;
        gone.map(drop).map_err(|e| e.to_string())
    }

    async fn deploy(&self, app: &App, commit: &CommitId) -> Result<String, String> {
        let app = self.server.app(app.name.as_str());
        let begun = self.server.platform.deploy(&self.server.caller, &app, commit.clone()).await;
        let (_, operation) = begun.map_err(|e| e.to_string())?;
        self.server.outcome(operation).await
    }

    async fn promote(&self) -> Result<(), String> {
        let order = PromotionOrder {
            pipeline: self.pipeline.clone(),
            source: self.server.app("shop-staging"),
            release: None,
            targets: vec![self.server.app("shop")],
            reason: None,
        };
        let begun = self.server.platform.promote(&self.server.caller, order).await.map_err(|e| e.to_string())?;
        let ended = self.server.platform.promoted(begun.promotion.id).await.unwrap();
        ended.targets[0].error.clone().map_or(Ok(()), Err)
    }

    /// Says that main moved, on the line that the team works on.
    async fn main_at(&self, commit: &CommitId) -> Option<String> {
        let news = RefNews {
            origin: RefOrigin::Upstream { pipeline: self.pipeline.id, actor: None },
            reference: RefName::new(RefKind::Branch, "main").unwrap(),
            commit: commit.clone(),
            by: "ana".into(),
        };
        let mut set_off = self.server.platform.ref_moved(news).await.unwrap();
        set_off.pop().and_then(|of| of.waits)
    }

    /// Looks until nothing is under way: `3f9c2a1 succeeded`, newest first.
    async fn triggered(&self) -> String {
        self.server.platform.deploy_triggered().await.unwrap();
        self.server.quiet().await;
        let views = self.server.platform.triggered(&self.production, 10).unwrap();
        let line = |view: &shipway_engine::TriggeredView| {
            let message = view.message.clone().unwrap_or_default();
            format!("{} {} {message}", view.deploy.commit.short(), view.state).trim_end().to_string()
        };
        views.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn commit(&self, procfile: &str) -> CommitId {
        self.server.ground.repositories.commit(procfile)
    }
}

fn refusal(commit: &CommitId, lacks: &str, first: &str, ask: &str) -> String {
    format!(
        "production of shop takes only code that its parties have signed off, and {0} lacks the sign-off of {lacks} \
         (shipway sign-off shop production {0} --as {first}). Ask {ask}.",
        commit.short()
    )
}

const ALL: &str = "ada@example.org or bob@example.org (qa) and carol@example.org (product)";

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_code_gets_into_a_stage_when_all_parties_have_signed_it() {
    let shop = Shop::open(&Ground::new()).await;
    let one = shop.commit("web: listen");
    let ready = |it: Result<String, String>| it.unwrap();
    let refused = refusal(&one, "qa and product", "qa", ALL);
    assert_eq!(shop.deploy(&shop.production, &one).await, Err(refused.clone()));
    assert_eq!(shop.server.ground.builder.builds.load(Ordering::SeqCst), 0, "it is said before anything is built");
    // Staging wants nothing.
    ready(shop.deploy(&shop.staging, &one).await);
    assert_eq!(shop.promote().await, Err(refused));
    shop.sign(&shop.ada, &one, "qa").await.unwrap();
    let refused = refusal(&one, "product", "product", "carol@example.org (product)");
    assert_eq!(shop.promote().await, Err(refused.clone()));
    let order = TogetherOrder { from: "staging".into(), to: "production".into(), ..TogetherOrder::default() };
    let together = shop.server.platform.promote_together(&shop.server.caller, &order).await.map(drop);
    let said = together.map_err(|e| (e.kind, e.to_string()));
    assert_eq!(said, Err((Kind::Forbidden, refused)));
    shop.sign(&shop.carol, &one, "product").await.unwrap();
    shop.promote().await.unwrap();
    assert_eq!(shop.server.served(&shop.production).await, "v2");

    // Signed is the commit that was looked at, and no other.
    let two = shop.commit("web: listen-after 1ms");
    let refused = shop.deploy(&shop.production, &two).await;
    assert_eq!(refused, Err(refusal(&two, "qa and product", "qa", ALL)));
    for (who, party) in [(&shop.bob, "qa"), (&shop.carol, "product")] {
        shop.sign(who, &two, party).await.unwrap();
    }
    assert_eq!(ready(shop.deploy(&shop.production, &two).await), "v3");

    // What it has run comes back, what it runs runs on, whatever is taken back; its code does not come in again.
    shop.withdraw(&shop.bob, &two).await.unwrap();
    shop.withdraw(&shop.ada, &one).await.unwrap();
    let platform = &shop.server.platform;
    let app = || shop.server.app("shop");
    platform.redeploy(&shop.server.caller, &app()).await.unwrap();
    shop.server.quiet().await;
    let before = platform.release(&app(), "v2").unwrap();
    platform.rollback(&shop.server.caller, &app(), &before).await.unwrap();
    shop.server.quiet().await;
    assert_eq!(platform.release(&app(), "current").unwrap().description, "Rollback to v2");
    let slug = platform.release(&app(), "v3").unwrap().slug.unwrap();
    let released = platform.release_slug(&shop.server.caller, &app(), slug, None).await.map(drop);
    let refused = refusal(&two, "qa", "qa", "ada@example.org or bob@example.org (qa)");
    assert_eq!(released.map_err(|e| e.to_string()), Err(refused));

    let ledger = platform.store().read(|c| c.ledger(None, 100)).unwrap();
    let told = |action: &str| ledger.iter().filter(|e| e.action == action).count();
    assert_eq!((told("sign-offs-required"), told("signed-off"), told("sign-off-withdrawn")), (1, 4, 2));
    let rule = |rule: &str| ledger.iter().filter(|e| e.action == "refused" && e.detail["rule"] == rule).count();
    assert_eq!(rule("sign-offs"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_a_sign_off_that_is_taken_back_during_the_build_keeps_the_code_out() {
    let shop = Shop::open(&Ground::new()).await;
    let slow = shop.commit("web: listen; echo slow-build");
    shop.sign(&shop.ada, &slow, "qa").await.unwrap();
    shop.sign(&shop.carol, &slow, "product").await.unwrap();
    let platform = &shop.server.platform;
    let app = shop.server.app("shop");
    let (_, operation) = platform.deploy(&shop.server.caller, &app, slow.clone()).await.unwrap();
    shop.withdraw(&shop.carol, &slow).await.unwrap();
    shop.server.ground.builder.go.notify_one();
    let refused = refusal(&slow, "product", "product", "carol@example.org (product)");
    assert_eq!(shop.server.outcome(operation).await, Err(refused));
    assert_eq!(shop.server.served(&app).await, "Blank");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_what_somebody_signed_who_leaves_stays_signed_and_no_more() {
    let shop = Shop::open(&Ground::new()).await;
    let platform = &shop.server.platform;
    let (one, two) = (shop.commit("web: listen"), shop.commit("web: listen-after 1ms"));
    for commit in [&one, &two] {
        shop.sign(&shop.ada, commit, "qa").await.unwrap();
    }
    shop.sign(&shop.carol, &one, "product").await.unwrap();
    // Bob signed as well, and lost his access before he left: that counted no more, and counts no more.
    let three = shop.commit("web: listen-after 2ms");
    shop.sign(&shop.bob, &three, "qa").await.unwrap();
    shop.sign(&shop.carol, &three, "product").await.unwrap();
    platform.remove_collaborator(&shop.server.caller, &shop.staging, "bob@example.org").await.unwrap();
    for name in ["ada", "bob"] {
        let which = shipway_domain::NameOrId::parse(&format!("{name}@example.org"));
        platform.remove_account(&shop.server.caller, &which, None).await.unwrap();
    }
    assert_eq!(shop.deploy(&shop.production, &one).await.as_deref(), Ok("v2"));
    let refused = shop.deploy(&shop.production, &three).await.unwrap_err();
    let way_out = "Nobody may sign for qa any more. You can say who signs: shipway sign-offs require shop production --party \
                   NAME=PEOPLE";
    assert!(refused.ends_with(way_out), "{refused}");
    let signed = platform.sign_offs(&shop.pipeline).unwrap();
    let hers = signed.iter().find(|it| it.commit == one && it.party.as_str() == "qa").unwrap();
    assert_eq!(hers.email.as_str(), "ada@example.org", "and it is on record by whom");

    // Who comes by the same address is somebody else: signs nothing, takes nothing back.
    let again = person(&shop.server, &shop.production, "ada", Permission::Deploy).await;
    let refused = shop.sign(&again, &two, "qa").await.unwrap_err();
    assert!(refused.starts_with("You (ada@example.org) sign for no party of it in production of shop"), "{refused}");
    assert!(shop.withdraw(&again, &one).await.unwrap_err().starts_with("You have not signed"));
    // Named anew, the stage has the people of now, and only what they sign.
    shop.require(Stage::Production, &[("qa", &["ada"]), ("product", &["carol"])]).await.unwrap();
    shop.sign(&shop.carol, &two, "product").await.unwrap();
    let refused = refusal(&two, "qa", "qa", "ada@example.org (qa)");
    assert_eq!(shop.deploy(&shop.production, &two).await, Err(refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_another_build_of_a_signed_commit_is_not_promoted() {
    let shop = Shop::open(&Ground::new()).await;
    let one = shop.commit("web: listen");
    shop.deploy(&shop.staging, &one).await.unwrap();
    shop.sign(&shop.ada, &one, "qa").await.unwrap();
    shop.sign(&shop.carol, &one, "product").await.unwrap();
    // As if its toolchain had changed: the same commit, and other bytes.
    let id = shop.staging.id;
    let rebuilt = shipway_domain::Digest::parse(&format!("sha256:{}", "ab".repeat(32))).unwrap();
    let slug = shipway_domain::SlugId(uuid::Uuid::from_u128(7));
    let platform = &shop.server.platform;
    let written = platform.store().write(move |c| {
        let old = c.latest_slug(id)?.unwrap();
        c.insert_slug(&shipway_store::Slug { id: slug, digest: rebuilt, ..old })
    });
    written.await.unwrap();
    platform.release_slug(&shop.server.caller, &shop.server.app("shop-staging"), slug, None).await.unwrap();
    shop.server.quiet().await;
    let refused = shop.promote().await.unwrap_err();
    assert!(refused.contains("What qa and product signed is another build of it."), "{refused}");
    // They look at it and sign again, in the place of what they signed before.
    shop.sign(&shop.ada, &one, "qa").await.unwrap();
    let refused = shop.promote().await.unwrap_err();
    assert!(refused.contains("What product signed is another build of it."), "{refused}");
    // What production builds of the commit itself is what they signed.
    assert_eq!(shop.deploy(&shop.production, &one).await, Ok("v2".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_nobody_signs_for_a_party_that_is_not_theirs_or_for_two() {
    let shop = Shop::open(&Ground::new()).await;
    let one = shop.commit("web: listen");
    let check = async |who: &Caller, party: &str, expected: &str| {
        assert_eq!(shop.sign(who, &one, party).await, Err(expected.to_string()));
    };
    check(
        &shop.carol,
        "qa",
        "You (carol@example.org) sign for product in production of shop, not for qa. Ask ada@example.org or bob@example.org.",
    )
    .await;
    // Nor does an administrator, unless they are named.
    check(
        &shop.server.caller,
        "product",
        &format!(
            "You ({OWNER}) sign for no party of it in production of shop, not for product. Ask carol@example.org."
        ),
    )
    .await;
    check(&shop.ada, "design", "\"design\" is no party of production of shop, which names qa and product.").await;
    let narrow = Actor { scope: Scope::Read, ..shop.ada.actor.clone() };
    let narrow = Caller { actor: narrow, via: "api" };
    let scope = "The token that was used may not sign anything: its scope is read. Use one with the scope global: heroku \
                 authorizations:create";
    check(&narrow, "qa", scope).await;
    let platform = &shop.server.platform;
    let ask = async |commit: &str| {
        let signed = platform.sign_off(&shop.ada, &shop.pipeline, Stage::Production, commit, "qa", None).await;
        signed.map(drop).map_err(|e| e.to_string())
    };
    let no_commit = "give the first 7 digits of it, or more. A branch or tag moves, so it is not signed.";
    for bad in ["main", "v1", "abc", "", "HEAD~1"] {
        let refused = ask(bad).await.unwrap_err();
        assert!(refused.contains(no_commit), "{refused}");
    }
    assert_eq!(ask("0123abc").await, Err("No repository of shop has a commit 0123abc.".into()));
    let staging = platform.sign_off(&shop.ada, &shop.pipeline, Stage::Staging, one.short(), "qa", None).await;
    assert_eq!(staging.unwrap_err().to_string(), "staging of shop wants no sign-offs.");

    // Somebody who may sign for both signs for one.
    shop.require(Stage::Production, &[("qa", &["ada", "bob"]), ("product", &["ada", "carol"])]).await.unwrap();
    shop.sign(&shop.ada, &one, "qa").await.unwrap();
    shop.sign(&shop.ada, &one, "qa").await.unwrap();
    let twice = format!(
        "You (ada@example.org) have signed {0} for qa already, and a person signs for one party only. Take that back first: \
         shipway sign-off shop production {0} --withdraw",
        one.short()
    );
    check(&shop.ada, "product", &twice).await;
    shop.withdraw(&shop.ada, &one).await.unwrap();
    let never = format!("You have not signed {} for production of shop.", one.short());
    assert_eq!(shop.withdraw(&shop.ada, &one).await, Err(never));
    shop.sign(&shop.ada, &one, "product").await.unwrap();

    // Who loses sight of the pipeline has signed nothing that counts; who leaves the party neither.
    shop.sign(&shop.bob, &one, "qa").await.unwrap();
    let missing = || -> Vec<String> {
        let missing = platform.unsigned(&shop.production, &one).unwrap();
        missing.into_iter().map(|party| party.name.to_string()).collect()
    };
    assert!(missing().is_empty());
    platform.remove_collaborator(&shop.server.caller, &shop.staging, "bob@example.org").await.unwrap();
    assert_eq!(missing(), ["qa"]);
    shop.require(Stage::Production, &[("qa", &["ada"]), ("product", &["carol"])]).await.unwrap();
    assert_eq!(missing(), ["qa", "product"]);
    shop.require(Stage::Production, &[]).await.unwrap();
    assert!(missing().is_empty());
    assert_eq!(shop.deploy(&shop.production, &one).await, Ok("v2".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stage_wants_is_its_owners_to_say_and_makes_sense() {
    let shop = Shop::open(&Ground::new()).await;
    let platform = &shop.server.platform;
    for who in [&shop.bob, &shop.ada, &shop.carol] {
        let email = &who.actor.email;
        let set =
            platform.require_sign_offs(who, &shop.pipeline, Stage::Production, &[]).await.map_err(|e| e.to_string());
        assert_eq!(set, Err(format!("You ({email}) may not change the pipeline shop. Ask {OWNER}, who owns it.")));
    }
    let check = async |stage: Stage, all: &[(&str, &[&str])], expected: &str| {
        assert_eq!(shop.require(stage, all).await, Err(expected.to_string()));
    };
    check(
        Stage::Review,
        &[("qa", &["ada"])],
        "Apps of review come and go by themselves: development, staging and production can want sign-offs.",
    )
    .await;
    check(Stage::Staging, &[("QA", &["ada"])], "Party \"QA\" may only contain lowercase letters, digits and dashes.")
        .await;
    check(Stage::Staging, &[("qa", &["ada"]), ("qa", &["bob"])], "qa is named twice: give all of its people at once.")
        .await;
    check(
        Stage::Staging,
        &[("qa", &[])],
        "Name between one and 20 people who may sign for qa: --party qa=ada@example.org",
    )
    .await;
    check(
        Stage::Staging,
        &[("qa", &["dan"])],
        "Nobody here has the address dan@example.org: shipway users add dan@example.org, then access to an app of shop.",
    )
    .await;
    let dan = Email::parse("dan@example.org").unwrap();
    platform.add_account(&shop.server.caller, &dan, None, false).await.unwrap();
    check(
        Stage::Staging,
        &[("qa", &["dan"])],
        "dan@example.org cannot see shop, so could not look at what is to be signed: heroku access:add dan@example.org -a APP",
    )
    .await;
    check(
        Stage::Staging,
        &[("qa", &["ada"]), ("product", &["ada"])],
        "qa and product cannot all sign: a person signs for one party only, and there are too few people among them.",
    )
    .await;
    // Around the rule, by somebody who operates the app: out of the stage, or to another.
    let app = shop.server.app("shop");
    platform.give_access(&shop.server.caller, &app, "bob@example.org", Permission::Manage).await.unwrap();
    let coupling = platform.coupling_of(&app).unwrap();
    let around = format!(
        "production of shop takes only code that its parties have signed off, so shop leaves it only by who may change that. \
         Ask {OWNER}, who owns the pipeline."
    );
    let out = platform.uncouple(&shop.bob, &coupling, &app).await.map_err(|e| e.to_string());
    assert_eq!(out, Err(around.clone()));
    let stage = |stage| UpdateCoupling { stage: Some(stage), ..UpdateCoupling::default() };
    let moved = platform.update_coupling(&shop.bob, &coupling, &app, stage(Stage::Development)).await;
    assert_eq!(moved.map(drop).map_err(|e| e.to_string()), Err(around));
    platform.update_coupling(&shop.bob, &coupling, &app, stage(Stage::Production)).await.unwrap();
    platform.uncouple(&shop.server.caller, &coupling, &app).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_waits_for_its_parties_over_a_restart_and_goes_out_when_the_last_has_signed() {
    let ground = Ground::new();
    let shop = Shop::open(&ground).await;
    let added = shop.server.platform.add_trigger(&shop.server.caller, &shop.production, RefKind::Branch, "main", false);
    added.await.unwrap();
    let (one, two) = (shop.commit("web: listen"), shop.commit("web: listen-after 1ms"));
    let command =
        |commit: &CommitId, party: &str| format!("shipway sign-off shop production {} --as {party}", commit.short());
    let waits = format!("{} waits for the sign-off of qa and product: {}", one.short(), command(&one, "qa"));
    assert_eq!(shop.main_at(&one).await, Some(waits));
    assert_eq!(shop.triggered().await, format!("{} waiting waits for the sign-off of qa and product", one.short()));
    // Whoever may sign is told once, however often the news come.
    shop.main_at(&one).await;
    let told = |who: &Caller| {
        let notices = shop.server.platform.notices(who, None).unwrap();
        notices.into_iter().map(|notice| notice.text).collect::<Vec<_>>()
    };
    let to_sign = |party: &str| {
        let commit = one.short();
        let as_who = format!("waits for your sign-off as {party}, for production of shop");
        format!(
            "{commit} (branch main, by ana) {as_who}. To sign: shipway sign-off shop production {commit} --as {party}"
        )
    };
    assert_eq!((told(&shop.ada), told(&shop.bob)), (vec![to_sign("qa")], vec![to_sign("qa")]));
    assert_eq!(told(&shop.carol), [to_sign("product")]);
    assert!(told(&shop.server.caller).is_empty());
    shop.sign(&shop.ada, &one, "qa").await.unwrap();

    // A newer commit of the branch takes its place, and what was signed of the other is of the other.
    let waits = format!("{} waits for the sign-off of qa and product: {}", two.short(), command(&two, "qa"));
    assert_eq!(shop.main_at(&two).await, Some(waits));
    let superseded = format!("{} superseded {} took its place", one.short(), two.short());
    let waiting = |left: &str| format!("{} waiting waits for the sign-off of {left}\n{superseded}", two.short());
    assert_eq!(shop.triggered().await, waiting("qa and product"));
    let listed = shop.server.platform.waiting_for_sign_offs(&shop.carol, &shop.pipeline).unwrap();
    let listed: Vec<_> =
        listed.iter().map(|it| (it.app.as_str(), it.deploy.commit.clone(), it.missing.len())).collect();
    assert_eq!(listed, [("shop", two.clone(), 2)]);

    let shop = shop.again(&ground).await;
    assert_eq!(shop.triggered().await, waiting("qa and product"));
    shop.sign(&shop.bob, &two, "qa").await.unwrap();
    assert_eq!(shop.triggered().await, waiting("product"));
    shop.withdraw(&shop.bob, &two).await.unwrap();
    assert_eq!(shop.triggered().await, waiting("qa and product"));
    shop.sign(&shop.ada, &two, "qa").await.unwrap();
    shop.sign(&shop.carol, &one, "product").await.unwrap();
    assert_eq!(shop.triggered().await, waiting("product"), "what nobody waits for any more was signed");
    assert_eq!(shop.server.ground.builder.builds.load(Ordering::SeqCst), 0);

    // The last one signs, and the server ends before it has looked.
    shop.sign(&shop.carol, &two, "product").await.unwrap();
    let shop = shop.again(&ground).await;
    assert_eq!(shop.triggered().await, format!("{} succeeded\n{superseded}", two.short()));
    assert_eq!(shop.server.served(&shop.production).await, "v2");
    assert!(shop.server.platform.waiting_for_sign_offs(&shop.ada, &shop.pipeline).unwrap().is_empty());
    // What is signed before it is pushed goes out at once.
    let three = shop.commit("web: listen-after 2ms");
    shop.sign(&shop.bob, &three, "qa").await.unwrap();
    shop.sign(&shop.carol, &three, "product").await.unwrap();
    assert_eq!(shop.main_at(&three).await, None);
    assert!(shop.triggered().await.starts_with(&format!("{} succeeded\n", three.short())));

    // What was promoted meanwhile is newer than what waits.
    let (four, five) = (shop.commit("web: listen-after 3ms"), shop.commit("web: listen-after 4ms"));
    shop.main_at(&four).await.unwrap();
    assert!(shop.triggered().await.starts_with(&format!("{} waiting ", four.short())));
    shop.deploy(&shop.staging, &five).await.unwrap();
    for commit in [&five, &four] {
        shop.sign(&shop.ada, commit, "qa").await.unwrap();
    }
    shop.sign(&shop.carol, &five, "product").await.unwrap();
    shop.promote().await.unwrap();
    shop.sign(&shop.carol, &four, "product").await.unwrap();
    let overtaken = format!("{} superseded {} took its place\n", four.short(), five.short());
    let seen = shop.triggered().await;
    assert!(seen.starts_with(&overtaken), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_off_that_is_taken_back_during_the_build_of_a_branch_lets_it_wait_again() {
    let ground = Ground::new();
    let shop = Shop::open(&ground).await;
    let (platform, builder) = (&shop.server.platform, &ground.builder);
    platform.add_trigger(&shop.server.caller, &shop.production, RefKind::Branch, "main", false).await.unwrap();
    let slow = shop.commit("web: listen; echo slow-build");
    shop.sign(&shop.ada, &slow, "qa").await.unwrap();
    shop.sign(&shop.carol, &slow, "product").await.unwrap();
    assert_eq!(shop.main_at(&slow).await, None);
    platform.deploy_triggered().await.unwrap();
    until("it is built", async || (builder.builds.load(Ordering::SeqCst) == 1).then_some(())).await;
    shop.withdraw(&shop.carol, &slow).await.unwrap();
    builder.go.notify_one();
    shop.server.quiet().await;
    assert_eq!(shop.triggered().await, format!("{} waiting waits for the sign-off of product", slow.short()));
    assert_eq!(shop.server.served(&shop.production).await, "Blank");

    let shop = shop.again(&ground).await;
    assert_eq!(shop.triggered().await, format!("{} waiting waits for the sign-off of product", slow.short()));
    shop.sign(&shop.carol, &slow, "product").await.unwrap();
    assert_eq!(shop.triggered().await, format!("{} succeeded", slow.short()));
    assert_eq!(
        shop.server.release_list(&shop.production),
        "v3 succeeded Deploy\nv2 failed Deploy\nv1 succeeded Initial release"
    );
    assert_eq!(shop.server.served(&shop.production).await, "v3");
    assert_eq!(ground.builder.builds.load(Ordering::SeqCst), 1, "what was built is kept");
}
