CREATE VIRTUAL TABLE search USING fts4(body);
CREATE TABLE box (id INTEGER PRIMARY KEY, filler);
INSERT INTO search VALUES ('another');
INSERT INTO box VALUES (1, zeroblob(200000));
