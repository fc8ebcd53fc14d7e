-- The audit of routing: one chain of entries, each hashed with the one before it. Appended to and, from its beginning,
-- deleted; never changed. seq is contiguous, so the chain shows what is missing.
CREATE TABLE decision_log (
  seq             BIGINT PRIMARY KEY,
  kind            TEXT COLLATE "C" NOT NULL,
  at_ms           BIGINT NOT NULL,
  id              BYTEA,
  namespace       TEXT COLLATE "C",
  payout_id       TEXT COLLATE "C",
  attempt_no      BIGINT,
  request_hash    BYTEA,
  route           TEXT COLLATE "C",
  candidate       TEXT COLLATE "C",
  snapshot        BYTEA,
  about           BYTEA,
  reserved_amount TEXT COLLATE "C",
  reserved_bank   TEXT COLLATE "C",
  reserved_day    TEXT COLLATE "C",
  hash            BYTEA NOT NULL,
  body            BYTEA NOT NULL
);
-- An attempt of a payout is decided once.
CREATE UNIQUE INDEX decision_log_by_key ON decision_log (namespace, payout_id, attempt_no) WHERE payout_id IS NOT NULL;
-- IDs begin with their time, so this index grows at its end.
CREATE UNIQUE INDEX decision_log_by_id ON decision_log (id) WHERE id IS NOT NULL;
CREATE INDEX decision_log_by_subject ON decision_log (about) WHERE about IS NOT NULL;

-- The ends of the chain: its last entry, and the last one that retention deleted. The row is made with the first entry.
CREATE TABLE decision_chain (
  id        BIGINT PRIMARY KEY CHECK (id = 1),
  head_seq  BIGINT NOT NULL,
  head_hash BYTEA NOT NULL,
  base_seq  BIGINT NOT NULL,
  base_hash BYTEA NOT NULL
);

-- What decisions were decided on, by SHA-256. last_seq: the last entry that names it.
CREATE TABLE decision_snapshots (
  id       BYTEA NOT NULL PRIMARY KEY,
  last_seq BIGINT NOT NULL,
  body     BYTEA NOT NULL
);
CREATE INDEX decision_snapshots_by_last ON decision_snapshots (last_seq);

-- What is used of daily limits. day: in the limit's zone, and the currency of amount: the route's reference currency.
CREATE TABLE decision_usage (
  namespace TEXT COLLATE "C" NOT NULL,
  route     TEXT COLLATE "C" NOT NULL,
  candidate TEXT COLLATE "C" NOT NULL,
  day       TEXT COLLATE "C" NOT NULL,
  amount    TEXT COLLATE "C" NOT NULL,
  count     BIGINT NOT NULL,
  PRIMARY KEY (namespace, route, candidate, day)
);
CREATE INDEX decision_usage_by_day ON decision_usage (day);

-- Temporary weights and pins of Ops. Their beginnings and ends are entries of the chain.
CREATE TABLE route_adjustments (
  id         BYTEA NOT NULL PRIMARY KEY,
  namespace  TEXT COLLATE "C" NOT NULL,
  expires_ms BIGINT NOT NULL,
  deleted_ms BIGINT,
  body       BYTEA NOT NULL
);
CREATE INDEX route_adjustments_by_expiry ON route_adjustments (expires_ms);

-- Proposals of Hybrid mode. What became of them is in the chain too.
CREATE TABLE route_proposals (
  id                BYTEA NOT NULL PRIMARY KEY,
  namespace         TEXT COLLATE "C" NOT NULL,
  route             TEXT COLLATE "C" NOT NULL,
  state             TEXT COLLATE "C" NOT NULL,
  created_ms        BIGINT NOT NULL,
  expires_ms        BIGINT NOT NULL,
  settled_ms        BIGINT,
  settled_by        TEXT COLLATE "C",
  approved_until_ms BIGINT,
  body              BYTEA NOT NULL
);
CREATE INDEX route_proposals_by_time ON route_proposals (created_ms);
CREATE INDEX route_proposals_pending ON route_proposals (namespace, route) WHERE state = 'pending';
CREATE INDEX route_proposals_approved ON route_proposals (approved_until_ms) WHERE approved_until_ms IS NOT NULL;

-- What the forecast keeps of external scorers.
CREATE TABLE route_scores (
  namespace  TEXT COLLATE "C" NOT NULL,
  connection TEXT COLLATE "C" NOT NULL,
  source     TEXT COLLATE "C" NOT NULL,
  updated_ms BIGINT NOT NULL,
  body       BYTEA NOT NULL,
  PRIMARY KEY (namespace, connection, source)
);
