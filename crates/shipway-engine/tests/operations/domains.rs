//! Whose a host name is.

use shipway_domain::admission::{Actor, Permission, Scope};
use shipway_domain::{Email, NameOrId};
use shipway_engine::ports::Caller;
use shipway_engine::{NewApp, Settings, UpdateApp};
use shipway_testkit::{Ground, Server, settings};

async fn person(server: &Server, email: &str) -> Caller {
    let address = Email::parse(email).unwrap();
    let (account, _) = server.platform.add_account(&server.caller, &address, None, false).await.unwrap();
    let actor = Actor { account: account.id, email: email.into(), admin: false, scope: Scope::Global };
    Caller { actor, via: "api" }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_34_nobody_takes_the_visitors_of_somebody_elses_name() {
    let ground = Ground::new();
    let settings = Settings { domain: "apps.example.org".into(), ..settings(ground.home.path()) };
    let server = ground.server_as(settings, None).await;
    let (ida, eve) = (person(&server, "ida@example.org").await, person(&server, "eve@example.org").await);
    let create = async |caller: &Caller, name: &str| {
        let new = NewApp { name: Some(name.into()), ..NewApp::default() };
        server.platform.create_app(caller, new).await.unwrap()
    };
    let (shop, trap) = (create(&ida, "shop").await, create(&eve, "trap").await);
    for name in ["www.shop.test", "*.wild.test", "xn--shp-sna.test"] {
        server.platform.add_domain(&ida, &shop, name).await.unwrap();
    }
    for (name, why) in [
        ("www.shop.test", "is already added"),
        ("WWW.Shop.test.", "is already added"),
        ("*.shop.test", "an app of somebody else"),
        ("*.test", "an app of somebody else"),
        ("api.wild.test", "an app of somebody else"),
        ("*.deep.wild.test", "an app of somebody else"),
        ("xn--shp-sna.test", "is already added"),
        ("sh\u{f6}p.test", "xn-- form"),
        ("www\u{2024}shop.test", "at least two parts"),
        ("apps.example.org", "belongs to the platform"),
        ("shop.apps.example.org", "belongs to the platform"),
        ("shop-pr-7.apps.example.org", "belongs to the platform"),
        ("*.apps.example.org", "belongs to the platform"),
        ("*.example.org", "belongs to the platform"),
        ("*.org", "belongs to the platform"),
    ] {
        let refused = server.platform.add_domain(&eve, &trap, name).await.unwrap_err();
        assert!(refused.message.contains(why) || why == "at least two parts", "{name}: {refused}");
    }
    // What is beside them is free; who operates both may nest them.
    server.platform.add_domain(&eve, &trap, "shop.test").await.unwrap();
    server.platform.add_domain(&eve, &trap, "wild.test").await.unwrap();
    let more = create(&ida, "shop-api").await;
    server.platform.add_domain(&ida, &more, "api.wild.test").await.unwrap();
    server.platform.give_access(&ida, &shop, "eve@example.org", Permission::Deploy).await.unwrap();
    assert!(server.platform.add_domain(&eve, &trap, "*.shop.test").await.is_err(), "to deploy is not to own names");

    // A name is free when its app is gone, and leads to nobody until somebody takes it.
    server.platform.destroy_app(&ida, &shop).await.unwrap();
    let table = server.platform.store().read(|c| c.all_domains()).unwrap();
    let left: Vec<&str> = table.iter().map(|d| d.hostname.as_str()).collect();
    assert_eq!(left, ["api.wild.test", "shop.test", "wild.test"]);
    server.platform.add_domain(&eve, &trap, "www.shop.test").await.unwrap();
    assert!(server.platform.app(&eve, &NameOrId::Name("shop".into())).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_22_no_app_is_at_the_name_of_the_dashboard() {
    let ground = Ground::new();
    let apart = Settings { domain: "apps.example.org".into(), ..settings(ground.home.path()) };
    let api_hosts = vec!["ship.example.org".into(), "console.apps.example.org".into()];
    let named = Settings { api_hosts, ..apart.clone() };
    let mut apps = Vec::new();
    {
        // Before the operator says which names are the platform's, they can be had.
        let server = ground.server_as(apart, None).await;
        let eve = person(&server, "eve@example.org").await;
        for (name, domain) in [("trap", "ship.example.org"), ("console", "www.trap.test")] {
            let new = NewApp { name: Some(name.into()), ..NewApp::default() };
            let app = server.platform.create_app(&eve, new).await.unwrap();
            server.platform.add_domain(&eve, &app, domain).await.unwrap();
            apps.push((eve.clone(), app));
        }
        server.platform.stop().await;
    }
    // Whose names they were is told: once in the ledger, at each start in the app's log.
    ground.server_as(named.clone(), None).await.platform.stop().await;
    let server = ground.server_as(named, None).await;
    for (app, name) in [("trap", "ship.example.org"), ("console", "console.apps.example.org")] {
        let ledger = server.platform.store().read(|c| c.ledger(Some(server.app(app).id), 100)).unwrap();
        let told: Vec<_> = ledger.iter().filter(|entry| entry.action == "name-taken").collect();
        let [only] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((only.actor.as_str(), only.detail["hostname"].as_str()), ("platform", Some(name)));
    }
    let (eve, trap) = &apps[0];
    for name in ["SHIP.example.org.", "*.example.org", "*.org"] {
        let refused = server.platform.add_domain(eve, trap, name).await.unwrap_err();
        assert!(refused.message.contains("belongs to the platform"), "{name}: {refused}");
    }
    for name in ["ships.example.org", "a.ship.example.org", "*.ship.example.org"] {
        server.platform.add_domain(eve, trap, name).await.unwrap();
    }
    let renamed = UpdateApp { name: Some("console".into()), ..UpdateApp::default() };
    let refused = server.platform.update_app(eve, trap, renamed).await.unwrap_err();
    assert!(refused.message.contains("is the platform's own"), "{refused}");
    let new = NewApp { name: Some("console".into()), ..NewApp::default() };
    let refused = server.platform.create_app(eve, new).await.unwrap_err();
    assert!(refused.message.contains("is the platform's own"), "{refused}");

    let table = server.platform.route_table().unwrap();
    let mut hosts: Vec<String> = table.apps.into_iter().flat_map(|app| app.hosts).collect();
    hosts.sort();
    let expected =
        ["*.ship.example.org", "a.ship.example.org", "ships.example.org", "trap.apps.example.org", "www.trap.test"];
    assert_eq!(hosts, expected);
}
