-- The account of who moved the ref. Where a forge told us, it deploys in the name of the pipeline's owner, who did not.
ALTER TABLE triggered_deploys ADD COLUMN mover_id TEXT;
UPDATE triggered_deploys SET mover_id = json_extract(actor, '$.account') WHERE moved_by = json_extract(actor, '$.email');
