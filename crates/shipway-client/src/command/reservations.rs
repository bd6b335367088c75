//! `shipway who`, `reserve`, `unreserve`, `previous` and `notices`: sharing an app.

use super::OneApp;
use super::comparison::{items, names};
use super::rollback::warn;
use crate::error::Result;
use crate::terminal::{age, minute, printable, text};
use crate::{Context, Error};
use http::Method;
use serde_json::{Value, json};

/// The flags of `who` and `unreserve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    app: OneApp,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

/// The flags of `reserve`.
#[derive(Debug, clap::Args)]
pub struct ReserveArgs {
    #[command(flatten)]
    app: OneApp,
    /// How long, such as 30m, 2h or 3d
    #[arg(long = "for", value_name = "TIME", default_value = "2h", value_parser = seconds)]
    length: u64,
    /// What for
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

/// The flags of `previous`.
#[derive(Debug, clap::Args)]
pub struct PreviousArgs {
    #[command(flatten)]
    app: OneApp,
    /// Say what would come back, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

/// The flags of `notices`.
#[derive(Debug, clap::Args)]
pub struct NoticesArgs {
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

/// `30m`, `2h` or `3d` in seconds.
fn seconds(given: &str) -> std::result::Result<u64, String> {
    let units = [('m', 60), ('h', 60 * 60), ('d', 24 * 60 * 60)];
    let read = |(unit, factor): &(char, u64)| given.strip_suffix(*unit)?.parse::<u64>().ok()?.checked_mul(*factor);
    units.iter().find_map(read).ok_or_else(|| format!("\"{given}\" is not a time: 30m, 2h, 3d"))
}

pub async fn who(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let app = args.app.resolve(context, &account)?;
    let answer = account.client().get(&format!("/shipway/v1/apps/{app}/reservation")).await?;
    if args.json {
        return context.terminal.json(&answer);
    }
    let runs = match &answer["deployed"] {
        Value::Null => format!("{app} has no code yet."),
        code => format!("{app} runs the code of {}, deployed by {}.", text(code, &["words"]), text(code, &["by"])),
    };
    let has = match &answer["reservation"] {
        Value::Null => format!("Nobody has reserved it: shipway reserve -a {app} --for 2h"),
        held => words(held),
    };
    context.terminal.say(&format!("{}\n{}\n", printable(&runs), printable(&has)))
}

fn words(held: &Value) -> String {
    let reason = text(held, &["reason"]);
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("Reserved by {} until {}{reason}", text(held, &["holder", "email"]), minute(&text(held, &["until"])))
}

pub async fn reserve(args: &ReserveArgs, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let app = args.app.resolve(context, &account)?;
    let body = json!({ "seconds": args.length, "reason": args.reason });
    let path = format!("/shipway/v1/apps/{app}/reservation");
    let answer = account.client().send(Method::PUT, &path, Some(&body)).await?.success()?;
    if args.json {
        return context.terminal.json(&answer);
    }
    let told = format!("{} (sooner: shipway unreserve -a {app})", words(&answer));
    context.terminal.say(&format!("{}\n", printable(&told)))
}

pub async fn unreserve(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let app = args.app.resolve(context, &account)?;
    let path = format!("/shipway/v1/apps/{app}/reservation");
    let answer = account.client().send(Method::DELETE, &path, None).await?.success()?;
    if args.json {
        return context.terminal.json(&answer);
    }
    context.terminal.say(&format!("{app} is free.\n"))
}

pub async fn previous(args: &PreviousArgs, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let client = account.client();
    let app = args.app.resolve(context, &account)?;
    let path = format!("/shipway/v1/apps/{app}/previous");
    if args.dry_run {
        let answer = client.get(&path).await?;
        if args.json {
            return context.terminal.json(&answer);
        }
        if answer["previous"].is_null() {
            return Err(Error::new(format!("{app} ran no other code before that is still kept"))
                .hint(format!("what it ran: heroku releases -a {app}")));
        }
        let (now, before) = (text(&answer["now"], &["words"]), text(&answer["previous"], &["words"]));
        let told = format!("{app} would go from {now} to {before}, with today's config vars.");
        return context.terminal.say(&format!("{}\n", printable(&told)));
    }
    let answer = client.post(&path, &json!({})).await?;
    if args.json {
        return context.terminal.json(&answer);
    }
    warn(&names(&answer["coming"]));
    let (version, words) = (text(&answer, &["version"]), text(&answer["previous"], &["words"]));
    let operation = text(&answer, &["operation", "id"]);
    let told = format!("Bringing back {words} as release v{version}. Follow it: shipway ops {operation}");
    context.terminal.say(&format!("{}\n", printable(&told)))
}

pub async fn notices(args: &NoticesArgs, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let client = account.client();
    let answer = client.get("/shipway/v1/notices").await?;
    client.post("/shipway/v1/notices/actions/read", &json!({})).await?;
    if args.json {
        return context.terminal.json(&answer);
    }
    let now = jiff::Timestamp::now();
    let all = items(&answer);
    if all.is_empty() {
        return context.terminal.say("Nothing to tell.\n");
    }
    for notice in all {
        let new = if notice["read"].as_bool().unwrap_or(true) { "" } else { " (new)" };
        let told = format!("{} ago{new}: {}", age(&text(notice, &["created_at"]), now), text(notice, &["text"]));
        context.terminal.say(&format!("{}\n", printable(&told)))?;
    }
    Ok(())
}
