-- Which branches and tags deploy an app by themselves.
CREATE TABLE triggers (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, kind TEXT NOT NULL, glob TEXT NOT NULL,
  wait_for_ci INTEGER NOT NULL, account_id TEXT NOT NULL, created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX triggers_of_app ON triggers(app_id, kind, glob);

-- What they asked for. `source`: which repository has the commit. `pipeline_id`: whose checks are waited for.
CREATE TABLE triggered_deploys (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, pipeline_id TEXT, glob TEXT NOT NULL,
  ref_kind TEXT NOT NULL, ref_name TEXT NOT NULL, commit_id TEXT NOT NULL, source TEXT NOT NULL, actor TEXT NOT NULL,
  moved_by TEXT NOT NULL, wait_for_ci INTEGER NOT NULL, status TEXT NOT NULL, message TEXT, operation_id TEXT,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX triggered_deploys_by_app ON triggered_deploys(app_id, created_at);
CREATE INDEX triggered_deploys_waiting ON triggered_deploys(status) WHERE status = 'waiting';

-- What a forge's checks said last of a commit.
CREATE TABLE commit_checks (
  pipeline_id TEXT NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE, commit_id TEXT NOT NULL, checks TEXT NOT NULL,
  updated_at INTEGER NOT NULL, PRIMARY KEY (pipeline_id, commit_id)
) STRICT;

-- Digest of what goes into a build but for what every app has for itself; empty where it is not shared.
ALTER TABLE slugs ADD COLUMN shared_inputs TEXT NOT NULL DEFAULT '';
CREATE INDEX slugs_by_shared_inputs ON slugs(shared_inputs) WHERE shared_inputs <> '';
