CREATE TABLE plain (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
INSERT INTO plain VALUES ('b', 1), ('a', 2), ('', 3), (x'61', 4);
CREATE TABLE composite (a, b INTEGER, c TEXT, v, PRIMARY KEY (c DESC, a, b)) WITHOUT ROWID;
INSERT INTO composite VALUES (1, 2, 'x', 1), (1.5, 2, 'x', NULL), (x'00', 3, 'y', ''), ('1', 2, 'x', 'q');
CREATE TABLE folded (k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID;
INSERT INTO folded VALUES ('Ada', 1), ('bob', 2), ('EVE ', 3);
CREATE TABLE trimmed (k TEXT COLLATE RTRIM, n, PRIMARY KEY (k, n)) WITHOUT ROWID;
INSERT INTO trimmed VALUES ('a  ', 1), ('a', 2), ('b ', 1);
-- A second index that covers the table, in another order.
CREATE INDEX composite_covered ON composite (v, a, b, c);
CREATE TABLE untyped (k PRIMARY KEY, v) WITHOUT ROWID;
INSERT INTO untyped VALUES (1, 'integer'), ('1', 'text'), (x'31', 'blob'), (2.0, 'real'), (-0.0, 'minus zero');
