//! What lies between two commits: commits, lines, files. The two may be in different repositories.

use crate::git::GitError;
use crate::history::CommitInfo;
use crate::objects::Objects;
use crate::repo::Repo;
use crate::text::one_line;
use shipway_domain::CommitId;
use std::collections::BTreeMap;

/// The commits that one of two commits has and the other has not, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Between {
    /// What head has, without merges, at most as many as were asked for.
    pub ahead: Vec<CommitInfo>,
    /// How many of them there are.
    pub ahead_count: usize,
    /// What base has, without merges, at most as many as were asked for.
    pub behind: Vec<CommitInfo>,
    /// How many of them there are.
    pub behind_count: usize,
    /// The merges that head has: their titles say which pull requests they brought.
    pub merges: Vec<Merge>,
}

/// A merge, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The first line of its message.
    pub subject: String,
    /// The next lines, as one.
    pub body: String,
}

/// How large a difference is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Files that differ.
    pub files: usize,
    /// Lines that came.
    pub added: usize,
    /// Lines that went.
    pub removed: usize,
}

/// A longer text is cut: it goes to terminals, logs and pages.
const LONGEST: usize = 200;
/// Merges that are read for their titles, and half of the commits that are counted.
const MOST_READ: usize = 2000;

impl Repo {
    /// The same repository, which sees the objects of others too: commits of theirs can be named.
    pub fn seeing(&self, others: &[&Repo]) -> Self {
        let paths: Vec<_> = others.iter().filter(|other| other.path != self.path).map(|o| o.path.as_path()).collect();
        Self { git: self.git.seeing(&paths), path: self.path.clone() }
    }

    /// The commit that a name or an abbreviation means, if it means one and only one.
    pub async fn find(&self, text: &str) -> Result<Option<CommitId>, GitError> {
        let wanted = format!("{text}^{{commit}}");
        let arguments = ["rev-parse", "--quiet", "--verify", "--end-of-options", &wanted];
        let output = self.git.output(&self.path, &arguments, b"").await?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
    }

    /// `git log base...head`, both sides apart; at most `limit` commits of each are given, 4,000 of both are counted.
    pub async fn between(&self, base: &CommitId, head: &CommitId, limit: usize) -> Result<Between, GitError> {
        let (range, most) = (format!("{base}...{head}"), format!("--max-count={}", 2 * MOST_READ));
        let format = "--format=%m%x00%H%x00%P%x00%s%x00%an%x00%ae%x00%ct%x00%b";
        let arguments = [
            "log",
            "-z",
            "--no-show-signature",
            "--no-mailmap",
            "--encoding=UTF-8",
            "--left-right",
            format,
            &most,
            &range,
            "--",
        ];
        let mut between = Between::default();
        let mut fields: Vec<String> = Vec::with_capacity(8);
        self.git
            .records(&self.path, &arguments, 0, |record| {
                fields.push(String::from_utf8_lossy(record).into_owned());
                if fields.len() == 8 {
                    between.add(&fields, limit);
                    fields.clear();
                }
            })
            .await?;
        Ok(between)
    }

    /// How much differs between the trees of two commits. A renamed file counts as one.
    pub async fn extent(&self, base: &CommitId, head: &CommitId) -> Result<Extent, GitError> {
        let arguments = [
            "diff-tree",
            "-r",
            "-z",
            "-M",
            "-l400",
            "--numstat",
            "--no-ext-diff",
            "--no-textconv",
            base.as_str(),
            head.as_str(),
            "--",
        ];
        let mut extent = Extent::default();
        self.git
            .records(&self.path, &arguments, 0, |record| {
                // `3\t1\tpath`; of a renamed file the two paths follow as records of their own.
                let text = String::from_utf8_lossy(record);
                let mut words = text.splitn(3, '\t');
                if let (Some(added), Some(removed), Some(_)) = (words.next(), words.next(), words.next()) {
                    extent.files += 1;
                    // A binary file has dashes.
                    extent.added += added.parse().unwrap_or(0);
                    extent.removed += removed.parse().unwrap_or(0);
                }
            })
            .await?;
        Ok(extent)
    }

    /// The files of a commit's tree whose paths `keep` holds for: path and blob. Paths that are no UTF-8 are left out.
    pub async fn files(
        &self,
        commit: &CommitId,
        keep: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, String)>, GitError> {
        let mut files = Vec::new();
        let arguments = ["ls-tree", "-r", "-z", "--full-tree", commit.as_str()];
        self.git
            .records(&self.path, &arguments, 0, |record| {
                // `100644 blob <id>\t<path>`
                let Ok(text) = std::str::from_utf8(record) else { return };
                let Some((head, path)) = text.split_once('\t') else { return };
                if head.starts_with("100") && keep(path) {
                    files.push((path.to_string(), head.rsplit(' ').next().unwrap_or_default().to_string()));
                }
            })
            .await?;
        Ok(files)
    }

    /// The texts of these blobs, by id (`<commit>:<path>` is one too). One that is larger than `max` bytes, no UTF-8 or
    /// not there is left out.
    pub async fn texts(&self, blobs: &[String], max: u64) -> Result<BTreeMap<String, String>, GitError> {
        let (repo, blobs) = (self.clone(), blobs.to_vec());
        let read = tokio::task::spawn_blocking(move || {
            let failed = || GitError::io("cat-file");
            let mut objects = Objects::open(&repo.git, &repo.path)?;
            blobs.iter().for_each(|blob| objects.request(blob));
            objects.flush();
            let mut texts = BTreeMap::new();
            for blob in blobs {
                let Some(header) = objects.next().map_err(failed())? else { continue };
                if header.kind != "blob" || header.size > max {
                    objects.copy(header.size, &mut std::io::sink()).map_err(failed())?;
                } else if let Ok(text) = String::from_utf8(objects.content(header.size).map_err(failed())?) {
                    texts.insert(blob, text);
                }
            }
            Ok(texts)
        });
        read.await.map_err(|error| GitError::io("cat-file")(std::io::Error::other(error)))?
    }
}

impl Between {
    fn add(&mut self, fields: &[String], limit: usize) {
        let [side, id, parents, subject, author, email, time, body] = fields else { return };
        let (Ok(id), text) = (id.parse(), |field: &str| one_line(field, LONGEST)) else { return };
        let is_head = side.trim() == ">";
        if parents.split(' ').count() > 1 {
            if is_head && self.merges.len() < MOST_READ {
                self.merges.push(Merge { subject: text(subject), body: text(body) });
            }
            return;
        }
        let (list, count) =
            if is_head { (&mut self.ahead, &mut self.ahead_count) } else { (&mut self.behind, &mut self.behind_count) };
        *count += 1;
        if list.len() < limit {
            let time = time.parse().unwrap_or(0);
            list.push(CommitInfo { id, subject: text(subject), author: text(author), email: text(email), time });
        }
    }
}
