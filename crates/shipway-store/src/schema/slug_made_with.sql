-- The buildpacks that made a slug, in order, and what its app.json says to people. Empty: made before that was kept, and no
-- build of the same bytes is known.
ALTER TABLE slugs ADD COLUMN buildpacks TEXT NOT NULL DEFAULT '[]';
ALTER TABLE slugs ADD COLUMN about TEXT NOT NULL DEFAULT '{}';
UPDATE slugs SET buildpacks = coalesce((
  SELECT builds.buildpacks FROM builds JOIN slugs made ON made.id = builds.slug_id
  WHERE made.digest = slugs.digest AND builds.buildpacks <> '[]'
  ORDER BY made.id = slugs.id DESC, builds.created_at LIMIT 1), '[]');
