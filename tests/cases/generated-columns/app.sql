CREATE TABLE t (a INTEGER, b TEXT AS (a || '!') STORED, c AS (a * 2), d TEXT GENERATED ALWAYS AS (upper(b)) VIRTUAL UNIQUE, e);
INSERT INTO t (a, e) VALUES (1, 'x'), (NULL, 'y'), (3, -0.0);
CREATE INDEX t_c ON t (c) WHERE c > 2;
CREATE TABLE only_generated (x AS (1), y);
INSERT INTO only_generated (rowid, y) VALUES (17, 'y');
CREATE TABLE w (k TEXT PRIMARY KEY, n AS (length(k)) STORED) WITHOUT ROWID;
INSERT INTO w (k) VALUES ('abc'), ('de');
