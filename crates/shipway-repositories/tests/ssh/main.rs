//! Fetches with a deploy key, from a real ssh server.

mod sshd;

use shipway_domain::forge::{DeployKey, RepositoryName};
use shipway_domain::ssh::{SshServer, known_keys};
use shipway_domain::{AppId, BranchName, CommitId, OperationId, PipelineId};
use shipway_engine::ports::{FetchRefused, Forges, Histories, Remote, Repositories};
use shipway_forges::HttpForges;
use shipway_git::{Git, GitConfig};
use shipway_repositories::GitRepositories;
use sshd::Sshd;
use std::path::PathBuf;
use tempfile::TempDir;

const APP: AppId = AppId(uuid::Uuid::from_u128(1));
const OPERATION: OperationId = OperationId(uuid::Uuid::from_u128(2));
const PIPELINE: PipelineId = PipelineId(uuid::Uuid::from_u128(3));

/// Our side.
struct Ours {
    repositories: GitRepositories,
    home: TempDir,
}

impl Ours {
    async fn new(private_hosts: &[&str]) -> Self {
        // A name that a shell or ssh would stumble over.
        let home = tempfile::Builder::new().prefix("a %h 'b\" $(id) ").tempdir().unwrap();
        let run = home.path().join("run");
        let mut config = GitConfig::new("/nonexistent".into(), run);
        config.private_hosts = private_hosts.iter().map(ToString::to_string).collect();
        let repositories = GitRepositories::new(Git::new(config), home.path().to_path_buf());
        repositories.create(APP).await.unwrap();
        Self { repositories, home }
    }

    async fn fetch(&self, key: &DeployKey, commit: &str) -> Result<(), String> {
        let from = Remote::Ssh { key: Box::new(key.clone()), repository: repository() };
        let commit = CommitId::parse(commit).unwrap();
        let fetched = self.repositories.fetch(&from, APP, OPERATION, &commit).await.unwrap();
        fetched.map_err(|FetchRefused(said)| said)
    }

    fn keys(&self) -> PathBuf {
        self.home.path().join("run/keys")
    }
}

fn repository() -> RepositoryName {
    RepositoryName::parse("acme/shop").unwrap()
}

/// A new key for the server, which is known by what `known_hosts` says.
fn key_for(sshd: &Sshd, random: u8, known_hosts: &str) -> DeployKey {
    let (private, public) = HttpForges::new(&[]).deploy_key([random; 32], "shipway-acorn").unwrap();
    let server = SshServer::parse(&sshd.user, "127.0.0.1", sshd.port).unwrap();
    let host_keys = known_keys(known_hosts, &server);
    DeployKey { private, public, server, host_keys }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_is_fetched_with_a_deploy_key() {
    let Some(sshd) = Sshd::start() else { return };
    let ours = Ours::new(&["127.0.0.1"]).await;
    let server = SshServer::parse(&sshd.user, "127.0.0.1", sshd.port).unwrap();
    let shown = ours.repositories.host_keys(&server).await.unwrap().unwrap();
    let key = DeployKey { host_keys: shown, ..key_for(&sshd, 7, "") };
    assert_eq!(key.host_keys, known_keys(&sshd.known_as(), &server));

    let refused = ours.fetch(&key, &sshd.main()).await.unwrap_err();
    assert!(refused.contains("does not take the deploy key") && refused.contains(&key.public), "{refused}");
    sshd.allow(&key.public);
    let quoted = ours.keys().display().to_string().replace('\'', r"'\''");
    let seen = sshd.look(&format!("cd '{quoted}' && stat -c %a . */ */*"));
    ours.fetch(&key, &sshd.main()).await.unwrap();
    assert_eq!(seen(), "700\n700\n600\n600\n600\n", "the directory, this fetch's, and its files");
    assert_eq!(std::fs::read_dir(ours.keys()).unwrap().count(), 0, "nothing of the key is left");
    assert_eq!(sshd.asked(), "git-upload-pack '/acme/shop.git'\n");
    // What is here is not asked for again.
    ours.fetch(&key, &sshd.main()).await.unwrap();
    assert_eq!(sshd.asked().lines().count(), 1);

    let from = Remote::Ssh { key: Box::new(key), repository: repository() };
    let tip = ours.repositories.fetch_upstream(PIPELINE, &from, "main").await.unwrap().unwrap();
    assert_eq!(tip.as_str(), sshd.main());
    let none = ours.repositories.fetch_upstream(PIPELINE, &from, "other").await.unwrap().unwrap_err();
    assert!(none.0.contains("other"), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_that_are_gone_are_found_with_a_deploy_key() {
    let Some(sshd) = Sshd::start() else { return };
    let ours = Ours::new(&["127.0.0.1"]).await;
    let key = key_for(&sshd, 7, &sshd.known_as());
    let branches = ["gone", "main", "ma", "heads/main"].map(|name| BranchName::parse(name).unwrap());
    let ask = async || ours.repositories.branches_with_key(&key, &repository(), &branches).await.unwrap();
    let FetchRefused(refused) = ask().await.unwrap_err();
    assert!(refused.contains("does not take the deploy key"), "{refused}");
    sshd.allow(&key.public);
    assert_eq!(ask().await, Ok(vec![branches[1].clone()]));
    assert_eq!(std::fs::read_dir(ours.keys()).unwrap().count(), 0, "nothing of the key is left");
    let elsewhere = Ours::new(&[]).await;
    let FetchRefused(refused) =
        elsewhere.repositories.branches_with_key(&key, &repository(), &branches).await.unwrap().unwrap_err();
    assert!(refused.contains("127.0.0.1 is in a private network"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_23_a_server_that_shows_another_key_gets_nothing() {
    let Some(sshd) = Sshd::start() else { return };
    let ours = Ours::new(&["127.0.0.1"]).await;
    let key = key_for(&sshd, 7, &sshd.known_as());
    sshd.allow(&key.public);
    sshd.new_host_key();
    let refused = ours.fetch(&key, &sshd.main()).await.unwrap_err();
    assert!(refused.starts_with("127.0.0.1 shows another host key than the one that it is known by"), "{refused}");
    // Known by nothing is not known by anything.
    let unknown = DeployKey { host_keys: vec![], ..key.clone() };
    assert!(ours.fetch(&unknown, &sshd.main()).await.unwrap_err().contains("another host key"));
    assert_eq!(sshd.asked(), "");
    let again = DeployKey { host_keys: known_keys(&sshd.known_as(), &key.server), ..key };
    ours.fetch(&again, &sshd.main()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_23_a_private_address_is_not_connected_to_by_ssh() {
    let Some(sshd) = Sshd::start() else { return };
    let ours = Ours::new(&[]).await;
    let key = key_for(&sshd, 7, &sshd.known_as());
    sshd.allow(&key.public);
    let refused = ours.fetch(&key, &sshd.main()).await.unwrap_err();
    assert!(refused.contains("127.0.0.1 is in a private network"), "{refused}");
    let refused = ours.repositories.host_keys(&key.server).await.unwrap().unwrap_err();
    assert!(refused.0.contains("127.0.0.1 is in a private network"), "{refused}");
    assert_eq!(sshd.asked(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_11_an_ssh_of_the_environment_or_a_repository_is_not_run() {
    let Some(sshd) = Sshd::start() else { return };
    let ours = Ours::new(&["127.0.0.1"]).await;
    let key = key_for(&sshd, 7, &sshd.known_as());
    sshd.allow(&key.public);
    let elsewhere = tempfile::tempdir().unwrap();
    let trap = elsewhere.path().join("trap");
    let repository = ours.home.path().join(format!("repos/{APP}.git"));
    let config = format!("\n[core]\n\tsshCommand = touch {}\n", trap.display());
    let file = repository.join("config");
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + &config).unwrap();
    ours.fetch(&key, &sshd.main()).await.unwrap();
    assert!(!trap.exists());
    assert_eq!(sshd.asked().lines().count(), 1);
}
