-- SQLite reads these as definitions, and runs none of them.
CREATE TABLE two_ends (x);
CREATE TABLE temporary (x);
CREATE TABLE with_nul (x);
INSERT INTO two_ends VALUES (1), ('a');
INSERT INTO temporary VALUES (2), ('b');
INSERT INTO with_nul VALUES (3), ('c');
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = 'CREATE TABLE two_ends (x);;' WHERE name = 'two_ends';
UPDATE sqlite_schema SET sql = 'CREATE TEMP TABLE temporary (x)' WHERE name = 'temporary';
UPDATE sqlite_schema SET sql = 'CREATE TABLE with_nul (x) -- a' || char(0) || 'b' WHERE name = 'with_nul';
PRAGMA writable_schema = RESET;
