CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER DEFAULT 0, note);
CREATE TABLE log (what, at);
CREATE VIEW v AS SELECT id, n FROM t;
CREATE TRIGGER logged AFTER INSERT ON t BEGIN INSERT INTO log VALUES ('insert', new.id); END;
CREATE TRIGGER refused BEFORE INSERT ON t WHEN new.n > 100 BEGIN SELECT RAISE(ABORT, 'too much'); END;
CREATE TRIGGER counted AFTER UPDATE OF n ON t BEGIN UPDATE t SET n = n + 1 WHERE id = new.id AND n < 5; END;
CREATE TRIGGER deleted AFTER DELETE ON t BEGIN DELETE FROM t WHERE id = old.id + 1; END;
CREATE TRIGGER instead INSTEAD OF INSERT ON v BEGIN INSERT INTO t (id, n) VALUES (new.id, new.n); END;
CREATE TRIGGER unknown AFTER INSERT ON log BEGIN SELECT only_the_application_has_this(new.what); END;
-- SQLite allows a trigger to have the name of a table.
CREATE TRIGGER log AFTER DELETE ON log BEGIN SELECT 1; END;
DROP TRIGGER unknown;
INSERT INTO t VALUES (1, 7, 'a'), (2, 8, 'b');
-- A row that no trigger would let through now.
DROP TRIGGER refused;
INSERT INTO t VALUES (3, 1000, 'c');
CREATE TRIGGER refused BEFORE INSERT ON t WHEN new.n > 100 BEGIN SELECT RAISE(ABORT, 'too much'); END;
CREATE TRIGGER unknown AFTER INSERT ON log BEGIN SELECT only_the_application_has_this(new.what); END;
