#!/bin/bash
# PostgreSQL on the library answers the same queries with the same rows as without: sorts, joins,
# aggregates, jsonb, arrays, parallel plans, index builds, vacuum, PL/pgSQL, and a dump of it all;
# and pgbench's books balance after five seconds of two clients.
. "$(dirname "$0")/lib.sh"
need postgres:postgresql initdb:postgresql psql:postgresql-client pgbench:postgresql-contrib

if [ "$(id -u)" -eq 0 ]; then
    # The server refuses to run as root; its package brought it a user.
    id postgres >/dev/null 2>&1 || skip "PostgreSQL refuses to run as root, and there is no user postgres"
    prepare_user postgres
fi

# Through a socket in our own directory: no port at all.
configure() {
    cat >>data/postgresql.conf <<CONFIG
listen_addresses = ''
unix_socket_directories = '$PWD'
fsync = off
max_parallel_workers_per_gather = 2
parallel_setup_cost = 0
parallel_tuple_cost = 0
min_parallel_table_scan_size = 0
min_parallel_index_scan_size = 0
autovacuum_naptime = 1s
work_mem = 8MB
CONFIG
}

sql() { run_as_user psql -h "$PWD" -d postgres -XqAt -v ON_ERROR_STOP=1 "$@" 2>>"$logs/psql"; }

# What is compared has an order of its own and no floating point whose sum hangs on the plan.
schema() {
    cat <<'SQL'
CREATE TABLE customer (id int PRIMARY KEY, name text, tags text[], profile jsonb);
INSERT INTO customer SELECT i, 'customer ' || md5(i::text),
    ARRAY(SELECT 'tag' || (i * k) % 50 FROM generate_series(1, 1 + i % 6) k),
    jsonb_build_object('age', 18 + i % 60, 'city', 'city' || i % 97,
        'past', (SELECT jsonb_agg(md5((i * k)::text)) FROM generate_series(1, i % 9) k))
    FROM generate_series(1, 20000) i;
CREATE TABLE sale (id bigserial PRIMARY KEY, customer int, amount numeric(12,2), day date, note text);
INSERT INTO sale (customer, amount, day, note)
    SELECT 1 + (i::bigint * 7919) % 20000, (i * 37 % 100000) / 100.0, date '2020-01-01' + i % 700,
        CASE WHEN i % 1000 = 0 THEN repeat(md5(i::text), 300) ELSE md5(i::text) END
    FROM generate_series(1, 150000) i;
CREATE INDEX sale_customer ON sale (customer);
CREATE INDEX sale_day ON sale (day, amount DESC);
CREATE INDEX customer_tags ON customer USING gin (tags);
CREATE INDEX customer_profile ON customer USING gin (profile jsonb_path_ops);
CREATE INDEX sale_note ON sale USING hash (note);
CREATE FUNCTION collatz(n bigint) RETURNS int LANGUAGE plpgsql AS $$
    DECLARE steps int := 0;
    BEGIN
        WHILE n <> 1 LOOP
            n := CASE WHEN n % 2 = 0 THEN n / 2 ELSE 3 * n + 1 END; steps := steps + 1;
        END LOOP;
        RETURN steps;
    END $$;
ANALYZE;
SQL
}

queries() {
    cat <<'SQL'
SELECT note FROM sale ORDER BY md5(note), id LIMIT 1000;
SELECT md5(string_agg(note, ',' ORDER BY note, id)) FROM sale;
SET work_mem = '64kB';
SELECT md5(string_agg(note, ',' ORDER BY md5(note), id)) FROM sale;
RESET work_mem;
SELECT c.profile->>'city' AS city, count(*), sum(s.amount), max(s.day), min(c.name)
    FROM sale s JOIN customer c ON c.id = s.customer GROUP BY city ORDER BY city;
SELECT day, sum(amount), avg(amount), count(DISTINCT customer) FROM sale GROUP BY day ORDER BY day;
SELECT customer, amount, rank() OVER (PARTITION BY customer ORDER BY amount DESC, id),
    sum(amount) OVER (PARTITION BY customer ORDER BY id ROWS 3 PRECEDING)
    FROM sale WHERE customer < 300 ORDER BY customer, id;
SELECT tag, count(*), array_agg(id ORDER BY id DESC) FILTER (WHERE id < 500)
    FROM customer, unnest(tags) tag GROUP BY tag ORDER BY tag;
SELECT count(*) FROM customer WHERE tags @> ARRAY['tag7', 'tag14'];
SELECT count(*) FROM customer WHERE profile @> '{"city": "city13"}';
SELECT md5(string_agg(((profile || '{"seen": true}') - 'age')::text, '' ORDER BY id)) FROM customer;
SELECT jsonb_path_query_array(profile, '$.past[*] ? (@ starts with "a")') FROM customer
    WHERE id % 100 = 0 ORDER BY id;
SELECT count(*), sum(length(regexp_replace(note, '([0-9])([a-f])', '\2\1', 'g'))) FROM sale;
SELECT count(*) FROM sale a JOIN sale b ON a.note = b.note AND a.id <> b.id;
WITH RECURSIVE tree(n, path) AS (SELECT 1, '1' UNION ALL
    SELECT n * 2 + k, path || '/' || n * 2 + k FROM tree, generate_series(0, 1) k WHERE n < 2000)
    SELECT count(*), md5(string_agg(path, ' ' ORDER BY path)) FROM tree;
SELECT max(collatz(i)), sum(collatz(i)) FROM generate_series(1, 5000) i;
SELECT xmlelement(name row, xmlattributes(id), name) FROM customer WHERE id % 1000 = 0 ORDER BY id;
SELECT length(string_agg(repeat(md5(i::text), 1000), '')) FROM generate_series(1, 1000) i;
SQL
}

changes() {
    cat <<'SQL'
UPDATE customer SET profile = profile || jsonb_build_object('visits', id % 11) WHERE id % 3 = 0;
DELETE FROM sale WHERE id % 5 = 0;
UPDATE sale SET note = repeat(note, 2) WHERE id % 7 = 0;
VACUUM FULL customer;
VACUUM (ANALYZE, PARALLEL 2) sale;
REINDEX TABLE sale;
SQL
}

# A plan with workers has to be among them, or nothing of that kind was tried.
parallel_plan() {
    local plan='EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT sum(amount) FROM sale WHERE id % 3 = 1'
    sql -c "$plan" | grep -Eo 'Workers (Planned|Launched): [0-9]+'
}

# While a query with workers runs, all of the server's processes are looked at.
look_at_processes() {
    sql -c "SELECT count(*) FROM sale a JOIN sale b USING (day) WHERE a.amount < b.amount" \
        >"$results/join-while-looking" &
    local query=$!
    sleep 0.5
    record_maps "$server_pid"
    wait "$query" || fail "the query failed"
}

books_balance() {
    run_as_user pgbench -h "$PWD" -c 2 -j 2 -T 5 postgres >"$logs/pgbench" 2>&1 || fail "pgbench failed"
    sql -c "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)
        AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history)
        AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history)
        AND (SELECT count(*) > 0 FROM pgbench_history)"
}

work() {
    run_as_user initdb -D "$PWD/data" -A trust -E UTF8 --no-locale -N >"$logs/initdb" 2>&1 ||
        fail "initdb failed"
    configure
    server postgres postgres -D "$PWD/data"
    wait_until 30 "postgres to answer" sql -c 'SELECT 1'
    run_as_user pgbench -h "$PWD" -i -s 2 -q postgres >>"$logs/pgbench" 2>&1 || fail "pgbench -i failed"
    schema | sql
    queries | sql >"$results/queries"
    parallel_plan >"$results/parallel"
    look_at_processes
    changes | sql
    queries | sql >"$results/queries-after-changes"
    run_as_user pg_dump -h "$PWD" -d postgres -T 'pgbench_*' 2>>"$logs/psql" |
        grep -v '^\\\(un\)\?restrict ' | sha256sum >"$results/dump"
    books_balance >"$results/books-balance"
    [ "$(cat "$results/books-balance")" = t ] || fail "pgbench's books do not balance"
    stop_server "$server_pid" INT
}

calls_go_to_library postgres --version
calls_go_to_library psql --version
compare_runs work
