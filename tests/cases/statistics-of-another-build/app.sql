-- Not every SQLite is built to use sqlite_stat4; one that is not leaves the table as it is.
CREATE TABLE t (a);
CREATE INDEX t_a ON t (a);
INSERT INTO t VALUES (1);
PRAGMA writable_schema = ON;
CREATE TABLE IF NOT EXISTS sqlite_stat4 (tbl, idx, neq, nlt, ndlt, sample);
PRAGMA writable_schema = RESET;
INSERT INTO sqlite_stat4 VALUES ('t', 't_a', '1 1', '0 0', '0 0', x'03010101');
