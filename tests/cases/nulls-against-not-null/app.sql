CREATE TABLE t (a, b);
INSERT INTO t VALUES (1, NULL), (2, 'x');
-- How a NOT NULL comes to an existing table when ALTER TABLE cannot do it.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = 'CREATE TABLE t (a, b NOT NULL)' WHERE name = 't';
PRAGMA writable_schema = RESET;
