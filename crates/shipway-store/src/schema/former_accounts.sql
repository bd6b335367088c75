-- People who were removed: their id and address stay for what they did. `rights`: what they might do, then, with the apps
-- of their operations that were under way, which go on.
CREATE TABLE former_accounts (
  id TEXT PRIMARY KEY, email TEXT NOT NULL, rights TEXT NOT NULL, removed_at INTEGER NOT NULL
) STRICT;

-- Whoever something is shown of. Who may do what is asked of `accounts` alone.
CREATE VIEW people AS SELECT id, email FROM accounts UNION ALL SELECT id, email FROM former_accounts;

-- What was signed outlives its person. A table in use changes its references by being made anew.
CREATE TABLE new_sign_offs (
  id TEXT PRIMARY KEY, pipeline_id TEXT NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE, stage TEXT NOT NULL,
  commit_id TEXT NOT NULL, party TEXT NOT NULL, account_id TEXT NOT NULL, artifacts TEXT NOT NULL, comment TEXT,
  created_at INTEGER NOT NULL
) STRICT;
INSERT INTO new_sign_offs SELECT id, pipeline_id, stage, commit_id, party, account_id, artifacts, comment, created_at
  FROM sign_offs ORDER BY rowid;
DROP TABLE sign_offs;
ALTER TABLE new_sign_offs RENAME TO sign_offs;
CREATE UNIQUE INDEX sign_offs_by_person ON sign_offs(pipeline_id, stage, commit_id, account_id);
CREATE INDEX sign_offs_by_pipeline ON sign_offs(pipeline_id, created_at);
