CREATE TABLE unify_db_counter0 (x);
CREATE VIEW Unify_DB_counter1 AS SELECT 1;
