PRAGMA page_size = 512;
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
INSERT INTO users VALUES (1, hex(randomblob(3000)));
