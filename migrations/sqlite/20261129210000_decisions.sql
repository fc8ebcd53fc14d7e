-- The audit of routing: one chain of entries, each hashed with the one before it. Appended to and, from its beginning,
-- deleted; never changed. seq is contiguous, so the chain shows what is missing.
CREATE TABLE decision_log (
  seq             INTEGER PRIMARY KEY,
  kind            TEXT NOT NULL,
  at_ms           INTEGER NOT NULL,
  id              BLOB,
  namespace       TEXT,
  payout_id       TEXT,
  attempt_no      INTEGER,
  request_hash    BLOB,
  route           TEXT,
  candidate       TEXT,
  snapshot        BLOB,
  about           BLOB,
  reserved_amount TEXT,
  reserved_bank   TEXT,
  reserved_day    TEXT,
  hash            BLOB NOT NULL,
  body            BLOB NOT NULL
);
-- An attempt of a payout is decided once.
CREATE UNIQUE INDEX decision_log_by_key ON decision_log (namespace, payout_id, attempt_no) WHERE payout_id IS NOT NULL;
-- IDs begin with their time, so this index grows at its end.
CREATE UNIQUE INDEX decision_log_by_id ON decision_log (id) WHERE id IS NOT NULL;
CREATE INDEX decision_log_by_subject ON decision_log (about) WHERE about IS NOT NULL;

-- The ends of the chain: its last entry, and the last one that retention deleted. The row is made with the first entry.
CREATE TABLE decision_chain (
  id        INTEGER PRIMARY KEY CHECK (id = 1),
  head_seq  INTEGER NOT NULL,
  head_hash BLOB NOT NULL,
  base_seq  INTEGER NOT NULL,
  base_hash BLOB NOT NULL
);

-- What decisions were decided on, by SHA-256. last_seq: the last entry that names it.
CREATE TABLE decision_snapshots (
  id       BLOB NOT NULL PRIMARY KEY,
  last_seq INTEGER NOT NULL,
  body     BLOB NOT NULL
);
CREATE INDEX decision_snapshots_by_last ON decision_snapshots (last_seq);

-- What is used of daily limits. day: in the limit's zone, and the currency of amount: the route's reference currency.
CREATE TABLE decision_usage (
  namespace TEXT NOT NULL,
  route     TEXT NOT NULL,
  candidate TEXT NOT NULL,
  day       TEXT NOT NULL,
  amount    TEXT NOT NULL,
  count     INTEGER NOT NULL,
  PRIMARY KEY (namespace, route, candidate, day)
) WITHOUT ROWID;
CREATE INDEX decision_usage_by_day ON decision_usage (day);

-- Temporary weights and pins of Ops. Their beginnings and ends are entries of the chain.
CREATE TABLE route_adjustments (
  id         BLOB NOT NULL PRIMARY KEY,
  namespace  TEXT NOT NULL,
  expires_ms INTEGER NOT NULL,
  deleted_ms INTEGER,
  body       BLOB NOT NULL
);
CREATE INDEX route_adjustments_by_expiry ON route_adjustments (expires_ms);

-- Proposals of Hybrid mode. What became of them is in the chain too.
CREATE TABLE route_proposals (
  id                BLOB NOT NULL PRIMARY KEY,
  namespace         TEXT NOT NULL,
  route             TEXT NOT NULL,
  state             TEXT NOT NULL,
  created_ms        INTEGER NOT NULL,
  expires_ms        INTEGER NOT NULL,
  settled_ms        INTEGER,
  settled_by        TEXT,
  approved_until_ms INTEGER,
  body              BLOB NOT NULL
);
CREATE INDEX route_proposals_by_time ON route_proposals (created_ms);
CREATE INDEX route_proposals_pending ON route_proposals (namespace, route) WHERE state = 'pending';
CREATE INDEX route_proposals_approved ON route_proposals (approved_until_ms) WHERE approved_until_ms IS NOT NULL;

-- What the forecast keeps of external scorers.
CREATE TABLE route_scores (
  namespace  TEXT NOT NULL,
  connection TEXT NOT NULL,
  source     TEXT NOT NULL,
  updated_ms INTEGER NOT NULL,
  body       BLOB NOT NULL,
  PRIMARY KEY (namespace, connection, source)
);
