PRAGMA encoding = 'UTF-16be';
CREATE TABLE t (k TEXT PRIMARY KEY, v AS (hex(k))) WITHOUT ROWID;
INSERT INTO t VALUES ('abc'), ('d');
