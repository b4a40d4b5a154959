CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
INSERT INTO users VALUES (1, 'Ö😀'), (2, ''), (3, 'ﬀ');
