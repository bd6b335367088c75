-- A promotion leads one or more apps to what a source runs. A target's state is its operation's; one without an operation
-- was refused (it has an error), or ran the same already.
CREATE TABLE promotions (
  id TEXT PRIMARY KEY, pipeline_id TEXT REFERENCES pipelines(id) ON DELETE CASCADE, product_id TEXT,
  account_id TEXT NOT NULL, reason TEXT, created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX promotions_by_pipeline ON promotions(pipeline_id, created_at);

CREATE TABLE promotion_targets (
  id TEXT PRIMARY KEY, promotion_id TEXT NOT NULL REFERENCES promotions(id) ON DELETE CASCADE, position INTEGER NOT NULL,
  app_id TEXT NOT NULL, source_app_id TEXT NOT NULL, source_release_id TEXT NOT NULL,
  operation_id TEXT, release_id TEXT, error TEXT
) STRICT;
CREATE INDEX promotion_targets_by_promotion ON promotion_targets(promotion_id, position);

-- A product: pipelines that are promoted together.
CREATE TABLE products (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, owner_id TEXT NOT NULL REFERENCES accounts(id), settings TEXT NOT NULL,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE product_pipelines (
  product_id TEXT NOT NULL REFERENCES products(id) ON DELETE CASCADE,
  pipeline_id TEXT NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE, position INTEGER NOT NULL,
  PRIMARY KEY (product_id, pipeline_id)
) STRICT;
