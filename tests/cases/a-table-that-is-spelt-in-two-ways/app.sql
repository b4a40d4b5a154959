CREATE TABLE t (x);
INSERT INTO t VALUES (1), ('a');
CREATE INDEX t_x ON t (x);
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET tbl_name = 'T' WHERE name = 't';
PRAGMA writable_schema = RESET;
