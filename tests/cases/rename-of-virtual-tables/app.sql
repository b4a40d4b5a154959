CREATE VIRTUAL TABLE search USING fts5(body);
CREATE VIRTUAL TABLE box USING rtree(id, x0, x1);
CREATE VIEW hits AS SELECT body FROM search;
INSERT INTO search VALUES ('hello world'), ('good bye');
INSERT INTO box VALUES (1, 0, 1);
