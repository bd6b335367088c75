//! What a product is made of, and how that is changed.

use crate::promotions::{product, to_production, together};
use shipway_domain::admission::{Actor, Scope};
use shipway_domain::{Email, NameOrId};
use shipway_engine::ports::Caller;
use shipway_engine::{StepChange, TogetherOrder, external_steps};
use shipway_store::Product;
use shipway_testkit::{Ground, OWNER, Server};

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
