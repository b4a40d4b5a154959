CREATE TABLE t (id INTEGER PRIMARY KEY, data TEXT);
INSERT INTO t VALUES (3, '{"x": 3}');
ALTER TABLE t ADD COLUMN x AS (json_extract(data, '$.x')) VIRTUAL;
