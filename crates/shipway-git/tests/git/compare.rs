//! What lies between commits, in one repository and in two.

use crate::support::Work;
use shipway_domain::CommitId;
use shipway_domain::compare::Contained;
use shipway_git::{Git, GitConfig, Repo};

struct Desk {
    directory: tempfile::TempDir,
    git: Git,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let git = Git::new(GitConfig::new("/nonexistent".into(), directory.path().join("run")));
        Self { directory, git }
    }

    /// A checkout with one commit, and the repository in it.
    async fn work(&self, name: &str) -> (Work, Repo, CommitId) {
        let work = Work { path: self.directory.path().join(name), url: "https://example.org/shop.git".into() };
        work.init().await;
        let first = work.commit("base.txt", "one\ntwo\nthree\n").await;
        let repo = Repo::open(&self.git, &work.path.join(".git"));
        (work, repo, first)
    }
}

fn subjects(commits: &[shipway_git::CommitInfo]) -> Vec<&str> {
    commits.iter().map(|c| c.subject.as_str()).collect()
}

#[tokio::test]
async fn both_sides_of_a_difference() {
    let desk = Desk::new();
    let (work, repo, first) = desk.work("shop").await;
    work.ok(&["checkout", "-q", "-b", "feature"]).await;
    work.commit("a.txt", "1\n2\n").await;
    work.commit("b.txt", "1\n").await;
    work.ok(&["checkout", "-q", "main"]).await;
    let main = work.commit("hotfix.txt", "1\n").await;
    work.ok(&["merge", "-q", "--no-ff", "-m", "Merge pull request #12 from ada/feature\n\nAdd a and b", "feature"])
        .await;
    let head = work.ok(&["rev-parse", "HEAD"]).await.trim().parse().unwrap();
    let between = repo.between(&main, &head, 10).await.unwrap();
    assert_eq!(subjects(&between.ahead), ["Change b.txt", "Change a.txt"]);
    assert_eq!((between.ahead_count, between.behind_count), (2, 0));
    assert_eq!(between.merges[0].subject, "Merge pull request #12 from ada/feature");
    assert_eq!(between.merges[0].body, "Add a and b");
    let cut = repo.between(&head, &first, 1).await.unwrap();
    assert_eq!((cut.ahead_count, cut.behind_count, cut.behind.len()), (0, 3, 1));
    let extent = repo.extent(&first, &head).await.unwrap();
    assert_eq!((extent.files, extent.added, extent.removed), (3, 4, 0));
    // A renamed file is one, and loses nothing.
    work.ok(&["mv", "base.txt", "renamed.txt"]).await;
    let moved = work.commit("a.txt", "1\n").await;
    let extent = repo.extent(&head, &moved).await.unwrap();
    assert_eq!((extent.files, extent.added, extent.removed), (2, 0, 1));
}

#[tokio::test]
async fn two_apps_have_two_repositories() {
    let desk = Desk::new();
    let (work, staging, first) = desk.work("staging").await;
    let second = work.commit("a.txt", "1\n").await;
    let clone = desk.directory.path().join("production.git");
    work.ok(&["clone", "-q", "--bare", "--no-local", work.path.to_str().unwrap(), clone.to_str().unwrap()]).await;
    let third = work.commit("db/migrate/1_x.rb", "class X\n").await;
    let production = Repo::open(&desk.git, &clone);
    assert!(production.between(&second, &third, 10).await.is_err(), "it has no such commit");
    let both = production.seeing(&[&staging]);
    assert_eq!(subjects(&both.between(&second, &third, 10).await.unwrap().ahead), ["Change db/migrate/1_x.rb"]);
    let files = both.files(&third, |path| path.ends_with(".rb")).await.unwrap();
    assert_eq!(files[0].0, "db/migrate/1_x.rb");
    let names = [files[0].1.clone(), format!("{third}:a.txt"), format!("{first}:a.txt")];
    let texts = both.texts(&names, 100).await.unwrap();
    assert_eq!(
        names.each_ref().map(|name| texts.get(name).map(String::as_str)),
        [Some("class X\n"), Some("1\n"), None]
    );
    assert!(both.texts(&names[..1], 3).await.unwrap().is_empty(), "larger than asked for");
    // Nothing was copied.
    assert!(production.find(third.as_str()).await.unwrap().is_none());
    assert_eq!(staging.find(third.short()).await.unwrap(), Some(third));
    assert_eq!(staging.find("--help").await.unwrap(), None);
}

#[tokio::test]
async fn attack_12_messages_and_names_cannot_steer_a_terminal() {
    let desk = Desk::new();
    let (work, repo, first) = desk.work("shop").await;
    std::fs::write(work.path.join("x"), "x").unwrap();
    work.ok(&["add", "x"]).await;
    let message = format!("\x1b]0;owned\x07Fix \x1b[2Jit\u{202e}\r\n\n{}", "a long body ".repeat(100_000));
    std::fs::write(desk.directory.path().join("message"), message).unwrap();
    let file = desk.directory.path().join("message");
    work.ok(&["commit", "-q", "--author=Eve\x1b[31m <eve@example.org>", "-F", file.to_str().unwrap()]).await;
    let head = work.ok(&["rev-parse", "HEAD"]).await.trim().parse().unwrap();
    let between = repo.between(&first, &head, 10).await.unwrap();
    let commit = &between.ahead[0];
    assert_eq!((commit.subject.as_str(), commit.author.as_str()), ("]0;ownedFix [2Jit", "Eve[31m"));
    assert!(!format!("{between:?}").contains('\u{1b}'));
}

#[tokio::test]
async fn what_main_has_by_commit_tree_or_patch() {
    let desk = Desk::new();
    let (work, repo, first) = desk.work("shop").await;
    let at = |name: &'static str| {
        let work = work.clone();
        async move { work.ok(&["rev-parse", name]).await.trim().parse::<CommitId>().unwrap() }
    };
    work.ok(&["checkout", "-q", "-b", "branch"]).await;
    work.commit("a.txt", "1\n").await;
    let branch = work.commit("b.txt", "1\n").await;
    let check = async |expected: Contained, ahead: &[&str], behind: &[&str]| {
        let standing = repo.standing(&branch, &at("main").await, 10).await.unwrap();
        let found = (standing.contained, subjects(&standing.ahead), subjects(&standing.behind));
        assert_eq!(found, (expected, ahead.to_vec(), behind.to_vec()));
        assert_eq!((standing.ahead_count, standing.behind_count), (ahead.len(), behind.len()));
    };
    let reset = async || {
        work.ok(&["checkout", "-q", "main"]).await;
        work.ok(&["reset", "-q", "--hard", first.as_str()]).await;
    };
    check(Contained::No, &["Change b.txt", "Change a.txt"], &[]).await;
    // Merged, and main went on.
    reset().await;
    work.ok(&["merge", "-q", "--no-ff", "-m", "Merge it", "branch"]).await;
    work.commit("later.txt", "1\n").await;
    check(Contained::Commit, &[], &["Change later.txt"]).await;
    // Squashed onto a main that had not moved: another commit, the same tree.
    reset().await;
    work.ok(&["merge", "-q", "--squash", "branch"]).await;
    work.ok(&["commit", "-q", "-m", "All of it (#7)"]).await;
    work.commit("later.txt", "1\n").await;
    check(Contained::Tree, &[], &["Change later.txt"]).await;
    // Squashed onto a main that had moved: the same changes.
    reset().await;
    work.commit("earlier.txt", "1\n").await;
    work.ok(&["merge", "-q", "--squash", "branch"]).await;
    work.ok(&["commit", "-q", "-m", "All of it (#7)"]).await;
    check(Contained::Patch, &[], &["Change earlier.txt"]).await;
    // Squashed, and the branch went on.
    work.ok(&["checkout", "-q", "branch"]).await;
    let more = work.commit("c.txt", "1\n").await;
    let standing = repo.standing(&more, &at("main").await, 10).await.unwrap();
    assert_eq!(
        (subjects(&standing.ahead), subjects(&standing.behind)),
        (vec!["Change c.txt"], vec!["Change earlier.txt"])
    );
    work.ok(&["reset", "-q", "--hard", branch.as_str()]).await;
    // Rebased: each change for itself.
    reset().await;
    work.commit("earlier.txt", "1\n").await;
    work.ok(&["cherry-pick", "branch~1", "branch"]).await;
    check(Contained::Patch, &[], &["Change earlier.txt"]).await;
    // Only one of two was picked.
    reset().await;
    work.commit("earlier.txt", "1\n").await;
    work.ok(&["cherry-pick", "branch~1"]).await;
    check(Contained::No, &["Change b.txt"], &["Change earlier.txt"]).await;
    // A line that shares nothing.
    work.ok(&["checkout", "-q", "--orphan", "other"]).await;
    work.commit("c.txt", "1\n").await;
    let standing = repo.standing(&branch, &at("other").await, 10).await.unwrap();
    assert_eq!((standing.contained, standing.ahead_count, standing.behind_count), (Contained::No, 3, 1));
}

#[tokio::test]
async fn a_line_is_carried_from_one_repository_to_another() {
    let desk = Desk::new();
    let (work, from, first) = desk.work("app").await;
    let to = Repo::create(&desk.git, &desk.directory.path().join("upstream.git")).await.unwrap();
    let line = "refs/heads/main";
    to.take(&from, &first, line).await.unwrap();
    assert_eq!(to.resolve(line).await.unwrap().as_ref(), Some(&first));
    let second = work.commit("a.txt", "1\n").await;
    for _ in 0..2 {
        to.take(&from, &second, line).await.unwrap();
    }
    assert_eq!(subjects(&to.log(None, &second, 10).await.unwrap()), ["Change a.txt", "Change base.txt"]);
    // Rewritten: it is somebody's line, and they may.
    work.ok(&["commit", "-q", "--amend", "-m", "Another"]).await;
    let other = work.ok(&["rev-parse", "HEAD"]).await.trim().parse().unwrap();
    to.take(&from, &other, line).await.unwrap();
    assert_eq!(to.resolve(line).await.unwrap(), Some(other.clone()));
    std::fs::remove_dir_all(&work.path).unwrap();
    assert_eq!(subjects(&to.log(None, &other, 10).await.unwrap()), ["Another", "Change base.txt"]);
}
