-- How often a replica has begun to lead with this ledger. An annotation of the leader lease holds the number too: a ledger
-- whose number is lower is an older copy, or an empty one. loss_accepted: the next leader takes it all the same.
CREATE TABLE ledger_epoch (
  id            INTEGER PRIMARY KEY CHECK (id = 1),
  epoch         INTEGER NOT NULL,
  loss_accepted INTEGER NOT NULL DEFAULT 0
);
INSERT INTO ledger_epoch (id, epoch) VALUES (1, 0);
