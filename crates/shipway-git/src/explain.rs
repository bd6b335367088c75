//! What git says of objects that it does not take, in a sentence.

use crate::pkt::packet;

/// How git ends when an object wants more memory at once than it may have (`GIT_ALLOC_LIMIT`): a delta bomb.
const OVER_LIMIT: &[u8] = b"fatal: attempting to allocate ";

/// The longest packet's four digits and payload, in bytes; what claims to be longer is no packet.
const LONGEST: usize = 65_520;

/// Whether git has ended because of a delta bomb.
pub(crate) fn is_over_limit(said: &[u8]) -> bool {
    said.windows(OVER_LIMIT.len()).any(|part| part == OVER_LIMIT)
}

/// The answer to a push on its way to the pusher: packets pass as they are, some with a sentence after them.
#[derive(Default)]
pub(crate) struct Explained {
    /// The beginning of a packet.
    rest: Vec<u8>,
}

impl Explained {
    /// The packets that are whole with this piece.
    pub(crate) fn pass(&mut self, piece: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(piece);
        let mut passed = Vec::with_capacity(self.rest.len());
        while let Some(length) = self.whole() {
            let one: Vec<u8> = self.rest.drain(..length).collect();
            passed.extend_from_slice(&one);
            // The second channel is what the pusher's terminal shows as `remote: …`.
            if one.get(4) == Some(&2) && is_over_limit(&one) {
                passed.extend_from_slice(&packet(
                    b"\x02 !     An object of this push unpacks to more than 1 GiB, which is not taken; nothing was changed.\n \
                      !     Keep such data outside the repository, and push again.\n",
                ));
            }
        }
        passed
    }

    /// What came after the last whole packet.
    pub(crate) fn end(self) -> Vec<u8> {
        self.rest
    }

    /// The length of the first packet; all there is where that is none.
    fn whole(&self) -> Option<usize> {
        let digits = self.rest.get(..4)?;
        let length = std::str::from_utf8(digits).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        match length {
            Some(0..4) => Some(4),
            Some(length @ 4..=LONGEST) => (self.rest.len() >= length).then_some(length),
            _ => Some(self.rest.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkt::FLUSH;

    #[test]
    fn packets_pass_whole_however_they_come() {
        let bomb = b"\x02fatal: attempting to allocate 2147483649 over limit 1073741824\n";
        let said = [&packet(b"\x02Unpacking\n"), &packet(bomb), &packet(b"\x01unpack failed"), FLUSH].concat();
        for size in [1, 5, 70, said.len()] {
            let mut explained = Explained::default();
            let mut passed: Vec<u8> = said.chunks(size).flat_map(|piece| explained.pass(piece)).collect();
            passed.extend(explained.end());
            let text = String::from_utf8_lossy(&passed);
            let sentence = text.find("unpacks to more than 1 GiB").unwrap();
            assert!(text.find("over limit").unwrap() < sentence && sentence < text.find("unpack failed").unwrap());
            assert!(text.ends_with("0000"), "{size}: {text}");
        }
        let mut plain = Explained::default();
        assert_eq!(plain.pass(b"not a packet"), b"not a packet");
        assert_eq!(plain.pass(b"000"), b"");
        assert_eq!(plain.end(), b"000");
    }
}
