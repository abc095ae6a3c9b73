SET work_mem = '64MB';
SELECT count(*) FROM (SELECT note, id FROM sale ORDER BY note DESC, id LIMIT 50000) sorted;
SELECT count(*), sum(total)
    FROM (SELECT left(note, 20) head, sum(amount) total FROM sale GROUP BY head) grouped;
SELECT length(string_agg(note, ',' ORDER BY note)) FROM sale;
SELECT sum(length(sales::text))
    FROM (SELECT customer, jsonb_agg(note) sales FROM sale GROUP BY customer) documents;
SELECT count(*)
    FROM (SELECT customer, sum(amount) OVER (PARTITION BY customer ORDER BY note)
        FROM sale) windows;
SELECT count(*) FROM (SELECT DISTINCT reverse(note) FROM sale) reversed;
SELECT count(*) FROM sale a JOIN sale b ON a.note = b.note;
