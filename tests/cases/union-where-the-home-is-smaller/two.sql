CREATE TABLE t (v, k TEXT PRIMARY KEY);
CREATE INDEX only_two ON t (v);
INSERT INTO t (k, v) VALUES ('a', 1), ('c', zeroblob(200000));
ANALYZE;
