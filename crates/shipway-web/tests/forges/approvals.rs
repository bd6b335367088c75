//! Branches that a forge tells of, and stages that take only what all of their parties have approved (flow E, 4).

use crate::world::{KINDS, World};
use shipway_domain::admission::{Actor, Permission, Scope};
use shipway_domain::triggers::RefKind;
use shipway_domain::{CommitId, Email, Stage};
use shipway_engine::ports::Caller;
use shipway_store::App;

impl World {
    /// Somebody who may look at an app.
    async fn person(&self, app: &App, name: &str) -> Caller {
        let (platform, owner) = (&self.server.platform, &self.server.caller);
        let email = Email::parse(&format!("{name}@example.org")).unwrap();
        let (account, _) = platform.add_account(owner, &email, None, false).await.unwrap();
        platform.give_access(owner, app, email.as_str(), Permission::View).await.unwrap();
        let actor = Actor { account: account.id, email: email.to_string(), admin: false, scope: Scope::Global };
        Caller { actor, via: "api" }
    }

    /// A branch that moved at the forge: what came of the delivery.
    async fn branch_at(&self, branch: &str, commit: &CommitId) -> String {
        let (secret, id) = (&self.connection.secret, format!("{branch}-{}", commit.short()));
        let delivery = self.hear(self.forge.push_hook(secret, &id, &format!("refs/heads/{branch}"), commit.as_str()));
        delivery.await.message.unwrap_or_default()
    }

    async fn sign(&self, who: &Caller, stage: Stage, commit: &CommitId, party: &str) {
        self.server.platform.sign_off(who, &self.pipeline, stage, commit.short(), party, None).await.unwrap();
    }

    /// What an app's newest triggered deploy says.
    async fn newest(&self, app: &App) -> String {
        self.server.platform.deploy_triggered().await.unwrap();
        self.server.quiet().await;
        let view = self.server.platform.triggered(app, 1).unwrap().pop().unwrap();
        format!("{} {}", view.state, view.message.unwrap_or_default()).trim_end().to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_at_the_forge_deploys_each_stage_once_all_of_its_parties_have_approved() {
    for kind in KINDS {
        let world = World::new(kind).await;
        let (platform, owner) = (&world.server.platform, &world.server.caller);
        let (staging, production) = (world.server.app("acorn-staging"), world.server.create("acorn").await);
        platform.couple(owner, &world.pipeline, &production, Stage::Production).await.unwrap();
        let (qa, product) = (world.person(&production, "ada").await, world.person(&production, "carol").await);
        let parties = |names: &[(&str, &Caller)]| -> Vec<(String, Vec<String>)> {
            names.iter().map(|(party, who)| (party.to_string(), vec![who.actor.email.clone()])).collect()
        };
        for (app, branch, stage, wanted) in [
            (&staging, "staging", Stage::Staging, parties(&[("qa", &qa)])),
            (&production, "main", Stage::Production, parties(&[("qa", &qa), ("product", &product)])),
        ] {
            platform.add_trigger(owner, app, RefKind::Branch, branch, false).await.unwrap();
            platform.require_sign_offs(owner, &world.pipeline, stage, &wanted).await.unwrap();
        }
        let commit = world.commit("web: listen");

        let told = world.branch_at("staging", &commit).await;
        assert!(told.contains("waits for the sign-off of qa"), "{kind}: {told}");
        assert_eq!(world.newest(&staging).await, "waiting waits for the sign-off of qa", "{kind}");
        world.sign(&qa, Stage::Staging, &commit, "qa").await;
        assert_eq!(world.newest(&staging).await, "succeeded", "{kind}");
        assert_eq!(world.server.served(&staging).await, "v2", "{kind}");

        // What staging's party approved says nothing of production.
        let told = world.branch_at("main", &commit).await;
        assert!(told.contains("waits for the sign-off of qa and product"), "{kind}: {told}");
        world.sign(&qa, Stage::Production, &commit, "qa").await;
        assert_eq!(world.newest(&production).await, "waiting waits for the sign-off of product", "{kind}");
        let world = world.restarted().await;
        assert_eq!(world.server.served(&production).await, "Blank", "{kind}");
        world.sign(&product, Stage::Production, &commit, "product").await;
        assert_eq!(world.newest(&production).await, "succeeded", "{kind}");
        assert_eq!(world.server.served(&production).await, "v2", "{kind}");
        world.end().await;
    }
}
