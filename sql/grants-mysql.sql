-- The accounts Tandem needs on MySQL 8.0 and later, with no right more than they use.
-- Run it on the primary; replication carries it to the replicas. Put in your own passwords, and instead of % the addresses
-- Tandem and the replicas connect from.

-- [monitor]: roles, positions and lag (SHOW REPLICA STATUS, SHOW BINARY LOG STATUS).
CREATE USER IF NOT EXISTS monitor@'%' IDENTIFIED BY 'monitor';
GRANT REPLICATION CLIENT ON *.* TO monitor@'%';

-- Users are learned from the primary's own account table, so that passwords live in one place. Not needed when every user has
-- a [user NAME] section.
GRANT SELECT ON mysql.user TO monitor@'%';

-- Stored functions are judged by their bodies; without this every call of one goes to the primary. (Since 8.0.20; before it,
-- GRANT SELECT ON *.* shows the bodies.)
GRANT SHOW_ROUTINE ON *.* TO monitor@'%';
GRANT SELECT ON mysql.func TO monitor@'%';

-- [replication]: what a replica logs in with. Its password is sent over TLS or encrypted with the source's key
-- (GET_SOURCE_PUBLIC_KEY = 1).
CREATE USER IF NOT EXISTS repl@'%' IDENTIFIED BY 'repl';
GRANT REPLICATION SLAVE ON *.* TO repl@'%';
