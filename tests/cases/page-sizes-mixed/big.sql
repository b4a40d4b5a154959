PRAGMA page_size = 65536;
CREATE TABLE big (b BLOB);
INSERT INTO big VALUES (randomblob(300000));
