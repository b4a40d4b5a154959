CREATE TABLE child (id INTEGER PRIMARY KEY, user REFERENCES users (id), CHECK (id > 0));
INSERT INTO child VALUES (1, 10), (2, 11), (3, NULL);
