-- The parties that have to sign before a stage takes code. `people`: accounts.
CREATE TABLE sign_off_parties (
  pipeline_id TEXT NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE, stage TEXT NOT NULL, party TEXT NOT NULL,
  place INTEGER NOT NULL, people TEXT NOT NULL, PRIMARY KEY (pipeline_id, stage, party)
) STRICT;

-- What was signed: one per person, so that nobody signs for two parties. `artifacts`: digests of the builds of the commit
-- that the stage before had then.
CREATE TABLE sign_offs (
  id TEXT PRIMARY KEY, pipeline_id TEXT NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE, stage TEXT NOT NULL,
  commit_id TEXT NOT NULL, party TEXT NOT NULL, account_id TEXT NOT NULL REFERENCES accounts(id), artifacts TEXT NOT NULL,
  comment TEXT, created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX sign_offs_by_person ON sign_offs(pipeline_id, stage, commit_id, account_id);
CREATE INDEX sign_offs_by_pipeline ON sign_offs(pipeline_id, created_at);
