CREATE TABLE filler (b BLOB);
INSERT INTO filler VALUES (zeroblob(100000));
