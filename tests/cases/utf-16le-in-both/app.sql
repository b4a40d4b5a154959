PRAGMA encoding = 'UTF-16le';
-- Carried as bytes, valid or not: nothing is re-encoded.
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, note TEXT);
INSERT INTO users VALUES (1, 'Ö😀', CAST(x'00d8' AS TEXT)), (2, '', CAST(x'41' AS TEXT));
CREATE INDEX users_by_name ON users (name);
