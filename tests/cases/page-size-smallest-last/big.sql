PRAGMA page_size = 512;
CREATE TABLE big (b BLOB);
INSERT INTO big VALUES (randomblob(900000));
