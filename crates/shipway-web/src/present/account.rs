//! Accounts, their authorizations and keys.

use super::{People, time};
use jiff::Timestamp;
use serde_json::{Value, json};
use shipway_store::{Account, Key, Token};

/// An account. What Shipway has nothing of (second factors, terms, bills) is said in the way that asks for nothing.
pub fn account(account: &Account) -> Value {
    json!({
        "acknowledged_msa": false,
        "acknowledged_msa_at": null,
        "allow_tracking": false,
        "beta": false,
        "country_of_residence": null,
        "created_at": time(account.created_at),
        "default_organization": null,
        "default_team": null,
        "delinquent_at": null,
        "eco_dynos_enabled": false,
        "eco_dynos_shutdown_at": null,
        "email": account.email,
        "federated": false,
        "id": account.id,
        "identity_provider": null,
        "italian_customer_terms": null,
        "italian_partner_terms": null,
        "last_login": null,
        "mfa_enabled": false,
        "mfa_exemption": false,
        "mfa_exemption_reason": null,
        "mfa_experience": "legacy",
        "name": account.name,
        "pipeline_cost_consent_at": null,
        "sms_number": null,
        "suspended_at": null,
        "two_factor_authentication": false,
        "updated_at": time(account.updated_at),
        "verified": true,
    })
}

/// An authorization. `secret` is the token itself, known only in the answer to the call that made it; everywhere else
/// stands its hint, whose first and last characters `heroku logout` compares.
pub fn authorization(people: &mut People<'_>, token: &Token, secret: Option<&str>, now: Timestamp) -> Value {
    let mut user = people.reference(token.account);
    user["full_name"] = Value::Null;
    json!({
        "access_token": {
            "expires_in": expires_in(token, now),
            "id": token.id,
            "token": secret.unwrap_or(&token.hint),
            "version": 1,
        },
        "client": null,
        "created_at": time(token.created_at),
        "description": token.description,
        "grant": null,
        "id": token.id,
        "refresh_token": null,
        "scope": [people.scope(&token.scope)],
        "session": null,
        "updated_at": time(token.updated_at),
        "user": user,
    })
}

/// A session: a token that a page or `shipway env` made.
pub fn session(token: &Token, now: Timestamp) -> Value {
    json!({
        "created_at": time(token.created_at),
        "description": token.description,
        "expires_in": expires_in(token, now),
        "id": token.id,
        "updated_at": time(token.updated_at),
    })
}

/// A token that was ended, as its DELETE answers it. There are no grants and no refresh tokens.
pub fn token(token: &Token, now: Timestamp) -> Value {
    json!({
        "access_token": { "expires_in": expires_in(token, now), "id": token.id, "token": token.hint },
        "authorization": { "id": token.id },
        "client": null,
        "created_at": time(token.created_at),
        "grant": { "code": "", "type": "authorization_code" },
        "id": token.id,
        "refresh_token": { "expires_in": null, "id": token.id, "token": "", "version": 1 },
        "session": { "id": token.id },
        "updated_at": time(token.updated_at),
        "user": { "id": token.account },
    })
}

/// Seconds until a token ends; `None` is never.
fn expires_in(token: &Token, now: Timestamp) -> Option<i64> {
    token.expires_at.map(|at| at.as_second().saturating_sub(now.as_second()).max(0))
}

/// An SSH key.
pub fn key(key: &Key, email: &str) -> Value {
    json!({
        "comment": key.comment,
        "created_at": time(key.created_at),
        "email": email,
        "fingerprint": key.fingerprint,
        "id": key.id,
        "public_key": key.public_key,
        "updated_at": time(key.created_at),
    })
}
