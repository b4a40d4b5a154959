CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT, x);
INSERT INTO a VALUES (3, 1);
-- Tools that restore a dump leave such rows; SQLite itself removes them with the table.
INSERT INTO sqlite_sequence VALUES ('gone', 77), ('gone', 78), (NULL, 5), ('no number', 'seven');
