-- SQLite gives its own indexes such names; `writable_schema` lets anybody else do so.
PRAGMA writable_schema = ON;
CREATE TABLE sqlite_autoindex_foo (x UNIQUE);
INSERT INTO sqlite_autoindex_foo VALUES ('precious');
