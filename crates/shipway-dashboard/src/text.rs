//! Text that came from outside, made fit for a page: terminal escapes, control characters, links, ages, sizes.

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::Timestamp;

/// `text` without terminal escapes and with what is invisible made visible.
///
/// Removes escape sequences whole (CSI, OSC and other strings, two-byte escapes). A line that overwrites itself with
/// carriage returns keeps its last state. Other control characters, and characters that reorder or hide text (bidi
/// overrides and isolates, zero-width, byte order mark), become `�`. Line feeds and tabs stay.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || is_deceptive(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut line_start = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => {
                out.push('\n');
                line_start = out.len();
            }
            '\t' => out.push('\t'),
            '\r' => {
                while chars.next_if_eq(&'\r').is_some() {}
                if chars.peek().is_some_and(|c| *c != '\n') {
                    out.truncate(line_start);
                }
            }
            '\u{1b}' => match chars.next() {
                Some('[') => skip_csi(&mut chars),
                Some(']' | 'P' | 'X' | '^' | '_') => skip_string(&mut chars),
                // Two-byte escapes, some with intermediate bytes: `ESC ( B`.
                Some(' '..='/') => while chars.next().is_some_and(|c| (' '..='/').contains(&c)) {},
                _ => {}
            },
            '\u{9b}' => skip_csi(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(&mut chars),
            c if c.is_control() || is_deceptive(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn skip_csi(chars: &mut Chars<'_>) {
    // Parameters and intermediates, then one final byte; anything else ends a broken sequence and is kept.
    while chars.next_if(|c| (' '..='?').contains(c)).is_some() {}
    chars.next_if(|c| ('@'..='~').contains(c));
}

fn skip_string(chars: &mut Chars<'_>) {
    // Up to BEL or ST. A line feed ends it too, so that one unclosed string cannot swallow the rest of an output.
    while let Some(c) = chars.next_if(|c| *c != '\n') {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                chars.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

/// Whether `c` can make text look like other text without being seen.
fn is_deceptive(c: char) -> bool {
    // Zero-width joiner and non-joiner (200c, 200d) stay: scripts and emoji need them.
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// What a browser sent for a text area: line ends are LF again, as they were before it made them CRLF.
pub fn form_text(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// A link that data asks for: `http`, `https` or a path of ours; anything else becomes `#`.
pub fn href(url: &str) -> &str {
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let ours = url.starts_with('/') && !url.starts_with("//") && !url.starts_with("/\\");
    let clean = !url.chars().any(|c| c.is_control() || c.is_whitespace());
    if clean && (ours || lower.starts_with("http://") || lower.starts_with("https://")) { url } else { "#" }
}

/// Appends `value` percent-encoded as one path segment. Empty and dot segments cannot be said in a path; they become
/// something that names nothing.
pub(crate) fn push_segment(out: &mut String, value: &str) {
    match value {
        "" => out.push('-'),
        "." | ".." => out.push_str(&value.replace('.', "%2E")),
        _ => push_encoded(out, value),
    }
}

/// Appends `value` percent-encoded for a segment or a query value: all but RFC 3986's unreserved characters.
pub(crate) fn push_encoded(out: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// How long ago `then` was, in one unit, rounded down: `20 s ago`, `14 min ago`, `3 h ago`, `2 days ago`.
/// The script says the same of the same times. What lies ahead by clock skew is `just now`.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let s = now.as_second() - then.as_second();
    match s {
        ..5 => "just now".into(),
        5..60 => format!("{s} s ago"),
        60..3_600 => format!("{} min ago", s / 60),
        3_600..86_400 => format!("{} h ago", s / 3_600),
        86_400..172_800 => "1 day ago".into(),
        _ => format!("{} days ago", s / 86_400),
    }
}

/// How long something took or has been taking: `140 ms`, `1.8 s`, `21 s`, `4:05`, `1:02:03`.
pub(crate) fn duration(ms: u64) -> String {
    let s = ms / 1_000;
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{}.{} s", s, ms % 1_000 / 100),
        10_000..60_000 => format!("{s} s"),
        60_000..3_600_000 => format!("{}:{:02}", s / 60, s % 60),
        _ => format!("{}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60),
    }
}

/// `at` to the second with its zone: `2026-11-21 01:30:11 UTC`.
pub(crate) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Where a long name is parted so that its end stays in view when it is cut: before the last 10 characters.
/// `None` when it has at most 28 and is shown whole.
pub(crate) fn cut(name: &str) -> Option<(&str, &str)> {
    let count = name.chars().count();
    if count <= 28 {
        return None;
    }
    let at = name.char_indices().nth(count - 10).map_or(name.len(), |(i, _)| i);
    Some(name.split_at(at))
}

/// `text` for an element or a quoted attribute.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| entity(c).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match entity(c) {
            Some(entity) => out.push_str(entity),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn entity(c: char) -> Option<&'static str> {
    Some(match c {
        '<' => "&lt;",
        '>' => "&gt;",
        '&' => "&amp;",
        '"' => "&quot;",
        '\'' => "&#39;",
        _ => return None,
    })
}

/// Bytes that `text` takes in a page.
pub(crate) fn escaped_len(text: &str) -> usize {
    text.chars().map(|c| entity(c).map_or(c.len_utf8(), str::len)).sum()
}

/// The end of `text` that takes at most `budget` bytes in a page, from a line's start where there is one, and whether
/// something was left out before it.
pub(crate) fn tail(text: &str, budget: usize) -> (&str, bool) {
    let mut left = budget;
    let mut start = text.len();
    for (i, c) in text.char_indices().rev() {
        let size = escaped_len(c.encode_utf8(&mut [0; 4]));
        if size > left {
            let from_line = text[start..].find('\n').map_or(start, |n| start + n + 1);
            return (&text[if from_line < text.len() { from_line } else { start }..], true);
        }
        left -= size;
        start = i;
    }
    (text, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_12_terminal_escapes_and_direction_marks_are_inert() {
        fn check(input: &str, expected: &str) {
            assert_eq!(plain(input), expected, "{input:?}");
        }
        check("plain\ttext\n", "plain\ttext\n");
        check("\x1b[31mred\x1b[0m \x1b[1;38;5;9mbold\x1b[K", "red bold");
        check("\x1b]0;owned\x07title", "title");
        check("\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\", "click");
        check("\x1b]52;c;Y3VybCB8IHNo\nnext line stays", "\nnext line stays");
        check("\u{9b}31mC1\u{9d}0;x\u{9c}end", "C1end");
        check("\x1b(Bcharset \x1bcreset", "charset reset");
        check("\x1b[", "");
        check("\x1b", "");
        check("10 %\r50 %\r100 %\r\ndone\r", "100 %\ndone");
        check("a\0b\x08c\x7f", "a\u{fffd}b\u{fffd}c\u{fffd}");
        check("user\u{202e}gpj.exe", "user\u{fffd}gpj.exe");
        check("adm\u{200b}in", "adm\u{fffd}in");
        check("👩\u{200d}🚀 Zürich", "👩\u{200d}🚀 Zürich");
    }

    #[test]
    fn links_lead_only_to_the_web_or_to_us() {
        for good in ["https://shop.example.org/a?b=c", "HTTP://x", "/dashboard/apps/shop"] {
            assert_eq!(href(good), good);
        }
        for bad in [
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "//evil.example",
            "/\\evil",
            "",
            " /x",
            "https://a\nb",
            "ünïcödé",
        ] {
            assert_eq!(href(bad), "#", "{bad:?}");
        }
    }

    #[test]
    fn ages_and_durations_have_one_unit() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let ago = |s: i64| age(Timestamp::from_second(now.as_second() - s).unwrap(), now);
        let said = [-9, 4, 59, 60, 3_599, 3_600, 86_399, 86_400, 172_800, 4_000_000].map(ago);
        assert_eq!(
            said.join(", "),
            "just now, just now, 59 s ago, 1 min ago, 59 min ago, 1 h ago, 23 h ago, 1 day ago, 2 days ago, 46 days ago"
        );
        let took = [0, 140, 1_840, 59_999, 60_000, 3_723_000].map(duration);
        assert_eq!(took.join(", "), "0 ms, 140 ms, 1.8 s, 59 s, 1:00, 1:02:03");
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(cut("observatory-staging"), None);
        assert_eq!(
            cut("the-quick-brown-fox-jumps-over-the-lazy-dog"),
            Some(("the-quick-brown-fox-jumps-over-th", "e-lazy-dog"))
        );
        assert_eq!(cut(&"ü".repeat(40)).map(|(a, b)| (a.chars().count(), b.chars().count())), Some((30, 10)));
    }

    #[test]
    fn a_tail_starts_at_a_line() {
        assert_eq!(tail("one\ntwo\nthree", 9), ("three", true));
        assert_eq!(tail("one\ntwo\nthree", 100), ("one\ntwo\nthree", false));
        assert_eq!(tail("<<<<", 8), ("<<", true));
        assert_eq!(tail("ends\n", 3), ("ds\n", true));
    }
}
