-- Run by the MySQL image once, when its volume is empty. Invented weather has a database of its own.
CREATE DATABASE IF NOT EXISTS raingauge_simulator CHARACTER SET utf8mb4;
GRANT ALL ON `raingauge\_simulator`.* TO 'raingauge'@'%';
