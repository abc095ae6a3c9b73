CREATE DATABASE work;
USE work;
CREATE TABLE sale (id INT AUTO_INCREMENT PRIMARY KEY, customer INT, amount DECIMAL(12,2), day DATE,
    note VARCHAR(400), KEY (customer)) ENGINE=InnoDB;
INSERT INTO sale (customer, amount, day, note) SELECT 1 + seq * 7919 % 5000,
    (seq * 37 % 100000) / 100, DATE'2020-01-01' + INTERVAL seq % 700 DAY,
    REPEAT(MD5(seq), 1 + seq % 5) FROM seq_1_to_30000;
