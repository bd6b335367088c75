//! `shipway parity STAGING PRODUCTION`.

use super::comparison::{self, Lines, names};
use crate::Context;
use crate::error::Result;

/// The flags of `parity`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An app or a stage
    one: String,
    /// The app or stage that it should be like
    other: String,
    /// The pipeline whose stages are meant
    #[arg(short, long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let client = context.account().await?.client();
    let path = comparison::path("/shipway/v1/parity", &args.one, &args.other, args.pipeline.as_deref());
    let answer = client.get(&path).await?;
    if args.json {
        return context.terminal.json(&answer);
    }
    let mut lines = Lines::new(context.terminal);
    let (base, head) = (comparison::side(&answer["base"]), comparison::side(&answer["head"]));
    lines.title(&format!("{base} -> {head}"));
    lines.changes("formation", &answer["formation"]);
    let missing = |key: &str, side: &str| -> Vec<String> {
        names(&answer["config"][key]).iter().map(|name| format!("{name} in {side}")).collect()
    };
    lines.each("keys missing", [missing("added", &base), missing("removed", &head)].concat());
    lines.changes("add-ons", &answer["addons"]);
    lines.changes("build", &answer["build"]);
    lines.changes("domains", &answer["domains"]);
    lines.each("unknown", names(&answer["unknown"]));
    context.terminal.say(&lines.end("They are alike in size, formation, config keys, add-ons, stack and domains."))
}
