CREATE TABLE t (a, b);
CREATE INDEX t_a ON t (a);
WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 50) INSERT INTO t SELECT n % 7, n FROM c;
CREATE TABLE empty (x PRIMARY KEY);
ANALYZE;
UPDATE sqlite_stat1 SET stat = stat || ' unordered' WHERE idx = 't_a';
INSERT INTO sqlite_stat1 VALUES ('gone', 'gone_i', '12 3'), ('gone', 'gone_i', '12 3');
