-- Consumers of events, what became of each delivery, webhooks that came in, and buckets of rate limits.

-- namespaces, event_types: '|a|b|'; no namespaces: all (NULL), no types: all (''). history_*: the stored events that it asked
-- for and has no deliveries of yet, by number: above the first, up to the second. queues_gone_ms: when the queues of a removed
-- one were deleted at the broker.
CREATE TABLE consumers (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  name            TEXT NOT NULL,
  previous_name   TEXT,
  namespaces      TEXT,
  event_types     TEXT NOT NULL,
  created_ms      INTEGER NOT NULL,
  created_by      TEXT NOT NULL,
  version         INTEGER NOT NULL,
  history_from_ms INTEGER,
  history_after   INTEGER,
  history_through INTEGER,
  removed_ms      INTEGER,
  queues_gone_ms  INTEGER
);
CREATE UNIQUE INDEX consumers_by_name ON consumers (name) WHERE removed_ms IS NULL;

-- expires_ms: of a key that another one has replaced.
CREATE TABLE consumer_keys (
  key_id      TEXT NOT NULL PRIMARY KEY,
  consumer_id INTEGER NOT NULL,
  hash        TEXT NOT NULL,
  created_ms  INTEGER NOT NULL,
  expires_ms  INTEGER
) WITHOUT ROWID;
CREATE INDEX consumer_keys_by_consumer ON consumer_keys (consumer_id);

-- Grows with every change of the two tables above. No row: nothing was changed yet.
CREATE TABLE consumer_version (
  id      INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL
);

-- One row for each event and consumer. They go with their event. publish_status: 'pending' or 'published'. deliver_status:
-- what the consumer said.
CREATE TABLE outbox_delivery (
  event_seq              INTEGER NOT NULL REFERENCES outbox_event (seq) ON DELETE CASCADE,
  consumer_id            INTEGER NOT NULL,
  aggregate              TEXT NOT NULL,
  publish_status         TEXT NOT NULL DEFAULT 'pending' CHECK (publish_status IN ('pending', 'published')),
  publish_try_count      INTEGER NOT NULL DEFAULT 0,
  published_ms           INTEGER,
  publish_failure_reason TEXT,
  next_try_ms            INTEGER NOT NULL DEFAULT 0,
  deliver_status         TEXT NOT NULL DEFAULT 'none'
    CHECK (deliver_status IN ('none', 'received', 'processed', 'failed')),
  deliver_try_count      INTEGER NOT NULL DEFAULT 0,
  delivered_ms           INTEGER,
  PRIMARY KEY (event_seq, consumer_id)
) WITHOUT ROWID;
-- What is pending, by aggregate and in its order, without a look at what is published.
CREATE INDEX outbox_delivery_pending
  ON outbox_delivery (consumer_id, aggregate, event_seq, next_try_ms) WHERE publish_status = 'pending';
CREATE INDEX outbox_delivery_by_consumer ON outbox_delivery (consumer_id, event_seq);

-- In the transaction that stores the event, whatever version of Busbar writes it.
CREATE TRIGGER outbox_event_is_delivered AFTER INSERT ON outbox_event
BEGIN
  INSERT INTO outbox_delivery (event_seq, consumer_id, aggregate)
  SELECT NEW.seq, id, NEW.aggregate FROM consumers
  WHERE removed_ms IS NULL
    AND (namespaces IS NULL OR instr(namespaces, '|' || NEW.namespace || '|') > 0)
    AND (event_types = '' OR instr(event_types, '|' || NEW.type || '|') > 0);
END;

-- What a consumer said of a delivery, once for each status; also what was not applied.
CREATE TABLE delivery_receipts (
  event_seq   INTEGER NOT NULL,
  consumer_id INTEGER NOT NULL,
  status      TEXT NOT NULL CHECK (status IN ('received', 'processed', 'failed')),
  at_ms       INTEGER NOT NULL,
  applied     INTEGER NOT NULL,
  PRIMARY KEY (event_seq, consumer_id, status),
  FOREIGN KEY (event_seq, consumer_id) REFERENCES outbox_delivery (event_seq, consumer_id) ON DELETE CASCADE
) WITHOUT ROWID;

-- One row for each connection: how many webhooks came in, and up to which one they were acted on. What they carry is not
-- stored. first_ms, correlation_id: of the first that was not acted on.
CREATE TABLE webhook_inbox (
  namespace      TEXT NOT NULL,
  connection     TEXT NOT NULL,
  accepted       INTEGER NOT NULL,
  handled        INTEGER NOT NULL,
  first_ms       INTEGER NOT NULL,
  last_ms        INTEGER NOT NULL,
  correlation_id TEXT NOT NULL,
  PRIMARY KEY (namespace, connection)
) WITHOUT ROWID;
CREATE INDEX webhook_inbox_open ON webhook_inbox (first_ms) WHERE handled < accepted;

-- Webhooks with a time in their signed content, for as long as that time is accepted.
CREATE TABLE webhook_digests (
  namespace  TEXT NOT NULL,
  connection TEXT NOT NULL,
  digest     BLOB NOT NULL,
  expires_ms INTEGER NOT NULL,
  PRIMARY KEY (namespace, connection, digest)
) WITHOUT ROWID;
CREATE INDEX webhook_digests_by_expiry ON webhook_digests (expires_ms);

-- full_ms: when the bucket is full again.
CREATE TABLE rate_buckets (
  key     TEXT NOT NULL PRIMARY KEY,
  full_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX rate_buckets_full ON rate_buckets (full_ms);
