//! Signing in and out, and letting a command line in.

use super::visit::{self, Viewer};
use super::{Page, html, page, problem, see_other, to_tls};
use crate::call::Open;
use crate::{ApiError, Result};
use axum::http::StatusCode;
use axum::response::Response;
use shipway_dashboard::model::{CliLoginPage, Decision, SignInPage};
use shipway_dashboard::path;
use shipway_domain::admission::Scope;

/// How long a session of a browser lives, in seconds.
const SESSION_SECONDS: u64 = 30 * 24 * 3600;
/// The same in days, as the page says it.
const SESSION_DAYS: u32 = 30;

/// GET sign_in
pub(super) async fn form(visit: Result<Open, ApiError>) -> Response {
    let visit = match visit {
        Ok(visit) => visit,
        Err(error) => return problem(None, &error),
    };
    if let Some(elsewhere) = to_tls(&visit) {
        return elsewhere;
    }
    let next = visit.query("next").unwrap_or_default().to_string();
    match Viewer::of(visit) {
        Ok(_) => see_other(&ours(&next)),
        Err(visit) => show(&visit, None, String::new(), next, StatusCode::OK),
    }
}

fn show(visit: &Open, error: Option<String>, email: String, next: String, status: StatusCode) -> Response {
    let (csrf, fresh) = visit::visitor_csrf(visit);
    let mut response = html(status, shipway_dashboard::sign_in(&SignInPage { csrf, error, email, next }));
    if let Some(mark) = fresh {
        visit::mark_visitor(&mut response, visit, &mark);
    }
    response
}

/// Where to go afterwards: only to a page of ours.
fn ours(next: &str) -> String {
    let home = path("apps", &[]);
    let inside = next == home || next.strip_prefix(&home).is_some_and(|rest| rest.starts_with(['/', '?']));
    let plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if inside && plain { next.to_string() } else { home }
}

/// POST sign_in
pub(super) async fn sign_in(visit: Result<Open, ApiError>) -> Response {
    let visit = match visit {
        Ok(visit) => visit,
        Err(error) => return problem(None, &error),
    };
    let field = |name: &str| visit.field(name).unwrap_or_default();
    let (email, next) = (field("email").trim().to_string(), field("next"));
    if visit::check_visitor(&visit).is_err() {
        let again = "This form had expired. Fill it in once more.".to_string();
        return show(&visit, Some(again), email, next, StatusCode::FORBIDDEN);
    }
    match session(&visit, field("token").trim(), &email, &field("password")).await {
        Ok(secret) => {
            let mut response = see_other(&ours(&next));
            visit::begin_session(&mut response, &visit, &secret);
            response
        }
        Err(error) => {
            let text = match error.status() {
                StatusCode::UNAUTHORIZED if email.is_empty() => "That token is not known here, or it has ended.".into(),
                StatusCode::UNAUTHORIZED => "Address and password do not fit together.".into(),
                _ => error.message().to_string(),
            };
            error.log();
            show(&visit, Some(text), email, next, error.status())
        }
    }
}

/// A session for whoever shows a token or a password.
async fn session(visit: &Open, token: &str, email: &str, password: &str) -> Result<String> {
    let platform = visit.platform();
    if !token.is_empty() {
        let (actor, _) = platform.authenticate(token)?;
        // A session may do everything its account may: a lesser token must not become one.
        if actor.scope != Scope::Global {
            let scope = platform.scope_name(&actor.scope);
            return Err(ApiError::forbidden(format!(
                "That token's scope is {scope}, and the dashboard needs one with the scope global: heroku authorizations:create"
            )));
        }
        return Ok(platform.session_for(actor.account, "Dashboard").await?);
    }
    let (_, _, secret) = platform.login(email, password, "Dashboard", Some(SESSION_SECONDS)).await?;
    Ok(secret)
}

/// POST sign_out
pub(super) async fn sign_out(viewer: Viewer) -> Page {
    viewer.platform().revoke_token(&viewer.caller, viewer.token, viewer.token).await?;
    let mut response = see_other(&path("sign_in", &[]));
    visit::end_session(&mut response, &viewer.visit);
    Ok(response)
}

/// GET cli_login
pub(super) async fn cli(viewer: Viewer) -> Page {
    let waits = viewer.platform().login_request(viewer.parameter("request")).is_some();
    cli_page(&viewer, if waits { Decision::Open } else { Decision::Gone })
}

/// POST cli_login
pub(super) async fn decide(viewer: Viewer) -> Page {
    let request = viewer.parameter("request").to_string();
    if viewer.platform().login_request(&request).is_none() {
        return cli_page(&viewer, Decision::Gone);
    }
    match viewer.field("decision").as_deref() {
        Some("approve") => {
            viewer.platform().approve_login(&viewer.caller, &request).await?;
            cli_page(&viewer, Decision::Approved)
        }
        Some("deny") => {
            viewer.platform().deny_login(&request);
            cli_page(&viewer, Decision::Denied)
        }
        _ => Err(ApiError::invalid("Choose one of the two buttons: approve or deny.")),
    }
}

fn cli_page(viewer: &Viewer, decision: Decision) -> Page {
    let request = viewer.parameter("request").to_string();
    let asked = viewer.web.asked().find(&request);
    let from =
        asked.and_then(|(from, _)| from).map_or_else(|| "an address that is not known".into(), |ip| ip.to_string());
    let model = CliLoginPage {
        shell: viewer.shell(),
        description: viewer.platform().login_request(&request).unwrap_or_default(),
        request,
        from,
        at: asked.map_or_else(|| viewer.platform().now(), |(_, at)| at),
        days: SESSION_DAYS,
        decision,
    };
    page(viewer, shipway_dashboard::cli_login(&model))
}
