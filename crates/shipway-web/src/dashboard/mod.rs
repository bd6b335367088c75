//! The dashboard: pages for people. Handlers ask the engine, fill a view model of `shipway_dashboard`, and answer with
//! the page that it makes; whatever they change goes through the same calls as the API.

mod apps;
mod config;
mod deploys;
mod difference;
mod facts;
mod forks;
mod live;
mod logs;
mod operations;
mod people;
mod pipelines;
mod releases;
mod reviews;
mod sign_in;
mod together;
mod visit;
mod words;

use crate::call::Open;
use crate::routes::{Door, Route, table};
use crate::{ApiError, Web};
use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use shipway_dashboard::model::{Mark, ProblemPage, Shell};
use shipway_dashboard::{Asset, HEADERS, ROUTES, path};
use std::future::Future;
use visit::Viewer;

/// What a handler answers.
type Page = Result<Response, ApiError>;

table! { Dashboard:
    GET "/" => home;
    GET "/dashboard/{*page}" => mistyped;
}

/// The routes of this door as data: the two above, and those of `shipway_dashboard::ROUTES`.
pub fn table() -> Vec<Route> {
    let method = |method| if method == shipway_dashboard::Method::Get { "GET" } else { "POST" };
    let page = |route: &shipway_dashboard::Route| Route {
        door: Door::Dashboard,
        method: method(route.method),
        path: route.path,
        handler: route.name,
    };
    TABLE.iter().copied().chain(ROUTES.iter().map(page)).collect()
}

/// The same with their handlers.
#[expect(clippy::disallowed_methods, reason = "the place where the pages' table becomes a router")]
pub fn routes(_: &Web) -> Router<Web> {
    ROUTES.iter().fold(declared(), |router, route| {
        let handler = match (route.name, route.method) {
            ("asset", _) => get(asset),
            (name, shipway_dashboard::Method::Get) => reading(name),
            (name, shipway_dashboard::Method::Post) => acting(name),
        };
        router.route(route.path, handler)
    })
}

/// The bare address leads to the list of apps.
async fn home() -> Response {
    see_other(&path("apps", &[]))
}

/// A mistyped page is answered by a page.
async fn mistyped(visit: Result<Open, ApiError>) -> Response {
    looked(visit, async |_| Err(ApiError::missing("page"))).await
}

/// Who asks by GET for what a form is sent to, by a reload or a link that was copied, is led to the page of the form.
pub async fn wrong_method(method: Method, uri: Uri) -> Response {
    let page = shipway_dashboard::page_of_form(uri.path());
    match page.filter(|_| matches!(method, Method::GET | Method::HEAD)) {
        Some(page) => see_other(&page),
        None => crate::api::meta::wrong_method(method, uri).await.into_response(),
    }
}

fn reading(name: &str) -> MethodRouter<Web> {
    match name {
        "sign_in" => get(sign_in::form),
        "cli_login" => look(sign_in::cli),
        "apps" => look(apps::list),
        "apps.events" => look(live::apps),
        "app" => look(apps::overview),
        "app.events" => look(live::app),
        "releases" => look(releases::list),
        "release" => look(releases::one),
        "rollback.ask" => look(releases::ask_rollback),
        "dynos" => look(apps::dynos),
        "scale.ask" => look(apps::ask_scale),
        "restart.ask" => look(apps::ask_restart),
        "config" => look(config::list),
        "config.unset.ask" => look(config::ask_unset),
        "deploys" => look(deploys::list),
        "previous.ask" => look(deploys::ask_previous),
        "resources" => look(people::resources),
        "access" => look(people::access),
        "logs" => look(logs::page_of),
        "logs.events" => look(live::logs),
        "build" => look(logs::build),
        "build.events" => look(live::build),
        "build.output" => look(logs::build_output),
        "pipelines" => look(pipelines::list),
        "pipeline" => look(pipelines::board),
        "pipeline.events" => look(live::pipeline),
        "promote.ask" => look(pipelines::ask_promote),
        "fork.ask" => look(forks::ask),
        "review.remove.ask" => look(reviews::ask_remove),
        "together.ask" => look(together::ask),
        "product" => look(pipelines::product),
        "product.events" => look(live::product),
        "activity" => look(operations::activity),
        "app.activity" => look(operations::activity),
        "operations" => look(operations::list),
        "operations.events" => look(live::operations),
        "operation" => look(operations::one),
        "cancel.ask" => look(operations::ask_cancel),
        other => unreachable!("the dashboard's route {other} has no handler"),
    }
}

fn acting(name: &str) -> MethodRouter<Web> {
    match name {
        "sign_in.post" => post(sign_in::sign_in),
        "sign_out" => act(sign_in::sign_out),
        "cli_login.post" => act(sign_in::decide),
        "rollback" => act(releases::rollback),
        "scale" => act(apps::scale),
        "restart" => act(apps::restart),
        "config.reveal" => act(config::reveal),
        "config.set" => act(config::set),
        "config.unset" => act(config::unset),
        "cancel" => act(operations::cancel),
        "retry" => act(operations::retry),
        "access.give" => act(people::give),
        "access.remove" => act(people::remove),
        "access.decline" => act(people::decline),
        "access.ask" => act(people::ask),
        "offer" => act(people::answer_offer),
        "promote" => act(pipelines::promote),
        "sign_off" => act(pipelines::sign_off),
        "fork.allow" => act(forks::allow),
        "together" => act(together::promote),
        "review.retry" => act(reviews::retry),
        "review.make" => act(reviews::make),
        "review.remove" => act(reviews::remove),
        "trigger.add" => act(deploys::add_trigger),
        "trigger.remove" => act(deploys::remove_trigger),
        "reserve" => act(deploys::reserve),
        "unreserve" => act(deploys::unreserve),
        "previous" => act(deploys::bring_back),
        "notices.read" => act(deploys::read),
        other => unreachable!("the dashboard's route {other} has no handler"),
    }
}

/// A page for somebody who is signed in; everybody else is asked to.
fn look<F, Fut>(handler: F) -> MethodRouter<Web>
where
    F: Fn(Viewer) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Page> + Send,
{
    get(move |visit: Result<Open, ApiError>| looked(visit, handler))
}

async fn looked<F, Fut>(visit: Result<Open, ApiError>, handler: F) -> Response
where
    F: Fn(Viewer) -> Fut,
    Fut: Future<Output = Page>,
{
    let visit = match visit {
        Ok(visit) => visit,
        Err(error) => return problem(None, &error),
    };
    if let Some(elsewhere) = to_tls(&visit) {
        return elsewhere;
    }
    match Viewer::of(visit) {
        Ok(viewer) => answer(viewer, handler, false).await,
        Err(visit) => see_other(&format!("{}?next={}", path("sign_in", &[]), encoded(visit.target()))),
    }
}

/// An act of somebody who is signed in, by a form of ours.
fn act<F, Fut>(handler: F) -> MethodRouter<Web>
where
    F: Fn(Viewer) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Page> + Send,
{
    post(move |visit: Result<Open, ApiError>| async move {
        match visit.map(Viewer::of) {
            Ok(Ok(viewer)) => answer(viewer, handler, true).await,
            Ok(Err(_)) => {
                let message = "Your session has ended, so nothing was done. Sign in and repeat it.";
                problem(None, &ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
            }
            Err(error) => problem(None, &error),
        }
    })
}

async fn answer<F, Fut>(viewer: Viewer, handler: F, acts: bool) -> Response
where
    F: Fn(Viewer) -> Fut,
    Fut: Future<Output = Page>,
{
    let shell = viewer.shell();
    if acts && let Err(error) = viewer.check_form() {
        return problem(Some(shell), &error);
    }
    let app = Some(viewer.parameter("app").to_string()).filter(|app| shipway_domain::AppName::parse(app).is_ok());
    let unseen = app.filter(|_| !acts && viewer.app().is_err());
    handler(viewer).await.unwrap_or_else(|error| problem_about(Some(shell), &error, unseen))
}

/// A token must not cross a network in the clear: the same port speaks TLS.
fn to_tls(visit: &Open) -> Option<Response> {
    if visit.origin.is_tls() || visit.origin.is_loopback() || visit.connection.is_none() {
        return None;
    }
    Some(see_other(&visit.origin.secure_url(visit.target())))
}

/// A whole page of the viewer's.
fn page(viewer: &Viewer, text: String) -> Page {
    let mut response = html(StatusCode::OK, text);
    viewer.seen(&mut response);
    Ok(response)
}

/// On to where the result of an act can be seen, with a sentence about it.
fn done(viewer: &Viewer, to: &str, mark: Mark, text: &str) -> Page {
    let mut response = see_other(to);
    viewer.tell(&mut response, mark, text);
    Ok(response)
}

fn see_other(to: &str) -> Response {
    let mut response = html(StatusCode::SEE_OTHER, String::new());
    if let Ok(to) = HeaderValue::try_from(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

fn html(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    for (name, value) in HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The page of a request that could not be answered as it was meant.
fn problem(shell: Option<Shell>, error: &ApiError) -> Response {
    problem_about(shell, error, None)
}

/// The same, where it is an app that the viewer cannot see.
fn problem_about(shell: Option<Shell>, error: &ApiError, unseen_app: Option<String>) -> Response {
    error.log();
    let next = match error.status() {
        StatusCode::NOT_FOUND => {
            "Check the address. What was destroyed or never shared with you looks the same from here."
        }
        StatusCode::UNAUTHORIZED => "Sign in and try again.",
        StatusCode::FORBIDDEN => "Ask whoever the sentence names, or go back.",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => "Wait a moment and try again.",
        status if status.is_server_error() => "Try again; if it stays, tell whoever runs this Shipway.",
        _ => "Go back, change it, and try again.",
    };
    let model = ProblemPage {
        shell,
        status: error.status().as_u16(),
        what: match error.status() {
            // What follows is for terminals: the page has a link.
            StatusCode::NOT_FOUND => first_sentence(error.message()).to_string(),
            _ => error.message().to_string(),
        },
        next: vec![next.into()],
        commands: Vec::new(),
        links: Vec::new(),
        ask: Vec::new(),
        unseen_app,
        request_id: None,
    };
    html(error.status(), shipway_dashboard::problem(&model))
}

fn first_sentence(text: &str) -> &str {
    text.find(". ").map_or(text, |end| &text[..=end])
}

async fn asset(path: Result<Path<String>, PathRejection>) -> Response {
    let Some(asset) = path.ok().and_then(|Path(file)| shipway_dashboard::asset(&file)) else {
        return ApiError::missing("file").into_response();
    };
    let mut response = Response::new(Body::from(asset.body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(Asset::CACHE_CONTROL));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// `text` as one value of a query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
        out
    })
}
