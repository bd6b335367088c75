//! Authorizations (tokens that people make) and sessions (those that pages and `shipway env` make).

use crate::call::Open;
use crate::payload::Payload;
use crate::present::People;
use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result, auth, present};
use shipway_domain::admission::Scope;
use shipway_domain::{NameOrId, TokenId};
use shipway_engine::NewToken;
use shipway_engine::ports::Caller;
use shipway_store::{Token, TokenKind};

const FIELDS: &Fields<Token> = &[("id", |t| Key::text(t.id)), ("description", |t| Key::text(&t.description))];

/// GET /oauth/authorizations
pub async fn list(call: Call) -> Result<Answer> {
    call.may_read_account()?;
    let mut tokens = call.platform().tokens(&call.caller)?;
    tokens.retain(|t| t.kind == TokenKind::Authorization);
    let (mut people, now) = (People::new(&call.web), call.platform().now());
    call.page(tokens, FIELDS, |t| present::authorization(&mut people, t, None, now))
}

/// POST /oauth/authorizations: with a token, or with `email:password` as `heroku login -i` does.
pub async fn create(open: Open) -> Result<Answer> {
    let payload = open.payload()?;
    let description = payload.text("description")?.unwrap_or_default();
    let expires_in = payload.number("expires_in")?;
    let platform = open.platform();
    let (token, secret) = match auth::authenticate(&open.web, &open.headers, "api") {
        Ok((caller, _)) => {
            let scope = scope(&open, &caller, &payload)?;
            let new = NewToken { description, scope, expires_in_seconds: expires_in };
            platform.create_token(&caller, new).await?
        }
        Err(refused) => {
            let given = auth::credentials(&open.headers);
            let Some((email, password)) = given.and_then(|c| Some((c.user.filter(|u| u.contains('@'))?, c.secret)))
            else {
                return Err(refused);
            };
            let (_, token, secret) = platform.login(&email, &password, &description, expires_in).await?;
            (token, secret)
        }
    };
    let now = platform.now();
    Ok(Answer::created(present::authorization(&mut People::new(&open.web), &token, Some(&secret), now)))
}

/// The narrowest scope that holds all that were asked for. Heroku's form each other's supersets in one chain, but for
/// reading secrets and writing without them, which together are all.
fn scope(open: &Open, caller: &Caller, payload: &Payload) -> Result<Scope> {
    let asked = payload.texts("scope")?.unwrap_or_default();
    let mut scopes = Vec::new();
    for text in asked.iter().flat_map(|s| s.split(',')).map(str::trim).filter(|s| !s.is_empty()) {
        scopes.push(match text.strip_prefix("deploy:") {
            Some(app) => Scope::Deploy { app: open.platform().app(caller, &NameOrId::parse(app))?.id },
            None => Scope::from_text(text).ok_or_else(|| {
                let text: String = text.chars().take(80).collect();
                ApiError::invalid(format!(
                    "The scope {text:?} does not exist. There are global, identity, read, read-protected, write, \
                     write-protected, and deploy:APP for CI."
                ))
            })?,
        });
    }
    if scopes.len() > 1 && scopes.iter().any(|s| matches!(s, Scope::Deploy { .. })) {
        return Err(ApiError::invalid("The scope deploy:APP stands alone: make one token for each."));
    }
    if scopes.contains(&Scope::ReadProtected) && scopes.contains(&Scope::Write) {
        scopes.push(Scope::WriteProtected);
    }
    let wanted = scopes.into_iter().max_by_key(rank).unwrap_or(Scope::Global);
    Ok(wanted)
}

fn rank(scope: &Scope) -> u8 {
    match scope {
        Scope::Deploy { .. } => 0,
        Scope::Identity => 1,
        Scope::Read => 2,
        Scope::ReadProtected => 3,
        Scope::Write => 4,
        Scope::WriteProtected => 5,
        Scope::Global => 6,
    }
}

/// GET /oauth/authorizations/{authorization}; `~` is the one that was shown, when it is one to keep: without an end.
///
/// `heroku logout` asks for `~` so as to leave a key alone that other programs may use, and ends what is anything else.
pub async fn info(call: Call) -> Result<Answer> {
    let token = find(&call, TokenKind::Authorization)?;
    if call.parameter("authorization") == "~" && token.expires_at.is_some() {
        return Err(ApiError::missing("authorization"));
    }
    answer(&call, &token, None)
}

/// PATCH /oauth/authorizations/{authorization}
pub async fn update(call: Call) -> Result<Answer> {
    let token = find(&call, TokenKind::Authorization)?;
    let payload = call.payload()?;
    if payload.object("client")?.is_some() {
        return Err(ApiError::invalid("There are no OAuth clients here; leave `client` out."));
    }
    let description = payload.text("description")?.unwrap_or(token.description);
    let token = call.platform().describe_token(&call.caller, token.id, &description).await?;
    answer(&call, &token, None)
}

/// POST /oauth/authorizations/{authorization}/actions/regenerate-tokens
pub async fn rotate(call: Call) -> Result<Answer> {
    let token = find(&call, TokenKind::Authorization)?;
    let (token, secret) = call.platform().rotate_token(&call.caller, token.id).await?;
    answer(&call, &token, Some(&secret))
}

/// DELETE /oauth/authorizations/{authorization}
pub async fn revoke(call: Call) -> Result<Answer> {
    let token = find(&call, TokenKind::Authorization)?;
    let token = end(&call, token).await?;
    answer(&call, &token, None)
}

/// GET /oauth/sessions
pub async fn sessions(call: Call) -> Result<Answer> {
    call.may_read_account()?;
    let mut tokens = call.platform().tokens(&call.caller)?;
    tokens.retain(|t| t.kind == TokenKind::Session);
    let now = call.platform().now();
    call.page(tokens, FIELDS, |t| present::session(t, now))
}

/// DELETE /oauth/sessions/{authorization}; `~` is the one that was shown.
pub async fn end_session(call: Call) -> Result<Answer> {
    let token = end(&call, find(&call, TokenKind::Session)?).await?;
    Ok(Answer::ok(present::session(&token, call.platform().now())))
}

/// POST /oauth/tokens
pub async fn exchange(_: Call) -> Result<Answer> {
    Err(ApiError::invalid(
        "There are no OAuth clients here, so there is no grant to exchange. Make a token with \
         `heroku authorizations:create`.",
    ))
}

/// DELETE /oauth/tokens/{authorization}: ends the authorization or session whose token it is.
pub async fn end_token(call: Call) -> Result<Answer> {
    let wanted = wanted(&call);
    let found = call.platform().tokens(&call.caller)?.into_iter().find(|t| Some(t.id) == wanted);
    let token = end(&call, found.ok_or_else(|| ApiError::missing("token"))?).await?;
    Ok(Answer::ok(present::token(&token, call.platform().now())))
}

async fn end(call: &Call, token: Token) -> Result<Token> {
    Ok(call.platform().revoke_token(&call.caller, call.holder.token, token.id).await?)
}

fn answer(call: &Call, token: &Token, secret: Option<&str>) -> Result<Answer> {
    let now = call.platform().now();
    Ok(Answer::ok(present::authorization(&mut People::new(&call.web), token, secret, now)))
}

fn wanted(call: &Call) -> Option<TokenId> {
    match call.parameter("authorization") {
        "~" => Some(call.holder.token),
        id => id.parse().ok(),
    }
}

/// One of the caller's own. Clients tell the two kinds apart by the noun of a 404.
fn find(call: &Call, kind: TokenKind) -> Result<Token> {
    let wanted = wanted(call);
    if wanted != Some(call.holder.token) {
        call.may_read_account()?;
    }
    let noun = if kind == TokenKind::Session { "session" } else { "authorization" };
    let found = call.platform().tokens(&call.caller)?.into_iter().find(|t| t.kind == kind && Some(t.id) == wanted);
    found.ok_or_else(|| ApiError::missing(noun))
}
