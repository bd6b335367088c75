//! Tokens of GitHub Apps: a signed statement of who we are is exchanged for a token of the repository's installation.
//! Source: GitHub, "Authenticating as a GitHub App installation".

use crate::api::Api;
use crate::json;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use shipway_domain::ForgeConnectionId;
use std::collections::HashMap;
use tokio::sync::Mutex;

/// A token that ends sooner than this is not begun with.
const SPARE: SignedDuration = SignedDuration::from_mins(5);

/// Tokens until they expire. One exchange at a time.
#[derive(Default)]
pub(crate) struct AppTokens(Mutex<HashMap<ForgeConnectionId, (String, Timestamp)>>);

impl AppTokens {
    pub(crate) async fn get(&self, api: &Api<'_>, app_id: &str, key: &str) -> Result<String, String> {
        let mut tokens = self.0.lock().await;
        let now = Timestamp::now();
        tokens.retain(|_, (_, expires_at)| *expires_at > now + SPARE);
        if let Some((token, _)) = tokens.get(&api.forge.id) {
            return Ok(token.clone());
        }
        let ourselves = api.same().with(&statement(app_id, key, now)?);
        let installation = ourselves.get(&format!("{}/installation", api.repository())).await?;
        let path = format!("/app/installations/{}/access_tokens", json::number(&installation, "id")?);
        let made = ourselves.post(&path, &json!({})).await?;
        let token = json::text(&made, "token")?.to_owned();
        tokens.insert(api.forge.id, (token.clone(), json::time(&made, "expires_at")?));
        Ok(token)
    }
}

/// Reads a private key in PEM. Errors: a sentence.
pub(crate) fn check(pem: &str) -> Result<RsaKeyPair, String> {
    let bad = || "The App's private key is no RSA key in PEM: use the file that GitHub gave you.".to_string();
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| bad())?;
    let pair = match &der {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err(bad()),
    };
    pair.map_err(|_| bad())
}

/// A JSON Web Token that says who we are, for nine minutes; one minute ago, for clocks that differ.
fn statement(app_id: &str, key: &str, now: Timestamp) -> Result<String, String> {
    let pair = check(key)?;
    let now = now.as_second();
    let head = URL_SAFE_NO_PAD.encode(json!({ "alg": "RS256", "typ": "JWT" }).to_string());
    let claims = json!({ "iat": now - 60, "exp": now + 9 * 60, "iss": app_id });
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| "the App's key could not sign".to_string())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
