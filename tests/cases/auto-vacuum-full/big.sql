PRAGMA auto_vacuum = 1;
CREATE TABLE big (b BLOB);
CREATE TABLE gone (b BLOB);
INSERT INTO gone VALUES (zeroblob(50000));
INSERT INTO big VALUES (randomblob(300000));
DELETE FROM gone;
