//! Text of others, made safe to print.

/// `text` without what could steer a terminal: control characters go, except line ends, tabs and colours (`ESC [ … m`).
/// A lone carriage return, as progress bars use it, becomes a line end.
pub fn terminal_safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\t' => safe.push(c),
            '\r' => {
                if !rest.as_str().starts_with('\n') {
                    safe.push('\n');
                }
            }
            '\x1b' => {
                if let Some(colour) = colour_sequence(rest.as_str()) {
                    safe.push(c);
                    safe.push_str(colour);
                    rest = rest.as_str()[colour.len()..].chars();
                }
            }
            // Direction overrides let a line read as something else than it is.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => safe.push(c),
        }
    }
    safe
}

/// `text` on one line, without any control characters, cut to `max` characters.
pub fn one_line(text: &str, max: usize) -> String {
    let safe = terminal_safe(text).replace('\x1b', "");
    let mut line: String = safe.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = line.char_indices().nth(max) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

/// The rest of a colour sequence after its ESC.
fn colour_sequence(rest: &str) -> Option<&str> {
    let end = rest.find(|c: char| !matches!(c, '[' | ';' | ':' | '0'..='9'))?;
    (rest.starts_with('[') && end <= 32 && rest[end..].starts_with('m')).then(|| &rest[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_12_terminals_are_not_steered() {
        let check = |given: &str, expected: &str| assert_eq!(terminal_safe(given), expected, "{given:?}");
        check("plain\ttext\n", "plain\ttext\n");
        check("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m");
        check("\x1b]0;title\x07\x1b[2J\x1bc", "]0;title[2Jc");
        check("10%\r20%\r\n", "10%\n20%\n");
        check("\u{9b}2J\0\u{202e}abc", "2Jabc");
        check("cut \x1b[", "cut [");
        assert_eq!(one_line("a\nb\x1b[31m\r\n  c", 80), "a b[31m c");
        assert_eq!(one_line("äöü", 2), "äö…");
    }
}
