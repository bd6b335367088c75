//! Long lines become several, as on Heroku; where one is cut is marked on both sides.

use std::borrow::Cow;

/// Longest piece of a line, in bytes; marks included.
pub const MAX_LINE: usize = 10_000;
/// What ends a piece of a line that goes on in the next piece.
const GOES_ON: &str = " …";
/// What begins a piece that goes on from the one before.
const CONTINUES: &str = "… ";

/// Cuts the lines of one stream.
#[derive(Debug, Default)]
pub struct Cutter {
    /// Whether what comes goes on from a piece that was cut off.
    continues: bool,
}

impl Cutter {
    /// Appends the pieces of what is there of a line; of one that has not `ended`, what may still fit into one piece is
    /// left. Returns how many bytes were taken.
    pub fn cut<'a>(&mut self, line: &'a [u8], ended: bool, pieces: &mut Vec<Cow<'a, [u8]>>) -> usize {
        let mut at = 0;
        while line.len() - at > self.room() {
            let end = at + character_end(&line[at..], self.room() - GOES_ON.len());
            let head = if self.continues { CONTINUES } else { "" };
            pieces.push(Cow::Owned([head.as_bytes(), &line[at..end], GOES_ON.as_bytes()].concat()));
            self.continues = true;
            at = end;
        }
        if !ended {
            return at;
        }
        pieces.push(match std::mem::take(&mut self.continues) {
            true => Cow::Owned([CONTINUES.as_bytes(), &line[at..]].concat()),
            false => Cow::Borrowed(&line[at..]),
        });
        line.len()
    }

    /// How many bytes of a line fit into its last piece.
    pub fn room(&self) -> usize {
        MAX_LINE - if self.continues { CONTINUES.len() } else { 0 }
    }
}

/// Where to cut, at `most` or up to three bytes before it, so that no character is cut in two. `text` is longer than that.
fn character_end(text: &[u8], most: usize) -> usize {
    let begins = |at: &usize| text[*at] & 0b1100_0000 != 0b1000_0000;
    // What has no beginning of a character here is not UTF-8, and has none to be kept whole.
    (most - 3..=most).rev().find(begins).unwrap_or(most)
}
