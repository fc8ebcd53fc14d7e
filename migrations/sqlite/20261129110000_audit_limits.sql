-- Bounds of the audit: equal refusals are one row, and calls have a limit in size.

-- A row stands for `count` equal refusals, the last of them at `last_ms`. Rows are still written once.
ALTER TABLE audit ADD COLUMN count INTEGER NOT NULL DEFAULT 1;
ALTER TABLE audit ADD COLUMN last_ms INTEGER;

-- The oldest calls of a namespace, whatever else is in between.
CREATE INDEX audit_calls ON audit (namespace, seq) WHERE kind = 'call';
CREATE INDEX rights_usage_by_day ON rights_usage (day);

-- The size of the calls of each namespace, kept by triggers: an older version of Busbar writes rows too. A row is its texts,
-- and some hundred bytes for numbers, identifiers and its places in the indexes.
CREATE TABLE audit_size (
  namespace  TEXT NOT NULL PRIMARY KEY,
  call_bytes INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO audit_size (namespace, call_bytes)
SELECT namespace, sum(120 + length(action) + length(subject) + 2 * length(namespace) + length(connection)
    + coalesce(length(rights_profile), 0) + coalesce(length(provider), 0) + coalesce(length(purpose), 0)
    + coalesce(length(reason), 0) + coalesce(length(request_id), 0))
FROM audit WHERE kind = 'call' GROUP BY namespace;

CREATE TRIGGER audit_size_grows AFTER INSERT ON audit WHEN NEW.kind = 'call'
BEGIN
  INSERT INTO audit_size (namespace, call_bytes)
  VALUES (NEW.namespace, 120 + length(NEW.action) + length(NEW.subject) + 2 * length(NEW.namespace)
    + length(NEW.connection) + coalesce(length(NEW.rights_profile), 0) + coalesce(length(NEW.provider), 0)
    + coalesce(length(NEW.purpose), 0) + coalesce(length(NEW.reason), 0) + coalesce(length(NEW.request_id), 0))
  ON CONFLICT (namespace) DO UPDATE SET call_bytes = call_bytes + excluded.call_bytes;
END;
CREATE TRIGGER audit_size_shrinks AFTER DELETE ON audit WHEN OLD.kind = 'call'
BEGIN
  UPDATE audit_size SET call_bytes = call_bytes - (120 + length(OLD.action) + length(OLD.subject)
    + 2 * length(OLD.namespace) + length(OLD.connection) + coalesce(length(OLD.rights_profile), 0)
    + coalesce(length(OLD.provider), 0) + coalesce(length(OLD.purpose), 0) + coalesce(length(OLD.reason), 0)
    + coalesce(length(OLD.request_id), 0))
  WHERE namespace = OLD.namespace;
  DELETE FROM audit_size WHERE namespace = OLD.namespace AND call_bytes <= 0;
END;
