-- Records of deployments of a pipeline's repository, in the shape that scripts know from GitHub. `stage` is what the
-- environment means where it is a stage's name.
CREATE TABLE deployments (
  id INTEGER PRIMARY KEY AUTOINCREMENT, pipeline_id TEXT NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE,
  commit_id TEXT NOT NULL, reference TEXT NOT NULL, task TEXT NOT NULL, environment TEXT NOT NULL, stage TEXT,
  payload TEXT NOT NULL, description TEXT, transient INTEGER NOT NULL, production INTEGER NOT NULL, creator TEXT NOT NULL,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX deployments_of_pipeline ON deployments(pipeline_id, id);

CREATE TABLE deployment_statuses (
  id INTEGER PRIMARY KEY AUTOINCREMENT, deployment_id INTEGER NOT NULL REFERENCES deployments(id) ON DELETE CASCADE,
  state TEXT NOT NULL, environment TEXT NOT NULL, description TEXT, log_url TEXT, environment_url TEXT,
  creator TEXT NOT NULL, created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX statuses_of_deployment ON deployment_statuses(deployment_id, id);
