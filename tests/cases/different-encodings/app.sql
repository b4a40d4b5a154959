PRAGMA encoding = 'UTF-16le';
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
