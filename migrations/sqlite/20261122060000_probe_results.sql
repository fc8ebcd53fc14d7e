-- Every health check as it ended, for a day or as long as the operator is told. A log, not a history for decisions:
-- appended in the order of the checks, pruned from its old end, read from its new one. Without an index: ten thousand
-- connections write 333 rows a second, which land on one page this way and on as many pages as rows with one.

-- Whose check it was. last_ms is kept to the hour, so that a check in the log costs no write here.
CREATE TABLE probed_connections (
  id        INTEGER PRIMARY KEY,
  namespace TEXT NOT NULL,
  name      TEXT NOT NULL,
  last_ms   INTEGER NOT NULL,
  UNIQUE (namespace, name)
);

-- connection_id refers to probed_connections; not enforced, so that both can be pruned in pieces.
CREATE TABLE probe_results (
  id            INTEGER PRIMARY KEY,
  connection_id INTEGER NOT NULL,
  at_ms         INTEGER NOT NULL,
  elapsed_us    INTEGER NOT NULL,
  success       INTEGER NOT NULL,
  slow          INTEGER NOT NULL,
  status        INTEGER,
  error         TEXT
);
