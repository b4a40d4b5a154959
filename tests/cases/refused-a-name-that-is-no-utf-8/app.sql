CREATE TABLE t (x);
INSERT INTO t VALUES (1);
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET name = CAST(x'61ff' AS TEXT), tbl_name = CAST(x'61ff' AS TEXT), sql = CAST(x'435245415445205441424C45202261FF22202878290A' AS TEXT) WHERE name = 't';
PRAGMA writable_schema = RESET;
