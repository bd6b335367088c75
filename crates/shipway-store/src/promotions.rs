//! Promotions with their targets, and products.

use crate::{Conn, Result, json, micros, optional, parsed, time, to_json, unique};
use jiff::Timestamp;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use shipway_domain::{
    AccountId, AppId, Email, NameOrId, OperationId, PipelineId, ProductId, ProductName, PromotionId, PromotionTargetId,
    ReleaseId,
};

/// A promotion: of one pipeline or of a product.
#[derive(Debug, Clone)]
pub struct Promotion {
    /// Its id.
    pub id: PromotionId,
    /// The pipeline; none for a product's.
    pub pipeline: Option<PipelineId>,
    /// The product; none for a pipeline's.
    pub product: Option<ProductId>,
    /// Who promoted.
    pub account: AccountId,
    /// Why, where somebody said.
    pub reason: Option<String>,
    /// When.
    pub created_at: Timestamp,
}

/// One app that a promotion leads to.
#[derive(Debug, Clone)]
pub struct PromotionTarget {
    /// Its id.
    pub id: PromotionTargetId,
    /// The promotion.
    pub promotion: PromotionId,
    /// The app.
    pub app: AppId,
    /// From which app.
    pub source: AppId,
    /// From which of its releases.
    pub source_release: ReleaseId,
    /// What does it; several targets of a product share one. None where it was refused, or nothing was to be done.
    pub operation: Option<OperationId>,
    /// The release that is made; or the one that runs the same already.
    pub release: Option<ReleaseId>,
    /// Why it was refused.
    pub error: Option<String>,
}

/// Pipelines that are promoted together.
#[derive(Debug, Clone)]
pub struct Product {
    /// Its id.
    pub id: ProductId,
    /// Its name.
    pub name: ProductName,
    /// Its owner.
    pub owner: AccountId,
    /// Its owner's address.
    pub owner_email: Email,
    /// What its people set.
    pub settings: ProductSettings,
    /// Its pipelines, in the order in which they were named.
    pub pipelines: Vec<PipelineId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What a product's people set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProductSettings {
    /// What else is done by a promotion, in this order, before anything switches; at most one of each of its pipelines.
    pub steps: Vec<ExternalStep>,
}

/// A command that takes part in a product's promotion, such as another hosting's own promote, with the one that takes it
/// back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalStep {
    /// What people call it.
    pub name: String,
    /// Where it runs, once: the first app of this pipeline that changes, as a one-off dyno with its new code and config.
    pub pipeline: PipelineId,
    /// The command, for a shell.
    pub command: String,
    /// What undoes it, run when a later step fails.
    pub undo: String,
}

fn promotion(row: &Row<'_>) -> rusqlite::Result<Promotion> {
    Ok(Promotion {
        id: parsed(row, "id")?,
        pipeline: optional(row, "pipeline_id")?,
        product: optional(row, "product_id")?,
        account: parsed(row, "account_id")?,
        reason: row.get("reason")?,
        created_at: time(row, "created_at")?,
    })
}

fn target(row: &Row<'_>) -> rusqlite::Result<PromotionTarget> {
    Ok(PromotionTarget {
        id: parsed(row, "id")?,
        promotion: parsed(row, "promotion_id")?,
        app: parsed(row, "app_id")?,
        source: parsed(row, "source_app_id")?,
        source_release: parsed(row, "source_release_id")?,
        operation: optional(row, "operation_id")?,
        release: optional(row, "release_id")?,
        error: row.get("error")?,
    })
}

pub(crate) const PRODUCT: &str = "SELECT products.*, accounts.email AS owner_email,
     (SELECT json_group_array(pipeline_id) FROM (SELECT pipeline_id FROM product_pipelines
      WHERE product_id = products.id ORDER BY position)) AS pipelines
     FROM products JOIN accounts ON accounts.id = products.owner_id";

pub(crate) fn product(row: &Row<'_>) -> rusqlite::Result<Product> {
    let mut product = Product {
        id: parsed(row, "id")?,
        name: parsed(row, "name")?,
        owner: parsed(row, "owner_id")?,
        owner_email: parsed(row, "owner_email")?,
        settings: json(row, "settings")?,
        pipelines: json(row, "pipelines")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    };
    // A pipeline that is gone took its step along.
    product.settings.steps.retain(|step| product.pipelines.contains(&step.pipeline));
    Ok(product)
}

impl Conn<'_> {
    /// Adds a promotion with its targets.
    pub fn insert_promotion(&self, p: &Promotion, targets: &[PromotionTarget]) -> Result<()> {
        self.execute(
            "INSERT INTO promotions (id, pipeline_id, product_id, account_id, reason, created_at)
             VALUES (?,?,?,?,?,?)",
            params![
                p.id.to_string(),
                p.pipeline.map(|id| id.to_string()),
                p.product.map(|id| id.to_string()),
                p.account.to_string(),
                p.reason,
                micros(p.created_at)
            ],
        )?;
        for (position, t) in targets.iter().enumerate() {
            self.execute(
                "INSERT INTO promotion_targets (id, promotion_id, position, app_id, source_app_id, source_release_id,
                 operation_id, release_id, error) VALUES (?,?,?,?,?,?,?,?,?)",
                params![
                    t.id.to_string(),
                    t.promotion.to_string(),
                    position,
                    t.app.to_string(),
                    t.source.to_string(),
                    t.source_release.to_string(),
                    t.operation.map(|id| id.to_string()),
                    t.release.map(|id| id.to_string()),
                    t.error
                ],
            )?;
        }
        Ok(())
    }

    /// A promotion by id.
    pub fn promotion(&self, id: PromotionId) -> Result<Option<Promotion>> {
        self.row("SELECT * FROM promotions WHERE id = ?", [id.to_string()], promotion)
    }

    /// A promotion's targets in the order in which they were named.
    pub fn promotion_targets(&self, id: PromotionId) -> Result<Vec<PromotionTarget>> {
        self.rows("SELECT * FROM promotion_targets WHERE promotion_id = ? ORDER BY position", [id.to_string()], target)
    }

    /// The newest promotions of a pipeline, its own and those of products, newest first.
    pub fn promotions(&self, pipeline: PipelineId, limit: u32) -> Result<Vec<Promotion>> {
        self.rows(
            "SELECT * FROM promotions WHERE pipeline_id = ?1
             OR product_id IN (SELECT product_id FROM product_pipelines WHERE pipeline_id = ?1)
             ORDER BY created_at DESC, rowid DESC LIMIT ?2",
            params![pipeline.to_string(), limit],
            promotion,
        )
    }

    /// Adds a product. Errors: `Taken`.
    pub fn insert_product(&self, p: &Product) -> Result<()> {
        self.execute(
            "INSERT INTO products (id, name, owner_id, settings, created_at, updated_at) VALUES (?,?,?,?,?,?)",
            params![
                p.id.to_string(),
                p.name.as_str(),
                p.owner.to_string(),
                to_json(&p.settings)?,
                micros(p.created_at),
                micros(p.updated_at)
            ],
        )
        .map_err(unique("product name"))?;
        self.insert_product_pipelines(p)
    }

    fn insert_product_pipelines(&self, p: &Product) -> Result<()> {
        for (position, pipeline) in p.pipelines.iter().enumerate() {
            self.execute(
                "INSERT INTO product_pipelines (product_id, pipeline_id, position) VALUES (?,?,?)",
                params![p.id.to_string(), pipeline.to_string(), position],
            )?;
        }
        Ok(())
    }

    /// Writes everything of a product that can change: its owner, what its people set, its pipelines and their order.
    pub fn update_product(&self, p: &Product) -> Result<()> {
        let id = p.id.to_string();
        self.execute(
            "UPDATE products SET owner_id = ?, settings = ?, updated_at = ? WHERE id = ?",
            params![p.owner.to_string(), to_json(&p.settings)?, micros(p.updated_at), id],
        )?;
        self.execute("DELETE FROM product_pipelines WHERE product_id = ?", [id])?;
        self.insert_product_pipelines(p)
    }

    /// Removes a product; its pipelines stay.
    pub fn delete_product(&self, id: ProductId) -> Result<()> {
        self.execute("DELETE FROM products WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// Finds a product by id or name.
    pub fn product(&self, which: &NameOrId) -> Result<Option<Product>> {
        self.named(PRODUCT, "products", which, product)
    }

    /// All products by name.
    pub fn products(&self) -> Result<Vec<Product>> {
        self.rows(&format!("{PRODUCT} ORDER BY products.name"), [], product)
    }
}
