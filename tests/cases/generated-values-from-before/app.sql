-- What is stored was computed by the expression that the column had then.
CREATE TABLE g (a, b AS (a * 2) STORED);
INSERT INTO g (a) VALUES (1), (2);
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = 'CREATE TABLE g (a, b AS (a * 3) STORED)' WHERE name = 'g';
PRAGMA writable_schema = RESET;
