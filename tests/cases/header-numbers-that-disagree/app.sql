CREATE TABLE t (a);
PRAGMA user_version = -5;
PRAGMA application_id = 1179011410;
