-- Added to rows that were there, so nobody computed them; SELECT * fails over each of these tables.
CREATE TABLE malformed (id INTEGER PRIMARY KEY, data TEXT);
INSERT INTO malformed VALUES (1, '{"x": 1}'), (2, 'not json');
ALTER TABLE malformed ADD COLUMN x AS (json_extract(data, '$.x')) VIRTUAL;
CREATE TABLE not_deterministic (id INTEGER PRIMARY KEY, d TEXT);
INSERT INTO not_deterministic VALUES (1, '2020-01-01'), (2, 'now');
ALTER TABLE not_deterministic ADD COLUMN s AS (strftime('%s', d)) VIRTUAL;
CREATE TABLE overflowing (n INTEGER, b TEXT COLLATE NOCASE);
INSERT INTO overflowing VALUES (-5, 'a'), (-9223372036854775808, 'B');
ALTER TABLE overflowing ADD COLUMN size AS (abs(n)) VIRTUAL;
CREATE INDEX overflowing_b ON overflowing (b);
CREATE TABLE keyed (k TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID;
INSERT INTO keyed VALUES ('a', -9223372036854775808);
ALTER TABLE keyed ADD COLUMN size AS (abs(n)) VIRTUAL;
