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

-- Views are looked through for functions that must not run on a replica. A server shows their text only to who may read them: give
-- these rights on the schemas that have views, if not on all. Views whose text is hidden are read on the primary; without any of
-- it Tandem does not know what is a view, and relies on replica connections being read-only.
GRANT SELECT, SHOW VIEW ON *.* TO monitor@'%';

-- Promotion and failover (`tandemctl promote`); leave this part out and Tandem only watches.
--   REPLICATION_SLAVE_ADMIN   start, stop and re-point replicas
--   SYSTEM_VARIABLES_ADMIN    super_read_only, semi-synchronous replication, event_scheduler, sql_log_bin
--   CONNECTION_ADMIN, RELOAD, PROCESS  fence the old primary and end what still writes there
--   EVENT, SET_ANY_DEFINER    enable events on the new primary and disable them on the old one, with their definers
--   SYSTEM_USER               ... also those of administrators who have it
--   XA_RECOVER_ADMIN          see prepared transactions, which a promotion would lose
GRANT RELOAD, PROCESS, EVENT ON *.* TO monitor@'%';
GRANT REPLICATION_SLAVE_ADMIN, SYSTEM_VARIABLES_ADMIN, CONNECTION_ADMIN, SET_ANY_DEFINER, SYSTEM_USER, XA_RECOVER_ADMIN
  ON *.* TO monitor@'%';
-- The one row in which an operation is written down, so that it can be finished or undone by whoever comes next.
GRANT SELECT, INSERT, DELETE, CREATE ON tandem.* TO monitor@'%';

-- [replication]: what a replica logs in with. Its password is sent over TLS or encrypted with the source's key
-- (GET_SOURCE_PUBLIC_KEY = 1).
CREATE USER IF NOT EXISTS repl@'%' IDENTIFIED BY 'repl';
GRANT REPLICATION SLAVE ON *.* TO repl@'%';
