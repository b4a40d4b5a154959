CREATE TABLE t (id INTEGER PRIMARY KEY, data TEXT);
INSERT INTO t VALUES (1, '{"x": 1}'), (2, 'not json');
ALTER TABLE t ADD COLUMN x AS (json_extract(data, '$.x')) VIRTUAL;
