PRAGMA encoding = 'UTF-16le';
CREATE TABLE t (a TEXT, b, s AS (a || '!') STORED, v AS (length(a)));
INSERT INTO t VALUES ('abc', '{"x": 1}'), ('ü', 7);
CREATE TABLE k (a TEXT PRIMARY KEY, v AS (upper(a)), s AS (a || 1) STORED) WITHOUT ROWID;
INSERT INTO k VALUES ('ä'), ('b');
