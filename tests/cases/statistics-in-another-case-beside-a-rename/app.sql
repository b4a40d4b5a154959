CREATE TABLE Parents (id INTEGER PRIMARY KEY);
CREATE TABLE Children (id INTEGER PRIMARY KEY, name TEXT UNIQUE, parent REFERENCES Parents (id));
CREATE INDEX By_Parent ON Children (parent);
INSERT INTO Parents VALUES (1);
INSERT INTO Children VALUES (1, 'a', 1);
ANALYZE;
UPDATE sqlite_stat1 SET tbl = upper(tbl);
