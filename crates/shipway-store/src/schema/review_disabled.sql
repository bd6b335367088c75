-- When review apps were disabled: none is made from then on, and what was decided still counts for those that are there.
ALTER TABLE review_configs ADD COLUMN disabled_at INTEGER;
