CREATE TABLE sale (id serial PRIMARY KEY, customer int, amount numeric(12,2), day date, note text);
INSERT INTO sale (customer, amount, day, note)
    SELECT 1 + (i::bigint * 7919) % 5000, (i * 37 % 100000) / 100.0, date '2020-01-01' + i % 700,
        repeat(md5(i::text), 1 + i % 5) FROM generate_series(1, 60000) i;
CREATE INDEX ON sale (customer);
VACUUM ANALYZE sale;
