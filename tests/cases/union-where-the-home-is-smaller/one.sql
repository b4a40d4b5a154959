CREATE TABLE t (k TEXT PRIMARY KEY, v);
INSERT INTO t (rowid, k, v) VALUES (77, 'a', 1), (-5, 'b', 2);
