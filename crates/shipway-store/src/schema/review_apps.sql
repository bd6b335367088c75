-- Apps made from a source and its app.json, and apps of pull requests and branches.
-- A setup outlives its app: who asked for it reads there why there is none.
CREATE TABLE app_setups (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL, app_name TEXT NOT NULL, account_id TEXT NOT NULL, operation_id TEXT NOT NULL,
  build_id TEXT NOT NULL, status TEXT NOT NULL, failure TEXT, manifest_errors TEXT NOT NULL, success_url TEXT,
  postdeploy_status INTEGER, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX app_setups_by_app ON app_setups(app_id);

CREATE TABLE review_configs (
  pipeline_id TEXT PRIMARY KEY REFERENCES pipelines(id) ON DELETE CASCADE, settings TEXT NOT NULL, password_sealed BLOB,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;

-- What a forge said last of each pull request. `parked_commit`: its review app was removed, and is not made again for it.
CREATE TABLE pull_requests (
  pipeline_id TEXT NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE, number INTEGER NOT NULL, title TEXT NOT NULL,
  branch TEXT NOT NULL, commit_id TEXT NOT NULL, fork TEXT, open INTEGER NOT NULL, checks TEXT NOT NULL,
  allowed_commit TEXT, parked_commit TEXT, changed_at INTEGER NOT NULL, PRIMARY KEY (pipeline_id, number)
) STRICT;

-- `origin`: pull-request, branch or source: what decides whether it is still wanted.
CREATE TABLE review_apps (
  id TEXT PRIMARY KEY, pipeline_id TEXT NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE, origin TEXT NOT NULL,
  app_id TEXT, app_name TEXT, setup_id TEXT, pr_number INTEGER, branch TEXT NOT NULL, fork TEXT, commit_id TEXT NOT NULL,
  status TEXT NOT NULL, message TEXT, account_id TEXT NOT NULL, deployed_at INTEGER NOT NULL, created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX review_apps_by_pipeline ON review_apps(pipeline_id);
CREATE INDEX review_apps_by_app ON review_apps(app_id);
-- A review app keeps its name, and so its URL, for as long as it is wanted, also while it has no app.
CREATE UNIQUE INDEX review_app_names ON review_apps(app_name) WHERE status <> 'deleted';
