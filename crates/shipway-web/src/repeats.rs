//! A change that is asked for twice is made once.
//!
//! The Heroku CLI sends any request again, up to five times within about six seconds, when its connection breaks:
//! creations too, byte for byte as before, and without knowing whether the first one arrived. Each of its calls has a
//! `Request-Id` of its own, and a repetition has the same one. So the same token, method, path, `Request-Id` and body
//! within [`KEPT`] are one request, carried out once; every asker gets the one answer, as soon as there is one.
//!
//! Kept in memory: a server that was restarted meanwhile carries the request out again, as if this were not here.

use crate::call::whole;
use crate::{ApiError, Web, auth};
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ring::digest::{Context, SHA256};
use shipway_domain::TokenId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long an answer is kept for those who ask again.
const KEPT: Duration = Duration::from_secs(60);
/// Bytes of answers that are kept in all; beyond, the oldest go first.
const MAX_KEPT: usize = 4 * 1024 * 1024;
/// Where a body is streamed and the URL names what is written: to do it twice is to do it once.
const UPLOAD: &str = "/sources/{source}/{signature}";

/// What makes two requests one.
type Key = [u8; 32];

/// An answer that can be given more than once.
#[derive(Clone)]
struct Given {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Given {
    fn size(&self) -> usize {
        self.body.len() + self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
    }
}

impl IntoResponse for Given {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// Nothing while it is being carried out.
type Answer = watch::Receiver<Option<Given>>;

/// The requests of the last minute that changed something.
#[derive(Default)]
pub(crate) struct Repeats(Mutex<HashMap<Key, (Answer, Instant)>>);

enum Turn {
    /// To be carried out, and the answer told here.
    First(watch::Sender<Option<Given>>),
    /// Somebody does already, or has done.
    Again(Answer),
}

impl Repeats {
    fn turn(&self, key: Key, now: Instant) -> Turn {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What is still under way stays, however long it takes; what ended without an answer is forgotten.
        let under_way = |answer: &Answer| answer.borrow().is_none() && answer.has_changed().is_ok();
        kept.retain(|_, (answer, since)| {
            under_way(answer) || answer.borrow().is_some() && now.duration_since(*since) < KEPT
        });
        let size = |answer: &Answer| answer.borrow().as_ref().map_or(0, Given::size);
        let mut total: usize = kept.values().map(|(answer, _)| size(answer)).sum();
        while total > MAX_KEPT {
            let answered = kept.iter().filter(|(_, (answer, _))| size(answer) > 0);
            let Some(oldest) = answered.min_by_key(|(_, (_, since))| *since).map(|(key, _)| *key) else { break };
            total -= kept.remove(&oldest).map_or(0, |(answer, _)| size(&answer));
        }
        if let Some((answer, _)) = kept.get(&key) {
            return Turn::Again(answer.clone());
        }
        let (tell, answer) = watch::channel(None);
        kept.insert(key, (answer, now));
        Turn::First(tell)
    }

    fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Carries a request out, or gives the answer that its first sending got.
pub(crate) async fn guard(State(web): State<Web>, request: Request, next: Next) -> Response {
    let Some(token) = repeatable(&web, &request) else { return next.run(request).await };
    let (parts, body) = request.into_parts();
    let body = match whole(body).await {
        Ok(body) => body,
        Err(refused) => return refused.into_response(),
    };
    let key = key(token, &parts, &body);
    let mut answer = match web.repeats().turn(key, Instant::now()) {
        Turn::Again(answer) => answer,
        Turn::First(tell) => {
            let answer = tell.subscribe();
            // A task of its own: when the connection breaks, what was asked for goes on, and the next try finds it.
            tokio::spawn(async move {
                let given = take(next.run(Request::from_parts(parts, Body::from(body))).await).await;
                if given.status.is_server_error() {
                    // It may go better the next time.
                    web.repeats().forget(&key);
                }
                tell.send_replace(Some(given));
            });
            answer
        }
    };
    // Nobody tells any more only if the handler broke down.
    let given = answer.wait_for(Option::is_some).await.ok().and_then(|given| given.clone());
    match given {
        Some(given) => given.into_response(),
        None => ApiError::from(shipway_engine::Error::platform("a request ended without an answer")).into_response(),
    }
}

/// The token of a request that changes something and could come twice.
fn repeatable(web: &Web, request: &Request) -> Option<TokenId> {
    let changes = matches!(*request.method(), Method::POST | Method::PATCH | Method::PUT | Method::DELETE);
    let upload = request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str() == UPLOAD);
    if !changes || upload || !request.headers().contains_key("request-id") {
        return None;
    }
    // Strangers are refused without their bodies being read, and nothing is kept for them.
    auth::authenticate(web, request.headers(), "api").ok().map(|(_, holder)| holder.token)
}

fn key(token: TokenId, parts: &Parts, body: &[u8]) -> Key {
    let mut context = Context::new(&SHA256);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let ids = parts.headers.get_all("request-id").iter().map(|id| id.as_bytes());
    let fields = [token.to_string().into_bytes(), parts.method.as_str().into(), target.into()];
    // Each with its length, so that no two different lists of fields read the same.
    for field in fields.iter().map(Vec::as_slice).chain(ids).chain([body]) {
        context.update(&(field.len() as u64).to_be_bytes());
        context.update(field);
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

async fn take(response: Response) -> Given {
    let (parts, body) = response.into_parts();
    // Our own JSON, which is in memory already.
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    Given { status: parts.status, headers: parts.headers, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(size: usize) -> Given {
        Given { status: StatusCode::CREATED, headers: HeaderMap::new(), body: vec![b'x'; size].into() }
    }

    fn first(repeats: &Repeats, key: u8, now: Instant) -> bool {
        match repeats.turn([key; 32], now) {
            Turn::First(tell) => {
                tell.send_replace(Some(given(MAX_KEPT / 3)));
                true
            }
            Turn::Again(_) => false,
        }
    }

    #[test]
    fn an_answer_is_given_for_a_minute_and_the_oldest_make_room() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(first(&repeats, 1, at(0)) && !first(&repeats, 1, at(59)) && first(&repeats, 1, at(60)));
        for key in 2..=4 {
            assert!(first(&repeats, key, at(60 + u64::from(key))));
        }
        assert!(first(&repeats, 1, at(65)), "the oldest of too many went");
        assert!(!first(&repeats, 4, at(65)));
    }

    #[test]
    fn what_broke_down_is_carried_out_again() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let Turn::First(tell) = repeats.turn([1; 32], now) else { panic!("the first") };
        assert!(matches!(repeats.turn([1; 32], now), Turn::Again(_)));
        drop(tell);
        assert!(matches!(repeats.turn([1; 32], now), Turn::First(_)));
    }
}
