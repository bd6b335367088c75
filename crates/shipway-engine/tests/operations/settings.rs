//! What the operator sets, and what comes of it.

use shipway_domain::quantity::Quantity;
use shipway_domain::size::DynoSizes;
use shipway_engine::{ScaleUpdate, Settings};
use shipway_runtime::Runtime;
use shipway_testkit::{Ground, settings};

#[tokio::test(flavor = "multi_thread")]
async fn a_size_of_the_operators_is_taken_and_one_that_is_gone_counts_as_the_default() {
    let ground = Ground::new();
    let mut sizes = DynoSizes::default();
    sizes.define(&"large=2048,cpu=400".parse().unwrap());
    let server = ground.server_as(Settings { sizes, ..settings(ground.home.path()) }, None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    let to = |size: &str, quantity: u32| {
        let quantity = Some(Quantity::Exactly(quantity));
        vec![ScaleUpdate { process_type: "web".into(), quantity, size: Some(size.into()) }]
    };
    server.platform.scale(&server.caller, &app, to("Large", 1)).await.unwrap();
    server.settled(&app).await;
    let started = async || ground.runtime.plan(ground.runtime.list().await.unwrap()[0].dyno).unwrap().size;
    assert_eq!((started().await.name.as_str(), started().await.memory_mib), ("large", 2048));
    server.platform.stop().await;
    drop(server);

    // The operator's next start says nothing of it any more.
    let server = ground.server(None).await;
    let log = || {
        let last = shipway_logs::Reader::last(
            &ground.home.path().join("logs").join(app.id.to_string()),
            Default::default(),
            50,
        );
        last.unwrap().0.iter().map(|e| String::from_utf8_lossy(&e.message).into_owned()).collect::<Vec<_>>().join("\n")
    };
    let warning = "Warning: the dyno size large is not there any more: web dynos start as basic. \
                   To choose another: heroku ps:scale web=1:basic";
    assert!(log().contains(warning), "{}", log());
    assert_eq!(server.push(&app, "web: listen; echo again").await.as_deref(), Ok("v3"));
    server.settled(&app).await;
    assert_eq!(started().await.name, "basic");
    let refused = server.platform.scale(&server.caller, &app, to("large", 2)).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Dyno size \"large\" is not one of this platform's: eco, basic, standard-1x, standard-2x."
    );
    server.platform.scale(&server.caller, &app, to("basic", 2)).await.unwrap();
    assert_eq!(server.settled(&app).await, "web.1 up, web.2 up");
}
