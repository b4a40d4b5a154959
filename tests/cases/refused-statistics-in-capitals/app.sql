CREATE TABLE t (a, b);
CREATE INDEX i ON t (a);
INSERT INTO t VALUES (1, 2);
ANALYZE;
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET name = 'Sqlite_stat1', tbl_name = 'Sqlite_stat1', sql = 'CREATE TABLE Sqlite_stat1(tbl,idx,stat)'
    WHERE name = 'sqlite_stat1';
PRAGMA writable_schema = RESET;
