-- Records that the provider withdrew while a rejected one of their stream was kept aside: a dead letter that is replayed must
-- not bring one back that was never a row. Of any account where `account_token` is empty. No foreign key to streams: a version
-- that does not know this table deletes streams too.
CREATE TABLE withdrawn_records (
  stream_id     BIGINT NOT NULL,
  record_key    TEXT COLLATE "C" NOT NULL,
  account_token TEXT COLLATE "C" NOT NULL,
  withdrawn_ms  BIGINT NOT NULL,
  PRIMARY KEY (stream_id, record_key, account_token)
);
