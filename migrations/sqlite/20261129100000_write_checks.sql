-- One row that is written to find out whether the ledger can be written.
CREATE TABLE write_checks (
  id     INTEGER PRIMARY KEY CHECK (id = 1),
  number INTEGER NOT NULL
);
INSERT INTO write_checks (id, number) VALUES (1, 0);
