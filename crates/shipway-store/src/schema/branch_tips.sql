-- Which branches were heard to end at a commit: the names by which people know what an app runs. A push to main says only
-- the commit.
CREATE TABLE branch_tips (
  pipeline_id TEXT NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE, commit_id TEXT NOT NULL, branch TEXT NOT NULL,
  heard_at INTEGER NOT NULL, PRIMARY KEY (pipeline_id, commit_id, branch)
) STRICT;
CREATE INDEX branch_tips_by_age ON branch_tips(pipeline_id, heard_at);
