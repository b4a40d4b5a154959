CREATE TABLE t (k, v);
