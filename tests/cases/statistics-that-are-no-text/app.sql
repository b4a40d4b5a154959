CREATE TABLE t (a PRIMARY KEY, b);
CREATE INDEX i ON t (b);
INSERT INTO t VALUES (1, 2);
ANALYZE;
INSERT INTO sqlite_stat1 VALUES ('t', 7, '1 1'), ('t', 1.5, 8), ('t', x'c3', x'00'), (4, 'i', NULL), (x'ff', x'ff', 9.5), (NULL, NULL, 'x');
