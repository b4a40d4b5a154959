PRAGMA page_size = 8192;
CREATE TABLE o (id INTEGER PRIMARY KEY, data TEXT);
INSERT INTO o VALUES (1, '{"x": 1}'), (2, 'not json');
ALTER TABLE o ADD COLUMN x AS (json_extract(data, '$.x')) VIRTUAL;
