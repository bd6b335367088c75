//! Teams: what the CLI asks for, held against the schema, and what each role may do.

use crate::conformance::{Client, id};
use crate::support::{Person, World};
use serde_json::{Value, json};
use shipway_domain::NameOrId;
use shipway_domain::team::Role;

pub async fn teams(c: &mut Client<'_>) {
    let made = c.call(201, "POST", "/teams", &[], json!({ "name": "acme" })).await;
    assert_eq!((&made["role"], &made["type"]), (&json!("admin"), &json!("team")));
    c.call(422, "POST", "/teams", &[], json!({ "name": "acme" })).await;
    let one = "/teams/{team}";
    c.call(200, "PATCH", one, &["acme"], json!({ "name": "acme-labs" })).await;
    let read = c.get(one, &[&id(&made)]).await;
    assert_eq!((&read["name"], &c.get("/teams", &[]).await), (&json!("acme-labs"), &json!([read])));

    let members = "/teams/{team}/members";
    for (method, email, role) in [
        ("PUT", "collaborator@example.org", "collaborator"),
        ("POST", "new@example.org", "member"),
        ("PATCH", "collaborator@example.org", "member"),
    ] {
        let body = json!({ "email": email, "role": role });
        let status = if method == "PATCH" { 200 } else { 201 };
        let member = c.call(status, method, members, &["acme-labs"], body).await;
        assert_eq!((&member["email"], &member["role"]), (&json!(email), &json!(role)));
    }
    let listed = c.get(members, &["acme-labs"]).await;
    assert_eq!(
        listed.as_array().unwrap().iter().map(|m| &m["role"]).collect::<Vec<_>>(),
        ["member", "member", "admin"]
    );
    c.call(200, "DELETE", "/teams/{team}/members/{member}", &["acme-labs", "new@example.org"], Value::Null).await;
    c.call(422, "DELETE", "/teams/{team}/members/{member}", &["acme-labs", "owner@example.org"], Value::Null).await;
    let features = c.get("/teams/{team}/features", &["acme-labs"]).await;
    assert_eq!(c.get("/teams/{team}/features/{feature}", &["acme-labs", "org-access-controls"]).await, features[0]);

    let till = c.call(201, "POST", "/teams/apps", &[], json!({ "name": "till", "team": "acme-labs" })).await;
    assert_eq!((&till["team"]["name"], &till["locked"]), (&json!("acme-labs"), &json!(false)));
    assert_eq!(till["owner"], json!({ "id": id(&made), "email": "acme-labs@herokumanager.com" }));
    assert_eq!(c.get("/teams/apps/{app}", &["till"]).await["name"], "till");
    assert_eq!(c.get("/teams/{team}/apps", &["acme-labs"]).await.as_array().unwrap().len(), 1);
    assert_eq!(c.get("/teams/{team}/addons", &["acme-labs"]).await, json!([]));
    let owner = json!({ "id": id(&made), "type": "team" });
    let pipeline = c.call(201, "POST", "/pipelines", &[], json!({ "name": "tills", "owner": owner })).await;
    assert_eq!(pipeline["owner"], owner);
    let place = json!({ "app": "till", "pipeline": "tills", "stage": "staging" });
    let coupling = c.call(201, "POST", "/pipeline-couplings", &[], place).await;
    assert_eq!(c.get("/teams/{team}/pipeline-couplings", &["acme-labs"]).await, json!([coupling]));
    let locked = c.call(200, "PATCH", "/teams/apps/{app}", &["till"], json!({ "locked": true })).await;
    assert_eq!(locked["locked"], true);
    c.call(422, "DELETE", one, &["acme-labs"], Value::Null).await;

    assert_eq!(c.get("/teams/permissions", &[]).await.as_array().unwrap().len(), 4);
    let all = "/teams/apps/{app}/collaborators";
    let given = json!({ "user": "collaborator@example.org", "permissions": ["deploy", "view"] });
    let added = c.call(201, "POST", all, &["till"], given).await;
    assert_eq!(added["permissions"].as_array().unwrap().len(), 2);
    let named = "/teams/apps/{app}/collaborators/{collaborator}";
    let who = ["till", "collaborator@example.org"];
    let more = json!({ "permissions": ["deploy", "operate", "view"] });
    c.call(200, "PATCH", named, &who, more).await;
    assert_eq!(c.get(named, &who).await["permissions"].as_array().unwrap().len(), 3);
    assert_eq!(c.get(all, &["till"]).await.as_array().unwrap().len(), 2);
    let skipped = c.call(422, "PATCH", named, &who, json!({ "permissions": ["operate"] })).await;
    assert_eq!(skipped["message"], "Here operate includes deploy: list deploy too, or leave operate out.");
    let joined = "/teams/{team}/members/{member}/apps";
    assert_eq!(c.get(joined, &["acme-labs", "collaborator@example.org"]).await.as_array().unwrap().len(), 1);
    c.call(200, "DELETE", named, &who, Value::Null).await;

    let back = c.call(200, "PATCH", "/teams/apps/{app}", &["till"], json!({ "owner": "owner@example.org" })).await;
    assert_eq!((&back["team"], &back["locked"]), (&Value::Null, &json!(false)));
    transfers(c).await;
    c.call(200, "DELETE", "/pipelines/{pipeline}", &["tills"], Value::Null).await;
    c.call(200, "DELETE", "/apps/{app}", &["till"], Value::Null).await;
    c.call(200, "DELETE", one, &["acme-labs"], Value::Null).await;
    c.call(404, "GET", one, &["acme-labs"], Value::Null).await;
}

async fn transfers(c: &mut Client<'_>) {
    let (all, one) = ("/account/app-transfers", "/account/app-transfers/{app_transfer}");
    let offer = json!({ "app": "till", "recipient": "collaborator@example.org" });
    let offered = c.call(201, "POST", all, &[], offer.clone()).await;
    assert_eq!(offered["state"], "pending");
    assert_eq!(c.get(one, &[&id(&offered)]).await, offered);
    assert_eq!(c.get(all, &[]).await, json!([offered]));
    let mine = c.call(403, "PATCH", one, &["till"], json!({ "state": "accepted" })).await;
    assert_eq!(mine["message"], "till was offered to collaborator@example.org: only they can take it.");
    c.call(200, "DELETE", one, &[&id(&offered)], Value::Null).await;
    let offered = c.call(201, "POST", all, &[], offer).await;
    let path = format!("/account/app-transfers/{}", id(&offered));
    let world = c.world;
    let taken = world.call(Person::Collaborator, "PATCH", &path, &json!({ "state": "accepted" })).await;
    assert_eq!((taken.status.as_u16(), &taken.json()["state"]), (200, &json!("accepted")), "{}", taken.text);
    // Who gave it works on it still; a second answer changes nothing.
    let given = c.get("/apps/{app}", &["till"]).await;
    assert_eq!(given["owner"]["email"], "collaborator@example.org");
    let again = world.call(Person::Collaborator, "PATCH", &path, &json!({ "state": "declined" })).await;
    assert_eq!(again.status, 422, "{}", again.text);
    let back = json!({ "app": "till", "recipient": "owner@example.org" });
    let back = world.call(Person::Collaborator, "POST", all, &back).await;
    c.call(200, "PATCH", one, &[back.json()["id"].as_str().unwrap()], json!({ "state": "accepted" })).await;
}

#[tokio::test]
async fn attack_13_a_team_gives_its_people_what_their_role_says() {
    let world = World::new().await;
    let owner = world.caller(Person::Owner);
    let (team, stranger) = (world.platform.create_team(&owner, "acme").await.unwrap(), "stranger@example.org");
    let new = json!({ "name": "till", "team": "acme" });
    assert_eq!(world.call(Person::Stranger, "POST", "/teams/apps", &new).await.status, 404);
    assert_eq!(world.call(Person::Owner, "POST", "/teams/apps", &new).await.status, 201);
    let tries = [
        ("GET", "/apps/till", Value::Null),
        ("POST", "/shipway/v1/apps/till/redeploy", Value::Null),
        ("PATCH", "/apps/till/config-vars", json!({ "COLOUR": "blue" })),
        ("POST", "/apps/till/collaborators", json!({ "user": "friend@example.org" })),
        ("POST", "/teams/apps/till/collaborators", json!({ "user": stranger, "permissions": ["view"] })),
        ("POST", "/teams/apps", json!({ "name": "another", "team": "acme" })),
        ("PUT", "/teams/acme/members", json!({ "email": stranger, "role": "admin" })),
    ];
    let check = async |role: Option<Role>, locked: bool, expected: [u16; 7]| {
        let app = world.platform.app(&owner, &NameOrId::Name("till".into())).unwrap();
        world.platform.lock_app(&owner, &app, locked).await.unwrap();
        match role {
            Some(role) => drop(world.platform.put_team_member(&owner, &team, stranger, role).await.unwrap()),
            None => drop(world.platform.remove_team_member(&owner, &team, stranger).await),
        }
        for ((method, path, body), expected) in tries.iter().zip(expected) {
            let reply = world.call(Person::Stranger, method, path, body).await;
            assert_eq!(reply.status, expected, "{role:?} locked={locked} {method} {path}: {}", reply.text);
        }
        for name in ["another"] {
            if let Ok(app) = world.platform.app(&owner, &NameOrId::Name(name.into())) {
                world.platform.destroy_app(&owner, &app).await.unwrap();
            }
        }
        if let Ok(app) = world.platform.app(&owner, &NameOrId::Name("till".into())) {
            let _ = world.platform.remove_collaborator(&owner, &app, stranger).await;
        }
    };
    check(None, false, [404, 404, 404, 404, 404, 404, 404]).await;
    check(Some(Role::Collaborator), false, [404, 404, 404, 404, 404, 403, 403]).await;
    check(Some(Role::Viewer), false, [200, 403, 403, 403, 403, 403, 403]).await;
    check(Some(Role::Member), true, [200, 403, 403, 403, 403, 201, 403]).await;
    // 422: past admission, and refused for what it names.
    check(Some(Role::Member), false, [200, 422, 200, 403, 201, 201, 403]).await;
    check(Some(Role::Admin), true, [200, 422, 200, 201, 201, 201, 201]).await;
    // The address by which a team owns is nobody's.
    let own = json!({ "user": "acme@herokumanager.com" });
    let refused = world.call(Person::Owner, "POST", "/apps/shop/collaborators", &own).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let asked = world.call(Person::Stranger, "GET", "/users/acme@herokumanager.com", &Value::Null).await;
    assert_eq!(asked.status, 404, "{}", asked.text);
}
