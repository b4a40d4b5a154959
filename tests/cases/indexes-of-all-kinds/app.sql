CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n, at TEXT, UNIQUE (name, n));
INSERT INTO t VALUES (1, 'Ada', 1, '2026-01-01'), (2, 'bob', NULL, NULL), (3, NULL, 2.5, ''), (4, 'ADA', 1, 'x');
CREATE INDEX one ON t (n);
-- The same again under another name, and with the same text but for the name.
CREATE INDEX two ON t (n);
CREATE INDEX descending ON t (n DESC, name COLLATE NOCASE ASC);
CREATE INDEX partial ON t (name) WHERE n IS NOT NULL AND at > '2020';
CREATE UNIQUE INDEX unique_partial ON t (at) WHERE at <> '';
CREATE INDEX expressed ON t (lower(name), abs(n) DESC, substr(at, 1, 4));
CREATE INDEX covering ON t (at, n, name, id);
CREATE TABLE upside_down (id INTEGER PRIMARY KEY DESC, v);
INSERT INTO upside_down (rowid, id, v) VALUES (10, 1, 'a'), (5, 2, 'b'), (7, 'no number', 'c');
