CREATE TABLE t (rowid, _rowid_, oid);
INSERT INTO t VALUES (1, 2, 3);
