-- As a newer SQLite lets these rows in: to others the functions that `integrity_check` calls fail over them.
CREATE TABLE t (id INTEGER PRIMARY KEY, data TEXT);
INSERT INTO t VALUES (1, '{"x": 1}'), (2, 'no json anywhere');
ALTER TABLE t ADD COLUMN x AS (json_extract(data, '$.x')) VIRTUAL;
CREATE TABLE indexed (a, data TEXT);
INSERT INTO indexed VALUES (1, 'no json anywhere');
CREATE INDEX indexed_a ON indexed (a) WHERE a > 5;
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, 'VIRTUAL', 'VIRTUAL NOT NULL') WHERE name = 't';
UPDATE sqlite_schema SET sql = 'CREATE INDEX indexed_a ON indexed (a) WHERE json_extract(data, ''$.x'') > 5' WHERE name = 'indexed_a';
PRAGMA writable_schema = RESET;
