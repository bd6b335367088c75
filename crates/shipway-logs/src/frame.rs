//! How a record lies in a segment.
//!
//! ```text
//! segment  = "shiplog1" salt:u64 record*
//! record   = length:u32 checksum:u32 body length:u32        (length of the body; all numbers little-endian)
//! body     = time_us:u64 sequence:u64 source:u8 dyno_length:u8 dyno message
//! ```
//!
//! The length at both ends lets a reader walk from either. The checksum (CRC-32 of the body, begun with the segment's
//! random salt) finds a torn record; because of the salt, output of a dyno that imitates a record never passes for one.

use crate::{Record, Source};

/// The longest message in bytes; a shim splits lines long before.
pub const MAX_MESSAGE: usize = 1 << 20;
/// The longest name in brackets, in bytes.
pub const MAX_DYNO: usize = u8::MAX as usize;

const MAGIC: &[u8; 8] = b"shiplog1";
/// Bytes of a segment before its first record.
pub(crate) const SEGMENT_HEADER: usize = 16;
const HEAD: usize = 8;
const FIXED: usize = 18;
/// Bytes of the length that closes a record.
pub(crate) const TAIL: usize = 4;
const MAX_BODY: usize = FIXED + MAX_DYNO + MAX_MESSAGE;

/// What stands at the start of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Salt(u64);

impl Salt {
    /// A salt that nobody can guess, from the standard library's randomly keyed hasher.
    pub(crate) fn random() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self(RandomState::new().hash_one(0))
    }

    pub(crate) fn header(self) -> [u8; SEGMENT_HEADER] {
        let mut header = [0; SEGMENT_HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..].copy_from_slice(&self.0.to_le_bytes());
        header
    }

    /// Reads a segment's first bytes; none when they are not (yet) a header.
    pub(crate) fn read(header: &[u8]) -> Option<Self> {
        if header.len() < SEGMENT_HEADER || &header[..8] != MAGIC {
            return None;
        }
        Some(Self(u64_at(header, 8)))
    }

    fn checksum(self, body: &[u8]) -> u32 {
        crc32((self.0 >> 32) as u32 ^ self.0 as u32, body)
    }
}

/// A record that was read, borrowing from the reader's buffer.
pub(crate) struct Frame<'a> {
    pub(crate) record: Record<'a>,
    /// Bytes that it takes in the segment.
    pub(crate) size: usize,
}

/// What the bytes at a place are.
pub(crate) enum Decoded<'a> {
    Frame(Frame<'a>),
    /// The start of a record whose rest is not there: as many bytes are needed in all.
    Incomplete(usize),
    Corrupt,
}

/// Appends `record` to `buffer`. The caller has checked [`MAX_DYNO`] and [`MAX_MESSAGE`].
pub(crate) fn encode(buffer: &mut Vec<u8>, salt: Salt, record: &Record<'_>) {
    let length = FIXED + record.dyno.len() + record.message.len();
    debug_assert!(record.dyno.len() <= MAX_DYNO && length <= MAX_BODY);
    let length_bytes = (length as u32).to_le_bytes();
    buffer.reserve(HEAD + length + TAIL);
    buffer.extend_from_slice(&length_bytes);
    buffer.extend_from_slice(&[0; 4]);
    let body = buffer.len();
    let mut fixed = [0; FIXED];
    fixed[..8].copy_from_slice(&record.time_us.to_le_bytes());
    fixed[8..16].copy_from_slice(&record.sequence.to_le_bytes());
    fixed[16] = match record.source {
        Source::App => 0,
        Source::Heroku => 1,
    };
    fixed[17] = record.dyno.len() as u8;
    buffer.extend_from_slice(&fixed);
    buffer.extend_from_slice(record.dyno.as_bytes());
    buffer.extend_from_slice(record.message);
    let checksum = salt.checksum(&buffer[body..]).to_le_bytes();
    buffer[body - 4..body].copy_from_slice(&checksum);
    buffer.extend_from_slice(&length_bytes);
}

/// Reads the record at the start of `bytes`.
pub(crate) fn decode(bytes: &[u8], salt: Salt) -> Decoded<'_> {
    if bytes.len() < HEAD {
        return Decoded::Incomplete(HEAD);
    }
    let length = u32_at(bytes, 0) as usize;
    if !(FIXED..=MAX_BODY).contains(&length) {
        return Decoded::Corrupt;
    }
    let size = HEAD + length + TAIL;
    if bytes.len() < size {
        return Decoded::Incomplete(size);
    }
    let body = &bytes[HEAD..HEAD + length];
    if u32_at(bytes, HEAD + length) as usize != length || salt.checksum(body) != u32_at(bytes, 4) {
        return Decoded::Corrupt;
    }
    let message = FIXED + body[17] as usize;
    let source = match body[16] {
        0 => Source::App,
        1 => Source::Heroku,
        _ => return Decoded::Corrupt,
    };
    let Some(Ok(dyno)) = body.get(FIXED..message).map(std::str::from_utf8) else { return Decoded::Corrupt };
    let record =
        Record { time_us: u64_at(body, 0), sequence: u64_at(body, 8), source, dyno, message: &body[message..] };
    Decoded::Frame(Frame { record, size })
}

/// The size of the record that ends where `bytes` ends, by its closing length; none when that cannot be a length.
pub(crate) fn size_from_end(bytes: &[u8]) -> Option<usize> {
    let length = u32_at(bytes, bytes.len().checked_sub(TAIL)?) as usize;
    (FIXED..=MAX_BODY).contains(&length).then_some(HEAD + length + TAIL)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// CRC-32 (IEEE 802.3) that goes on from `seed`.
fn crc32(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_the_published_one() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        // As zlib goes on from 7: what was written once must stay readable.
        let line =
            b"a line of more than one step of whatever computes it, in all a hundred bytes, to be on the safe side";
        assert_eq!(crc32(7, line), 0x2289_50c9);
    }

    #[test]
    fn any_cut_or_flip_is_found() {
        let salt = Salt(7);
        let record = Record { time_us: 5, sequence: 9, source: Source::Heroku, dyno: "web.1", message: b"hello\xff" };
        let mut bytes = Vec::new();
        encode(&mut bytes, salt, &record);
        assert!(matches!(decode(&bytes, salt), Decoded::Frame(f) if f.record == record && f.size == bytes.len()));
        for cut in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..cut], salt), Decoded::Incomplete(_)), "cut at {cut}");
        }
        for at in 4..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(matches!(decode(&flipped, salt), Decoded::Corrupt), "flip at {at}");
        }
        assert!(matches!(decode(&bytes, Salt(8)), Decoded::Corrupt), "another segment's salt");
    }
}
