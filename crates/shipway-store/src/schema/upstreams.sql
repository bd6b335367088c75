-- The line that a pipeline's team works on: where it is fetched from (sealed: there may be a token in it), where it ended
-- when it was last heard of, and why the last fetch failed.
CREATE TABLE upstreams (
  pipeline_id TEXT PRIMARY KEY REFERENCES pipelines(id) ON DELETE CASCADE, branch TEXT NOT NULL, url_sealed BLOB,
  tip TEXT, heard_at INTEGER, failure TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;
