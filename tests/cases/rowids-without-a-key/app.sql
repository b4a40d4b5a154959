CREATE TABLE log (line TEXT, at);
INSERT INTO log (rowid, line, at) VALUES (5, 'a', 1), (77, 'b', 2.5), (-3, 'c', NULL);
CREATE TABLE shadowed (rowid TEXT, _rowid_ TEXT);
INSERT INTO shadowed (oid, rowid, _rowid_) VALUES (9, 'x', 'y');
