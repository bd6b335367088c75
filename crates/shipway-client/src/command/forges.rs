//! `shipway forges`: pipelines' connections to their repositories at GitHub, GitLab, Gitea or Forgejo.

use super::{items, segment, table, tone};
use crate::error::{Error, Result};
use crate::terminal::{Cell, Tone, age, minute, text};
use crate::{Context, http::Client};
use http::Method;
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A token or key that is longer is none.
const SECRET_BYTES: u64 = 64 << 10;

/// Prints an answer for people.
type Show = fn(&Value, &Context) -> Result<()>;

/// The flags of `forges`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Print the server's answer as JSON
    #[arg(long, global = true)]
    json: bool,
}

/// What is done; without a word the connections are listed.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// Connect a pipeline to its repository, in place of the connection that it had
    Connect(Box<Connect>),
    /// Show a pipeline's connection
    Info(One),
    /// End a pipeline's connection
    Disconnect(One),
    /// List what a pipeline's webhook brought, and what became of it
    Deliveries(One),
    /// Carry a delivery out again
    Redeliver {
        /// Its id, as `shipway forges deliveries` shows it
        delivery: String,
    },
}

#[derive(Debug, clap::Args)]
struct One {
    /// The pipeline
    pipeline: String,
}

#[derive(Debug, clap::Args)]
struct Connect {
    /// The pipeline
    pipeline: String,
    /// How the forge is spoken with: github, gitlab, gitea or forgejo
    #[arg(long)]
    kind: String,
    /// The repository, such as acme/shop
    #[arg(long, value_name = "OWNER/NAME")]
    repo: String,
    /// The forge's address; github.com and gitlab.com are meant where there is none
    #[arg(long)]
    url: Option<String>,
    /// This platform's address as the forge reaches it, where that is another one than yours
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// A file with an access token; - is the input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["app_id", "app_key_from"])]
    token_from: Option<PathBuf>,
    /// The id of a GitHub App
    #[arg(long, value_name = "ID", requires = "app_key_from")]
    app_id: Option<String>,
    /// A file with the App's private key; - is the input
    #[arg(long, value_name = "FILE", requires = "app_id")]
    app_key_from: Option<PathBuf>,
    /// Make a key that the forge is to let read the repository, and fetch by ssh with it; nothing is told
    #[arg(long, conflicts_with_all = ["token_from", "app_id", "app_key_from"])]
    deploy_key: bool,
    /// A file with the key of the forge's ssh server; without it the server is believed when you connect
    #[arg(long, value_name = "FILE", requires = "deploy_key")]
    known_hosts: Option<PathBuf>,
    /// The account at the forge's ssh server, where it is not git
    #[arg(long, value_name = "NAME", requires = "deploy_key")]
    ssh_user: Option<String>,
    /// The port of the forge's ssh server, where it is not 22
    #[arg(long, value_name = "PORT", requires = "deploy_key")]
    ssh_port: Option<u16>,
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let client = context.account().await?.client();
    let path = |pipeline: &str, rest: &str| -> Result<String> {
        Ok(format!("/shipway/v1/pipelines/{}/forge{rest}", segment("pipeline", pipeline)?))
    };
    let (answer, show): (Value, Show) = match &args.what {
        None => (client.get("/shipway/v1/forges").await?, list),
        Some(What::Connect(new)) => (client.post(&path(&new.pipeline, "")?, &body(new)?).await?, connected),
        Some(What::Info(one)) => (client.get(&path(&one.pipeline, "")?).await?, info),
        Some(What::Deliveries(one)) => (client.get(&path(&one.pipeline, "/deliveries")?).await?, deliveries),
        Some(What::Disconnect(one)) => {
            (client.send(Method::DELETE, &path(&one.pipeline, "")?, None).await?.success()?, disconnected)
        }
        Some(What::Redeliver { delivery }) => (redeliver(delivery, &client).await?, redelivered),
    };
    if args.json { context.terminal.json(&answer) } else { show(&answer, context) }
}

async fn redeliver(delivery: &str, client: &Client) -> Result<Value> {
    let path = format!("/shipway/v1/forges/deliveries/{}/actions/redeliver", segment("delivery", delivery)?);
    client.post(&path, &json!({})).await
}

fn body(new: &Connect) -> Result<Value> {
    let mut body = json!({ "kind": new.kind, "repository": new.repo, "url": new.url, "home_url": new.address });
    if let Some(file) = &new.token_from {
        body["token"] = secret(file)?.trim().into();
    }
    if let (Some(id), Some(file)) = (&new.app_id, &new.app_key_from) {
        body["app"] = json!({ "id": id, "private_key": secret(file)? });
    }
    if new.deploy_key {
        let known_hosts = new.known_hosts.as_deref().map(secret).transpose()?;
        body["deploy_key"] = json!({ "known_hosts": known_hosts, "user": new.ssh_user, "port": new.ssh_port });
    }
    Ok(body)
}

/// A secret from a file or the input: never from the command line, which other users of the machine can read.
fn secret(file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(SECRET_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(SECRET_BYTES).read_to_string(&mut text))
    };
    read.map_err(|e| Error::new(format!("{} could not be read: {e}", file.display())))?;
    Ok(text)
}

fn list(answer: &Value, context: &Context) -> Result<()> {
    let now = jiff::Timestamp::now();
    let row = |forge: &Value| {
        let heard = text(forge, &["heard_at"]);
        let heard = if heard.is_empty() { "not yet".to_string() } else { format!("{} ago", age(&heard, now)) };
        vec![
            text(forge, &["pipeline", "name"]).into(),
            text(forge, &["kind"]).into(),
            text(forge, &["repository"]).into(),
            Cell::new(heard, Tone::Quiet),
            Cell::new(text(forge, &["failure"]), Tone::Accent),
        ]
    };
    let rows = items(answer).into_iter().map(row).collect();
    let empty = "No pipeline is connected to a forge: shipway forges connect PIPELINE --kind github --repo OWNER/NAME";
    table(context.terminal, &["PIPELINE", "FORGE", "REPOSITORY", "HEARD OF", ""], rows, empty)
}

fn info(answer: &Value, context: &Context) -> Result<()> {
    let row = |name: &str, value: String| vec![Cell::new(name, Tone::Quiet), value.into()];
    let heard = text(answer, &["heard_at"]);
    let mut rows = vec![
        row("pipeline", text(answer, &["pipeline", "name"])),
        row("repository", format!("{} of {}", text(answer, &["repository"]), text(answer, &["url"]))),
        row("credentials", text(answer, &["credentials"])),
        row("webhook", text(answer, &["webhook", "url"])),
        row("heard of", if heard.is_empty() { "not yet".into() } else { minute(&heard) }),
    ];
    if answer["deploy_key"].is_object() {
        let of = |name: &str| text(answer, &["deploy_key", "server", name]);
        let port = &answer["deploy_key"]["server"]["port"];
        rows.push(row("deploy key", text(answer, &["deploy_key", "public_key"])));
        rows.push(row("ssh server", format!("{}@{}, port {port}", of("user"), of("host"))));
        for key in items(&answer["deploy_key"]["host_keys"]) {
            rows.push(row("known by", format!("{} {}", text(key, &["type"]), text(key, &["fingerprint"]))));
        }
    }
    let failure = text(answer, &["failure"]);
    if !failure.is_empty() {
        rows.push(vec![Cell::new("failure", Tone::Quiet), Cell::new(failure, Tone::Accent)]);
    }
    context.terminal.say(&context.terminal.columns(&rows))
}

/// The connection, and what is to be set at the forge.
fn connected(answer: &Value, context: &Context) -> Result<()> {
    info(answer, context)?;
    let (events, more) = match text(answer, &["kind"]).as_str() {
        "gitlab" => {
            ("Push events, Tag push events, Merge request events, Pipeline events", "Secret token (and Signing token)")
        }
        "gitea" => ("Push, Pull Request, Pull Request Synchronized, Commit Status", "Secret"),
        _ => ("Pushes, Pull requests, Statuses, Check runs, Check suites", "Secret"),
    };
    let secret = text(answer, &["webhook", "secret"]);
    if answer["deploy_key"].is_object() {
        context.terminal.say(
            "\nAdd the deploy key above to the repository, for reading alone. Compare what the ssh server is known by with\n\
             what the forge publishes of its host keys.\n",
        )?;
    }
    context.terminal.say(&format!(
        "\nAdd a webhook to the repository, with the address above, the content type application/json, and\n  \
         {more}: {secret}\n  events: {events}\nThe secret is not shown again.\n"
    ))
}

fn disconnected(answer: &Value, context: &Context) -> Result<()> {
    let (pipeline, repository) = (text(answer, &["pipeline", "name"]), text(answer, &["repository"]));
    context.terminal.say(&format!("{pipeline} is not connected to {repository} any more. Remove its webhook there.\n"))
}

fn deliveries(answer: &Value, context: &Context) -> Result<()> {
    let now = jiff::Timestamp::now();
    let row = |delivery: &Value| {
        let status = text(delivery, &["status"]);
        let tone = tone(&status);
        vec![
            text(delivery, &["id"]).into(),
            text(delivery, &["event"]).into(),
            Cell::new(status, tone),
            Cell::new(age(&text(delivery, &["received_at"]), now), Tone::Quiet),
            text(delivery, &["message"]).into(),
        ]
    };
    let rows = items(answer).into_iter().map(row).collect();
    table(context.terminal, &["ID", "EVENT", "STATE", "AGE", ""], rows, "Nothing was delivered yet.")
}

fn redelivered(answer: &Value, context: &Context) -> Result<()> {
    context.terminal.say(&format!("{} is carried out again.\n", text(answer, &["event"])))
}
