PRAGMA encoding = 'UTF-16le';
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
INSERT INTO users VALUES (1, 'fine'), (7, CAST(x'00de3dd8' AS TEXT));
