PRAGMA page_size = 8192;
CREATE TABLE other (x);
