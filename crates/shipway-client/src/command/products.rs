//! `shipway products`.

use super::{ListArgs, items, segment, table};
use crate::Context;
use crate::error::Result;
use crate::terminal::{name_of, printable, text};
use http::Method;
use serde_json::{Value, json};

const NONE: &str = "No products. Make one: shipway products create NAME --pipelines NAME,NAME";

/// The flags of `products`.
pub type Args = ListArgs<Action>;

#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// The same as without a word
    #[command(hide = true)]
    List,
    /// Make a product of pipelines that are promoted together
    Create {
        /// Its name
        name: String,
        /// Its pipelines, in the order in which they are shown
        #[arg(long, value_name = "NAMES", value_delimiter = ',', required = true)]
        pipelines: Vec<String>,
    },
    /// Show a product's pipelines and steps, in order
    Info {
        /// Its name
        name: String,
    },
    /// Add a pipeline, or move one that is there
    Add {
        /// The product
        product: String,
        /// The pipeline
        pipeline: String,
        /// Its place among the product's, from 1; without it a new one is the last
        #[arg(long, value_name = "N")]
        position: Option<u64>,
    },
    /// Take a pipeline out, with its step; the pipeline and its apps stay
    Remove {
        /// The product
        product: String,
        /// The pipeline
        pipeline: String,
    },
    /// Let a command take part in the product's promotions, before anything switches, or change the one that does
    Step {
        /// The product
        product: String,
        /// The pipeline whose new code and config it runs with, once, in its first app that changes
        pipeline: String,
        /// What people call it
        #[arg(long)]
        name: Option<String>,
        /// The command, for a shell; it may run twice
        #[arg(long)]
        command: Option<String>,
        /// What takes it back; it may run twice
        #[arg(long)]
        undo: Option<String>,
        /// Its place among the product's steps, from 1; without it a new one is the last
        #[arg(long, value_name = "N")]
        position: Option<u64>,
    },
    /// Take the step of a pipeline away
    RemoveStep {
        /// The product
        product: String,
        /// The pipeline
        pipeline: String,
    },
    /// End a product; its pipelines and apps stay
    Destroy {
        /// Its name
        name: String,
    },
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let client = account.client();
    let answer = match &args.action {
        None | Some(Action::List) => client.get("/shipway/v1/products").await?,
        Some(Action::Create { name, pipelines }) => {
            client.post("/shipway/v1/products", &json!({ "name": name, "pipelines": pipelines })).await?
        }
        Some(Action::Info { name }) => client.get(&path(name, "")?).await?,
        Some(Action::Add { product, pipeline, position }) => {
            let path = path(product, &format!("/pipelines/{}", segment("pipeline", pipeline)?))?;
            client.send(Method::PUT, &path, Some(&json!({ "position": position }))).await?.success()?
        }
        Some(Action::Remove { product, pipeline }) => {
            let path = path(product, &format!("/pipelines/{}", segment("pipeline", pipeline)?))?;
            client.send(Method::DELETE, &path, None).await?.success()?
        }
        Some(Action::Step { product, pipeline, name, command, undo, position }) => {
            let path = path(product, &format!("/steps/{}", segment("pipeline", pipeline)?))?;
            let step = json!({ "name": name, "command": command, "undo": undo, "position": position });
            client.send(Method::PUT, &path, Some(&step)).await?.success()?
        }
        Some(Action::RemoveStep { product, pipeline }) => {
            let path = path(product, &format!("/steps/{}", segment("pipeline", pipeline)?))?;
            client.send(Method::DELETE, &path, None).await?.success()?
        }
        Some(Action::Destroy { name }) => client.send(Method::DELETE, &path(name, "")?, None).await?.success()?,
    };
    if args.json {
        return context.terminal.json(&answer);
    }
    let name = || printable(&text(&answer, &["name"]));
    match &args.action {
        None | Some(Action::List) => {
            let row =
                |p: &&Value| vec![text(p, &["name"]).into(), named(p, "pipelines").into(), named(p, "steps").into()];
            let rows = items(&answer).iter().map(row).collect();
            table(context.terminal, &["PRODUCT", "PIPELINES", "STEPS"], rows, NONE)
        }
        Some(Action::Create { .. } | Action::Add { .. } | Action::Remove { .. }) => holds(&answer, context),
        Some(Action::Info { .. }) => {
            holds(&answer, context)?;
            steps(&answer, context)
        }
        Some(Action::Step { .. } | Action::RemoveStep { .. }) => steps(&answer, context),
        Some(Action::Destroy { .. }) => {
            context.terminal.say(&format!("{} is gone; its pipelines and apps stay.\n", name()))
        }
    }
}

fn path(product: &str, rest: &str) -> Result<String> {
    Ok(format!("/shipway/v1/products/{}{rest}", segment("product", product)?))
}

/// Says which pipelines a product has.
fn holds(product: &Value, context: &Context) -> Result<()> {
    let name = printable(&text(product, &["name"]));
    context.terminal.say(&match named(product, "pipelines") {
        none if none.is_empty() => format!("{name} has no pipeline left: shipway products add {name} PIPELINE\n"),
        pipelines => format!("{name} holds {}.\n", printable(&pipelines)),
    })
}

/// The names of a product's pipelines or steps, in order.
fn named(product: &Value, key: &str) -> String {
    let names = items(&product[key]).into_iter().map(|it| text(it, &["name"]));
    names.collect::<Vec<_>>().join(", ")
}

/// The steps in the order in which they run.
fn steps(product: &Value, context: &Context) -> Result<()> {
    let row = |(at, step): (usize, &Value)| {
        vec![
            (at + 1).to_string().into(),
            text(step, &["name"]).into(),
            name_of(step, "pipeline").into(),
            text(step, &["command"]).into(),
            text(step, &["undo"]).into(),
        ]
    };
    let rows = items(&product["steps"]).into_iter().enumerate().map(row).collect();
    table(context.terminal, &["", "STEP", "PIPELINE", "COMMAND", "UNDO"], rows, "No steps elsewhere.")
}
