//! What would change: the plain data of a comparison, and the small judgements in it.
//!
//! `base` is what runs now (the target of a promotion, the older release), `head` what would run instead.

use crate::ids::AppId;
use crate::migrations::Migrations;
use crate::names::{AppName, BranchName, CommitId, ConfigKey};
use crate::pipeline::Stage;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// One of the two that are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// The app.
    pub app: AppId,
    /// Its name.
    pub name: AppName,
    /// Its stage, when it was named by that.
    pub stage: Option<Stage>,
    /// The release; none for a commit.
    pub version: Option<u64>,
    /// The commit; none before the first deploy.
    pub commit: Option<CommitId>,
    /// The digest of the artifact; none for a commit.
    pub digest: Option<String>,
    /// Where it stands beside its pipeline's upstream; none when that is not known.
    pub beside: Option<Beside>,
}

/// A commit. All text is one printable line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// Which.
    pub id: CommitId,
    /// The first line of its message.
    pub subject: String,
    /// Its author's name.
    pub author: String,
    /// When it was committed.
    pub committed_at: Timestamp,
}

/// Somebody's share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Author {
    /// Their name.
    pub name: String,
    /// How many of the listed commits are theirs.
    pub commits: usize,
}

/// A pull or merge request that a subject names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PullRequest {
    /// Its number.
    pub number: u64,
    /// Its title, as far as the message has it.
    pub title: String,
}

/// The commits between two sides, newest first, without merges: `git log base...head`, both sides apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Commits {
    /// Head has them, base has not.
    pub ahead: Vec<Commit>,
    /// How many there are; the list may be cut.
    pub ahead_count: usize,
    /// Base has them, head has not: they would be taken away.
    pub behind: Vec<Commit>,
    /// How many there are.
    pub behind_count: usize,
    /// Who wrote what head has, the busiest first.
    pub authors: Vec<Author>,
    /// What head's messages name, each once.
    pub pull_requests: Vec<PullRequest>,
}

/// How large a change is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// Commits that came.
    pub commits: usize,
    /// Files that differ.
    pub files: usize,
    /// Lines that came.
    pub added: usize,
    /// Lines that went.
    pub removed: usize,
}

/// A change beside those that came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Size {
    /// This one.
    #[serde(flatten)]
    pub extent: Extent,
    /// What is usual here; none before the second deploy.
    pub usual: Option<Usual>,
}

/// Medians of earlier changes of the same app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usual {
    /// Of commits, files and lines, each for itself.
    #[serde(flatten)]
    pub extent: Extent,
    /// Of how many changes.
    pub of: usize,
    /// How this one compares with it.
    pub verdict: Verdict,
}

/// How large a change is beside the usual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A third of the usual lines at most.
    Small,
    /// Neither.
    Usual,
    /// Three times the usual lines at least.
    Large,
}

/// Names of config vars whose values differ. Never a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KeyChanges {
    /// Head has them, base has not.
    pub added: Vec<ConfigKey>,
    /// Base has them, head has not.
    pub removed: Vec<ConfigKey>,
    /// Both have them, with different values.
    pub changed: Vec<ConfigKey>,
    /// Those among them that builds write into what they make: a promoted build keeps the values of head. None
    /// where both sides run the same build.
    pub baked: Vec<ConfigKey>,
}

impl KeyChanges {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Something with a name that is different on either side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What: a process type, a plan, a domain.
    pub name: String,
    /// What base has; none when it has not.
    pub base: Option<String>,
    /// What head has; none when it has not.
    pub head: Option<String>,
}

/// Everything that two sides differ by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// What runs now.
    pub base: Side,
    /// What would run instead.
    pub head: Side,
    /// Whether both run the same artifact, byte for byte.
    pub same_artifact: bool,
    /// The commits; none when a side has no commit.
    pub commits: Option<Commits>,
    /// How large the change is; none when a side has no commit.
    pub size: Option<Size>,
    /// Config vars; none when a side is a commit, or the caller may not read them.
    pub config: Option<KeyChanges>,
    /// Process types whose commands differ.
    pub processes: Vec<Change>,
    /// Process types whose quantity or size differ between two apps.
    pub formation: Vec<Change>,
    /// What differs of what made them: `buildpacks` in order, `stack`, `host` (distribution and versions), `language`.
    pub build: Vec<Change>,
    /// Add-ons whose plans differ between two apps.
    pub addons: Vec<Change>,
    /// Commands that run by the clock.
    pub schedules: Vec<Change>,
    /// Migrations of the schema; none when a side has no commit.
    pub migrations: Option<Migrations>,
    /// Where a forge shows the same.
    pub url: Option<String>,
    /// What could not be compared, and why, a sentence each.
    pub unknown: Vec<String>,
}

/// In what two apps differ that should be alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parity {
    /// One.
    pub base: Side,
    /// The other.
    pub head: Side,
    /// Quantity and size by process type.
    pub formation: Vec<Change>,
    /// Config vars; none when the caller may not read them. Values are meant to differ, names are not.
    pub config: Option<KeyChanges>,
    /// Plans by attachment.
    pub addons: Vec<Change>,
    /// What differs of what made them, as in [`Comparison::build`].
    pub build: Vec<Change>,
    /// Custom domains, each of which one app has.
    pub domains: Vec<Change>,
    /// What could not be compared, and why, a sentence each.
    pub unknown: Vec<String>,
}

/// How the line that a team works on has what a commit brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Contained {
    /// It has the commit itself.
    Commit,
    /// It has its tree: a squash or rebase onto nothing new.
    Tree,
    /// It has its changes: a rebase, a cherry-pick, a squash.
    Patch,
    /// It has not.
    No,
}

/// Where a commit stands beside a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// How the line has it.
    pub contained: Contained,
    /// What the commit has and the line lacks, newest first; empty when it is contained.
    pub ahead: Vec<Commit>,
    /// How many of them there are.
    pub ahead_count: usize,
    /// What the line has and the commit lacks, newest first.
    pub behind: Vec<Commit>,
    /// How many of them there are.
    pub behind_count: usize,
}

/// Where code stands beside the line that its team works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Beside {
    /// The line's branch.
    pub branch: BranchName,
    /// When the line was last heard of.
    pub heard_at: Timestamp,
    /// What either has alone.
    #[serde(flatten)]
    pub standing: Standing,
}

impl Beside {
    /// `ahead of main by 2, behind it by 3`; the same words everywhere.
    pub fn sentence(&self) -> String {
        let (branch, standing) = (&self.branch, &self.standing);
        match (standing.ahead_count, standing.behind_count) {
            (0, 0) => format!("all of {branch}, and nothing else"),
            (0, behind) => format!("behind {branch} by {behind}"),
            (ahead, 0) => format!("ahead of {branch} by {ahead}"),
            (ahead, behind) => format!("ahead of {branch} by {ahead}, behind it by {behind}"),
        }
    }
}

/// Beginnings of the names of config vars that build tools write into what they make, and `ASSET_HOST`.
const BAKED: [&str; 8] =
    ["VITE_", "NEXT_PUBLIC_", "REACT_APP_", "NUXT_PUBLIC_", "VUE_APP_", "GATSBY_", "EXPO_PUBLIC_", "ASSET_HOST"];

/// Beginnings of the names of config vars that buildpacks and their tools read.
const READ_BY_BUILDS: [&str; 16] = [
    "BUNDLE_",
    "COMPOSER_",
    "DISABLE_COLLECTSTATIC",
    "DJANGO_SETTINGS_MODULE",
    "NODE_",
    "NPM_",
    "PIP_",
    "PNPM_",
    "PYTHON",
    "RACK_ENV",
    "RAILS_ENV",
    "SKIP_",
    "STATIC_URL",
    "USE_",
    "UV_",
    "YARN_",
];

fn begins_with_one(name: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|beginning| name.starts_with(beginning))
}

/// Whether builds are known to read a config var: where such ones differ, two apps do not share a build. (A build script
/// may read any other too; as with a promotion, what it makes of that is what the first app had.)
pub fn read_by_builds(name: &str) -> bool {
    begins_with_one(name, &BAKED) || begins_with_one(name, &READ_BY_BUILDS)
}

/// What differs between two sets of config vars.
pub fn config(base: &BTreeMap<ConfigKey, String>, head: &BTreeMap<ConfigKey, String>) -> KeyChanges {
    let only = |one: &BTreeMap<ConfigKey, String>, other: &BTreeMap<ConfigKey, String>| -> Vec<ConfigKey> {
        one.keys().filter(|key| !other.contains_key(*key)).cloned().collect()
    };
    let differs =
        |(key, value): (&ConfigKey, &String)| head.get(key).is_some_and(|other| other != value).then(|| key.clone());
    let mut changes = KeyChanges {
        added: only(head, base),
        removed: only(base, head),
        changed: base.iter().filter_map(differs).collect(),
        baked: Vec::new(),
    };
    let all = changes.added.iter().chain(&changes.removed).chain(&changes.changed);
    changes.baked = all.filter(|key| begins_with_one(key.as_str(), &BAKED)).cloned().collect();
    changes
}

/// What differs between two tables of names.
pub fn tables(base: &BTreeMap<String, String>, head: &BTreeMap<String, String>) -> Vec<Change> {
    let mut names: Vec<&String> = base.keys().chain(head.keys()).collect();
    names.sort();
    names.dedup();
    let change =
        |name: &String| Change { name: name.clone(), base: base.get(name).cloned(), head: head.get(name).cloned() };
    names.into_iter().map(change).filter(|change| change.base != change.head).collect()
}

/// The shares of the authors, the busiest first.
pub fn authors(commits: &[Commit]) -> Vec<Author> {
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    for commit in commits {
        *shares.entry(&commit.author).or_default() += 1;
    }
    let mut authors: Vec<Author> =
        shares.into_iter().map(|(name, commits)| Author { name: name.into(), commits }).collect();
    authors.sort_by_key(|author| std::cmp::Reverse(author.commits));
    authors
}

/// The pull request that a message names. `body`: what follows the subject, as one line.
///
/// Sources: what GitHub (`Merge pull request #12 from …`, `Title (#12)`), GitLab (`See merge request a/b!12`), Gitea
/// (`Merge pull request 'Title' (#12) from …`) and Bitbucket (`Merged in … (pull request #12)`) write.
pub fn pull_request(subject: &str, body: &str) -> Option<PullRequest> {
    let number = |text: &str| -> Option<u64> {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let title_of = |text: &str| text.trim().trim_matches('\'').to_string();
    if let Some(rest) = subject.strip_prefix("Merge pull request #") {
        let title = if body.is_empty() { subject } else { body };
        return Some(PullRequest { number: number(rest)?, title: title_of(title) });
    }
    if let Some(rest) = body.split_once("See merge request ").map(|(_, rest)| rest) {
        let title = body.split("See merge request ").next().unwrap_or_default();
        let title = if title.trim().is_empty() { subject } else { title };
        return Some(PullRequest { number: number(rest.split_once('!')?.1)?, title: title_of(title) });
    }
    if let Some((title, rest)) = subject.split_once("(pull request #") {
        let title = title.trim_start_matches("Merged in ");
        return Some(PullRequest {
            number: number(rest)?,
            title: title_of(if body.is_empty() { title } else { body }),
        });
    }
    let (title, rest) = subject.rsplit_once("(#")?;
    let ends = rest.find(')')?;
    let number = rest[..ends].parse().ok()?;
    Some(PullRequest { number, title: title_of(title.trim_start_matches("Merge pull request ")) })
}

/// The medians of earlier changes, and how `this` compares with them. None without any.
pub fn usual(this: &Extent, earlier: &[Extent]) -> Option<Usual> {
    let median = |of: fn(&Extent) -> usize| -> usize {
        let mut values: Vec<usize> = earlier.iter().map(of).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    let extent = Extent {
        commits: median(|e| e.commits),
        files: median(|e| e.files),
        added: median(|e| e.added),
        removed: median(|e| e.removed),
    };
    let lines = |e: &Extent| e.added + e.removed;
    let (mine, theirs) = (lines(this), median(|e| e.added + e.removed).max(1));
    let verdict = match () {
        () if mine >= 3 * theirs => Verdict::Large,
        () if 3 * mine <= theirs => Verdict::Small,
        () => Verdict::Usual,
    };
    (!earlier.is_empty()).then_some(Usual { extent, of: earlier.len(), verdict })
}

/// Where a forge shows the difference. `upstream`: an address such as `https://github.com/acme/shop.git`, without
/// credentials. None for an address that is no forge's, as far as its host tells.
pub fn compare_url(upstream: &str, base: &CommitId, head: &CommitId) -> Option<String> {
    let rest = upstream.strip_prefix("https://")?;
    let rest = rest.trim_end_matches('/').trim_end_matches(".git");
    let (host, path) = rest.split_once('/')?;
    if path.split('/').count() < 2 {
        return None;
    }
    let name = host.split(':').next().unwrap_or_default();
    let is = |forge: &str| name.split('.').any(|part| part == forge);
    let range = format!("{base}...{head}");
    match () {
        () if is("gitlab") => Some(format!("https://{rest}/-/compare/{range}")),
        // Its range is written the other way round.
        () if name == "bitbucket.org" => Some(format!("https://{rest}/branches/compare/{head}..{base}")),
        () if name == "github.com" || is("github") || is("gitea") || is("forgejo") || name == "codeberg.org" => {
            Some(format!("https://{rest}/compare/{range}"))
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_requests_as_forges_name_them() {
        let check = |subject: &str, body: &str, expected: Option<(u64, &str)>| {
            let found = pull_request(subject, body);
            assert_eq!(found.as_ref().map(|p| (p.number, p.title.as_str())), expected, "{subject}");
        };
        check("Merge pull request #12 from ada/total", "Add totals", Some((12, "Add totals")));
        check("Add totals (#12)", "", Some((12, "Add totals")));
        check("Revert \"Add totals (#12)\" (#13)", "", Some((13, "Revert \"Add totals (#12)\"")));
        check("Merge pull request 'Add totals' (#7) from total into main", "", Some((7, "Add totals")));
        check("Merge branch 'total' into 'main'", "Add totals See merge request acme/shop!9", Some((9, "Add totals")));
        check("Merged in total (pull request #3)", "Add totals", Some((3, "Add totals")));
        check("Fix #12", "", None);
        check("Call f(#x)", "", None);
        check("Merge pull request #99999999999999999999 from x/y", "", None);
    }

    #[test]
    fn forges_have_pages_for_a_difference() {
        let (base, head) = (CommitId::parse(&"a".repeat(40)).unwrap(), CommitId::parse(&"b".repeat(40)).unwrap());
        let check = |upstream: &str, expected: Option<&str>| {
            let expected = expected.map(|e| e.replace("A", base.as_str()).replace("B", head.as_str()));
            assert_eq!(compare_url(upstream, &base, &head), expected, "{upstream}");
        };
        check("https://github.com/acme/shop.git", Some("https://github.com/acme/shop/compare/A...B"));
        check("https://github.corp.example/acme/shop", Some("https://github.corp.example/acme/shop/compare/A...B"));
        check("https://gitlab.com/acme/web/shop.git", Some("https://gitlab.com/acme/web/shop/-/compare/A...B"));
        check("https://codeberg.org/acme/shop", Some("https://codeberg.org/acme/shop/compare/A...B"));
        check("https://gitea.example.org:3000/a/b", Some("https://gitea.example.org:3000/a/b/compare/A...B"));
        check("https://bitbucket.org/acme/shop.git", Some("https://bitbucket.org/acme/shop/branches/compare/B..A"));
        check("https://git.example.org/acme/shop.git", None);
        check("https://github.com/acme", None);
        check("git@github.com:acme/shop.git", None);
    }

    #[test]
    fn config_keys_that_differ_and_those_that_are_baked_in() {
        let vars = |pairs: &[(&str, &str)]| -> BTreeMap<ConfigKey, String> {
            pairs.iter().map(|(k, v)| (ConfigKey::parse(k).unwrap(), (*v).to_string())).collect()
        };
        let base = vars(&[("A", "1"), ("GONE", "x"), ("VITE_API", "https://prod"), ("SAME", "s")]);
        let head = vars(&[("A", "2"), ("NEW", "x"), ("VITE_API", "https://staging"), ("SAME", "s")]);
        let changes = config(&base, &head);
        let words = |keys: &[ConfigKey]| keys.iter().map(ConfigKey::as_str).collect::<Vec<_>>().join(" ");
        let found = [&changes.added, &changes.removed, &changes.changed, &changes.baked].map(|keys| words(keys));
        assert_eq!(found, ["NEW", "GONE", "A VITE_API", "VITE_API"]);
        assert!(config(&base, &base).is_empty());
    }

    #[test]
    fn a_change_beside_the_usual_one() {
        let extent = |lines| Extent { commits: 1, files: 1, added: lines, removed: 0 };
        let earlier = [extent(10), extent(30), extent(1000)];
        let verdict = |lines| usual(&extent(lines), &earlier).unwrap().verdict;
        assert_eq!([verdict(10), verdict(40), verdict(90)], [Verdict::Small, Verdict::Usual, Verdict::Large]);
        assert_eq!(usual(&extent(1), &earlier).unwrap().extent.added, 30);
        assert_eq!(usual(&extent(1), &[]), None);
    }
}
