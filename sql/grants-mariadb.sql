-- The accounts Tandem needs on MariaDB 10.5 and later, with no right more than they use.
-- Run it on the primary; replication carries it to the replicas. Put in your own passwords, and instead of % the addresses
-- Tandem and the replicas connect from.

-- [monitor]: roles, positions and lag.
CREATE USER IF NOT EXISTS monitor@'%' IDENTIFIED BY 'monitor';
GRANT SLAVE MONITOR, BINLOG MONITOR ON *.* TO monitor@'%';

-- Users are learned from the primary's own account table, so that passwords live in one place. Not needed when every user has
-- a [user NAME] section.
GRANT SELECT ON mysql.global_priv TO monitor@'%';

-- Stored functions are judged by their bodies; without this every call of one goes to the primary.
GRANT SELECT ON mysql.proc TO monitor@'%';
GRANT SELECT ON mysql.func TO monitor@'%';

-- [replication]: what a replica logs in with.
CREATE USER IF NOT EXISTS repl@'%' IDENTIFIED BY 'repl';
GRANT REPLICATION SLAVE ON *.* TO repl@'%';
