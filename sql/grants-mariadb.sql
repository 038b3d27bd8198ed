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

-- Views are looked through for functions that must not run on a replica. A server shows their text only to who may read them: give
-- these rights on the schemas that have views, if not on all. Views whose text is hidden are read on the primary; without any of
-- it Tandem does not know what is a view, and relies on replica connections being read-only.
GRANT SELECT, SHOW VIEW ON *.* TO monitor@'%';

-- Promotion and failover (`tandemctl promote`); leave this part out and Tandem only watches.
--   REPLICATION SLAVE ADMIN   start, stop and re-point replicas
--   REPLICATION MASTER ADMIN  carry semi-synchronous replication over
--   READ_ONLY ADMIN, RELOAD   fence the old primary: read_only, FLUSH TABLES WITH READ LOCK
--   CONNECTION ADMIN, PROCESS end what still writes past the fence
--   EVENT, SET USER           enable events on the new primary and disable them on the old one, with their definers
--   BINLOG ADMIN              ... without a trace in the binary log
GRANT REPLICATION SLAVE ADMIN, REPLICATION MASTER ADMIN, READ_ONLY ADMIN, RELOAD, CONNECTION ADMIN, PROCESS, EVENT, SET USER, BINLOG ADMIN
  ON *.* TO monitor@'%';
-- The one row in which an operation is written down, so that it can be finished or undone by whoever comes next.
GRANT SELECT, INSERT, DELETE, CREATE ON tandem.* TO monitor@'%';
-- Only where event_scheduler differs between servers and is to be carried over:
-- GRANT SUPER ON *.* TO monitor@'%';

-- [replication]: what a replica logs in with.
CREATE USER IF NOT EXISTS repl@'%' IDENTIFIED BY 'repl';
GRANT REPLICATION SLAVE ON *.* TO repl@'%';
