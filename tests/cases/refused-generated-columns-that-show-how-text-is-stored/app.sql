PRAGMA encoding = 'UTF-16le';
CREATE TABLE t (a TEXT, s AS (CAST(a AS BLOB)) STORED, n AS (upper(a)));
INSERT INTO t VALUES ('abc'), ('d');
