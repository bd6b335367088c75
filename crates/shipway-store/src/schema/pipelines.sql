-- Pipelines, the places of apps in them, and what the apps of a stage that makes apps begin with.
CREATE TABLE pipelines (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, owner_id TEXT NOT NULL REFERENCES accounts(id),
  settings TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;

-- An app stands in one pipeline at most.
CREATE TABLE couplings (
  id TEXT PRIMARY KEY, pipeline_id TEXT NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE,
  app_id TEXT NOT NULL UNIQUE REFERENCES apps(id) ON DELETE CASCADE, stage TEXT NOT NULL, display_name TEXT,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX couplings_by_pipeline ON couplings(pipeline_id, stage);

CREATE TABLE stage_config (
  pipeline_id TEXT NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE, stage TEXT NOT NULL, config_sealed BLOB NOT NULL,
  PRIMARY KEY (pipeline_id, stage)
) STRICT;
