PRAGMA encoding = 'UTF-16be';
CREATE TABLE others (id INTEGER PRIMARY KEY, name TEXT);
INSERT INTO others VALUES (1, 'Ö😀'), (2, ''), (3, 'ﬀ');
