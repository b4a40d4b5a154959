CREATE TABLE t (x);
CREATE INDEX People ON t (x);
