CREATE TABLE log (line TEXT);
INSERT INTO log (rowid, line) VALUES (-9223372036854775808, 'first'), (-1, 'b'), (0, 'c'), (9223372036854775807, 'last');
CREATE TABLE keyed (id INTEGER PRIMARY KEY, v);
INSERT INTO keyed VALUES (-9223372036854775808, 1), (-5, 2), (9223372036854775807, 3);
-- Text as a key of its own: the rowid is not in any column.
CREATE TABLE named (k TEXT PRIMARY KEY, v);
INSERT INTO named (rowid, k, v) VALUES (42, 'b', 1), (7, 'a', 2), (-7, NULL, 3), (8, NULL, 4);
