//! Products, and promotions of several apps that switch together or not at all.

use crate::error::Error;
use crate::from_to::{find, nor_a_stage, one_source};
use crate::pipelines::Access;
use crate::plan::{ExternalPlan, Plan};
use crate::ports::Caller;
use crate::promotions::{Origin, Promotable, PromotionView, Weighed};
use crate::{Event, Kind, Platform, Result};
use shipway_domain::admission::Trigger;
use shipway_domain::{DynoId, Email, NameOrId, OperationId, PipelineId, ProductId, ProductName, PromotionId, Stage};
use shipway_store::{App, Coupling, ExternalStep, Pipeline, Product, ProductSettings, Promotion, Release};

/// What `shipway promote FROM TO` asks for.
#[derive(Debug, Clone, Default)]
pub struct TogetherOrder {
    /// From where: a stage or an app.
    pub from: String,
    /// To where: a stage or an app.
    pub to: String,
    /// The product; without it and a pipeline, what follows from the app, or the only one that there is.
    pub product: Option<String>,
    /// The pipeline.
    pub pipeline: Option<String>,
    /// These pipelines or apps alone; all without.
    pub only: Vec<String>,
    /// Why.
    pub reason: Option<String>,
    /// What a look at the moves showed: nothing else is promoted then. None: what is there.
    pub seen: Option<Vec<Seen>>,
}

/// A move as somebody looked at it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The app that would change.
    pub app: String,
    /// The digest of the code that would come.
    pub digest: String,
}

/// One app that a promotion would change, or not.
#[derive(Debug, Clone)]
pub struct Move {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// What is promoted.
    pub source: Promotable,
    /// From which stage.
    pub from: Stage,
    /// The app.
    pub target: App,
    /// In which stage.
    pub to: Stage,
    /// The release that runs the same already.
    pub unchanged: Option<Release>,
    /// The record that names other code than what is promoted, all the same, with the order's reason.
    pub against: Option<String>,
}

/// What is changed of a pipeline's external step; what is not named stays.
#[derive(Debug, Clone, Default)]
pub struct StepChange {
    /// What people call it.
    pub name: Option<String>,
    /// The command, for a shell.
    pub command: Option<String>,
    /// What undoes it.
    pub undo: Option<String>,
    /// Its place among the product's steps, from 1; a larger one than there are is the last.
    pub position: Option<u64>,
}

/// Longest name, command or undo of an external step, in bytes.
const MAX_COMMAND: usize = 4096;

impl Platform {
    /// The products that the caller may see, by name.
    pub fn products(&self, caller: &Caller) -> Result<Vec<Product>> {
        let all = self.store().read(|c| c.products())?;
        Ok(all.into_iter().filter(|p| self.sees_product(caller, p)).collect())
    }

    /// Finds a product that the caller may see. What may not be seen does not exist.
    pub fn product(&self, caller: &Caller, which: &NameOrId) -> Result<Product> {
        let found = self.store().read(|c| c.product(which))?;
        let missing = || Error::missing_named("product", which, "`shipway products` lists those that you can see.");
        found.filter(|p| self.sees_product(caller, p)).ok_or_else(missing)
    }

    fn sees_product(&self, caller: &Caller, product: &Product) -> bool {
        let own = caller.actor.admin || product.owner == caller.actor.account;
        let any = || product.pipelines.iter().any(|p| self.pipeline(caller, &p.into()).is_ok());
        caller.actor.scope.reads_widely() && (own || any())
    }

    /// Makes a product of pipelines that the caller may see. Errors: an illegal or taken name, no pipelines.
    pub async fn create_product(&self, caller: &Caller, name: &str, pipelines: &[String]) -> Result<Product> {
        if !caller.actor.scope.writes() {
            return Err(self.out_of_scope(caller, "create products"));
        }
        let name = ProductName::parse(name)?;
        let mut ids: Vec<PipelineId> = Vec::new();
        for which in pipelines {
            let id = self.pipeline(caller, &NameOrId::parse(which))?.id;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        if ids.is_empty() {
            return Err(Error::invalid("Name the product's pipelines: shipway products create NAME --pipelines a,b"));
        }
        let now = self.now();
        let product = Product {
            id: self.id(ProductId),
            name,
            owner: caller.actor.account,
            owner_email: Email::parse(&caller.actor.email)?,
            settings: ProductSettings::default(),
            pipelines: ids,
            created_at: now,
            updated_at: now,
        };
        let detail = serde_json::json!({ "product": product.name, "pipelines": product.pipelines });
        let entry = self.entry(caller, None, "product-created", detail);
        let row = product.clone();
        let written = self.write_with(entry, move |c| c.insert_product(&row));
        written.await.map_err(Error::if_taken("product", &product.name))?;
        Ok(product)
    }

    fn own_product(&self, caller: &Caller, product: &Product) -> Result<()> {
        if caller.actor.scope.writes() && (caller.actor.admin || product.owner == caller.actor.account) {
            return Ok(());
        }
        Err(Error::forbidden(format!(
            "You ({}) may not change the product {}. Ask {}, who owns it.",
            caller.actor.email, product.name, product.owner_email
        )))
    }

    /// Ends a product. Its pipelines and apps stay.
    pub async fn destroy_product(&self, caller: &Caller, product: &Product) -> Result<()> {
        self.own_product(caller, product)?;
        let entry = self.entry(caller, None, "product-destroyed", serde_json::json!({ "product": product.name }));
        let id = product.id;
        self.write_with(entry, move |c| c.delete_product(id)).await?;
        Ok(())
    }

    /// Sets the external steps of a product's promotions, at most one per pipeline. Errors: a pipeline that is not the
    /// product's, a step without a command or an undo; one that is new or another, of a pipeline that the caller may not
    /// operate.
    pub async fn set_product_steps(
        &self,
        caller: &Caller,
        product: &Product,
        steps: Vec<ExternalStep>,
    ) -> Result<Product> {
        self.own_product(caller, product)?;
        let known = |step: &&ExternalStep| product.pipelines.contains(&step.pipeline);
        for step in steps.iter().filter(known).filter(|step| !product.settings.steps.contains(step)) {
            self.may_run_steps_in(caller, &self.store().read(|c| c.pipeline_by_id(step.pipeline))?)?;
        }
        self.change_product(caller, product, "product-steps", move |product| {
            for (i, step) in steps.iter().enumerate() {
                if steps[..i].iter().any(|s| s.pipeline == step.pipeline) {
                    return Err(Error::invalid(
                        "A pipeline has one external step at most; one command may do several things.",
                    ));
                }
                check_step(product, step)?;
            }
            product.settings.steps = steps;
            Ok(())
        })
        .await
    }

    /// Gives a pipeline of a product an external step, as the last one, or changes the one that it has, where it is; a
    /// `position` moves it. Errors: a pipeline that is not the product's, a new step without a name, a command or an undo; a
    /// command or an undo for a pipeline that the caller may not operate.
    pub async fn set_product_step(
        &self,
        caller: &Caller,
        product: &Product,
        pipeline: &NameOrId,
        change: StepChange,
    ) -> Result<Product> {
        self.own_product(caller, product)?;
        let pipeline = self.pipeline_of_product(product, pipeline)?;
        if change.command.is_some() || change.undo.is_some() {
            self.may_run_steps_in(caller, &pipeline)?;
        }
        let pipeline = pipeline.id;
        self.change_product(caller, product, "product-steps", move |product| {
            let steps = &mut product.settings.steps;
            let at = steps.iter().position(|s| s.pipeline == pipeline);
            let there = at.map(|at| steps.remove(at));
            let (name, command, undo) =
                there.map_or_else(Default::default, |there| (there.name, there.command, there.undo));
            let step = ExternalStep {
                name: change.name.unwrap_or(name),
                pipeline,
                command: change.command.unwrap_or(command),
                undo: change.undo.unwrap_or(undo),
            };
            let steps = &mut product.settings.steps;
            steps.insert(place(change.position, at, steps.len())?, step.clone());
            check_step(product, &step)
        })
        .await
    }

    /// Errors: the commands of steps run in a pipeline's apps, with their config, and the caller may not operate any of them.
    fn may_run_steps_in(&self, caller: &Caller, pipeline: &Pipeline) -> Result<()> {
        self.may(caller, pipeline, Access::Operate)
    }

    /// Takes a pipeline's external step away. Errors: it has none.
    pub async fn remove_product_step(&self, caller: &Caller, product: &Product, which: &NameOrId) -> Result<Product> {
        self.own_product(caller, product)?;
        let pipeline = self.pipeline_of_product(product, which)?;
        self.change_product(caller, product, "product-steps", move |product| {
            let steps = &mut product.settings.steps;
            let at = steps.iter().position(|s| s.pipeline == pipeline.id);
            let at = at.ok_or_else(|| {
                Error::invalid(format!("The pipeline {} has no step in {}.", pipeline.name, product.name))
            })?;
            steps.remove(at);
            Ok(())
        })
        .await
    }

    /// Puts a pipeline that the caller may see into a product, as the last one, or moves one that is there to its
    /// `position`, from 1.
    pub async fn put_product_pipeline(
        &self,
        caller: &Caller,
        product: &Product,
        which: &NameOrId,
        position: Option<u64>,
    ) -> Result<Product> {
        self.own_product(caller, product)?;
        let pipeline = self.pipeline(caller, which)?.id;
        self.change_product(caller, product, "product-pipelines", move |product| {
            let pipelines = &mut product.pipelines;
            let at = pipelines.iter().position(|id| *id == pipeline);
            pipelines.retain(|id| *id != pipeline);
            pipelines.insert(place(position, at, pipelines.len())?, pipeline);
            Ok(())
        })
        .await
    }

    /// Takes a pipeline out of a product, with its external step; the pipeline stays. Errors: it is not the product's, or
    /// its only one.
    pub async fn remove_product_pipeline(
        &self,
        caller: &Caller,
        product: &Product,
        which: &NameOrId,
    ) -> Result<Product> {
        self.own_product(caller, product)?;
        let pipeline = self.pipeline_of_product(product, which)?;
        self.change_product(caller, product, "product-pipelines", move |product| {
            product.pipelines.retain(|id| *id != pipeline.id);
            product.settings.steps.retain(|step| step.pipeline != pipeline.id);
            match product.pipelines.is_empty() {
                true => Err(Error::invalid(format!(
                    "{} is the only pipeline of {1}. End the product instead: shipway products destroy {1}",
                    pipeline.name, product.name
                ))),
                false => Ok(()),
            }
        })
        .await
    }

    /// A pipeline of a product, whether its owner may see it or not.
    fn pipeline_of_product(&self, product: &Product, which: &NameOrId) -> Result<Pipeline> {
        let found = self.store().read(|c| c.pipeline(which))?;
        found.filter(|found| product.pipelines.contains(&found.id)).ok_or_else(|| {
            Error::invalid(format!(
                "The product {0} has no such pipeline: shipway products info {0} says which it has.",
                product.name
            ))
        })
    }

    /// Changes a product as it is when that is written down, so that two changes at once are both kept.
    async fn change_product(
        &self,
        caller: &Caller,
        product: &Product,
        action: &str,
        change: impl FnOnce(&mut Product) -> Result<()> + Send + 'static,
    ) -> Result<Product> {
        let mut entry = self.entry(caller, None, action, serde_json::Value::Null);
        let (id, now) = (product.id, self.now());
        let written = self.store().write(move |c| {
            let found = c.product(&id.into())?;
            let mut product = found.ok_or(shipway_store::StoreError::Missing("product"))?;
            if let Err(refused) = change(&mut product) {
                return Ok(Err(refused));
            }
            product.updated_at = now;
            c.update_product(&product)?;
            let steps: Vec<&str> = product.settings.steps.iter().map(|s| s.name.as_str()).collect();
            entry.detail =
                serde_json::json!({ "product": product.name, "pipelines": product.pipelines, "steps": steps });
            c.record(&entry)?;
            Ok(Ok(product))
        });
        let changed = written.await??;
        for pipeline in &changed.pipelines {
            self.tell(Event::Pipeline(*pipeline));
        }
        Ok(changed)
    }

    /// What a promotion would do, app by app, without doing it.
    ///
    /// Errors: nothing that fits the names, several apps where one must be chosen, what [`Self::weigh`] refuses.
    pub fn moves(&self, caller: &Caller, order: &TogetherOrder) -> Result<(Option<Product>, Vec<Move>)> {
        let stages = (Stage::from_people(&order.from), Stage::from_people(&order.to));
        if order.from == order.to || (stages.0.is_some() && stages.0 == stages.1) {
            return Err(Error::invalid(format!(
                "From and to are the same: {}. Name another stage or app to promote to.",
                order.to
            )));
        }
        let (product, pipelines) = self.scope(caller, order)?;
        let mut moves = Vec::new();
        for pipeline in pipelines {
            let apps = self.pipeline_apps(caller, &pipeline)?;
            let named = |(_, app): &&(Coupling, App)| order.only.iter().any(|o| *o == app.name.as_str());
            let whole = order.only.is_empty() || order.only.iter().any(|o| *o == pipeline.name.as_str());
            if !whole && !apps.iter().any(|a| named(&a)) {
                continue;
            }
            for word in [&order.from, &order.to] {
                if find(&apps, word).next().is_none() {
                    return Err(self.not_in(caller, &pipeline, order, word));
                }
            }
            let (from, source) = one_source(&pipeline, &apps, &order.from, |source| {
                let one_by_name = format!("shipway promote {} {}", source.name, order.to);
                match &product {
                    Some(product) if product.pipelines.len() == 1 => {
                        format!("{one_by_name} --product {}", product.name)
                    }
                    // An app's name fits one pipeline only, so that the others are promoted for themselves.
                    _ => format!("{one_by_name} --pipeline {}", pipeline.name),
                }
            })?;
            let mut targets: Vec<_> = find(&apps, &order.to).filter(|(_, app)| app.id != source.id).collect();
            if !whole {
                targets.retain(|a| named(a));
            }
            if targets.is_empty() {
                let (name, to) = (&source.name, &order.to);
                return Err(Error::invalid(match Stage::from_people(to) {
                    Some(_) if !whole => format!("Nothing of what --only names is in {to}, but for {name} itself."),
                    Some(_) => format!("From and to are the same: {} has only {name} in {to}.", pipeline.name),
                    None => format!("From and to are the same: {name}."),
                }));
            }
            let source = self.promotable(&source, None)?;
            for (coupling, target) in targets {
                let (to, reason) = (coupling.stage, order.reason.as_deref());
                let Weighed { unchanged, against } =
                    self.weigh(caller, &pipeline, (from, &source), (to, target), reason)?;
                let (pipeline, source, target) = (pipeline.clone(), source.clone(), target.clone());
                moves.push(Move { pipeline, source, from, target, to, unchanged, against });
            }
        }
        if moves.is_empty() {
            return Err(Error::invalid(format!(
                "Nothing of what --only names is there to promote: {}.",
                order.only.join(", ")
            )));
        }
        Ok((product, moves))
    }

    /// Why [`Self::promote_together`] would refuse one of its moves, without a record of the question.
    pub async fn move_refused(&self, caller: &Caller, one: &Move) -> Result<Option<String>> {
        if one.unchanged.is_some() {
            return Ok(None);
        }
        self.promotion_refusal(caller, &one.target, &one.source).await
    }

    /// The pipelines that an order is about.
    fn scope(&self, caller: &Caller, order: &TogetherOrder) -> Result<(Option<Product>, Vec<Pipeline>)> {
        let of = |product: Product| {
            if product.pipelines.is_empty() {
                return Err(Error::invalid(format!(
                    "The product {0} has no pipeline left, so there is nothing to promote: shipway products add {0} PIPELINE, \
                     or shipway products destroy {0}",
                    product.name
                )));
            }
            let pipelines: Result<Vec<_>> =
                product.pipelines.iter().map(|p| self.pipeline(caller, &p.into())).collect();
            match pipelines {
                Ok(pipelines) => Ok((Some(product), pipelines)),
                Err(e) if e.kind == Kind::NotFound => Err(Error::invalid(format!(
                    "The product {} has pipelines that you cannot see: ask {}, who owns it, or promote one pipeline \
                     alone: --pipeline NAME",
                    product.name,
                    product.owner_email.to_ask()
                ))),
                Err(e) => Err(e),
            }
        };
        if let Some(name) = &order.product {
            return of(self.product(caller, &NameOrId::parse(name))?);
        }
        if let Some(name) = &order.pipeline {
            return Ok((None, vec![self.pipeline(caller, &NameOrId::parse(name))?]));
        }
        for name in [&order.from, &order.to] {
            // A stage is never an app's name here: `dev` is the stage.
            if Stage::from_people(name).is_none() {
                let app = self.app(caller, &NameOrId::parse(name)).map_err(nor_a_stage)?;
                let coupling = self.coupling_of(&app).map_err(|e| Error::invalid(e.message))?;
                return Ok((None, vec![self.pipeline(caller, &coupling.pipeline.into())?]));
            }
        }
        let (mut products, mut pipelines) = (self.products(caller)?, self.pipelines(caller)?);
        // One whose pipelines have ended is not what anybody means.
        products.retain(|product| !product.pipelines.is_empty());
        match (products.len(), pipelines.len()) {
            (1, _) => of(products.remove(0)),
            (0, 1) => Ok((None, vec![pipelines.remove(0)])),
            (0, 0) => Err(Error::invalid("There is no pipeline yet: heroku pipelines:create")),
            _ => {
                let products = products.iter().map(|p| format!("--product {}", p.name));
                let choices: Vec<String> =
                    products.chain(pipelines.iter().map(|p| format!("--pipeline {}", p.name))).take(10).collect();
                Err(Error::invalid(format!("Say what to promote: {}.", choices.join(", "))))
            }
        }
    }

    /// Promotes several apps in one operation: all of them switch in one epoch, or none does. Skips what runs the same
    /// already. Errors: as [`Self::moves`]; nothing to promote; something else than was looked at; a refusal by admission,
    /// or for want of config vars that the code requires, for any of the apps.
    pub async fn promote_together(&self, caller: &Caller, order: &TogetherOrder) -> Result<PromotionView> {
        let (product, moves) = self.moves(caller, order)?;
        as_seen(order, &moves)?;
        let _turn = self.inner.promoting.lock().await;
        let promotion = Promotion {
            id: self.id(PromotionId),
            pipeline: product.is_none().then_some(moves[0].pipeline.id),
            product: product.as_ref().map(|p| p.id),
            account: caller.actor.account,
            reason: order.reason.clone().filter(|r| !r.trim().is_empty()),
            created_at: self.now(),
        };
        let operation = self.id(OperationId);
        let external = external_steps(product.as_ref(), &moves);
        let (mut targets, mut parts, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
        for one in &moves {
            let mut target = self.target(promotion.id, &one.target, &one.source);
            if let Some(there) = &one.unchanged {
                target.release = Some(there.id);
                unchanged.push(self.nothing_to_promote(&one.target, one.to, there, &one.source)?);
            } else {
                self.may_receive(caller, &one.target, &one.source).await?;
                let mut part = self.promotion_part(&one.target, &one.source);
                target.operation = Some(operation);
                target.release = part.release.as_ref().map(|r| r.release);
                let at = external.iter().position(|(_, runs)| runs.target.id == one.target.id);
                part.external = at.map(|position| self.external(external[position].0, position));
                parts.push(part);
            }
            targets.push(target);
        }
        if parts.is_empty() {
            return Err(Error::invalid(unchanged.join(" ")));
        }
        parts.sort_by_key(|p| p.app);
        let plan = Plan { actor: caller.actor.clone(), via: caller.via.into(), trigger: Trigger::Promotion, parts };
        let first = &moves[0];
        let plans = vec![(operation, plan)];
        let against = moves.iter().find_map(|one| one.against.clone());
        let origin = Origin { source: &first.source.app, stage: first.from, against };
        self.write_promotion(caller, promotion, targets, plans, origin).await
    }

    fn external(&self, step: &ExternalStep, position: usize) -> ExternalPlan {
        ExternalPlan {
            name: step.name.clone(),
            position,
            command: step.command.clone(),
            undo: step.undo.clone(),
            dyno: self.id(DynoId),
            undo_dyno: self.id(DynoId),
        }
    }
}

/// The external steps that these moves run, in order, each with the first app of its pipeline that changes: there it runs.
pub fn external_steps<'a>(product: Option<&'a Product>, moves: &'a [Move]) -> Vec<(&'a ExternalStep, &'a Move)> {
    let steps = product.into_iter().flat_map(|product| &product.settings.steps);
    let place =
        |step: &ExternalStep| moves.iter().find(|one| one.pipeline.id == step.pipeline && one.unchanged.is_none());
    steps.filter_map(|step| Some((step, place(step)?))).collect()
}

/// Where something goes among `others`: where it was, else at the end; `wanted` counts from 1.
fn place(wanted: Option<u64>, was: Option<usize>, others: usize) -> Result<usize> {
    match wanted {
        Some(0) => Err(Error::invalid("`position` counts from 1.")),
        Some(wanted) => Ok(usize::try_from(wanted - 1).unwrap_or(others).min(others)),
        None => Ok(was.unwrap_or(others)),
    }
}

/// Errors: a pipeline that is not the product's, a step without a name, a command or an undo.
fn check_step(product: &Product, step: &ExternalStep) -> Result<()> {
    if !product.pipelines.contains(&step.pipeline) {
        return Err(Error::invalid(format!(
            "The step {:?} is of a pipeline that {} has not.",
            step.name, product.name
        )));
    }
    for text in [&step.name, &step.command, &step.undo] {
        if text.trim().is_empty() || text.len() > MAX_COMMAND || text.contains('\0') {
            return Err(Error::invalid(format!(
                "An external step needs a name, a command and the command that undoes it, {MAX_COMMAND} bytes each at most."
            )));
        }
    }
    Ok(())
}

/// Errors: a move that is not what the order saw, or that it saw and is no more.
fn as_seen(order: &TogetherOrder, moves: &[Move]) -> Result<()> {
    let Some(seen) = &order.seen else { return Ok(()) };
    let moved = |what: String| {
        let from = &order.from;
        Err(Error::conflict(format!(
            "{from} moved since you looked: {what}. Nothing was promoted. Look again: shipway promote {from} {} --dry-run",
            order.to
        )))
    };
    for one in moves {
        let (source, target) = (&one.source, &one.target.name);
        match seen.iter().find(|seen| seen.app == target.as_str()) {
            Some(seen) if seen.digest == source.slug.digest.to_string() => {}
            Some(_) => {
                let (name, version) = (&source.app.name, source.release.version);
                return moved(format!("{name} runs v{version}, {} now", source.commit()));
            }
            None => return moved(format!("{target} would be promoted to as well")),
        }
    }
    match seen.iter().find(|seen| !moves.iter().any(|one| one.target.name.as_str() == seen.app)) {
        Some(gone) => moved(format!("{} is not promoted to any more", gone.app)),
        None => Ok(()),
    }
}
