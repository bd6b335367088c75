//! Deploy keys, in the form in which OpenSSH keeps keys. Source: OpenSSH, `PROTOCOL.key`; RFC 8709.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair};

const KIND: &[u8] = b"ssh-ed25519";
/// Characters of a line of a private key.
const LINE: usize = 70;

/// An Ed25519 key of 256 random bits: its private half and its public half in a line.
pub(crate) fn made_of(random: [u8; 32], comment: &str) -> Result<(String, String), String> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&random).map_err(|e| format!("making a deploy key: {e}"))?;
    let public = pair.public_key().as_ref();
    let blob = [field(KIND), field(public)].concat();
    let line = format!("ssh-ed25519 {} {comment}", STANDARD.encode(&blob));

    // Two equal numbers, by which a wrong passphrase would be known; there is none.
    let check = [0; 8];
    let both = [random.as_slice(), public].concat();
    let mut secret = [&check, blob.as_slice(), &field(&both), &field(comment.as_bytes())].concat();
    secret.extend((1..).take(secret.len().wrapping_neg() % 8));
    let keys = 1_u32.to_be_bytes();
    let all = [
        b"openssh-key-v1\0".as_slice(),
        &field(b"none"),
        &field(b"none"),
        &field(b""),
        &keys,
        &field(&blob),
        &field(&secret),
    ];
    let mut private = String::from("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for (at, char) in STANDARD.encode(all.concat()).chars().enumerate() {
        if at > 0 && at % LINE == 0 {
            private.push('\n');
        }
        private.push(char);
    }
    private.push_str("\n-----END OPENSSH PRIVATE KEY-----\n");
    Ok((private, line))
}

/// Bytes with their number in front.
fn field(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn openssh_reads_the_private_half_and_finds_the_public_one() {
        // Comments of all lengths that differ in padding.
        for comment in ["shipway-acorn", "shipway-a", "shipway-ac", "s", "shipway-acorn-pipeline-1"] {
            let (private, public) = made_of([7; 32], comment).unwrap();
            let place = tempfile::tempdir().unwrap();
            let file = place.path().join("key");
            std::fs::write(&file, &private).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
            let Ok(shown) = std::process::Command::new("ssh-keygen").arg("-yf").arg(&file).output() else {
                eprintln!("SKIPPED: there is no ssh-keygen");
                return;
            };
            let said = String::from_utf8_lossy(&shown.stderr);
            assert!(shown.status.success(), "{comment}: {said}");
            assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), public, "{comment}");
        }
        assert_ne!(made_of([8; 32], "a").unwrap(), made_of([7; 32], "a").unwrap());
    }
}
