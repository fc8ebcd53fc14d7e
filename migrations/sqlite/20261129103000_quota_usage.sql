-- Requests that count for daily limits of a provider, so that a restart does not grant a day's requests again. By the
-- object's UID: a connection that is created again has counted nothing yet. `limit_id` and `part` are hashes of the limit
-- and of the partition (src/domain/quota), as signed numbers.
CREATE TABLE quota_usage (
  namespace   TEXT NOT NULL,
  connection  TEXT NOT NULL,
  uid         TEXT NOT NULL,
  day         TEXT NOT NULL,
  limit_id    INTEGER NOT NULL,
  part        INTEGER NOT NULL,
  money       INTEGER NOT NULL,
  other       INTEGER NOT NULL,
  PRIMARY KEY (namespace, connection, uid, day, limit_id, part)
) WITHOUT ROWID;

CREATE INDEX quota_usage_by_day ON quota_usage (day);
