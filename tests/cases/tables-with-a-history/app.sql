CREATE TABLE source (a INTEGER PRIMARY KEY, b VARCHAR(10) NOT NULL, c DEFAULT 5);
INSERT INTO source VALUES (1, 'x', NULL), (2, 'y', 2.0);
CREATE TABLE copied AS SELECT a, b AS "b x", c + 1, 'lit' FROM source;
ALTER TABLE source ADD COLUMN d TEXT DEFAULT 'late';
INSERT INTO source (a, b) VALUES (3, 'z');
ALTER TABLE source ADD COLUMN e NOT NULL DEFAULT -1;
ALTER TABLE source ADD COLUMN f AS (a + 1);
ALTER TABLE source DROP COLUMN c;
ALTER TABLE source RENAME COLUMN d TO "new d";
CREATE TABLE old_name (id INTEGER PRIMARY KEY AUTOINCREMENT, u UNIQUE REFERENCES source (a));
INSERT INTO old_name VALUES (4, 1);
CREATE INDEX on_old ON old_name (u, id);
ALTER TABLE old_name RENAME TO "new name";
CREATE TABLE defaults (a DEFAULT (1 + 1), b DEFAULT CURRENT_TIMESTAMP, c DEFAULT (lower(hex('A'))), d TEXT DEFAULT 'it''s', e DEFAULT -1.5e3, f DEFAULT x'00ff', g DEFAULT (only_the_application_has_this()));
INSERT INTO defaults (a, b, g) VALUES (1, '2026', NULL);
CREATE   TABLE   IF NOT EXISTS spaced(a /* comment */ , b -- another
);
