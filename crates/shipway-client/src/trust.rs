//! Whom to believe: certificate authorities as rustls and as files for other programs.

use crate::config::ConfigDir;
use crate::error::{Error, Result};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// The line of a bundle that names the file it was made from.
const BEFORE: &str = "# before: ";

/// TLS settings that believe `authority` (PEM) alone or, without one, the roots of this system.
pub fn client_config(authority: Option<&str>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match authority {
        Some(pem) => {
            for certificate in certificates(pem) {
                let der = CertificateDer::from_pem_slice(certificate.as_bytes());
                der.ok()
                    .and_then(|der| roots.add(der).ok())
                    .ok_or_else(|| not_a_certificate("the server's authority"))?;
            }
            if roots.is_empty() {
                return Err(not_a_certificate("the server's authority"));
            }
        }
        None => {
            let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if added == 0 {
                return Err(Error::new("this system names no certificate authorities").hint(
                    "install them (Debian: ca-certificates), or give the server's own with `shipway login --ca FILE`",
                ));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(format!("TLS cannot be set up: {e}")))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn not_a_certificate(what: &str) -> Error {
    Error::new(format!("{what} is not a certificate in PEM form"))
}

/// The certificates of a PEM text, in order. Keys and comments are left behind.
pub fn certificates(pem: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = pem;
    while let Some(start) = rest.find(BEGIN) {
        let Some(length) = rest[start..].find(END) else { break };
        let end = start + length + END.len();
        found.push(&rest[start..end]);
        rest = &rest[end..];
    }
    found
}

/// The roots of this system as one PEM text.
pub fn system_roots() -> String {
    let mut out = String::new();
    for der in rustls_native_certs::load_native_certs().certs {
        out.push_str(&pem_of(&der));
    }
    out
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("{BEGIN}\n");
    for line in text.as_bytes().chunks(64) {
        // Base64 is ASCII.
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(END);
    out.push('\n');
    out
}

/// All certificates of `parts`, each once, as one PEM text.
pub fn joined(parts: &[&str]) -> String {
    let mut seen = HashSet::new();
    let mut out = String::new();
    for certificate in parts.iter().flat_map(|part| certificates(part)) {
        let bare: String = certificate.split_whitespace().collect();
        if seen.insert(bare) {
            out.push_str(certificate);
            out.push('\n');
        }
    }
    out
}

/// The file of authorities that was named before a bundle of ours took its place: `path` itself when it is none of ours,
/// none when there was none.
pub fn before_us(config: &ConfigDir, path: &str) -> Option<String> {
    if !config.owns(Path::new(path)) {
        return Some(path.to_owned());
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(BEFORE)).map(str::to_owned)
}

/// Writes a file with what `before` held and `authority`, for a variable that takes one file of authorities.
///
/// `before` may be a bundle of ours: then it is made again from what that one was made from, so that evaluating `shipway env`
/// twice is the same as once, and a new authority of the server replaces its old one.
pub fn bundle(config: &ConfigDir, name: &str, before: Option<&str>, authority: &str) -> Result<PathBuf> {
    let original = before.and_then(|path| before_us(config, path));
    let Some(original) = original.filter(|path| !path.contains('\n')) else {
        return config.write(&format!("authorities/{name}.pem"), &joined(&[authority]));
    };
    let held = std::fs::read_to_string(&original).unwrap_or_else(|e| {
        eprintln!("warning: {original} was named as a file of certificate authorities and could not be read: {e}");
        String::new()
    });
    let digest = ring::digest::digest(&ring::digest::SHA256, original.as_bytes());
    let suffix: String = digest.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let contents = format!("{BEFORE}{original}\n{}", joined(&[&held, authority]));
    config.write(&format!("authorities/{name}-{suffix}.pem"), &contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    fn block(body: &str) -> String {
        format!("{BEGIN}\n{body}\n{END}\n")
    }

    #[test]
    fn a_bundle_keeps_what_was_there_and_is_made_once() {
        let home = tempfile::tempdir().unwrap();
        let config = ConfigDir::of(&Environment::from_iter([("HOME", home.path().to_str().unwrap())])).unwrap();
        let corporate = home.path().join("corporate.pem");
        std::fs::write(&corporate, format!("# ours\n{}-----BEGIN PRIVATE KEY-----\nkey\n", block("corp"))).unwrap();

        let first = bundle(&config, "node", corporate.to_str(), &block("shipway")).unwrap();
        let text = std::fs::read_to_string(&first).unwrap();
        assert_eq!(certificates(&text).len(), 2);
        assert!(!text.contains("PRIVATE KEY"));

        let second = bundle(&config, "node", first.to_str(), &block("shipway")).unwrap();
        assert_eq!((&second, std::fs::read_to_string(&second).unwrap()), (&first, text));
        let named = corporate.to_str().map(str::to_owned);
        assert_eq!(before_us(&config, first.to_str().unwrap()), named);
        assert_eq!(before_us(&config, corporate.to_str().unwrap()), named);
        let alone = bundle(&config, "node", None, &block("shipway")).unwrap();
        assert_eq!(before_us(&config, alone.to_str().unwrap()), None);

        let renewed = bundle(&config, "node", second.to_str(), &block("renewed")).unwrap();
        let text = std::fs::read_to_string(renewed).unwrap();
        assert!(text.contains("corp") && text.contains("renewed") && !text.contains("shipway\n"));
    }

    #[test]
    fn an_authority_that_is_none_is_refused() {
        assert!(client_config(Some("hello")).is_err());
        assert!(client_config(Some(&block("aGVsbG8="))).is_err());
    }
}
