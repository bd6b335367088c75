//! What a product is made of, and how that is changed.

use crate::promotions::{pipeline, product, to_production, together};
use shipway_domain::admission::{Actor, Scope};
use shipway_domain::{Email, NameOrId};
use shipway_engine::ports::Caller;
use shipway_engine::{Fault, Faults, Moment, StepChange, TogetherOrder, external_steps};
use shipway_store::Product;
use shipway_testkit::{Ground, OWNER, Server, until};
use std::sync::{Arc, Mutex};

/// `odb, sso: mail in sso, pages in odb`.
fn screen(server: &Server) -> String {
    let product = observatory(server);
    let name = |id| server.platform.store().read(|c| c.pipeline_by_id(id)).unwrap().name.to_string();
    let pipelines = product.pipelines.iter().map(|id| name(*id)).collect::<Vec<_>>().join(", ");
    let steps = product.settings.steps.iter().map(|step| format!("{} in {}", step.name, name(step.pipeline)));
    format!("{pipelines}: {}", steps.collect::<Vec<_>>().join(", "))
}

fn observatory(server: &Server) -> Product {
    server.platform.product(&server.caller, &NameOrId::parse("observatory")).unwrap()
}

fn step(name: &str, command: &str) -> StepChange {
    let text = |text: &str| Some(text.to_string());
    StepChange { name: text(name), command: text(command), undo: text("true"), position: None }
}

fn moved(position: u64) -> StepChange {
    StepChange { position: Some(position), ..StepChange::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_and_steps_are_added_moved_and_removed_one_by_one() {
    let server = Ground::new().server(None).await;
    let (platform, caller) = (&server.platform, &server.caller);
    product(&server, ["web: listen-after 1ms", "web: listen-after 2ms"]).await;
    let (odb, sso) = (NameOrId::parse("odb"), NameOrId::parse("sso"));
    // Two people who looked at the same moment: what both did is kept.
    let looked = observatory(&server);
    platform.set_product_step(caller, &looked, &odb, step("pages", "echo pages moved")).await.unwrap();
    platform.set_product_step(caller, &looked, &sso, step("mail", "echo mail moved")).await.unwrap();
    assert_eq!(screen(&server), "odb, sso: pages in odb, mail in sso");
    platform.set_product_step(caller, &looked, &sso, moved(1)).await.unwrap();
    let other = StepChange { name: Some("sites".into()), ..StepChange::default() };
    platform.set_product_step(caller, &looked, &odb, other).await.unwrap();
    assert_eq!(screen(&server), "odb, sso: mail in sso, sites in odb");

    // They run in this order, whatever the order of the apps; once, also where a pipeline has two apps.
    let (product, moves) = platform.moves(caller, &to_production()).unwrap();
    let steps = external_steps(product.as_ref(), &moves);
    let steps: Vec<_> = steps.iter().map(|(step, runs)| (step.name.as_str(), runs.target.name.as_str())).collect();
    assert_eq!(steps, [("mail", "sso-live"), ("sites", "odb-live")]);
    assert_eq!(
        together(&server, &to_production()).await.unwrap(),
        "odb-live succeeded v3\nsso-live succeeded v3\nsso-eu succeeded v3"
    );
    let operation = server.platform.store().read(|c| c.operations(None, 1)).unwrap().remove(0);
    let ran = platform.steps(operation.id).unwrap();
    let ran: Vec<_> = ran.iter().filter(|step| step.name.starts_with("external:")).map(|s| s.name.clone()).collect();
    let at = |app: &str| format!("external:{}", server.app(app).id);
    assert_eq!(ran, [at("sso-live"), at("odb-live")]);

    let refused = |e: shipway_engine::Error| e.message;
    let new = step("", "true");
    let nameless = platform.remove_product_step(caller, &looked, &odb).await;
    assert_eq!(nameless.unwrap().settings.steps.len(), 1);
    let nameless = refused(platform.set_product_step(caller, &looked, &odb, new).await.unwrap_err());
    assert!(nameless.starts_with("An external step needs a name, a command"), "{nameless}");
    let gone = refused(platform.remove_product_step(caller, &looked, &odb).await.unwrap_err());
    assert_eq!(gone, "The pipeline odb has no step in observatory.");
    assert_eq!(
        refused(platform.set_product_step(caller, &looked, &sso, moved(0)).await.unwrap_err()),
        "`position` counts from 1."
    );

    let itc = platform.create_pipeline(caller, "itc").await.unwrap();
    let itc = NameOrId::Id(itc.id.0);
    platform.put_product_pipeline(caller, &looked, &itc, None).await.unwrap();
    platform.put_product_pipeline(caller, &looked, &sso, Some(9)).await.unwrap();
    assert_eq!(screen(&server), "odb, itc, sso: mail in sso");
    platform.put_product_pipeline(caller, &looked, &itc, Some(1)).await.unwrap();
    platform.remove_product_pipeline(caller, &looked, &sso).await.unwrap();
    assert_eq!(screen(&server), "itc, odb: ", "the step went with its pipeline");
    let other = refused(platform.remove_product_pipeline(caller, &observatory(&server), &sso).await.unwrap_err());
    assert!(other.starts_with("The product observatory has no such pipeline"), "{other}");
    platform.remove_product_pipeline(caller, &looked, &odb).await.unwrap();
    let last = refused(platform.remove_product_pipeline(caller, &observatory(&server), &itc).await.unwrap_err());
    assert!(last.starts_with("itc is the only pipeline of observatory."), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_mean_nothing_to_promote_are_answered_with_what_they_are() {
    let server = Ground::new().server(None).await;
    let (platform, caller) = (&server.platform, &server.caller);
    product(&server, ["web: listen-after 1ms", "web: listen-after 2ms"]).await;
    let refused = |from: &str, to: &str| {
        let order = TogetherOrder { from: from.into(), to: to.into(), ..TogetherOrder::default() };
        platform.moves(caller, &order).unwrap_err().message
    };
    let same = "From and to are the same: staging. Name another stage or app to promote to.";
    assert_eq!(refused("staging", "staging"), same);
    assert_eq!(refused("odb-staging", "staging"), "From and to are the same: odb has only odb-staging in staging.");
    assert_eq!(
        refused("odb-staging", "sso-live"),
        "sso-live is in the pipeline sso, odb-staging in odb: a promotion stays within one pipeline."
    );
    let stagin = refused("stagin", "production");
    assert!(stagin.starts_with("Couldn't find that app: stagin."), "{stagin}");
    assert!(stagin.ends_with("It is no stage either (stages: development, staging, production)."), "{stagin}");
    assert_eq!(refused("development", "production"), "The pipeline odb has no app in development.");

    // Somebody who is let into one of the product's pipelines.
    let email = Email::parse("eve@example.org").unwrap();
    let (account, _) = platform.add_account(caller, &email, None, false).await.unwrap();
    platform.add_collaborator(caller, &server.app("odb-staging"), email.as_str()).await.unwrap();
    let actor = Actor { account: account.id, email: email.to_string(), admin: false, scope: Scope::Global };
    let hidden = platform.moves(&Caller { actor, via: "api" }, &to_production()).unwrap_err().message;
    let ask = format!("The product observatory has pipelines that you cannot see: ask {OWNER}, who owns it");
    assert!(hidden.starts_with(&ask), "{hidden}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_whose_pipelines_have_ended_says_so_and_is_in_nobodys_way() {
    let server = Ground::new().server(None).await;
    let (platform, caller) = (&server.platform, &server.caller);
    product(&server, ["web: listen-after 1ms", "web: listen-after 2ms"]).await;
    let end = async |name: &str| {
        let pipeline = platform.pipeline(caller, &NameOrId::parse(name)).unwrap();
        platform.destroy_pipeline(caller, &pipeline).await.unwrap();
    };
    end("odb").await;
    end("sso").await;
    let named = TogetherOrder { product: Some("observatory".into()), ..to_production() };
    let refused = |order: &TogetherOrder| platform.moves(caller, order).unwrap_err().message;
    assert_eq!(
        refused(&named),
        "The product observatory has no pipeline left, so there is nothing to promote: shipway products add observatory \
         PIPELINE, or shipway products destroy observatory"
    );
    assert_eq!(refused(&to_production()), "There is no pipeline yet: heroku pipelines:create");
    let mistyped = TogetherOrder { product: Some("observatroy".into()), ..to_production() };
    assert_eq!(
        refused(&mistyped),
        "Couldn't find that product: observatroy. `shipway products` lists those that you can see."
    );
}

/// `odb-live`, `sso-live` and `itc-live` run v2, and staging runs something else.
async fn three(server: &Server) {
    let names = ["odb", "sso", "itc"].map(String::from);
    for name in &names {
        pipeline(server, name, &format!("{name}-staging staging, {name}-live production")).await;
        server.push(&server.app(&format!("{name}-live")), "web: listen").await.unwrap();
        let release = if name == "itc" { "" } else { "\nrelease: echo migrated" };
        let source = server.app(&format!("{name}-staging"));
        server.push(&source, &format!("web: listen-after 1ms{release}")).await.unwrap();
    }
    server.platform.create_product(&server.caller, "observatory", &names).await.unwrap();
}

/// Of each app: how its v3 ended, and what its people read of it.
fn endings(server: &Server) -> Vec<(String, &'static str, String)> {
    let of = |name: &str| {
        let app = server.app(name);
        let third = server.platform.release(&app, "v3").unwrap();
        (name.to_string(), third.status.as_str(), third.failure.unwrap_or_default())
    };
    ["odb-live", "sso-live", "itc-live"].map(of).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_app_of_a_promotion_that_fails_says_what_happened_to_it() {
    const FAILS: &str = "sso-live: The platform could not do this";
    for (step, because, odb_had_run) in [
        ("carry", "sso-live could not be prepared", false),
        ("release-phase", "sso-live failed in its release phase", true),
        ("healthy", "the new dynos of sso-live did not become healthy", false),
    ] {
        let armed = Arc::new(Mutex::new(String::new()));
        let seen = armed.clone();
        let faults: Faults = Arc::new(move |name, moment| {
            (name == *seen.lock().unwrap() && moment == Moment::Worked).then_some(Fault::Fail)
        });
        let server = Ground::new().server(Some(faults)).await;
        three(&server).await;
        let sso = server.app("sso-live").id;
        *armed.lock().unwrap() = format!("{step}:{sso}");
        let screen = together(&server, &to_production()).await.unwrap();

        // The release phase of odb-live runs before that of sso-live, if its id is the smaller.
        let first = server.app("odb-live").id < sso && odb_had_run;
        let ahead = if first { " Its release phase had run: its database may be ahead of its code." } else { "" };
        let left = format!("Left as it was: {because}.");
        for (app, status, failure) in endings(&server) {
            let line = screen.lines().find(|line| line.starts_with(&app)).unwrap();
            assert_eq!(line, format!("{app} failed v3 {failure}"), "the promotion says the same");
            match app.as_str() {
                "sso-live" => assert!(status == "failed" && failure.starts_with(FAILS), "{step}: {status} {failure}"),
                "odb-live" => assert_eq!((status, failure), ("expired", format!("{left}{ahead}")), "{step}"),
                _ => assert_eq!((status, failure), ("expired", left.clone()), "{step}"),
            }
            server.serves(&server.app(&app), "v2").await;
            let app = server.app(&app);
            let ledger = server.platform.store().read(|c| c.ledger(Some(app.id), 1)).unwrap().remove(0);
            let action = if app.id == sso { "promotion-failed" } else { "left" };
            assert_eq!(ledger.action, action, "{step}: {ledger:?}");
        }
        server.quiet().await;
        server.whole("after a promotion that failed").await;
        armed.lock().unwrap().clear();
        let done = together(&server, &to_production()).await.unwrap();
        assert_eq!(done.matches(" succeeded v4").count(), 3, "{done}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_is_stopped_failed_at_none_of_its_apps() {
    let server = Ground::new().server(None).await;
    three(&server).await;
    let observatory = observatory(&server);
    let itc = NameOrId::parse("itc");
    server.platform.set_product_step(&server.caller, &observatory, &itc, step("mail", "sleep")).await.unwrap();
    let begun = server.platform.promote_together(&server.caller, &to_production()).await.unwrap();
    let operation = begun.targets[0].target.operation.unwrap();
    until("the step runs", async || {
        let steps = server.platform.steps(operation).unwrap();
        steps.iter().any(|step| step.name.starts_with("external:") && step.state == "running").then_some(())
    })
    .await;
    server.platform.cancel(&server.caller, operation).await.unwrap();
    assert_eq!(server.outcome(operation).await.unwrap_err(), "It was cancelled. What ran before runs on.");
    for (app, status, failure) in endings(&server) {
        assert_eq!((status, failure.as_str()), ("expired", "It was cancelled. What ran before runs on."), "{app}");
    }
}
