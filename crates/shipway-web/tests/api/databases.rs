//! What is tried against databases and their backups.

use crate::support::{Person, World};
use serde_json::{Value, json};
use shipway_domain::NameOrId;
use shipway_engine::Within;

const NOTHING: Value = Value::Null;

/// The app `shop` with a database that holds this text, and a backup of it; the database's name.
async fn with_backup(world: &World, text: &str) -> String {
    let owner = world.caller(Person::Owner);
    world.database("shop").await;
    let app = world.platform.app(&owner, &NameOrId::parse("shop")).unwrap();
    let addon = world.platform.addons(&owner, Within::App(&app)).unwrap().remove(0);
    world.ground.addons.write(addon.id, text);
    let backup = world.platform.capture(&owner, &addon).await.unwrap();
    world.platform.live(backup.operation).await.unwrap();
    addon.name.to_string()
}

/// A public URL of the newest backup, without the host.
async fn public_url(world: &World) -> String {
    let made =
        world.call(Person::Owner, "POST", "/client/v11/apps/shop/transfers/2/actions/public-url", &json!({})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.json()["url"].as_str().unwrap().trim_start_matches("https://127.0.0.1:5000").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_38_a_backup_is_read_by_its_own_url_in_time_and_never_from_the_disk() {
    let world = World::new().await;
    let rows = "rows of customers ".repeat(10_000);
    with_backup(&world, &rows).await;
    for file in std::fs::read_dir(world.ground.home.path().join("backups")).unwrap() {
        let file = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&file).contains("customers"));
    }

    let url = public_url(&world).await;
    let read = world.call(Person::Nobody, "GET", &url, &NOTHING).await;
    assert_eq!((read.status.as_u16(), read.text == rows), (200, true));
    assert_eq!(read.header("content-length"), Some(rows.len().to_string().as_str()));
    assert_eq!(read.header("cache-control"), Some("no-store"));

    let parts: Vec<&str> = url.split('/').collect();
    let ["", "backups", id, expires, signature] = parts[..] else { panic!("{url}") };
    let first = world.platform.store().read(|c| {
        let app = c.app(&NameOrId::parse("shop"))?.unwrap();
        Ok(c.transfers(app.id)?.pop().unwrap())
    });
    let first = first.unwrap().id.to_string();
    let later = (expires.parse::<i64>().unwrap() + 1).to_string();
    let none = "0".repeat(signature.len());
    let guesses =
        [(first.as_str(), expires, signature), (id, &*later, signature), (id, expires, &*none), (id, expires, "")];
    for (id, expires, signature) in guesses {
        let guess = world.call(Person::Owner, "GET", &format!("/backups/{id}/{expires}/{signature}"), &NOTHING).await;
        assert_eq!(guess.status, 404, "{id} {expires} {signature}");
    }
    for person in [Person::Nobody, Person::Stranger, Person::DeployToken] {
        let path = "/client/v11/apps/shop/transfers/2/actions/public-url";
        let refused = world.call(person, "POST", path, &json!({})).await;
        assert!([401, 403, 404].contains(&refused.status.as_u16()), "{person:?}: {}", refused.text);
    }

    world.ground.world.jump(jiff::SignedDuration::from_secs(3601));
    let late = world.call(Person::Nobody, "GET", &url, &NOTHING).await;
    assert_eq!(late.status, 404, "{}", late.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_38_a_backup_that_was_changed_on_disk_is_not_passed_on() {
    let world = World::new().await;
    let name = with_backup(&world, &"rows ".repeat(40_000)).await;
    let file = std::fs::read_dir(world.ground.home.path().join("backups")).unwrap();
    for file in file.map(|file| file.unwrap().path()) {
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    let owner = world.caller(Person::Owner);
    let app = world.platform.app(&owner, &NameOrId::parse("shop")).unwrap();
    let addon = world.platform.addon(&owner, &name, Within::App(&app)).unwrap();
    let backup = world.platform.transfer(&app, "2").unwrap();
    let address = shipway_engine::Platform::backup_address(&backup);
    world.ground.addons.write(addon.id, "today's rows");
    let restore = world.platform.restore(&owner, &addon, &address).await.unwrap();
    world.platform.live(restore.operation).await.unwrap();
    let ended = world.platform.transfer(&app, "3").unwrap();
    assert_eq!(ended.succeeded, Some(false));
    assert_eq!(world.ground.addons.read(addon.id).as_deref(), Some("today's rows"));
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_37_an_address_reaches_no_file_no_socket_and_no_option_of_libpq() {
    let world = World::new().await;
    let name = with_backup(&world, "rows").await;
    let own = world.call(Person::Owner, "GET", "/apps/shop/config-vars", &NOTHING).await.json();
    let own = own["DATABASE_URL"].as_str().unwrap().to_string();
    let hostile = [
        format!("{own}?options=-c%20session_preload_libraries=x"),
        format!("{own}?host=/var/run/postgresql"),
        format!("{own}?passfile=/etc/passwd&sslrootcert=/etc/shadow"),
        "postgres:///postgres?host=/var/run/postgresql".into(),
        "host=/var/run/postgresql dbname=postgres".into(),
        "service=platform".into(),
        "-h/var/run/postgresql".into(),
        "--file=/etc/passwd".into(),
    ];
    for address in &hostile {
        for (path, body) in [
            ("transfers", json!({ "from_url": address, "to_url": own, "from_name": "A", "to_name": "B" })),
            ("transfers", json!({ "from_url": own, "to_url": address, "from_name": "A", "to_name": "B" })),
            ("restores", json!({ "backup_url": address })),
        ] {
            let path = format!("/client/v11/databases/{name}/{path}");
            let refused = world.call(Person::Owner, "POST", &path, &body).await;
            assert_eq!(refused.status, 422, "{path} {address}: {}", refused.text);
        }
    }
    for address in ["file:///etc/passwd", "gopher://127.0.0.1:5432/x", "dict://127.0.0.1/", "shipway-backup:../../keys"]
    {
        let path = format!("/client/v11/databases/{name}/restores");
        let refused = world.call(Person::Owner, "POST", &path, &json!({ "backup_url": address })).await;
        assert!([404, 422].contains(&refused.status.as_u16()), "{address}: {}", refused.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_08_names_of_databases_and_attachments_are_plain_words() {
    let world = World::new().await;
    let name = with_backup(&world, "rows").await;
    for bad in ["a;id", "$(id)", "`id`", "a b", "a\nb", "../x", "-h", "--file=x", "a'b", "a\"b", "a/b", ""] {
        let renamed = json!({ "name": bad, "plan": "heroku-postgresql:essential-0" });
        let path = format!("/apps/shop/addons/{name}");
        let refused = world.call(Person::Owner, "PATCH", &path, &renamed).await;
        assert_eq!(refused.status, 422, "{bad:?}: {}", refused.text);
        let made = json!({ "plan": "heroku-postgresql", "attachment": { "name": bad } });
        let refused = world.call(Person::Owner, "POST", "/apps/shop/addons", &made).await;
        assert_eq!(refused.status, 422, "{bad:?}: {}", refused.text);
        let path = format!("/client/v11/apps/shop/transfers/{}", urlencoded(bad));
        let missing = world.call(Person::Owner, "GET", &path, &NOTHING).await;
        assert!([200, 404].contains(&missing.status.as_u16()), "{bad:?}");
    }
}

fn urlencoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}
