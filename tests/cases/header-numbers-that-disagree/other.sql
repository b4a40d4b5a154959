CREATE TABLE u (a);
PRAGMA user_version = 12;
