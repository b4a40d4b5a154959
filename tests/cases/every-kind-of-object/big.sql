CREATE TABLE filler (id INTEGER PRIMARY KEY, b BLOB);
INSERT INTO filler VALUES (1, zeroblob(900000));
PRAGMA user_version = 3;
