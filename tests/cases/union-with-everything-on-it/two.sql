CREATE TABLE items (id INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT UNIQUE, v, w GENERATED ALWAYS AS (v * 2));
CREATE INDEX By_V
 ON Items (v);
CREATE TRIGGER counted AFTER INSERT ON Items BEGIN UPDATE Items SET v = v + 1 WHERE id = new.id; END;
CREATE VIEW two_view AS SELECT v FROM Items;
CREATE TABLE two_refers (item REFERENCES Items (id));
INSERT INTO two_refers VALUES (1), (99);
CREATE INDEX only_two ON items (code, v);
INSERT INTO Items (id, code, v) VALUES (1, 'a', 1), (9, 'i', x'00'), (99, 'z', -0.0);
ANALYZE;
