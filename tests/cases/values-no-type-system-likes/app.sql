CREATE TABLE v (id INTEGER PRIMARY KEY, t TEXT, i INTEGER, r REAL, n NUMERIC, b BLOB, x);
INSERT INTO v VALUES (1, 12, 'twelve', 'no number', 'text', 'text', 9223372036854775807);
INSERT INTO v VALUES (2, '', x'', -9223372036854775808, 1e308, x'00', -0.0);
INSERT INTO v VALUES (3, CAST(x'610062' AS TEXT), 1.5, 1, 1.0, zeroblob(0), 0.0);
INSERT INTO v VALUES (4, CAST(x'ff80fe' AS TEXT), x'ff', NULL, NULL, 1, '1');
INSERT INTO v VALUES (5, 'a' || char(0), NULL, 9e999, -9e999, 1.0, 1.0);
INSERT INTO v VALUES (6, 'ä€😀', 0, 0.1, '0x10', '', '');
