SET sort_buffer_size = 16777216, tmp_table_size = 67108864, max_heap_table_size = 67108864,
    join_buffer_size = 8388608, group_concat_max_len = 100000000;
SELECT COUNT(*) FROM (SELECT note, id FROM sale ORDER BY note DESC, id LIMIT 25000) sorted;
SELECT COUNT(*), SUM(total)
    FROM (SELECT LEFT(note, 20) head, SUM(amount) total FROM sale GROUP BY head) grouped;
SELECT LENGTH(GROUP_CONCAT(note ORDER BY note SEPARATOR ',')) FROM sale;
SELECT SUM(LENGTH(sales))
    FROM (SELECT customer, JSON_ARRAYAGG(note) sales FROM sale GROUP BY customer) documents;
SELECT COUNT(*)
    FROM (SELECT customer, SUM(amount) OVER (PARTITION BY customer ORDER BY note)
        FROM sale) windows;
SELECT COUNT(*) FROM (SELECT DISTINCT REVERSE(note) FROM sale) reversed;
