PRAGMA page_size = 8192;
CREATE TABLE third (b BLOB);
INSERT INTO third VALUES (randomblob(9000));
