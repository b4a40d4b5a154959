CREATE TABLE t (x, y);
CREATE INDEX i ON t (x);
INSERT INTO t VALUES (1, 10), (2, 20);
-- The index keeps its entries, but is said to be one of y: what quick_check does not see.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON t (y)' WHERE name = 'i';
