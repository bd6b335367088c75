//! Files that are sealed, of any size: written and read in pieces, never whole in memory.
//!
//! ```text
//! 8 bytes "shipway1" · 32 bytes salt · pieces of 65,536 bytes (the last 0 to 65,536), each with a tag of 16 bytes
//! ```
//!
//! AES-256-GCM by ring, with a key of the file's own: HKDF of the platform's key, the salt, and a context that says what
//! it is and whose. A piece's nonce is its number and whether it is the last, so that pieces can be neither changed, nor
//! moved, nor left out, nor cut off (the STREAM construction).

use crate::Keys;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use std::io::{Error, ErrorKind, Read, Result, Write};

const MAGIC: &[u8; 8] = b"shipway1";
const SALT: usize = 32;
const PIECE: usize = 64 * 1024;
const TAG: usize = 16;
const HEAD: u64 = (MAGIC.len() + SALT) as u64;

/// The plain bytes of a sealed file of so many bytes; `None` when no file is that long.
pub fn plain_bytes(sealed: u64) -> Option<u64> {
    let pieces = sealed.checked_sub(HEAD)?;
    let whole = (PIECE + TAG) as u64;
    pieces
        .checked_sub(pieces.div_ceil(whole) * TAG as u64)
        .filter(|_| pieces % whole >= TAG as u64 || pieces % whole == 0)
}

impl Keys {
    /// Seals everything that `from` holds for `context`. Returns the plain bytes.
    pub fn seal_file(&self, context: &str, mut from: impl Read, mut to: impl Write) -> Result<u64> {
        let salt: [u8; SALT] = self.random_bytes();
        let mut pieces = Pieces::new(self, context, &salt);
        to.write_all(MAGIC)?;
        to.write_all(&salt)?;
        let (mut piece, mut next, mut bytes) = (Vec::new(), Vec::new(), 0);
        fill(&mut from, &mut piece, PIECE)?;
        loop {
            // Whether a piece is the last is known when nothing follows.
            fill(&mut from, &mut next, PIECE)?;
            bytes += piece.len() as u64;
            let nonce = pieces.nonce(next.is_empty());
            let sealed = pieces.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut piece);
            sealed.map_err(|_| Error::other("a piece could not be sealed"))?;
            to.write_all(&piece)?;
            if next.is_empty() {
                to.flush()?;
                return Ok(bytes);
            }
            std::mem::swap(&mut piece, &mut next);
        }
    }

    /// Opens what [`Self::seal_file`] made for the same context, to be read in pieces. Errors: it is no such file.
    pub fn open_file<R: Read>(&self, context: &str, mut sealed: R) -> Result<SealedFile<R>> {
        let mut head = [0; HEAD as usize];
        sealed.read_exact(&mut head)?;
        let (magic, salt) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Error::new(ErrorKind::InvalidData, "this file is not one that Shipway sealed"));
        }
        let pieces = Pieces::new(self, context, salt);
        let mut next = Vec::new();
        fill(&mut sealed, &mut next, PIECE + TAG)?;
        Ok(SealedFile { sealed, pieces, next, ended: false })
    }
}

/// A sealed file that is being read.
pub struct SealedFile<R> {
    sealed: R,
    pieces: Pieces,
    next: Vec<u8>,
    ended: bool,
}

impl<R: Read> SealedFile<R> {
    /// The next plain bytes, 65,536 at most; `None` at the end. Errors: `InvalidData` where the file was changed, cut
    /// off, or sealed with another key or for another context; nothing that was returned before is wrong.
    pub fn piece(&mut self) -> Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let mut piece = std::mem::take(&mut self.next);
        fill(&mut self.sealed, &mut self.next, PIECE + TAG)?;
        self.ended = self.next.is_empty();
        let nonce = self.pieces.nonce(self.ended);
        let changed = |_| Error::new(ErrorKind::InvalidData, "this file was changed, or sealed with another key");
        let plain = self.pieces.key.open_in_place(nonce, Aad::empty(), &mut piece).map_err(changed)?.len();
        piece.truncate(plain);
        Ok(Some(piece))
    }

    /// Writes all that is left of it to `to`.
    pub fn copy(mut self, mut to: impl Write) -> Result<()> {
        while let Some(piece) = self.piece()? {
            to.write_all(&piece)?;
        }
        to.flush()
    }
}

/// The key of a file, and which piece is next.
struct Pieces {
    key: LessSafeKey,
    number: u64,
}

impl Pieces {
    fn new(keys: &Keys, context: &str, salt: &[u8]) -> Self {
        let mut key = [0; 32];
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
            .extract(keys.files())
            .expand(&[context.as_bytes()], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .expect("32 bytes is a legal HKDF-SHA256 length");
        Self { key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes")), number: 0 }
    }

    fn nonce(&mut self, last: bool) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.number.to_be_bytes());
        nonce[NONCE_LEN - 1] = u8::from(last);
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Reads into `buffer`, which is emptied, until it holds `most` bytes or the source ends.
fn fill(from: &mut impl Read, buffer: &mut Vec<u8>, most: usize) -> Result<()> {
    buffer.clear();
    from.take(most as u64).read_to_end(buffer).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(keys: &Keys, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(keys.seal_file("backup 1", plain, &mut out).unwrap(), plain.len() as u64);
        out
    }

    fn opened(keys: &Keys, context: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        keys.open_file(context, sealed)?.copy(&mut out)?;
        Ok(out)
    }

    #[test]
    fn attack_38_a_sealed_file_is_read_whole_and_unchanged_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(home.path()).unwrap();
        let other = Keys::load_or_create(tempfile::tempdir().unwrap().path()).unwrap();
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 7] {
            let plain: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let file = sealed(&keys, &plain);
            assert_eq!(plain_bytes(file.len() as u64), Some(length as u64));
            assert_eq!(opened(&keys, "backup 1", &file).unwrap(), plain);
            assert!(opened(&keys, "backup 2", &file).is_err(), "another's backup of {length} bytes");
            assert!(opened(&other, "backup 1", &file).is_err(), "another platform's key");
            for at in [0, 8, 39, 40, file.len() / 2, file.len() - 1] {
                let mut bad = file.clone();
                if let Some(byte) = bad.get_mut(at) {
                    *byte ^= 1;
                    assert!(opened(&keys, "backup 1", &bad).is_err(), "{length} bytes, changed at {at}");
                }
            }
        }
        let file = sealed(&keys, &vec![7; 3 * PIECE]);
        let (head, pieces) = file.split_at(HEAD as usize);
        let pieces: Vec<&[u8]> = pieces.chunks(PIECE + TAG).collect();
        let of = |order: &[usize]| [&[head], &*order.iter().map(|n| pieces[*n]).collect::<Vec<_>>()].concat().concat();
        assert!(opened(&keys, "backup 1", &of(&[0, 1, 2])).is_ok());
        for order in [&[0, 1][..], &[1, 0, 2], &[0, 2], &[0, 1, 2, 2], &[]] {
            assert!(opened(&keys, "backup 1", &of(order)).is_err(), "pieces {order:?}");
        }
        assert_ne!(file, sealed(&keys, &vec![7; 3 * PIECE]), "the same twice is not seen to be the same");
        assert!(opened(&keys, "backup 1", b"PGDMP is a dump that nobody sealed, and long enough").is_err());
        assert_eq!((plain_bytes(3), plain_bytes(HEAD + 5)), (None, None));
    }
}
