//! What the pusher reads, in Heroku's style.

use std::time::Duration;

/// Takes the lines of a build, without their line ends. Called in order, from one task.
pub trait BuildOutput: Send {
    /// One line. Holds no control characters but tabs and colours.
    fn line(&mut self, line: &str);
}

impl BuildOutput for Vec<String> {
    fn line(&mut self, line: &str) {
        self.push(line.to_string());
    }
}

/// Writes headers, details and warnings, and remembers the warnings.
pub(crate) struct Report<'a> {
    out: &'a mut dyn BuildOutput,
    pub(crate) warnings: Vec<String>,
    pub(crate) bytes: u64,
}

impl<'a> Report<'a> {
    pub(crate) fn new(out: &'a mut dyn BuildOutput) -> Self {
        Self { out, warnings: Vec::new(), bytes: 0 }
    }

    /// `-----> Python app detected`
    pub(crate) fn header(&mut self, text: &str) {
        self.raw(&format!("-----> {text}"));
    }

    /// `       Installing requirements`
    pub(crate) fn detail(&mut self, text: &str) {
        for line in text.lines() {
            self.raw(&format!("       {line}"));
        }
    }

    /// `       Done in 1.2 s`, for what took long enough to care.
    pub(crate) fn took(&mut self, what: &str, time: Duration) {
        self.detail(&format!("{what} ({})", seconds(time)));
    }

    /// ` !     A .env file is in the tree`
    pub(crate) fn warning(&mut self, text: &str) {
        for line in text.lines() {
            self.raw(&format!(" !     {line}"));
        }
        self.warnings.push(text.to_string());
    }

    /// A line as a program wrote it, cleaned.
    pub(crate) fn raw(&mut self, line: &str) {
        self.bytes += line.len() as u64 + 1;
        self.out.line(&clean(line));
    }
}

/// `0.4 s`, `12 s`, `3 min 20 s`
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        s @ 10..120 => format!("{s} s"),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

/// The line without control characters, except tabs and colour sequences (`ESC [ … m`).
///
/// A line that was written over with carriage returns (a progress bar) is its last state.
pub(crate) fn clean(line: &str) -> String {
    let line = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut result = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => match rest.peek() {
                Some('[') => {
                    rest.next();
                    let mut sequence = String::from("\u{1b}[");
                    for c in rest.by_ref() {
                        sequence.push(c);
                        if ('@'..='~').contains(&c) {
                            break;
                        }
                    }
                    if sequence.ends_with('m') {
                        result.push_str(&sequence);
                    }
                }
                // An operating-system command: to its end, BEL or ESC \.
                Some(']') => {
                    while let Some(c) = rest.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && rest.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {
                    rest.next();
                }
            },
            '\t' => result.push('\t'),
            c if c.is_control() => {}
            c => result.push(c),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_12_terminal_sequences_do_not_pass() {
        let check = |line: &str, expected: &str| assert_eq!(clean(line), expected);
        check("plain\ttext ü", "plain\ttext ü");
        check("\u{1b}[31mred\u{1b}[0m", "\u{1b}[31mred\u{1b}[0m");
        check("a\u{1b}[2Jb\u{1b}[1;1Hc", "abc");
        check("a\u{1b}]0;title\u{7}b\u{1b}]8;;http://x\u{1b}\\c", "abc");
        check("10 %\r50 %\r100 %", "100 %");
        check("a\0b\u{8}\u{9b}c\r", "abc");
        check("cut \u{1b}", "cut ");
        check("cut \u{1b}[31", "cut ");
    }

    #[test]
    fn durations() {
        let check = |ms, expected: &str| assert_eq!(seconds(Duration::from_millis(ms)), expected);
        check(140, "0.1 s");
        check(12_900, "12 s");
        check(200_000, "3 min 20 s");
    }
}
