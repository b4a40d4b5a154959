PRAGMA encoding = 'UTF-16be';
CREATE TABLE others (id INTEGER PRIMARY KEY, name TEXT, note TEXT);
INSERT INTO others VALUES (1, 'Ö😀', CAST(x'00d8' AS TEXT)), (2, '', CAST(x'41' AS TEXT));
CREATE INDEX others_by_name ON others (name);
CREATE TABLE filler (b BLOB);
INSERT INTO filler VALUES (zeroblob(100000));
