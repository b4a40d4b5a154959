CREATE TABLE t (a, b);
INSERT INTO t VALUES (1, 2);
CREATE VIEW simple AS SELECT a FROM t;
CREATE VIEW named (x, y) AS SELECT b, a FROM t;
CREATE VIEW "of a view" AS SELECT * FROM named WHERE x > 1; -- with a comment
CREATE VIEW of_nothing AS SELECT * FROM gone;
CREATE VIEW of_a_function AS SELECT only_the_application_has_this(a) FROM t;
CREATE VIEW of_a_column AS SELECT no_such_column FROM t;
CREATE VIEW recursive AS WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5) SELECT n FROM c;
