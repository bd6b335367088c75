//! Promotions as the Heroku CLI follows them: it asks for the targets until there is output to read, reads it, and asks on.

use crate::stage::Stage;
use serde_json::json;
use shipway_testkit::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_is_seen_as_it_goes() {
    let stage = Stage::open().await;
    let (_, live) = stage.pipeline().await;
    let checkout = stage.checkout();
    checkout.commit("web: listen\nrelease: echo one; sleep 700ms; echo two\n");
    checkout.deploy("shop-staging").await;
    let order = json!({
        "pipeline": "shop", "source": { "app": "shop-staging" }, "targets": [{ "app": { "id": live.id } }],
    });
    let made = stage.call(&stage.token, "POST", "/pipeline-promotions", &order).await;
    assert_eq!((made.status, &made.json()["status"]), (201, &json!("pending")), "{}", made.body);
    let promotion = format!("/pipeline-promotions/{}", made.json()["id"].as_str().unwrap());
    let target = async || stage.ask(&format!("{promotion}/promotion-targets")).await[0].take();

    // The release phase runs: there is output, and no end yet.
    let begun = until("a release with output", async || {
        let target = target().await;
        target["release"].is_object().then_some(target)
    })
    .await;
    assert_eq!(begun["status"], "pending");
    let release = format!("/apps/shop/releases/{}", begun["release"]["id"].as_str().unwrap());
    let release = stage.ask(&release).await;
    assert_eq!((&release["status"], &release["current"]), (&json!("pending"), &json!(false)));
    let output = release["output_stream_url"].as_str().unwrap();
    let output = stage.curl(&["-sS", "-i", "-N", output]).await;
    assert_eq!((output.status, output.body.as_str()), (200, "one\ntwo\n"), "it ends with the command");

    let ended = until("the end", async || {
        let target = target().await;
        (target["status"] != "pending").then_some(target)
    })
    .await;
    assert_eq!((&ended["status"], &ended["error_message"]), (&json!("succeeded"), &json!(null)));
    assert_eq!(stage.ask(&promotion).await["status"], "completed");

    // `releases:retry`: its answer says where the output will be, before the release phase has begun.
    let slug = stage.ask("/apps/shop/releases/current").await["slug"]["id"].take();
    let again = stage.call(&stage.token, "POST", "/apps/shop/releases", &json!({ "slug": slug })).await.json();
    let output = again["output_stream_url"].as_str().unwrap();
    let output = until("the output", async || {
        let output = stage.curl(&["-sS", "-i", "-N", output]).await;
        (output.status == 200).then_some(output.body)
    });
    assert_eq!(output.await, "one\ntwo\n");
    stage.end().await;
}
