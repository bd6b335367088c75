//! Environment changes as text for a shell to evaluate.

use crate::environment::Change;
use std::fmt::Write;

/// The shells whose syntax we print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// POSIX sh, dash, ksh.
    Sh,
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

impl Shell {
    /// The shell named by a path such as `$SHELL`; POSIX syntax for those we do not know.
    pub fn of_path(path: &str) -> Self {
        match path.rsplit('/').next().unwrap_or_default() {
            "fish" => Self::Fish,
            "zsh" => Self::Zsh,
            "bash" => Self::Bash,
            _ => Self::Sh,
        }
    }

    /// Lines that make `changes` when evaluated. Every value is one quoted word, whatever is in it.
    pub fn render(self, changes: &[Change]) -> String {
        let mut out = String::new();
        for change in changes {
            // Writing to a string cannot fail.
            let _ = match (self, change) {
                (Self::Fish, Change::Set(name, value)) => writeln!(out, "set -gx {name} {};", self.quote(value)),
                (Self::Fish, Change::Unset(name)) => writeln!(out, "set -e {name};"),
                (_, Change::Set(name, value)) => writeln!(out, "export {name}={};", self.quote(value)),
                (_, Change::Unset(name)) => writeln!(out, "unset {name};"),
            };
        }
        out
    }

    /// `value` as one word. Sources: POSIX.1-2024 XCU 2.2.2 (single quotes); fish, "Quotes" (only `\` and `'` are special).
    pub fn quote(self, value: &str) -> String {
        match self {
            Self::Fish => format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")),
            _ => format!("'{}'", value.replace('\'', r"'\''")),
        }
    }

    /// `value` as one word for people to read: quoted only where it must be.
    pub fn word(self, value: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
        if !value.is_empty() && value.chars().all(plain) { value.to_owned() } else { self.quote(value) }
    }

    /// The line that evaluates the output of `command`.
    pub fn eval(self, command: &str) -> String {
        match self {
            Self::Fish => format!("{command} | source"),
            _ => format!("eval \"$({command})\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_each_shell() {
        let changes = [Change::set("A", r"it's \ $HOME"), Change::unset("B")];
        assert_eq!(Shell::Sh.render(&changes), "export A='it'\\''s \\ $HOME';\nunset B;\n");
        assert_eq!(Shell::Fish.render(&changes), "set -gx A 'it\\'s \\\\ $HOME';\nset -e B;\n");
    }

    #[test]
    fn the_shell_is_known_by_its_path() {
        assert_eq!(Shell::of_path("/usr/bin/fish"), Shell::Fish);
        assert_eq!(Shell::of_path("/bin/dash"), Shell::Sh);
    }

    #[cfg(unix)]
    #[test]
    fn attack_11_a_hostile_value_stays_a_value() {
        for hostile in
            ["'; touch owned; '", "$(touch owned)", "`touch owned`", "two\nlines", "\\", "it's", "\"", "a;b&c|d"]
        {
            let dir = tempfile::tempdir().unwrap();
            let script = format!("{}printf %s \"$V\"", Shell::Sh.render(&[Change::set("V", hostile)]));
            let out = std::process::Command::new("sh").arg("-c").arg(script).current_dir(&dir).output().unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap(), hostile);
            assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "{hostile:?} was run");
        }
    }
}
