//! `shipway products`.

use super::{ListArgs, items, segment, table};
use crate::Context;
use crate::error::Result;
use crate::terminal::{name_of, printable, text};
use http::Method;
use serde_json::{Value, json};

/// The flags of `products`.
pub type Args = ListArgs<Action>;

#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Make a product of pipelines that are promoted together
    Create {
        /// Its name
        name: String,
        /// Its pipelines, in the order in which they are shown
        #[arg(long, value_name = "NAMES", value_delimiter = ',', required = true)]
        pipelines: Vec<String>,
    },
    /// Let a command take part in the product's promotions, before anything switches
    Step {
        /// The product
        product: String,
        /// The pipeline whose new code and config it runs with
        pipeline: String,
        /// What people call it
        #[arg(long)]
        name: String,
        /// The command, for a shell; it may run twice
        #[arg(long)]
        command: String,
        /// What takes it back; it may run twice
        #[arg(long)]
        undo: String,
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
        None => client.get("/shipway/v1/products").await?,
        Some(Action::Create { name, pipelines }) => {
            client.post("/shipway/v1/products", &json!({ "name": name, "pipelines": pipelines })).await?
        }
        Some(Action::Step { product, pipeline, name, command, undo }) => {
            let path = format!("/shipway/v1/products/{}", segment("product", product)?);
            let mut steps: Vec<Value> = client.get(&path).await?["steps"].as_array().cloned().unwrap_or_default();
            steps.retain(|step| name_of(step, "pipeline") != *pipeline);
            steps.push(json!({ "name": name, "pipeline": pipeline, "command": command, "undo": undo }));
            client.send(Method::PATCH, &path, Some(&json!({ "steps": steps }))).await?.success()?
        }
        Some(Action::Destroy { name }) => {
            let path = format!("/shipway/v1/products/{}", segment("product", name)?);
            client.send(Method::DELETE, &path, None).await?.success()?
        }
    };
    if args.json {
        return context.terminal.json(&answer);
    }
    let name = || printable(&text(&answer, &["name"]));
    match &args.action {
        None => {
            let rows = items(&answer).into_iter().map(|p| vec![text(p, &["name"]).into(), pipelines(p).into()]);
            table(context.terminal, &["PRODUCT", "PIPELINES"], rows.collect(), "No products.")
        }
        Some(Action::Create { .. }) => {
            context.terminal.say(&format!("{} holds {}.\n", name(), printable(&pipelines(&answer))))
        }
        Some(Action::Step { name: step, .. }) => {
            context.terminal.say(&format!("{} takes part in promotions of {}.\n", printable(step), name()))
        }
        Some(Action::Destroy { .. }) => {
            context.terminal.say(&format!("{} is gone; its pipelines and apps stay.\n", name()))
        }
    }
}

fn pipelines(product: &Value) -> String {
    let names = product["pipelines"].as_array().into_iter().flatten().map(|p| text(p, &["name"]));
    names.collect::<Vec<_>>().join(", ")
}
