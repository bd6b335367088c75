//! What the stack really is on this host: the distribution and the languages that builds find.

use std::process::{Child, Command, Stdio};

/// The languages of the host that builds use: how a program is asked for its version, and its name for people. PHP would
/// first load all its extensions.
const LANGUAGES: &[(&[&str], &str)] = &[
    (&["/usr/bin/python3", "--version"], "python"),
    (&["/usr/bin/node", "--version"], "node"),
    (&["/usr/bin/php", "-n", "--version"], "php"),
];

/// This host's fingerprint, such as `debian-12-x86_64 python-3.11.2 node-18.20.4`; a language that is not there is left out.
///
/// Takes as long as the slowest program, tens of milliseconds.
pub fn fingerprint() -> String {
    let asked: Vec<_> = LANGUAGES.iter().map(|(words, name)| (ask(words), *name)).collect();
    let found = asked.into_iter().filter_map(|(asked, name)| Some((name, version(asked?)?)));
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

/// Has a program say its version. None: it is not there.
fn ask(words: &[&str]) -> Option<Child> {
    let (program, arguments) = words.split_first()?;
    let mut ask = Command::new(program);
    ask.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()
}

/// What it says, without words and a leading `v`. None: it says no version.
fn version(asked: Child) -> Option<String> {
    let said = String::from_utf8(asked.wait_with_output().ok()?.stdout).ok()?;
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
        let said = |words: &[&str]| ask(words).and_then(version);
        assert!(said(&["/bin/bash", "--version"]).is_some_and(|v| v.contains('.')));
        assert_eq!(said(&["/bin/true"]), None);
        assert_eq!(said(&["/nowhere/node", "--version"]), None);
    }
}
