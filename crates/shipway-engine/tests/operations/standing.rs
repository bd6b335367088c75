//! What is open goes on for as long as its token and its right do, and asks for neither piece by piece.

use jiff::SignedDuration;
use shipway_domain::admission::{Permission, Scope};
use shipway_domain::{Email, NameOrId};
use shipway_engine::ports::Caller;
use shipway_engine::{Ended, Holder, NewToken, Standing};
use shipway_testkit::{Ground, Server};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

async fn holder(server: &Server, caller: &Caller, lives: Option<u64>) -> Holder {
    let new = NewToken { description: "laptop".into(), scope: Scope::Global, expires_in_seconds: lives };
    let (token, secret) = server.platform.create_token(caller, new).await.unwrap();
    Holder::of(token.id, &secret)
}

/// Somebody who may look at the app `acorn`.
async fn viewer(server: &Server) -> Caller {
    let email = Email::parse("ada@example.org").unwrap();
    let (_, token) = server.platform.add_account(&server.caller, &email, None, false).await.unwrap();
    let app = server.platform.app(&server.caller, &NameOrId::parse("acorn")).unwrap();
    server.platform.give_access(&server.caller, &app, email.as_str(), Permission::View).await.unwrap();
    Caller { actor: server.platform.authenticate(&token).unwrap().0, via: "test" }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_asks_when_rights_change_and_not_for_each_piece() {
    let server = Ground::new().server(None).await;
    let acorn = server.create("acorn").await;
    let ada = viewer(&server).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let (counted, id) = (asked.clone(), NameOrId::Id(acorn.id.0));
    let right = move |platform: &shipway_engine::Platform, caller: &Caller| {
        counted.fetch_add(1, Ordering::SeqCst);
        platform.app(caller, &id).map(drop)
    };
    let mut standing = server.platform.stand(holder(&server, &ada, None).await, "test", right).unwrap();
    let begun = tokio::time::Instant::now();
    for _ in 0..10_000 {
        standing.stands().unwrap();
    }
    // Once at the beginning, and once more on a machine that takes ten seconds for this.
    let most = 1 + begun.elapsed().as_secs() as usize / 10;
    assert!(asked.load(Ordering::SeqCst) <= most, "{asked:?}");

    server.platform.remove_collaborator(&server.caller, &acorn, "ada@example.org").await.unwrap();
    assert_eq!(standing.stands(), Err(Ended::Right));
    assert_eq!(standing.stands(), Err(Ended::Right), "and it stays so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_rotated_or_expired_ends_what_it_opened() {
    let ground = Ground::new();
    let server = ground.server(None).await;
    let acorn = server.create("acorn").await;
    let ada = viewer(&server).await;
    let stand = async |lives| -> (Holder, Standing) {
        let holder = holder(&server, &ada, lives).await;
        (holder.clone(), server.platform.stand_before(holder, "test", acorn.id).unwrap())
    };
    let (revoked, mut one) = stand(None).await;
    let (rotated, mut two) = stand(None).await;
    let (expiring, mut three) = stand(Some(3600)).await;
    let (_, mut kept) = stand(None).await;

    // Who waits hears of it.
    let waiting = tokio::spawn(async move { one.ended().await });
    server.platform.revoke_token(&ada, revoked.token, revoked.token).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Ended::Token);
    let (_, secret) = server.platform.rotate_token(&ada, rotated.token).await.unwrap();
    assert_eq!(two.stands(), Err(Ended::Token));
    server.platform.stand_before(Holder::of(rotated.token, &secret), "test", acorn.id).unwrap();
    three.stands().unwrap();
    ground.world.jump(SignedDuration::from_hours(2));
    assert_eq!(three.stands(), Err(Ended::Token));
    assert_eq!(server.platform.stand_before(expiring, "test", acorn.id).err(), Some(Ended::Token));
    kept.stands().unwrap();

    server.platform.destroy_app(&server.caller, &acorn).await.unwrap();
    assert_eq!(kept.ended().await, Ended::Right);
}
