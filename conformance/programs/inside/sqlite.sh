# A data base of SIZE rows with indexes, joins, windows, full-text search, JSON and a check of its integrity: `sqlite.sh SIZE`.
sqlite3 data.db <<SQL
PRAGMA page_size=4096;
PRAGMA journal_mode=WAL;
CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT NOT NULL, town INTEGER, weight REAL);
CREATE TABLE town(id INTEGER PRIMARY KEY, name TEXT UNIQUE);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO town SELECT i, 'town ' || (i * 7919 % 1009) FROM n;
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
    INSERT INTO person SELECT i, printf('%08x', (i * 2654435761) & 0xffffffff), i * 31 % 200 + 1, (i * 7 % 1000) / 7.0 FROM n;
COMMIT;
CREATE INDEX by_name ON person(name);
CREATE INDEX by_town ON person(town, weight);
SELECT town.name, count(*), sum(weight), avg(weight), max(person.name) FROM person JOIN town ON town.id = person.town GROUP BY town.id ORDER BY 3 DESC, 1 LIMIT 40;
SELECT a.id, b.id FROM person a JOIN person b ON a.name = printf('%08x', b.id) ORDER BY 1 LIMIT 20;
UPDATE person SET weight = weight * 1.5 + id WHERE id % 3 = 0;
DELETE FROM person WHERE name LIKE 'a%';
SELECT count(*), total(weight), group_concat(id) FROM person WHERE name BETWEEN 'b0' AND 'b01';
SELECT id, sum(weight) OVER (PARTITION BY town ORDER BY id ROWS 3 PRECEDING), rank() OVER (ORDER BY weight) FROM person WHERE id < 200 ORDER BY id;
CREATE VIRTUAL TABLE text USING fts5(body);
INSERT INTO text SELECT 'the ' || name || ' lives in number ' || town FROM person WHERE id < 2000;
SELECT rowid, highlight(text, 0, '[', ']') FROM text WHERE text MATCH 'number AND 17' ORDER BY rowid LIMIT 10;
SELECT json_extract('{"a":[1,2,{"b":3.5}]}', '$.a[2].b'), json_group_array(id) FROM town WHERE id < 9;
SELECT quote(x'00ff'), 1e300 * 1e10, 9223372036854775807 + 1, round(2.5), cast('12abc' AS INTEGER), strftime('%Y-%j', 1700000000, 'unixepoch');
EXPLAIN QUERY PLAN SELECT * FROM person WHERE town = 5 ORDER BY weight;
VACUUM;
PRAGMA integrity_check;
PRAGMA wal_checkpoint(TRUNCATE);
SQL
sqlite3 data.db .dump | sha256sum
