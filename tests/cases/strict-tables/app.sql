CREATE TABLE typed (i INTEGER, n INT, r REAL, t TEXT, b BLOB, a ANY) STRICT;
INSERT INTO typed VALUES (1, 2, 3.0, 'four', x'05', 6), (NULL, NULL, NULL, NULL, NULL, '0012');
INSERT INTO typed (rowid, a) VALUES (99, 1.0), (-4, x'');
CREATE TABLE keyed (k TEXT PRIMARY KEY, v ANY NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO keyed VALUES ('a', '1'), ('b', 1), ('c', -0.0);
