//! Whose version a forge's push replaced, and whose was replaced that a forge's push had brought.

use crate::world::{KINDS, World};
use serde_json::Value;
use shipway_domain::admission::{Actor, Scope};
use shipway_domain::forge::{DeliveryStatus, ForgeKind};
use shipway_domain::triggers::{RefKind, RefName};
use shipway_domain::{AccountId, CommitId, Email};
use shipway_engine::ports::Caller;
use shipway_engine::{RefNews, RefOrigin};

impl World {
    /// Somebody with an account, who may work on `acorn-staging` where `collaborates`.
    async fn somebody(&self, email: &str, collaborates: bool) -> Caller {
        let (platform, owner) = (&self.server.platform, &self.server.caller);
        let email = Email::parse(email).unwrap();
        let (account, _) = platform.add_account(owner, &email, None, false).await.unwrap();
        if collaborates {
            let app = self.server.app("acorn-staging");
            platform.add_collaborator(owner, &app, email.as_str()).await.unwrap();
        }
        let actor = Actor { account: account.id, email: email.to_string(), admin: false, scope: Scope::Global };
        Caller { actor, via: "git" }
    }

    /// Hears of a tag that somebody pushed to the forge, which names them with an address or without; shows what runs then.
    async fn tag(&self, tag: &str, commit: &CommitId, who: &str, email: &str) -> String {
        let secret = &self.connection.secret;
        let pushed = self.forge.push_hook(secret, tag, &format!("refs/tags/{tag}"), commit.as_str());
        let body = pushed.body.replace("\"ada\"", &format!("\"{who}\"")).replace("ada@acme.example", email);
        let body: Value = serde_json::from_str(&body).unwrap();
        let delivery = self.hear(self.forge.hook(secret, tag, "push", &body)).await;
        assert_eq!(delivery.status, DeliveryStatus::Done, "{:?}", delivery.message);
        self.server.platform.deploy_triggered().await.unwrap();
        self.server.quiet().await;
        self.server.served(&self.server.app("acorn-staging")).await
    }

    /// Deploys a commit that somebody pushed with git.
    async fn git_push(&self, who: &Caller, commit: &CommitId) -> String {
        let app = self.server.app("acorn-staging");
        let (_, operation) = self.server.platform.deploy(who, &app, commit.clone()).await.unwrap();
        self.server.outcome(operation).await.unwrap()
    }

    /// What an account is told, oldest first, without the way back.
    fn told(&self, account: AccountId) -> Vec<String> {
        let notices = self.server.platform.store().read(|c| c.notices(account, 50)).unwrap();
        let way_back = " To bring it back: shipway previous -a acorn-staging";
        notices.iter().rev().map(|notice| notice.text.strip_suffix(way_back).unwrap().to_string()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_version_a_forges_push_replaced_is_told_by_the_forges_name() {
    for kind in KINDS {
        let world = World::new(kind).await;
        let (server, app) = (&world.server, world.server.app("acorn-staging"));
        server.platform.add_trigger(&server.caller, &app, RefKind::Tag, "dev-*", false).await.unwrap();
        let ana = world.somebody("ana@example.org", true).await;
        let ada = world.somebody("ada@acme.example", true).await;
        let eve = world.somebody("eve@acme.example", false).await;
        // Each is older than the one before it, and lacks it.
        let mut commits = [1, 2, 3, 4, 5, 6, 7].map(|n| world.commit(&format!("web: listen-after {n}ms")));
        commits.reverse();
        let [first, second, third, fourth, fifth, sixth, seventh] = &commits;
        let replaced = |who: &str, before: (u64, &CommitId), tag: &str, after: &CommitId| {
            let version = before.0 + 1;
            let tags = |name: &str| if name.is_empty() { String::new() } else { format!("{name}, ") };
            let (was, is) = tag.split_once('>').unwrap();
            let (was, is) = (tags(was) + before.1.short(), tags(is) + after.short());
            format!("{who} replaced what you had deployed to acorn-staging (v{}: {was}) by v{version}: {is}.", before.0)
        };

        assert_eq!(world.git_push(&ana, first).await, "v2", "{kind}");
        assert_eq!(world.tag("dev-1", second, "ada", "ada@acme.example").await, "v3", "{kind}");
        let by_tag = replaced("ada", (2, first), ">dev-1", second);
        assert_eq!(world.told(ana.actor.account), std::slice::from_ref(&by_tag), "{kind}");
        // A push with git says it before.
        let there = server.platform.replaces(&ana, &app, third).await.unwrap().unwrap();
        assert_eq!((there.by.as_str(), there.words()), ("ada", format!("v3: dev-1, {}", second.short())));
        assert!(server.platform.replaces(&ada, &app, third).await.unwrap().is_none(), "{kind}: her own");

        assert_eq!(world.git_push(&ana, third).await, "v4", "{kind}");
        let by_git = replaced("ana@example.org", (3, second), "dev-1>", third);
        assert_eq!(world.told(ada.actor.account), std::slice::from_ref(&by_git), "{kind}");
        // Somebody whom nobody here knows replaces, and is replaced by ada: there is nobody to tell.
        assert_eq!(world.tag("dev-2", fourth, "ben", "[REDACTED]").await, "v5", "{kind}");
        assert_eq!(world.tag("dev-3", fifth, "ada", "ada@acme.example").await, "v6", "{kind}");
        let by_ben = replaced("ben", (4, third), ">dev-2", fourth);
        assert_eq!(world.told(ana.actor.account), [by_tag, by_ben], "{kind}");
        // An address of somebody who does not see the pipeline is nobody's.
        assert_eq!(world.tag("dev-4", sixth, "eve", "eve@acme.example").await, "v7", "{kind}");
        assert_eq!(
            world.told(ada.actor.account),
            [by_git, replaced("eve", (6, fifth), "dev-3>dev-4", sixth)],
            "{kind}"
        );
        assert_eq!(world.git_push(&ana, seventh).await, "v8", "{kind}");
        assert_eq!(world.told(eve.actor.account), [""; 0], "{kind}");
        // All of it ran in the owner's name, who did none of it.
        assert_eq!(world.told(server.caller.actor.account), [""; 0], "{kind}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pushed_what_was_fetched_before_is_learned_from_the_forge() {
    let world = World::new(ForgeKind::Github).await;
    let (server, app) = (&world.server, world.server.app("acorn-staging"));
    server.platform.add_trigger(&server.caller, &app, RefKind::Branch, "main", false).await.unwrap();
    let ada = world.somebody("ada@acme.example", true).await;
    let commit = world.commit("web: listen");
    let who = || {
        let views = server.platform.triggered(&app, 10).unwrap();
        views.into_iter().map(|view| (view.deploy.by, view.deploy.mover)).collect::<Vec<_>>()
    };
    let fetched = async || {
        let news = RefNews {
            origin: RefOrigin::Upstream { pipeline: world.pipeline.id, actor: None },
            reference: RefName::new(RefKind::Branch, "main").unwrap(),
            commit: commit.clone(),
            by: "the upstream".into(),
        };
        server.platform.ref_moved(news).await.unwrap();
    };
    fetched().await;
    assert_eq!(who(), [("the upstream".to_string(), None)]);
    world.hear(world.forge.push_hook(&world.connection.secret, "one", "refs/heads/main", commit.as_str())).await;
    let by_ada = [("ada".to_string(), Some(ada.actor.account))];
    assert_eq!(who(), by_ada);
    fetched().await;
    assert_eq!(who(), by_ada);
    server.platform.deploy_triggered().await.unwrap();
    server.quiet().await;
    assert_eq!(server.platform.deployed(&server.app("acorn-staging")).unwrap().unwrap().by, "ada");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_13_a_name_that_a_forge_gives_allows_nothing() {
    for kind in KINDS {
        let world = World::new(kind).await;
        let (server, app) = (&world.server, world.server.app("acorn-staging"));
        server.platform.add_trigger(&server.caller, &app, RefKind::Tag, "dev-*", false).await.unwrap();
        let ana = world.somebody("ana@example.org", true).await;
        server.platform.reserve(&ana, &app, jiff::SignedDuration::from_hours(1), None).await.unwrap();
        let commit = world.commit("web: listen");
        let secret = &world.connection.secret;
        // A push in the holder's name is still the owner's, whose turn it is not.
        let pushed = world.forge.push_hook(secret, "one", "refs/tags/dev-1", commit.as_str());
        let body: Value = serde_json::from_str(&pushed.body.replace("ada@acme.example", "ana@example.org")).unwrap();
        world.hear(world.forge.hook(secret, "one", "push", &body)).await;
        server.platform.deploy_triggered().await.unwrap();
        server.quiet().await;
        let view = server.platform.triggered(&app, 1).unwrap().remove(0);
        assert_eq!((view.state, view.deploy.mover), ("refused", Some(ana.actor.account)), "{kind}");
        assert_eq!(view.deploy.actor.account, server.caller.actor.account, "{kind}");
        assert!(view.message.unwrap().starts_with("acorn-staging is reserved by ana@example.org."), "{kind}");
        world.end().await;
    }
}
