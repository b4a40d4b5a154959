CREATE TABLE t (a, b);
INSERT INTO t VALUES (1, 2);
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET type = 'tAble' WHERE name = 't';
PRAGMA writable_schema = RESET;
