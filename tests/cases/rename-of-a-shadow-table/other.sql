CREATE TABLE search_data (x);
