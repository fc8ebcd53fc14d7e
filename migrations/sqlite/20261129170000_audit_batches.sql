-- The last batch of each writer of the audit: one whose COMMIT lost its answer is not appended twice.
CREATE TABLE audit_batches (
  writer TEXT NOT NULL PRIMARY KEY,
  number INTEGER NOT NULL,
  at_ms  INTEGER NOT NULL
) WITHOUT ROWID;
