-- Canonical records of every kind: a table each, described by src/domain/records. Every table has the same columns for
-- what identifies a record and for its history: `content_hash` tells whether it changed, `raw_ref` which payload it was
-- read from, `deleted_ms` when the provider withdrew it. A withdrawn record stays. With its stream all is deleted, also by
-- a version that does not know these tables.

-- Accounts, as their provider describes them.
CREATE TABLE accounts (
  id            INTEGER PRIMARY KEY,
  stream_id     INTEGER NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
  account_token TEXT NOT NULL,
  record_key    TEXT NOT NULL,
  key_quality   TEXT NOT NULL CHECK (key_quality IN ('provider', 'derived')),
  account       TEXT NOT NULL,
  currency      TEXT,
  name          TEXT,
  holder        TEXT,
  kind          TEXT,
  status        TEXT,
  institution   TEXT,
  content_hash  BLOB NOT NULL,
  revision      INTEGER NOT NULL DEFAULT 1,
  run_id        TEXT NOT NULL,
  raw_ref       TEXT,
  created_ms    INTEGER NOT NULL,
  updated_ms    INTEGER NOT NULL,
  deleted_ms    INTEGER,
  UNIQUE (stream_id, account_token, record_key)
);

-- Balances of accounts. Credit is positive.
CREATE TABLE balances (
  id            INTEGER PRIMARY KEY,
  stream_id     INTEGER NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
  account_token TEXT NOT NULL,
  record_key    TEXT NOT NULL,
  key_quality   TEXT NOT NULL CHECK (key_quality IN ('provider', 'derived')),
  account       TEXT NOT NULL,
  kind          TEXT,
  amount        TEXT NOT NULL CHECK (typeof(amount) = 'text'),
  amount_minor  TEXT CHECK (typeof(amount_minor) IN ('text', 'null')),
  currency      TEXT NOT NULL,
  as_of_on      TEXT,
  as_of_ms      INTEGER,
  as_of_text    TEXT,
  granularity   TEXT,
  content_hash  BLOB NOT NULL,
  revision      INTEGER NOT NULL DEFAULT 1,
  run_id        TEXT NOT NULL,
  raw_ref       TEXT,
  created_ms    INTEGER NOT NULL,
  updated_ms    INTEGER NOT NULL,
  deleted_ms    INTEGER,
  UNIQUE (stream_id, account_token, record_key)
);

-- Collaterals of loans: what they are worth, and the provider's record.
CREATE TABLE collaterals (
  id                INTEGER PRIMARY KEY,
  stream_id         INTEGER NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
  account_token     TEXT NOT NULL,
  record_key        TEXT NOT NULL,
  key_quality       TEXT NOT NULL CHECK (key_quality IN ('provider', 'derived')),
  kind              TEXT,
  status            TEXT,
  currency          TEXT,
  amount            TEXT CHECK (typeof(amount) IN ('text', 'null')),
  net_amount        TEXT CHECK (typeof(net_amount) IN ('text', 'null')),
  discounted_amount TEXT CHECK (typeof(discounted_amount) IN ('text', 'null')),
  valued_on         TEXT,
  valued_ms         INTEGER,
  valued_text       TEXT,
  granularity       TEXT,
  body              TEXT NOT NULL CHECK (json_valid(body)),
  content_hash      BLOB NOT NULL,
  revision          INTEGER NOT NULL DEFAULT 1,
  run_id            TEXT NOT NULL,
  raw_ref           TEXT,
  created_ms        INTEGER NOT NULL,
  updated_ms        INTEGER NOT NULL,
  deleted_ms        INTEGER,
  UNIQUE (stream_id, account_token, record_key)
);

-- Prices of securities, at a time or over a span of time.
CREATE TABLE quotes (
  id             INTEGER PRIMARY KEY,
  stream_id      INTEGER NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
  account_token  TEXT NOT NULL,
  record_key     TEXT NOT NULL,
  key_quality    TEXT NOT NULL CHECK (key_quality IN ('provider', 'derived')),
  symbol         TEXT NOT NULL,
  name           TEXT,
  currency       TEXT,
  span           TEXT,
  price          TEXT NOT NULL CHECK (typeof(price) = 'text'),
  open_price     TEXT CHECK (typeof(open_price) IN ('text', 'null')),
  high_price     TEXT CHECK (typeof(high_price) IN ('text', 'null')),
  low_price      TEXT CHECK (typeof(low_price) IN ('text', 'null')),
  previous_close TEXT CHECK (typeof(previous_close) IN ('text', 'null')),
  volume         TEXT CHECK (typeof(volume) IN ('text', 'null')),
  quoted_on      TEXT,
  quoted_ms      INTEGER,
  quoted_text    TEXT,
  granularity    TEXT,
  content_hash   BLOB NOT NULL,
  revision       INTEGER NOT NULL DEFAULT 1,
  run_id         TEXT NOT NULL,
  raw_ref        TEXT,
  created_ms     INTEGER NOT NULL,
  updated_ms     INTEGER NOT NULL,
  deleted_ms     INTEGER,
  UNIQUE (stream_id, account_token, record_key)
);

-- Values of series on days.
CREATE TABLE observations (
  id            INTEGER PRIMARY KEY,
  stream_id     INTEGER NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
  account_token TEXT NOT NULL,
  record_key    TEXT NOT NULL,
  key_quality   TEXT NOT NULL CHECK (key_quality IN ('provider', 'derived')),
  series        TEXT NOT NULL,
  observed_on   TEXT NOT NULL,
  amount        TEXT CHECK (typeof(amount) IN ('text', 'null')),
  known_from    TEXT,
  known_to      TEXT,
  content_hash  BLOB NOT NULL,
  revision      INTEGER NOT NULL DEFAULT 1,
  run_id        TEXT NOT NULL,
  raw_ref       TEXT,
  created_ms    INTEGER NOT NULL,
  updated_ms    INTEGER NOT NULL,
  deleted_ms    INTEGER,
  UNIQUE (stream_id, account_token, record_key)
);

-- News articles.
CREATE TABLE articles (
  id             INTEGER PRIMARY KEY,
  stream_id      INTEGER NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
  account_token  TEXT NOT NULL,
  record_key     TEXT NOT NULL,
  key_quality    TEXT NOT NULL CHECK (key_quality IN ('provider', 'derived')),
  url            TEXT NOT NULL,
  title          TEXT,
  source         TEXT,
  author         TEXT,
  description    TEXT,
  content        TEXT,
  published_on   TEXT,
  published_ms   INTEGER,
  published_text TEXT,
  granularity    TEXT,
  content_hash   BLOB NOT NULL,
  revision       INTEGER NOT NULL DEFAULT 1,
  run_id         TEXT NOT NULL,
  raw_ref        TEXT,
  created_ms     INTEGER NOT NULL,
  updated_ms     INTEGER NOT NULL,
  deleted_ms     INTEGER,
  UNIQUE (stream_id, account_token, record_key)
);

-- What transactions and documents did not have. A withdrawn transaction is superseded and has `deleted_ms`.
ALTER TABLE transactions ADD COLUMN value_on TEXT;
ALTER TABLE transactions ADD COLUMN value_ms INTEGER;
ALTER TABLE transactions ADD COLUMN value_text TEXT;
ALTER TABLE transactions ADD COLUMN value_granularity TEXT;
ALTER TABLE transactions ADD COLUMN supersedes TEXT;
ALTER TABLE transactions ADD COLUMN raw_ref TEXT;
ALTER TABLE transactions ADD COLUMN deleted_ms INTEGER;
ALTER TABLE documents ADD COLUMN account_token TEXT NOT NULL DEFAULT '';
ALTER TABLE documents ADD COLUMN raw_ref TEXT;
ALTER TABLE documents ADD COLUMN deleted_ms INTEGER;
CREATE INDEX transactions_pending ON transactions (stream_id, account_token) WHERE status = 'pending';
CREATE INDEX transactions_superseding ON transactions (stream_id, account_token, supersedes)
    WHERE supersedes IS NOT NULL;

-- Rows of windows that take effect as a whole, until their last page: the newest one of each key. `cells` is a JSON array
-- of the values, one for each column of the table; NULL for what the provider withdrew, whatever table it is in.
CREATE TABLE staged_rows (
  stream_id     INTEGER NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
  job           TEXT NOT NULL,
  table_name    TEXT NOT NULL,
  record_key    TEXT NOT NULL,
  account_token TEXT NOT NULL,
  key_quality   TEXT NOT NULL,
  cells         TEXT,
  content_hash  BLOB,
  raw_ref       TEXT,
  PRIMARY KEY (stream_id, job, record_key, account_token, table_name)
) WITHOUT ROWID;
