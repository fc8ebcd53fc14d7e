-- Whose a failed request is, so that it is never asked of another connection of the same name; and since when its caller's
-- rights are known. Rows of before have no owner: they are parked at their next retry.
ALTER TABLE dead_requests ADD COLUMN uid TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_requests ADD COLUMN reviewed_ms INTEGER NOT NULL DEFAULT 0;
CREATE INDEX dead_requests_twins ON dead_requests (fingerprint) WHERE state = 'parked';
CREATE INDEX dead_requests_by_connection ON dead_requests (namespace, connection, state);
