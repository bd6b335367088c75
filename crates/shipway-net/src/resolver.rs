//! Which certificate a TLS client gets.
//!
//! By the name it asks for: the operator's certificate where that covers it, the default leaf for the platform's own
//! names, a leaf of our authority for names that are known. Anything else gets the default leaf and costs no signature:
//! names nobody routes cannot be used to make us issue.

use crate::ca::{Ca, CaError, operator_certificate};
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Leaves kept in memory.
const MAX_LEAVES: usize = 1024;
/// A leaf is issued anew after this long, far before it expires.
const LEAF_AGE: Duration = Duration::from_secs(30 * 86_400);
/// Leaves issued in a burst, and one more per [`REFILL`]. Known names are few; a flood of them is somebody guessing.
const BURST: u32 = 64;
const REFILL: Duration = Duration::from_millis(100);

/// Tells whether a host name, lower case, is one that we route.
pub type KnownName = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Resolves certificates by server name.
pub struct CertResolver {
    ca: Arc<Ca>,
    own_names: Vec<String>,
    operator: Option<Arc<CertifiedKey>>,
    known: KnownName,
    state: Mutex<State>,
}

struct State {
    default: Leaf,
    leaves: HashMap<String, Leaf>,
    allowance: u32,
    refilled: Instant,
}

#[derive(Clone)]
struct Leaf {
    key: Arc<CertifiedKey>,
    issued: Instant,
}

impl Leaf {
    fn issue(ca: &Ca, names: &[String]) -> Result<Self, CaError> {
        Ok(Self { key: Arc::new(ca.issue(names)?), issued: Instant::now() })
    }
    fn is_fresh(&self) -> bool {
        self.issued.elapsed() < LEAF_AGE
    }
}

impl CertResolver {
    /// Resolves with `ca`'s leaves.
    ///
    /// The default leaf, for clients without a server name and for names that `known` refuses, stands for 127.0.0.1, ::1,
    /// localhost, *.localhost and `own_names`. List names such as `api.localhost` there: some clients (Node) do not
    /// match them with `*.localhost`.
    pub fn new(ca: Arc<Ca>, own_names: &[String], known: KnownName) -> Result<Self, CaError> {
        let mut names: Vec<String> = ["localhost", "*.localhost", "127.0.0.1", "::1"].map(String::from).into();
        for name in own_names {
            let name = name.to_ascii_lowercase();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let default = Leaf::issue(&ca, &names)?;
        let state = State { default, leaves: HashMap::new(), allowance: BURST, refilled: Instant::now() };
        Ok(Self { ca, own_names: names, operator: None, known, state: Mutex::new(state) })
    }

    /// Uses the operator's certificate for every name that it covers and for clients that send no name.
    pub fn with_operator(mut self, chain: &Path, key: &Path) -> Result<Self, CaError> {
        self.operator = Some(Arc::new(operator_certificate(chain, key)?));
        Ok(self)
    }

    /// A TLS configuration that offers HTTP/2 and HTTP/1.1.
    pub fn server_config(self: Arc<Self>) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(self);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.max_early_data_size = 0;
        Arc::new(config)
    }

    fn for_name(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let name = name.map(str::to_ascii_lowercase);
        if let Some(operator) = &self.operator
            && name.as_deref().is_none_or(|name| covers(operator, name))
        {
            return operator.clone();
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(name) = name.filter(|name| !self.own_names.contains(name)) else { return state.default(self) };
        if let Some(leaf) = state.leaves.get(&name).filter(|leaf| leaf.is_fresh()) {
            return leaf.key.clone();
        }
        if !(self.known)(&name) || !state.may_issue() {
            return state.default(self);
        }
        match Leaf::issue(&self.ca, std::slice::from_ref(&name)) {
            Ok(leaf) => {
                state.make_room();
                state.leaves.insert(name, leaf.clone());
                leaf.key
            }
            Err(error) => {
                tracing::warn!(%error, "a client of this name gets the default certificate");
                state.default(self)
            }
        }
    }
}

impl State {
    fn default(&mut self, resolver: &CertResolver) -> Arc<CertifiedKey> {
        if !self.default.is_fresh()
            && self.may_issue()
            && let Ok(leaf) = Leaf::issue(&resolver.ca, &resolver.own_names)
        {
            self.default = leaf;
        }
        self.default.key.clone()
    }

    fn may_issue(&mut self) -> bool {
        let refills = (self.refilled.elapsed().as_millis() / REFILL.as_millis()) as u32;
        if refills > 0 {
            self.allowance = self.allowance.saturating_add(refills).min(BURST);
            self.refilled = Instant::now();
        }
        let allowed = self.allowance > 0;
        self.allowance = self.allowance.saturating_sub(1);
        allowed
    }

    /// Drops the oldest leaf when there is no room for another.
    fn make_room(&mut self) {
        if self.leaves.len() >= MAX_LEAVES
            && let Some(oldest) = self.leaves.iter().min_by_key(|(_, leaf)| leaf.issued).map(|(name, _)| name.clone())
        {
            self.leaves.remove(&oldest);
        }
    }
}

fn covers(certificate: &CertifiedKey, name: &str) -> bool {
    let Ok(parsed) = certificate.end_entity_cert().and_then(ParsedCertificate::try_from) else { return false };
    ServerName::try_from(name).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.for_name(hello.server_name()))
    }
}

impl std::fmt::Debug for CertResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertResolver").field("own_names", &self.own_names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver() -> (tempfile::TempDir, CertResolver) {
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(Ca::load_or_create(dir.path()).unwrap());
        let known: KnownName = Box::new(|name| name.ends_with(".known.example"));
        let resolver = CertResolver::new(ca, &["api.localhost".into()], known).unwrap();
        (dir, resolver)
    }

    fn check(resolver: &CertResolver, asked: Option<&str>, covered: &str) {
        assert!(covers(&resolver.for_name(asked), covered), "asked for {asked:?}, wanted {covered}");
    }

    #[test]
    fn names_get_their_certificates() {
        let (_dir, resolver) = resolver();
        check(&resolver, None, "127.0.0.1");
        check(&resolver, None, "::1");
        check(&resolver, None, "localhost");
        check(&resolver, Some("api.localhost"), "api.localhost");
        check(&resolver, Some("Shop.Known.Example"), "shop.known.example");
        check(&resolver, Some("nobody.example"), "localhost");
    }

    #[test]
    fn the_operator_certificate_wins_where_it_covers() {
        let dir = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(vec!["paas.example".into(), "*.paas.example".into()]).unwrap();
        let (chain, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&chain, own.cert.pem()).unwrap();
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let (_dir, resolver) = resolver();
        let resolver = resolver.with_operator(&chain, &key).unwrap();
        check(&resolver, None, "paas.example");
        check(&resolver, Some("shop.paas.example"), "shop.paas.example");
        check(&resolver, Some("shop.known.example"), "shop.known.example");
        assert!(resolver.with_operator(&key, &chain).is_err());
    }

    #[test]
    fn attack_34_a_flood_of_names_is_not_signed() {
        let (_dir, resolver) = resolver();
        for i in 0..10_000 {
            resolver.for_name(Some(&format!("x{i}.unknown.example")));
        }
        assert_eq!(resolver.state.lock().unwrap().leaves.len(), 0, "unknown names are never issued for");
        let started = Instant::now();
        for i in 0..5_000 {
            resolver.for_name(Some(&format!("x{i}.known.example")));
        }
        let refilled = (started.elapsed().as_millis() / REFILL.as_millis()) as usize + 1;
        let issued = resolver.state.lock().unwrap().leaves.len();
        assert!(issued <= BURST as usize + refilled, "{issued} leaves were issued");
        check(&resolver, Some("x0.known.example"), "x0.known.example");
    }
}
