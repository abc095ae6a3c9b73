#!/bin/bash
# MariaDB on the library answers the same queries with the same rows as without: joins, sorts,
# window functions, JSON, full text, stored procedures, several clients at once, and a dump of it all.
. "$(dirname "$0")/lib.sh"
# These packages have the programs and no service.
need mariadbd:mariadb-server-core mariadb-install-db:mariadb-server-core \
    mariadb:mariadb-client-core mariadb-dump:mariadb-client
# The server does not like to be root's.
prepare_user nobody

# Through a socket in our own directory: no port at all.
start_mariadb() {
    run_as_user mariadb-install-db --no-defaults --datadir="$PWD/data" --skip-test-db \
        --auth-root-authentication-method=normal >"$logs/install" 2>&1 || fail "mariadb-install-db failed"
    server mariadbd mariadbd --no-defaults --datadir="$PWD/data" --socket="$PWD/socket" \
        --pid-file="$PWD/pid" --tmpdir="$PWD" --skip-networking --innodb-flush-log-at-trx-commit=0 \
        --innodb-buffer-pool-size=64M --sort-buffer-size=256K --max-connections=60 \
        --character-set-server=utf8mb4 --collation-server=utf8mb4_general_ci
    wait_until 30 "mariadb to answer" sql mysql -e 'SELECT 1'
}

# sql DATABASE ARGUMENT...
sql() {
    local database=$1
    shift
    run_as_user mariadb --no-defaults -S "$PWD/socket" -u root -N -B --default-character-set=utf8mb4 \
        "$@" "$database" 2>>"$logs/client"
}

schema() {
    cat <<'SQL'
CREATE DATABASE work;
USE work;
CREATE TABLE customer (id INT PRIMARY KEY, name VARCHAR(80), profile JSON, about TEXT,
    KEY (name), FULLTEXT KEY (about)) ENGINE=InnoDB;
INSERT INTO customer SELECT seq, CONCAT('customer ', MD5(seq)),
    JSON_OBJECT('age', 18 + seq % 60, 'city', CONCAT('city', seq % 97), 'past', JSON_ARRAY(seq, seq * 2)),
    CONCAT('word', seq % 31, ' and word', seq % 57, ' of ', MD5(seq * 3)) FROM seq_1_to_10000;
CREATE TABLE sale (id INT AUTO_INCREMENT PRIMARY KEY, customer INT, amount DECIMAL(12,2), day DATE,
    note VARCHAR(2000), body MEDIUMBLOB, KEY (customer), KEY (day, amount)) ENGINE=InnoDB;
INSERT INTO sale (customer, amount, day, note, body) SELECT 1 + seq * 7919 % 10000,
    (seq * 37 % 100000) / 100, DATE'2020-01-01' + INTERVAL seq % 700 DAY, REPEAT(MD5(seq), 1 + seq % 5),
    IF(seq % 1000 = 0, REPEAT(MD5(seq), 20000), NULL) FROM seq_1_to_60000;
CREATE TABLE counter (id INT PRIMARY KEY, hits INT) ENGINE=InnoDB;
INSERT INTO counter SELECT seq, 0 FROM seq_1_to_20;
DELIMITER //
CREATE FUNCTION collatz(n BIGINT) RETURNS INT DETERMINISTIC
BEGIN
    DECLARE steps INT DEFAULT 0;
    WHILE n <> 1 DO
        SET n = IF(n % 2 = 0, n DIV 2, 3 * n + 1), steps = steps + 1;
    END WHILE;
    RETURN steps;
END //
DELIMITER ;
SQL
}

queries() {
    cat <<'SQL'
SET group_concat_max_len = 100000000, max_heap_table_size = 16384, tmp_table_size = 16384;
SELECT note FROM sale ORDER BY MD5(note), id LIMIT 500;
SELECT MD5(GROUP_CONCAT(note ORDER BY MD5(note), id)) FROM sale;
SELECT JSON_VALUE(c.profile, '$.city') city, COUNT(*), SUM(s.amount), MAX(s.day), MIN(c.name)
    FROM sale s JOIN customer c ON c.id = s.customer GROUP BY city ORDER BY city;
SELECT day, SUM(amount), AVG(amount), COUNT(DISTINCT customer) FROM sale GROUP BY day ORDER BY day;
SELECT customer, amount, RANK() OVER (PARTITION BY customer ORDER BY amount DESC, id),
    SUM(amount) OVER (PARTITION BY customer ORDER BY id ROWS 3 PRECEDING)
    FROM sale WHERE customer < 200 ORDER BY customer, id;
SELECT COUNT(*) FROM customer WHERE MATCH (about) AGAINST ('+word7 -word9' IN BOOLEAN MODE);
SELECT MD5(GROUP_CONCAT(JSON_SET(profile, '$.seen', TRUE) ORDER BY id)) FROM customer;
SELECT SUM(LENGTH(REGEXP_REPLACE(note, '([0-9])([a-f])', '\\2-\\1'))) FROM sale WHERE id % 10 = 0;
SELECT COUNT(*), MD5(GROUP_CONCAT(MD5(body) ORDER BY id)) FROM sale WHERE body IS NOT NULL;
WITH RECURSIVE tree(n, path) AS (SELECT 1, CAST('1' AS CHAR(200)) UNION ALL
    SELECT n * 2 + k.seq, CONCAT(path, '/', n * 2 + k.seq) FROM tree, seq_0_to_1 k WHERE n < 500)
    SELECT COUNT(*), MD5(GROUP_CONCAT(path ORDER BY path)) FROM tree;
SELECT MAX(collatz(seq)), SUM(collatz(seq)) FROM seq_1_to_1000;
SELECT a.day, COUNT(*) FROM sale a JOIN sale b ON a.day = b.day AND a.amount < b.amount
    WHERE a.id < 4000 GROUP BY a.day ORDER BY a.day;
SQL
}

changes() {
    cat <<'SQL'
UPDATE customer SET profile = JSON_SET(profile, '$.visits', id % 11) WHERE id % 3 = 0;
DELETE FROM sale WHERE id % 5 = 0;
UPDATE sale SET note = REPEAT(note, 2) WHERE id % 7 = 0;
ALTER TABLE customer ADD COLUMN extra VARCHAR(40) DEFAULT 'none', ADD INDEX (extra, name);
OPTIMIZE TABLE sale;
CHECK TABLE customer, sale EXTENDED;
SQL
}

# Twenty clients at a time, each with a thread of its own in the server that comes and goes.
many_clients() {
    local round client clients
    for round in {1..4}; do
        clients=()
        for client in {1..20}; do
            { for step in {1..25}; do
                echo "UPDATE counter SET hits = hits + 1 WHERE id = $client;"
                echo "SELECT COUNT(*), SUM(LENGTH(note)) FROM sale WHERE customer BETWEEN ${client}00 AND ${client}00 + 3 * $step;"
            done; } | sql work >"$results/client-$round-$client" &
            clients+=($!)
        done
        [ "$round" -ne 1 ] || record_maps "$server_pid"
        for client in "${clients[@]}"; do wait "$client" || fail "a client failed"; done
    done
    sql work -e 'SELECT * FROM counter ORDER BY id' >"$results/counters"
}

work() {
    start_mariadb
    schema | sql mysql
    queries | sql work >"$results/queries"
    many_clients
    changes | sql work >"$results/changes"
    queries | sql work >"$results/queries-after-changes"
    run_as_user mariadb-dump --no-defaults -S "$PWD/socket" -u root --skip-dump-date --hex-blob \
        --routines work 2>>"$logs/client" | sha256sum >"$results/dump"
    stop_server "$server_pid" TERM
}

calls_go_to_library mariadbd --no-defaults --version
calls_go_to_library mariadb --no-defaults --version
compare_runs work
