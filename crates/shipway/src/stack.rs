//! What the stack really is on this host: the distribution and the languages that builds find.

use std::path::Path;
use std::process::{Command, Stdio};

/// The languages of the host that builds use: the program that is asked for its version, and its name for people.
const LANGUAGES: &[(&str, &str)] =
    &[("/usr/bin/python3", "python"), ("/usr/bin/node", "node"), ("/usr/bin/php", "php")];

/// This host's fingerprint, such as `debian-12-x86_64 python-3.11.2 node-18.20.4`; a language that is not there is left out.
pub fn fingerprint() -> String {
    let found = LANGUAGES.iter().filter_map(|(program, name)| Some((*name, version(Path::new(program))?)));
    describe(&std::fs::read_to_string("/etc/os-release").unwrap_or_default(), found)
}

/// Source: os-release(5).
fn describe(os_release: &str, languages: impl Iterator<Item = (&'static str, String)>) -> String {
    let field = |name: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map_or("unknown", |value| value.trim_matches(['"', '\'']))
    };
    let host = format!("{}-{}-{}", field("ID"), field("VERSION_ID"), std::env::consts::ARCH);
    languages.fold(host, |text, (name, version)| format!("{text} {name}-{version}"))
}

/// What `program --version` says, without words and a leading `v`. None: it is not there, or says no version.
fn version(program: &Path) -> Option<String> {
    let mut ask = Command::new(program);
    ask.arg("--version").env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    let said = String::from_utf8(ask.output().ok()?.stdout).ok()?;
    let mut words = said.split_whitespace().map(|word| word.trim_start_matches('v'));
    words.find(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_what_os_release_and_the_languages_say() {
        let check = |text: &str, languages: &[(&'static str, &str)], expected: &str| {
            let languages = languages.iter().map(|(name, version)| (*name, (*version).to_owned()));
            assert_eq!(describe(text, languages), expected.replace("ARCH", std::env::consts::ARCH), "{text}");
        };
        check("ID=debian\nVERSION_ID=\"12\"\n", &[], "debian-12-ARCH");
        check(
            "NAME=x\nVERSION_ID=24.04\nID=ubuntu\n",
            &[("python", "3.12.3"), ("node", "18.19.1")],
            "ubuntu-24.04-ARCH python-3.12.3 node-18.19.1",
        );
        check("", &[], "unknown-unknown-ARCH");
    }

    #[test]
    fn a_program_is_asked_for_its_version() {
        assert!(version(Path::new("/bin/bash")).is_some_and(|v| v.contains('.')));
        assert_eq!(version(Path::new("/nowhere/node")), None);
    }
}
