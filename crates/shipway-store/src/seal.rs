//! Sealing: what is secret is stored encrypted with a key that is not in the database.
//!
//! AES-256-GCM by ring, a random 96-bit nonce before each box, and a context (what it is and whose) as associated data,
//! so that a box cannot be moved to another row.

use crate::{DATABASE, StoreError};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hkdf, hmac};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The directory of a data directory's keys.
const KEYS: &str = "keys";
/// What all other keys are derived from, in it.
const MASTER_KEY: &str = "master.key";

/// The keys that are derived from the platform's master key.
pub struct Keys {
    seal: LessSafeKey,
    hash: hmac::Key,
    url: hmac::Key,
    files: [u8; 32],
    random: SystemRandom,
}

struct Length(usize);
impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive(master: &[u8], label: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"shipway v1")
        .extract(master)
        .expand(&[label], Length(32))
        .and_then(|okm| okm.fill(&mut out))
        .expect("32 bytes is a legal HKDF-SHA256 length");
    out
}

impl Keys {
    /// The keys of a data directory, made with it. Errors: as [`Self::expect_in`].
    pub fn of_home(home: &Path) -> Result<Self, StoreError> {
        Self::expect_in(home)?;
        Self::load_or_create(&home.join(KEYS))
    }

    /// Looks for the keys of a data directory, before anything is made beside it. Errors: its key is gone, and what the
    /// database holds cannot be opened by another.
    pub fn expect_in(home: &Path) -> Result<(), StoreError> {
        let (key, database) = (home.join(KEYS).join(MASTER_KEY), home.join(DATABASE));
        match key.try_exists() {
            Ok(false) if database.exists() => Err(StoreError::LostKey { key, database }),
            _ => Ok(()),
        }
    }

    /// Reads `dir/master.key`, or makes it: 32 random bytes, mode 0600 from the first byte.
    pub fn load_or_create(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(MASTER_KEY);
        let io = |source| StoreError::Io { path: path.clone(), source };
        let mut master = Vec::new();
        match std::fs::File::open(&path) {
            Ok(file) => {
                file.take(64).read_to_end(&mut master).map_err(io)?;
                if master.len() != 32 {
                    return Err(StoreError::BadKey { path, bytes: master.len() });
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(dir).map_err(io)?;
                master.resize(32, 0);
                SystemRandom::new().fill(&mut master).expect("the system's random numbers");
                let mut file =
                    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(io)?;
                file.write_all(&master).and_then(|()| file.sync_all()).map_err(io)?;
                std::fs::File::open(dir).and_then(|d| d.sync_all()).map_err(io)?;
            }
            Err(e) => return Err(io(e)),
        }
        Ok(Self {
            seal: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derive(&master, b"seal")).expect("32 bytes")),
            hash: hmac::Key::new(hmac::HMAC_SHA256, &derive(&master, b"config hash")),
            url: hmac::Key::new(hmac::HMAC_SHA256, &derive(&master, b"urls")),
            files: derive(&master, b"files"),
            random: SystemRandom::new(),
        })
    }

    /// Seals `plain` for `context`.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = self.random_bytes();
        let mut body = plain.to_vec();
        self.seal
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context.as_bytes()), &mut body)
            .expect("the text is shorter than 64 GiB");
        [&nonce[..], &body].concat()
    }

    /// Opens what [`Self::seal`] made for the same context.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let bad = || StoreError::Unsealable { context: context.to_string() };
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(bad)?;
        let mut body = body.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| bad())?;
        let plain = self.seal.open_in_place(nonce, Aad::from(context.as_bytes()), &mut body).map_err(|_| bad())?;
        Ok(plain.to_vec())
    }

    /// A hash of something that may be short and secret: an HMAC with the platform's key, in hex.
    pub fn keyed_hash(&self, data: &[u8]) -> String {
        hex(hmac::sign(&self.hash, data).as_ref())
    }

    /// Signs the path of a stream that is opened without a token; 256 bits in hex.
    pub fn sign_url(&self, path: &str) -> String {
        hex(hmac::sign(&self.url, path.as_bytes()).as_ref())
    }

    /// Whether `signature` is [`Self::sign_url`]'s of `path`, in constant time.
    pub fn url_is_ours(&self, path: &str, signature: &str) -> bool {
        unhex(signature).is_some_and(|tag| hmac::verify(&self.url, path.as_bytes(), &tag).is_ok())
    }

    /// What the keys of sealed files are derived from.
    pub(crate) fn files(&self) -> &[u8; 32] {
        &self.files
    }

    /// Random bytes from the system.
    pub fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).expect("the system's random numbers");
        bytes
    }
}

/// SHA-256 of a token: the token has 256 random bits, so a plain hash cannot be guessed.
pub fn token_hash(token: &str) -> Vec<u8> {
    sha256(token.as_bytes())
}

/// By which a token's secret is told from the one that it has after a rotation, where the secret itself must not be kept:
/// the first 64 bits of its hash, in hex.
pub fn token_mark(token: &str) -> String {
    hex(&token_hash(token)[..8])
}

/// SHA-256 of any bytes.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        use std::fmt::Write;
        let _ = write!(s, "{b:02x}");
        s
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    text.as_bytes().chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_box_opens_only_in_its_context_and_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(dir.path()).unwrap();
        let sealed = keys.seal("config:a", b"secret");
        assert_eq!(keys.open("config:a", &sealed).unwrap(), b"secret");
        assert!(keys.open("config:b", &sealed).is_err());
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert!(keys.open("config:a", &bad).is_err());
        }
        assert!(keys.open("config:a", &sealed[..5]).is_err());
        assert_ne!(sealed, keys.seal("config:a", b"secret"));
        let signature = keys.sign_url("/streams/1");
        assert!(keys.url_is_ours("/streams/1", &signature) && !keys.url_is_ours("/streams/2", &signature));
        assert!(!keys.url_is_ours("/streams/1", &signature[..62]) && !keys.url_is_ours("/streams/1", "é"));
        let again = Keys::load_or_create(dir.path()).unwrap();
        assert_eq!(again.open("config:a", &sealed).unwrap(), b"secret");
    }

    #[test]
    fn a_key_that_is_lost_is_not_made_anew_beside_what_it_sealed() {
        let home = tempfile::tempdir().unwrap();
        let sealed = Keys::of_home(home.path()).unwrap().seal("config:a", b"secret");
        std::fs::write(home.path().join(DATABASE), "").unwrap();
        assert_eq!(Keys::of_home(home.path()).unwrap().open("config:a", &sealed).unwrap(), b"secret");
        std::fs::rename(home.path().join("keys"), home.path().join("elsewhere")).unwrap();
        let refused = Keys::of_home(home.path()).err().unwrap().to_string();
        assert!(refused.contains("keys/master.key is missing") && refused.contains("restore it"), "{refused}");
        assert!(!home.path().join("keys").exists());
    }

    #[test]
    fn attack_17_keys_differ_by_instance_and_are_private() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ka, kb) = (Keys::load_or_create(a.path()).unwrap(), Keys::load_or_create(b.path()).unwrap());
        assert_ne!(ka.sign_url("/x"), kb.sign_url("/x"));
        assert!(kb.open("c", &ka.seal("c", b"s")).is_err());
        let mode = std::fs::metadata(a.path().join("master.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
