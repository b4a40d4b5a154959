CREATE TABLE notes (x);
