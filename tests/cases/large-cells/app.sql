CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB);
INSERT INTO t VALUES (1, zeroblob(50000000)), (2, x''), (3, zeroblob(0)), (4, zeroblob(1)), (5, NULL);
