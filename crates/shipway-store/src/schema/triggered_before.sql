-- Where a ref was before it moved, as a forge says: a push that comes late is known by it.
ALTER TABLE triggered_deploys ADD COLUMN before_id TEXT;
