//! Our own certificate authority: trusted by nobody until its certificate is, and then for every app at once.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Key and certificate of the authority in one file, so that they cannot be half written.
const FILE: &str = "ca-key-and-certificate.pem";
const DAY: Duration = Duration::from_secs(86_400);
/// Browsers refuse leaf certificates that are valid for more than 398 days.
const LEAF_VALID: Duration = Duration::from_secs(397 * 86_400);
const CA_VALID: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The file could not be read or written.
    #[error("cannot use the certificate authority in {path}; check that the directory is ours and writable")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file does not hold a key and a certificate.
    #[error("{path} does not hold a private key and a certificate; move it away and a new authority is made")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A name cannot stand in a certificate, or signing failed.
    #[error("cannot issue a certificate for {names}")]
    Issue {
        /// The names asked for.
        names: String,
        /// What the certificate library said.
        #[source]
        source: rcgen::Error,
    },
    /// A key of a kind that the TLS library does not take.
    #[error("the TLS library refuses the private key")]
    Key(#[source] rustls::Error),
}

/// A certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Ca {
    /// Reads the authority kept in `dir`, or makes one: directory 0700, file 0600 from its first byte.
    ///
    /// Two processes may call this at the same time: both get the same authority.
    pub fn load_or_create(dir: &Path) -> Result<Self, CaError> {
        let path = dir.join(FILE);
        let failed = |source| CaError::File { path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).ok_or(CaError::Damaged { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = Self::generate()?;
                match write_new(dir, &path, text.as_bytes()) {
                    Ok(()) => Self::parse(&text).ok_or(CaError::Damaged { path }),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        let theirs = fs::read_to_string(&path).map_err(failed)?;
                        Self::parse(&theirs).ok_or(CaError::Damaged { path })
                    }
                    Err(error) => Err(failed(error)),
                }
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The authority's certificate, for people and tools that shall trust it. Holds no secret.
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// Issues a leaf for `names` (DNS names or IP addresses) with a key of its own, valid for 397 days.
    pub fn issue(&self, names: &[String]) -> Result<CertifiedKey, CaError> {
        let (leaf, key) = self.leaf(names)?;
        certified(
            vec![leaf.der().clone(), self.certificate.clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
    }

    /// The same as text, for a server that is not ours: the chain, and the private key.
    pub fn issue_pem(&self, names: &[String]) -> Result<(String, String), CaError> {
        let (leaf, key) = self.leaf(names)?;
        Ok((leaf.pem() + &self.pem, key.serialize_pem()))
    }

    fn leaf(&self, names: &[String]) -> Result<(Certificate, KeyPair), CaError> {
        let failed = |source| CaError::Issue { names: names.join(", "), source };
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        // A common name holds at most 64 characters; clients read the alternative names anyway.
        let common = names.first().filter(|name| name.len() <= 64).map_or("Shipway", String::as_str);
        params.distinguished_name.push(DnType::CommonName, common);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, LEAF_VALID);
        let key = KeyPair::generate().map_err(failed)?;
        let leaf = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((leaf, key))
    }

    fn generate() -> Result<String, CaError> {
        let failed = |source| CaError::Issue { names: "the authority itself".into(), source };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Shipway");
        params.distinguished_name.push(DnType::CommonName, "Shipway local authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, CA_VALID);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(key.serialize_pem() + &certificate.pem())
    }

    fn parse(text: &str) -> Option<Self> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).ok()?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
        let key = KeyPair::try_from(&key).ok()?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).ok()?;
        let pem = text[text.find("-----BEGIN CERTIFICATE-----")?..].to_string();
        Some(Self { issuer, certificate, pem })
    }
}

/// A key and chain that an operator gave as PEM files.
pub fn operator_certificate(chain: &Path, key: &Path) -> Result<CertifiedKey, CaError> {
    let damaged = |path: &Path| CaError::Damaged { path: path.to_path_buf() };
    let read = |path: &Path| fs::read(path).map_err(|source| CaError::File { path: path.to_path_buf(), source });
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&read(chain)?).collect::<Result<_, _>>().map_err(|_| damaged(chain))?;
    if certificates.is_empty() {
        return Err(damaged(chain));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| damaged(key))?;
    let certified = certified(certificates, key)?;
    certified.keys_match().map_err(CaError::Key)?;
    Ok(certified)
}

/// When the first certificate of a PEM file ends. Errors: it cannot be read.
pub fn certificate_ends(chain: &Path) -> Result<SystemTime, CaError> {
    let damaged = || CaError::Damaged { path: chain.to_path_buf() };
    let text = fs::read(chain).map_err(|source| CaError::File { path: chain.to_path_buf(), source })?;
    let first = CertificateDer::from_pem_slice(&text).map_err(|_| damaged())?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&first).map_err(|_| damaged())?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, CaError> {
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(CaError::Key)?;
    Ok(CertifiedKey::new(chain, key))
}

/// From yesterday, for clients whose clock is behind.
fn set_validity(params: &mut CertificateParams, valid: Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + now + valid;
}

/// Writes a file that must not exist, whole or not at all.
fn write_new(dir: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = dir.join(format!(".{FILE}.{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    written?;
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_authority_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let first = Ca::load_or_create(&keys).unwrap();
        let again = Ca::load_or_create(&keys).unwrap();
        assert_eq!(first.ca_pem(), again.ca_pem());
        assert!(!first.ca_pem().contains("PRIVATE"));
        assert_eq!(fs::metadata(keys.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&keys).unwrap().count(), 1, "no draft is left behind");
    }

    #[test]
    fn when_a_certificate_ends_is_read_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(&dir.path().join("keys")).unwrap();
        let chain = dir.path().join("chain.pem");
        fs::write(&chain, ca.issue_pem(&["shop.example.org".into()]).unwrap().0).unwrap();
        let left = certificate_ends(&chain).unwrap().duration_since(SystemTime::now()).unwrap();
        assert!(left <= LEAF_VALID && left > LEAF_VALID - DAY, "the leaf's end, and not its authority's: {left:?}");
        fs::write(&chain, "nothing").unwrap();
        assert!(matches!(certificate_ends(&chain), Err(CaError::Damaged { .. })));
    }

    #[test]
    fn attack_17_two_installations_share_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let one = Ca::load_or_create(&dir.path().join("one")).unwrap();
        let two = Ca::load_or_create(&dir.path().join("two")).unwrap();
        assert_ne!(one.issuer.key().serialized_der(), two.issuer.key().serialized_der());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "nonsense").unwrap();
        let error = Ca::load_or_create(dir.path()).err().unwrap().to_string();
        assert!(error.contains(FILE) && error.contains("move it away"), "{error}");
    }
}
