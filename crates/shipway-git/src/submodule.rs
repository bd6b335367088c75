//! Submodules: fetched over https from public hosts, into the app's own repository, and nothing else.
//!
//! A repository names its submodules' addresses, so this is a request that a stranger chooses (attacks 3, 23, 26); how
//! it is guarded: `remote`. The commit is asked for by its id.

use crate::checkout::{CheckoutError, Gitlink, shown};
use crate::git::GitError;
use crate::remote::Fetched;
use crate::repo::Repo;
use shipway_domain::CommitId;
use shipway_domain::address::RemoteAddress;
use std::collections::HashMap;
use std::path::Path;

/// Submodules of submodules, and so on, down to here.
const MAX_DEPTH: u32 = 4;

impl Repo {
    /// What `.gitmodules` of a commit says: address by path.
    pub(crate) async fn submodule_addresses(&self, commit: &CommitId) -> Result<HashMap<String, String>, GitError> {
        let blob = format!("{commit}:.gitmodules");
        let arguments = ["config", "--blob", &blob, "--null", "--get-regexp", r"^submodule\..*\.(path|url)$"];
        let output = self.git.output(&self.path, &arguments, b"").await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut paths = HashMap::new();
        let mut addresses = HashMap::new();
        for (key, value) in text.split('\0').filter_map(|entry| entry.split_once('\n')) {
            match key.rsplit_once('.') {
                Some((name, "path")) => _ = paths.insert(name, value),
                Some((name, "url")) => _ = addresses.insert(name, value),
                _ => {}
            }
        }
        let found = paths.into_iter().filter_map(|(name, path)| Some((path, *addresses.get(name)?)));
        Ok(found.map(|(path, address)| (path.to_string(), address.to_string())).collect())
    }

    /// Has the commit that `link` names in this repository, from the address that belongs to it.
    pub(crate) async fn fetch_submodule(
        &self,
        link: &Gitlink,
        path: &Path,
        addresses: &HashMap<String, String>,
        depth: u32,
        count: usize,
        limit: usize,
    ) -> Result<(), CheckoutError> {
        let refuse = |problem: String| CheckoutError::Submodule { path: shown(path), problem };
        if count > limit || depth >= MAX_DEPTH {
            return Err(refuse(format!(
                "there are more than {limit} submodules, or more than {MAX_DEPTH} levels of them"
            )));
        }
        let Some(address) = link.path.to_str().and_then(|path| addresses.get(path)) else {
            return Err(refuse("it has no url in .gitmodules; add it there, or `git rm --cached` it".into()));
        };
        let refname = format!("refs/shipway/submodules/{}", link.commit);
        if self.resolve(&refname).await?.is_some() {
            return Ok(());
        }
        let advice = "use the https:// address, or commit the files themselves";
        let https = RemoteAddress::parse(address)
            .map_err(|problem| refuse(format!("its url in .gitmodules cannot be used: {problem}; {advice}")))?;
        let refspec = format!("+{}:{refname}", link.commit);
        match self.fetch_remote(&https, None, &["--depth=1"], &refspec).await? {
            Fetched::Done => Ok(()),
            Fetched::Refused(said) => {
                Err(refuse(format!("{} did not give commit {}: {said}", https.host(), link.commit.short())))
            }
        }
    }
}
