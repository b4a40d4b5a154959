CREATE TABLE parent (x);
-- Its parent column is not unique, so SQLite cannot check a single row of it.
CREATE TABLE child (p REFERENCES parent (x));
INSERT INTO child VALUES (1);
