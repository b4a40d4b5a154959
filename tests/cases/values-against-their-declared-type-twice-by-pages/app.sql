-- The declared types were changed after the rows were there, so affinity would now take '1.0' for 1.
CREATE TABLE v (a TEXT, b TEXT, c INTEGER);
INSERT INTO v VALUES ('1.0', '01', 5), ('1', '1', 6), (' 1 ', '1e0', 7);
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = 'CREATE TABLE v (a INTEGER, b NUMERIC, c INTEGER)' WHERE name = 'v';
PRAGMA writable_schema = RESET;
