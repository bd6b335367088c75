//! Versions and ranges of them, as `engines` in package.json writes them.

use std::fmt;

/// Three numbers; nothing that is released by a language needs more.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) [u64; 3]);

impl Version {
    /// Reads `3.11.2`, with an optional `v` before it. Pre-releases are not versions.
    pub(crate) fn parse(s: &str) -> Option<Self> {
        match Partial::parse(s)? {
            Partial { numbers, known: 3 } => Some(Self(numbers)),
            _ => None,
        }
    }

    /// `3.11`
    pub(crate) fn minor(&self) -> String {
        format!("{}.{}", self.0[0], self.0[1])
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0[0], self.0[1], self.0[2])
    }
}

/// A version whose last numbers may be left out or written `x`.
#[derive(Debug, Clone, Copy)]
struct Partial {
    numbers: [u64; 3],
    known: usize,
}

impl Partial {
    fn parse(s: &str) -> Option<Self> {
        let s = s.trim().trim_start_matches(['v', '=']);
        let mut partial = Self { numbers: [0; 3], known: 0 };
        let mut open = false;
        for (i, part) in s.split('.').enumerate() {
            if i == 3 {
                return None;
            }
            if matches!(part, "x" | "X" | "*") || (s.is_empty() && i == 0) {
                open = true;
            } else {
                if open || part.is_empty() || part.len() > 9 || !part.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                partial.numbers[i] = part.parse().ok()?;
                partial.known = i + 1;
            }
        }
        Some(partial)
    }

    fn lowest(self) -> Version {
        Version(self.numbers)
    }

    /// The first version above all that this stands for; none when it stands for every version.
    fn above(self) -> Option<Version> {
        let at = self.known.checked_sub(1)?;
        Some(self.bumped(at))
    }

    fn bumped(self, at: usize) -> Version {
        let mut numbers = self.numbers;
        numbers[at] += 1;
        numbers[at + 1..].fill(0);
        Version(numbers)
    }
}

/// A range: any of its alternatives, each from a version on, up to below another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range(Vec<(Version, Option<Version>)>);

impl Range {
    /// Reads `20`, `20.x`, `>=18 <21`, `^18.2 || ~20.1`, `18 - 20`. Source: npm's semver, "Ranges".
    pub(crate) fn parse(s: &str) -> Option<Self> {
        s.split("||").map(alternative).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Reads `^8.1`, `~8.1`, `>=7.4,<9`, `8.2.* | 8.3.*` as Composer does: there `~8.1` goes up to below 9, and `8.2` is
    /// 8.2.0 alone. Source: getcomposer.org, "Versions and constraints".
    pub(crate) fn composer(s: &str) -> Option<Self> {
        let alternatives: Vec<String> = s.replace("||", "|").split('|').map(composer_alternative).collect();
        Self::parse(&alternatives.join("||"))
    }

    /// The versions that are in `range` and in `other`, which is one alternative, as a range. None: there are none, or
    /// either is no range.
    pub(crate) fn both(range: &str, other: &str) -> Option<String> {
        let alternatives: Vec<String> = range.split("||").map(|one| format!("{} {other}", one.trim())).collect();
        let text = alternatives.join(" || ");
        let any = |(low, high): &(Version, Option<Version>)| high.as_ref().is_none_or(|high| low < high);
        Self::parse(&text).filter(|both| both.0.iter().any(any)).map(|_| text.trim().into())
    }

    /// Reads `>=3.11,<4.0`, `~=3.11`, `==3.12.*` as `requires-python` has them, and `^3.11` as Poetry does. `==3.12` is let
    /// stand for all of 3.12, and what `!=` excludes is let through. Source: packaging.python.org, "Version specifiers".
    pub(crate) fn python(s: &str) -> Option<Self> {
        let alternatives: Vec<String> = s.replace("||", "|").split('|').map(python_alternative).collect();
        Self::parse(&alternatives.join("||"))
    }

    /// The first version that it may contain.
    pub(crate) fn lowest(&self) -> Version {
        self.0.iter().map(|(low, _)| low.clone()).min().unwrap_or_default()
    }

    pub(crate) fn contains(&self, version: &Version) -> bool {
        self.0.iter().any(|(low, high)| version >= low && high.as_ref().is_none_or(|high| version < high))
    }
}

/// One of Composer's alternatives in the words of npm. What it excludes by `!=` is let through.
fn composer_alternative(s: &str) -> String {
    let part = |part: &str| {
        let part = part.split(['@', '-']).next().unwrap_or_default().replace("==", "=");
        let operator: String = part.chars().take_while(|c| "<>=^~!".contains(*c)).collect();
        let version = part[operator.len()..].trim_start_matches('v');
        let numbers = version.split('.').count();
        let open = version.is_empty() || version.ends_with(['*', 'x', 'X']);
        match operator.as_str() {
            "!=" | "<>" => String::new(),
            "~" if numbers == 2 => format!("^{version}"),
            "^" | "~" => part,
            _ if open => part,
            _ => format!("{operator}{version}{}", ".0".repeat(3_usize.saturating_sub(numbers))),
        }
    };
    match s.split_once(" - ") {
        Some((from, to)) => format!("{} - {}", from.trim(), to.trim()),
        None => s.replace(',', " ").split_whitespace().map(part).collect::<Vec<_>>().join(" "),
    }
}

/// One alternative of `requires-python` in the words of npm.
fn python_alternative(s: &str) -> String {
    let part = |part: &str| {
        let operator: String = part.chars().take_while(|c| "<>=^~!".contains(*c)).collect();
        let version = &part[operator.len()..];
        let numbers = version.split('.').count();
        match operator.as_str() {
            "!=" => String::new(),
            "~=" if numbers == 2 => format!("^{version}"),
            "~=" => format!("~{version}"),
            "" | "==" | "===" => format!("={version}"),
            ">" | "<" | ">=" | "<=" if !version.ends_with('*') => {
                format!("{operator}{version}{}", ".0".repeat(3_usize.saturating_sub(numbers)))
            }
            _ => part.to_string(),
        }
    };
    closed_up(&s.replace(',', " "), &["~=", "==", "!=", ">=", "<=", ">", "<", "^", "~", "="])
        .split_whitespace()
        .map(part)
        .collect::<Vec<_>>()
        .join(" ")
}

/// `>= 18` is written with and without the space.
fn closed_up(s: &str, operators: &[&str]) -> String {
    let mut joined = s.trim().to_string();
    for operator in operators {
        while joined.contains(&format!("{operator} ")) {
            joined = joined.replace(&format!("{operator} "), operator);
        }
    }
    joined
}

fn alternative(s: &str) -> Option<(Version, Option<Version>)> {
    let mut low = Version([0; 3]);
    let mut high: Option<Version> = None;
    let mut narrow = |from: Option<Version>, to: Option<Version>| {
        if let Some(from) = from {
            low = low.clone().max(from);
        }
        if let Some(to) = to {
            high = Some(high.take().map_or(to.clone(), |h| h.min(to)));
        }
    };
    if let Some((from, to)) = s.split_once(" - ") {
        narrow(Some(Partial::parse(from)?.lowest()), Partial::parse(to)?.above());
        return Some((low, high));
    }
    for part in closed_up(s, &[">=", "<=", ">", "<", "^", "~", "="]).split_whitespace() {
        let operator: String = part.chars().take_while(|c| "<>=^~".contains(*c)).collect();
        let partial = Partial::parse(&part[operator.len()..])?;
        match operator.as_str() {
            "" | "=" => narrow(Some(partial.lowest()), partial.above()),
            ">=" => narrow(Some(partial.lowest()), None),
            ">" => narrow(Some(partial.above()?), None),
            "<" => narrow(None, Some(partial.lowest())),
            "<=" => narrow(None, partial.above()),
            "~" => {
                narrow(Some(partial.lowest()), (partial.known > 0).then(|| partial.bumped(1.min(partial.known - 1))))
            }
            "^" => {
                let first =
                    partial.numbers.iter().position(|n| *n > 0).unwrap_or(2).min(partial.known.saturating_sub(1));
                narrow(Some(partial.lowest()), (partial.known > 0).then(|| partial.bumped(first)));
            }
            _ => return None,
        }
    }
    Some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |range: &str, inside: &[&str], outside: &[&str]| {
            let parsed = Range::parse(range).unwrap_or_else(|| panic!("{range} should be a range"));
            for (versions, expected) in [(inside, true), (outside, false)] {
                for v in versions {
                    assert_eq!(parsed.contains(&Version::parse(v).unwrap()), expected, "{v} in {range}");
                }
            }
        };
        check("20", &["20.0.0", "20.20.2"], &["19.9.9", "21.0.0"]);
        check("20.x", &["20.20.2"], &["21.0.0"]);
        check("*", &["0.1.0", "26.0.0"], &[]);
        check("", &["0.1.0"], &[]);
        check("v20.11.1", &["20.11.1"], &["20.11.2"]);
        check(">=18", &["18.0.0", "26.0.0"], &["17.9.9"]);
        check(">= 18 < 21", &["20.0.0"], &["21.0.0"]);
        check(">18", &["19.0.0"], &["18.5.0"]);
        check(">18.1.0", &["18.1.1"], &["18.1.0"]);
        check("<=20", &["20.9.0"], &["21.0.0"]);
        check("^18.2 || ~20.1", &["18.20.0", "20.1.5"], &["18.1.0", "20.2.0", "19.0.0"]);
        check("^0.3.1", &["0.3.9"], &["0.4.0"]);
        check("~20", &["20.9.0"], &["21.0.0"]);
        check("18 - 20", &["18.0.0", "20.9.9"], &["21.0.0"]);
        let composer = |range: &str, inside: &[&str], outside: &[&str]| {
            let parsed = Range::composer(range).unwrap_or_else(|| panic!("{range} should be a range"));
            for (versions, expected) in [(inside, true), (outside, false)] {
                for v in versions {
                    assert_eq!(parsed.contains(&Version::parse(v).unwrap()), expected, "{v} in {range}");
                }
            }
        };
        composer("^8.1", &["8.1.0", "8.4.2"], &["8.0.9", "9.0.0"]);
        composer("~8.1", &["8.1.0", "8.4.2"], &["9.0.0"]);
        composer("~8.1.3", &["8.1.9"], &["8.2.0"]);
        composer("^7.4|^8.0", &["7.4.33", "8.2.0"], &["7.3.0"]);
        composer(">=7.2.5, <8.2 || 8.3.*", &["8.1.9", "8.3.1"], &["8.2.0", "8.4.0"]);
        composer(">= 8.1 <=8.2", &["8.1.0", "8.2.0"], &["8.2.1"]);
        composer("8.2", &["8.2.0"], &["8.2.1"]);
        composer("*", &["8.2.1"], &[]);
        composer(">=8.0.0-dev !=8.1.0", &["8.0.0", "8.2.1"], &["7.4.0"]);
        assert_eq!(Range::composer("self.version"), None);
        let both = |range: &str, other: &str| Range::both(range, other);
        assert_eq!(both("1.x || 4", "^4.2").as_deref(), Some("1.x ^4.2 || 4 ^4.2"));
        assert_eq!(both("*", ">=9").as_deref(), Some("* >=9"));
        assert_eq!(both("^3.1.0 || 2", "4.x"), None);
        assert_eq!(both("latest", "4.x"), None);
        let python = |range: &str, inside: &[&str], outside: &[&str]| {
            let parsed = Range::python(range).unwrap_or_else(|| panic!("{range} should be a range"));
            for (versions, expected) in [(inside, true), (outside, false)] {
                for v in versions {
                    assert_eq!(parsed.contains(&Version::parse(v).unwrap()), expected, "{v} in {range}");
                }
            }
        };
        python(">=3.11,<4.0", &["3.11.0", "3.14.2"], &["3.10.9", "4.0.0"]);
        python(">= 3.11, < 3.13", &["3.12.9"], &["3.13.0"]);
        python("~=3.11", &["3.11.0", "3.14.0"], &["3.10.0", "4.0.0"]);
        python("~=3.11.2", &["3.11.2"], &["3.11.1", "3.12.0"]);
        python("==3.12.*", &["3.12.0", "3.12.9"], &["3.11.0", "3.13.0"]);
        python("==3.12", &["3.12.9"], &["3.13.0"]);
        python("<=3.12", &["3.12.0"], &["3.12.1"]);
        python(">3.10", &["3.10.1", "3.11.0"], &["3.10.0"]);
        python("^3.11", &["3.14.0"], &["3.10.0", "4.0.0"]);
        python("~3.11", &["3.11.9"], &["3.12.0"]);
        python(">=3.9,!=3.9.7", &["3.9.7", "3.11.0"], &["3.8.0"]);
        python("^3.11 || ^2.7", &["3.12.0", "2.7.18"], &["3.9.0"]);
        assert_eq!(Range::python(">=3.11,<4.0").unwrap().lowest(), Version([3, 11, 0]));
        for bad in [">=3.13.0rc1", "$(id)", ">=3.11;id"] {
            assert_eq!(Range::python(bad), None, "{bad}");
        }
        for bad in ["lts/*", "latest", "1.2.3.4", ">=a", "1..2", "$(id)", "99999999999", "--help"] {
            assert_eq!(Range::parse(bad), None, "{bad}");
        }
    }
}
