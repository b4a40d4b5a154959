CREATE VIRTUAL TABLE box USING rtree(id, x0, x1, y0, y1, +label TEXT);
INSERT INTO box VALUES (1, 0, 1, 0, 1, 'unit'), (-7, -2.5, 3, 0, 9, NULL);
CREATE VIRTUAL TABLE whole USING rtree_i32(id, a, b);
INSERT INTO whole VALUES (3, -2147483648, 2147483647);
