//! Who looks at a page, and whether what they post is theirs.
//!
//! The session's token is the cookie; the server keeps nothing else. What a form posts must carry the signature of
//! that token, which only a page of ours could have put there; pages of other sites cannot read it, and the cookie is
//! not sent with their requests (`SameSite`).

use crate::call::Open;
use crate::{ApiError, Result, Web};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use shipway_dashboard::CSRF_FIELD;
use shipway_dashboard::model::{Mark, Notice, Shell};
use shipway_domain::admission::{Actor, Permission, Scope, Trigger};
use shipway_domain::{AppId, NameOrId, TokenId};
use shipway_engine::ports::Caller;
use shipway_engine::{Ended, Holder, Platform, Standing};
use shipway_store::{App, Pipeline, Product};

/// Cookies: the session; a visitor's mark, to which the sign-in form is bound; a sentence for the next page.
const SESSION: &str = "shipway";
const VISIT: &str = "shipway-visit";
const NOTICE: &str = "shipway-notice";
/// A session cookie lives as long as the session, in seconds.
const SESSION_SECONDS: u32 = 30 * 24 * 3600;

/// A request of somebody who is signed in.
pub(super) struct Viewer {
    pub(super) caller: Caller,
    pub(super) token: TokenId,
    secret: String,
    notice: Option<Notice>,
    /// How far events had come before anything was read for the page.
    seen: u64,
    pub(super) visit: Open,
}

impl std::ops::Deref for Viewer {
    type Target = Open;
    fn deref(&self) -> &Open {
        &self.visit
    }
}

impl Viewer {
    /// Reads the session. The visit is given back when there is none.
    pub(super) fn of(visit: Open) -> Result<Self, Box<Open>> {
        let Some(secret) = cookie(&visit, SESSION).map(str::to_owned) else { return Err(Box::new(visit)) };
        let Some((actor, token)) = session(visit.platform(), &secret) else { return Err(Box::new(visit)) };
        let notice = cookie(&visit, NOTICE).and_then(|text| read_notice(&visit.web, &secret, text));
        let seen = visit.platform().told();
        Ok(Self { caller: Caller { actor, via: "dashboard" }, token, secret, notice, seen, visit })
    }

    /// The right of what goes on behind a page: it ends with the session, and when `sees` refuses whoever it is by then.
    pub(super) fn stand(
        &self,
        sees: impl Fn(&Platform, &Caller) -> shipway_engine::Result<()> + Send + Sync + 'static,
    ) -> Result<Standing> {
        let holder = Holder::of(self.token, &self.secret);
        self.platform().stand(holder, "dashboard", sees).map_err(|ended| match ended {
            Ended::Token => ApiError::unauthorized(),
            Ended::Right => ApiError::missing("page"),
        })
    }

    /// The same for what shows an app.
    pub(super) fn stand_before(&self, app: AppId) -> Result<Standing> {
        self.stand(move |platform, caller| platform.app(caller, &app.into()).map(drop))
    }

    /// Errors: 403 for a form that no page of this session made.
    pub(super) fn check_form(&self) -> Result<()> {
        check(&self.visit, &self.secret)
    }

    /// What every page begins with.
    pub(super) fn shell(&self) -> Shell {
        Shell {
            now: self.platform().now(),
            viewer: self.caller.actor.email.clone(),
            csrf: csrf(&self.web, &self.secret),
            notice: self.notice.clone(),
            seen: self.seen,
        }
    }

    /// The app of the path.
    pub(super) fn app(&self) -> Result<App> {
        Ok(self.platform().app(&self.caller, &NameOrId::parse(self.parameter("app")))?)
    }

    /// The pipeline of the path.
    pub(super) fn pipeline(&self) -> Result<Pipeline> {
        Ok(self.platform().pipeline(&self.caller, &NameOrId::parse(self.parameter("pipeline")))?)
    }

    /// The product of the path.
    pub(super) fn product(&self) -> Result<Product> {
        Ok(self.platform().product(&self.caller, &NameOrId::parse(self.parameter("product")))?)
    }

    /// Whether admission would let the viewer do this, without asking it for the record.
    pub(super) fn may(&self, trigger: Trigger, app: &App) -> bool {
        matches!(self.platform().refusal(&self.caller, trigger, app), Ok(None))
    }

    /// Whether the viewer may bring code to an app at all: a page says by itself what keeps them from it just now.
    pub(super) fn may_deploy(&self, app: &App) -> bool {
        let granted = self.platform().store().read(|c| c.permission(app, self.caller.actor.account));
        self.caller.actor.admin || granted.is_ok_and(|granted| granted >= Some(Permission::Deploy))
    }

    /// Takes the sentence off that this page has shown.
    pub(super) fn seen(&self, response: &mut Response) {
        if self.notice.is_some() {
            set_cookie(response, &self.visit, NOTICE, "", 0);
        }
    }

    /// Gives the next page a sentence to show.
    pub(super) fn tell(&self, response: &mut Response, mark: Mark, text: &str) {
        let text: String = text.chars().take(600).collect();
        let word = if mark == Mark::Bad {
            'b'
        } else if mark == Mark::Wait {
            'w'
        } else {
            'g'
        };
        let body = BASE64_URL_SAFE_NO_PAD.encode(format!("{word}{text}"));
        let signature = self.web.platform().store().keys().sign_url(&format!("notice {} {body}", self.secret));
        set_cookie(response, &self.visit, NOTICE, &format!("{body}.{signature}"), 60);
    }
}

/// Whose session a cookie is. A token that may do less than its account is none, wherever it was put: pages show what
/// an account may see.
fn session(platform: &Platform, secret: &str) -> Option<(Actor, TokenId)> {
    platform.authenticate(secret).ok().filter(|(actor, _)| actor.scope == Scope::Global)
}

fn read_notice(web: &Web, secret: &str, text: &str) -> Option<Notice> {
    let (body, signature) = text.split_once('.')?;
    web.platform().store().keys().url_is_ours(&format!("notice {secret} {body}"), signature).then_some(())?;
    let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(body).ok()?).ok()?;
    let mark = match text.chars().next()? {
        'b' => Mark::Bad,
        'w' => Mark::Wait,
        _ => Mark::Good,
    };
    Some(Notice { mark, text: text[1..].to_string() })
}

fn csrf(web: &Web, secret: &str) -> String {
    web.platform().store().keys().sign_url(&format!("form {secret}"))
}

fn check(visit: &Open, secret: &str) -> Result<()> {
    let sent = visit.field(CSRF_FIELD).unwrap_or_default();
    let site = visit.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let elsewhere = site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    let ours = visit.platform().store().keys().url_is_ours(&format!("form {secret}"), &sent);
    if elsewhere || !ours {
        return Err(not_ours());
    }
    Ok(())
}

fn not_ours() -> ApiError {
    ApiError::forbidden(
        "This form was not made by a page of this session, so nothing was done. Open the page again and repeat it.",
    )
}

/// A token for the sign-in form, and the mark that it is bound to where the visitor has none yet.
pub(super) fn visitor_csrf(visit: &Open) -> (String, Option<String>) {
    match cookie(visit, VISIT) {
        Some(mark) => (csrf(&visit.web, mark), None),
        None => {
            let mark = shipway_store::hex(&visit.platform().store().keys().random_bytes::<16>());
            (csrf(&visit.web, &mark), Some(mark))
        }
    }
}

/// Errors: 403 for a sign-in form that was not made for this visitor.
pub(super) fn check_visitor(visit: &Open) -> Result<()> {
    check(visit, cookie(visit, VISIT).ok_or_else(not_ours)?)
}

/// Marks a visitor.
pub(super) fn mark_visitor(response: &mut Response, visit: &Open, mark: &str) {
    set_cookie(response, visit, VISIT, mark, SESSION_SECONDS);
}

/// Begins a session in this browser.
pub(super) fn begin_session(response: &mut Response, visit: &Open, secret: &str) {
    set_cookie(response, visit, SESSION, secret, SESSION_SECONDS);
    set_cookie(response, visit, VISIT, "", 0);
}

/// Ends it.
pub(super) fn end_session(response: &mut Response, visit: &Open) {
    set_cookie(response, visit, SESSION, "", 0);
    set_cookie(response, visit, NOTICE, "", 0);
}

/// Over TLS a cookie has the prefix with which browsers refuse one that another host or a plain page has set.
fn cookie_name(visit: &Open, name: &str) -> String {
    if visit.origin.is_tls() { format!("__Host-{name}") } else { name.to_string() }
}

fn cookie<'a>(visit: &'a Open, name: &str) -> Option<&'a str> {
    visit.cookie(&cookie_name(visit, name)).filter(|value| !value.is_empty())
}

fn set_cookie(response: &mut Response, visit: &Open, name: &str, value: &str, seconds: u32) {
    let secure = if visit.origin.is_tls() { "; Secure" } else { "" };
    let name = cookie_name(visit, name);
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    if let Ok(text) = HeaderValue::try_from(text) {
        response.headers_mut().append(header::SET_COOKIE, text);
    }
}
