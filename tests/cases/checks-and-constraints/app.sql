CREATE TABLE t (a INTEGER CHECK (a > 0), b TEXT NOT NULL ON CONFLICT IGNORE, c UNIQUE ON CONFLICT REPLACE, CONSTRAINT ab CHECK (a < 10 OR b = 'big'));
INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2);
PRAGMA ignore_check_constraints = ON;
-- Rows from before the check was there.
INSERT INTO t VALUES (-5, 'negative', 3), (50, 'small', 4);
