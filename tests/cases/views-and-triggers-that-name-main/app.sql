CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a, CHECK (main.t.a <> 'no'));
CREATE TABLE log (a, b AS (a || 'x'));
CREATE INDEX some ON t (a) WHERE main.t.a > 1;
INSERT INTO t VALUES (4, 'kept');
CREATE VIEW v AS SELECT * FROM main.t;
CREATE VIEW w AS SELECT * FROM "MAIN"."log" JOIN v ON v.a = log.a;
CREATE VIEW x AS SELECT name FROM main.sqlite_master;
CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO log (a) SELECT a FROM main.t WHERE id = new.id; END;
ANALYZE;
