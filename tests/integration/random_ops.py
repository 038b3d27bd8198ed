"""Statements as a restless application might send them: session state of every kind, transactions, reads in between.

A Script makes the steps of one session from a seed and its number. All that a session touches is its own (schemas s<N>_a and
s<N>_b, lock names, views, procedures), so its replies do not depend on the other sessions, and what it asks for does not depend
on the server or the time. A step is (kind, argument):

    ("query", text)  ("init_db", name)  ("ping", None)  ("reset", None)  ("change_user", user)  ("reconnect", None)
    ("set_option", 0|1)  ("prepare", (slot, text))  ("execute", (slot, params))  ("close", slot)  ("cursor", (slot, rows))

Episodes are generators of steps: what opens something closes it again within a few steps, for most of the time. Holding on to
one of few connections for long would let the others wait, which is right but tests nothing.
"""
import random

ACCOUNTS = ("rnd", "rnd2")
# {n}: the number of the session. Run on every server's primary before the sessions start.
SETUP = """
CREATE DATABASE s{n}_a
CREATE DATABASE s{n}_b
CREATE TABLE s{n}_a.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(60), n INT NOT NULL DEFAULT 0, KEY (n))
CREATE TABLE s{n}_b.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(60), n INT NOT NULL DEFAULT 0, KEY (n))
INSERT INTO s{n}_a.t (v, n) VALUES ('one', 1), ('two', 2), ('three', 3), ('four', 4)
INSERT INTO s{n}_b.t (v, n) VALUES ('eins', 10), ('zwei', 20)
CREATE TABLE s{n}_a.u (k INT PRIMARY KEY, d DECIMAL(12,4), s VARCHAR(20) CHARACTER SET latin1, b VARBINARY(40), e ENUM('a','b'))
INSERT INTO s{n}_a.u VALUES (1, 1.5, 'x', x'00ff', 'a'), (2, NULL, 'y', NULL, 'b')
CREATE VIEW s{n}_a.w AS SELECT id, v FROM s{n}_a.t WHERE n > 1
CREATE FUNCTION s{n}_a.twice(a INT) RETURNS INT DETERMINISTIC RETURN 2 * a
CREATE FUNCTION s{n}_a.sneaky(a INT) RETURNS INT READS SQL DATA BEGIN INSERT INTO s{n}_a.t (v, n) VALUES ('sneaky', a); RETURN a; END
CREATE PROCEDURE s{n}_a.two() BEGIN SELECT 1 AS a; SELECT 2 AS b, 3 AS c; END
CREATE PROCEDURE s{n}_a.open_and_fail() BEGIN START TRANSACTION; INSERT INTO s{n}_a.t (v, n) VALUES ('left', 5); SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'left open'; END
CREATE PROCEDURE s{n}_a.set_things(x INT) BEGIN SET @p = x; SET SESSION div_precision_increment = 6; END
CREATE PROCEDURE s{n}_a.out_param(IN x INT, OUT y INT) SET y = x + 1
CREATE PROCEDURE s{n}_a.make_temp() CREATE TEMPORARY TABLE made (a INT) SELECT 7 AS a
CREATE SEQUENCE s{n}_a.seq
""".strip().split("\n")
SETUP_ONCE = """
CREATE DATABASE role_one
CREATE TABLE role_one.secret (a INT PRIMARY KEY)
INSERT INTO role_one.secret VALUES (1), (2)
CREATE ROLE reader_one
CREATE ROLE reader_none
GRANT SELECT ON role_one.* TO reader_one
CREATE USER rnd@'%' IDENTIFIED BY 'rnd'
CREATE USER rnd2@'%' IDENTIFIED BY 'rnd2'
GRANT reader_one TO rnd@'%'
GRANT reader_none TO rnd@'%'
GRANT reader_one TO rnd2@'%'
""".strip().split("\n")
GRANTS = "GRANT ALL ON `s{n}\\_%`.* TO {account}@'%'"

MODES = ["", "", "ANSI_QUOTES", "PIPES_AS_CONCAT", "NO_BACKSLASH_ESCAPES", "STRICT_TRANS_TABLES", "ANSI", "TRADITIONAL",
         "STRICT_ALL_TABLES,NO_ZERO_DATE", "ONLY_FULL_GROUP_BY", "IGNORE_SPACE", "HIGH_NOT_PRECEDENCE", "ORACLE",
         "NO_AUTO_VALUE_ON_ZERO", "ERROR_FOR_DIVISION_BY_ZERO", "NO_UNSIGNED_SUBTRACTION"]
# Not collation_server: a session that loses its schema gets its collation for a later SET CHARACTER SET, which no variable shows.
VARIABLES = {
    "group_concat_max_len": ["4", "20", "1024", "DEFAULT"], "div_precision_increment": ["0", "2", "9", "DEFAULT"],
    "sql_select_limit": ["1", "2", "DEFAULT"], "lc_time_names": ["'de_DE'", "'fr_FR'", "DEFAULT"],
    "time_zone": ["'+03:00'", "'-08:00'", "'SYSTEM'"], "default_week_format": ["0", "3", "7"],
    "sql_safe_updates": ["0", "1"], "foreign_key_checks": ["0", "1"], "sql_auto_is_null": ["0", "1"],
    "tx_isolation": ["'READ-COMMITTED'", "'REPEATABLE-READ'", "'SERIALIZABLE'", "DEFAULT"],
    "auto_increment_increment": ["1", "5", "DEFAULT"], "auto_increment_offset": ["1", "2", "DEFAULT"],
    "lock_wait_timeout": ["5", "DEFAULT"],
    "wait_timeout": ["1000", "28800"], "net_write_timeout": ["61", "DEFAULT"], "max_error_count": ["1", "64"],
    "sql_notes": ["0", "1"], "sql_warnings": ["0", "1"], "sql_quote_show_create": ["0", "1"],
    "collation_connection": ["utf8mb4_bin", "utf8mb4_general_ci", "latin1_swedish_ci"],
    "character_set_results": ["latin1", "utf8mb4", "NULL"],
    "max_statement_time": ["50", "0"], "sort_buffer_size": ["65536", "DEFAULT"], "big_tables": ["0", "1"],
    "optimizer_switch": ["'index_merge=off'", "'index_merge=on'"], "old_mode": ["''", "'UTF8_IS_UTF8MB3'"],
    "max_sort_length": ["64", "DEFAULT"], "updatable_views_with_limit": ["0", "1"], "tx_read_only": ["0"],
    "max_recursive_iterations": ["10", "DEFAULT"], "unique_checks": ["0", "1"], "completion_type": ["0", "DEFAULT"],
}
BAD_SETS = ["SET sql_mode = 'nonsense'", "SET no_such_variable = 1", "SET NAMES nosuch", "SET time_zone = 'Nowhere/Land'",
            "SET SESSION sql_log_off = 'maybe'", "SET @a = no_such_function(1)", "SET div_precision_increment = 'x'",
            "SET group_concat_max_len = 9, no_such_variable = 2", "SET SESSION max_connections = 3"]
NAMES = ["utf8mb4", "latin1", "utf8mb4 COLLATE utf8mb4_bin", "utf8mb4 COLLATE utf8mb4_unicode_ci", "utf8mb3", "binary", "DEFAULT"]
VALUES = ["1", "-7", "2.50", "1e3", "'text'", "NULL", "x'00ff41'", "TRUE", "CAST('9' AS CHAR)", "'it''s'", "REPEAT('r', 3000)",
          "CAST(1.10 AS DECIMAL(10,4))", "_latin1'abc'", "'ü' COLLATE utf8mb4_bin", "18446744073709551615", "''"]
QUESTIONS = ["SELECT LAST_INSERT_ID()", "SELECT ROW_COUNT()", "SELECT FOUND_ROWS()", "SHOW WARNINGS", "SHOW ERRORS",
             "SELECT @@warning_count", "SELECT @@error_count", "SELECT @@identity", "SHOW COUNT(*) WARNINGS",
             "SELECT @@last_insert_id", "SELECT LAST_INSERT_ID(), ROW_COUNT(), @@warning_count",
             "GET DIAGNOSTICS @gd = NUMBER", "SELECT @@in_transaction", "SELECT @@insert_id"]
ASK_STATE = ["SELECT DATABASE(), CURRENT_ROLE()", "SELECT @@autocommit, @@tx_isolation, @@sql_mode",
             "SELECT @a, @b, @c", "SELECT @a, @p, @gd, @never", "SELECT USER(), CURRENT_USER()",
             "SELECT @@character_set_client, @@character_set_connection, @@character_set_results, @@collation_connection",
             "SELECT @@session.sql_select_limit, @@group_concat_max_len, @@div_precision_increment, @@time_zone",
             "SELECT CHARSET(@a), COLLATION(@a), COERCIBILITY(@a)", "SELECT @@lc_time_names, @@default_week_format",
             "SELECT @@foreign_key_checks, @@unique_checks, @@sql_notes, @@max_error_count, @@big_tables",
             "SELECT @@wait_timeout, @@lock_wait_timeout, @@net_write_timeout, @@sort_buffer_size",
             "SELECT @@collation_database, @@collation_server", "SELECT @@auto_increment_increment, @@auto_increment_offset",
             "SELECT @@session.optimizer_switch LIKE '%index_merge=on%', @@old_mode, @@max_recursive_iterations"]


class Script:
    """An endless supply of steps for session `number` of run `seed`."""

    def __init__(self, seed, number, only=None):
        self.rng, self.number = random.Random(f"{seed}/{number}"), number
        self.slots, self.next_slot, self.account = {}, 0, ACCOUNTS[0]
        self.serial = 0
        weights = {name: weight for name, weight in WEIGHTS.items() if not only or name in only}
        self.names, self.weights = list(weights), list(weights.values())

    def __iter__(self):
        # FOUND_ROWS() of a fresh connection is what was left by the one before it on the same thread of the server.
        yield from self.ask_state()
        while True:
            name = self.rng.choices(self.names, self.weights)[0]
            yield from getattr(self, name)()

    # ---- helpers

    def pick(self, *of):
        return self.rng.choice(of[0] if len(of) == 1 else of)

    def schema(self):
        return f"s{self.number}_{self.pick('a', 'b')}"

    def table(self):
        """Mostly with its schema: the session may have none at the moment."""
        return f"{self.schema()}.t" if self.rng.random() < 0.8 else "t"

    def own(self, name):
        return f"s{self.number}_a.{name}"

    def some_id(self):
        return self.rng.randint(1, 12)

    def fresh(self):
        self.serial += 1
        return self.serial

    # ---- reads

    def read(self):
        t, n = self.table(), self.some_id()
        yield "query", self.pick(
            f"SELECT * FROM {t} WHERE id = {n}", f"SELECT COUNT(*), MAX(id), SUM(n) FROM {t}",
            f"SELECT id, v FROM {t} ORDER BY id LIMIT 5", f"SELECT GROUP_CONCAT(v ORDER BY id) FROM {t}",
            f"SELECT n / 7, n || v FROM {t} WHERE id = {n}", f"SELECT SQL_CALC_FOUND_ROWS id FROM {t} ORDER BY id LIMIT 2",
            f"SELECT * FROM {self.own('w')} ORDER BY id", f"SELECT * FROM {self.own('u')} ORDER BY k",
            f"SELECT {self.own('twice')}({n}), UPPER('abc'), 1 = 1.0", f"SELECT CONCAT('a', {n}), CAST('12x' AS SIGNED)",
            f"SELECT FROM_UNIXTIME({n} * 86400), DAYNAME('2024-02-{n:02}'), WEEK('2024-12-31')",
            "SELECT * FROM role_one.secret ORDER BY a", "VALUES (1, 'a'), (2, 'b')",
            f"WITH x AS (SELECT id FROM {t}) SELECT COUNT(*) FROM x", f"SELECT v FROM {t} WHERE id IS NULL",
            "SELECT 'a\\'b', \"text\", 1 -- comment", f"SELECT /* FOR UPDATE */ COUNT(*) FROM {t}",
            f"SELECT 1 UNION SELECT {n} ORDER BY 1", f"SELECT (SELECT v FROM {t} WHERE id = {n}) AS x",
            f"SHOW COLUMNS FROM {self.own('u')}", f"SHOW TABLES FROM {self.schema()} LIKE 't'", "SHOW DATABASES LIKE 'role%'",
            f"SELECT RAND({n})", f"SELECT id FROM {t} WHERE id = {n} FOR UPDATE",
            f"SELECT id FROM {t} WHERE id = {n} LOCK IN SHARE MODE", "SELECT 'ü', LENGTH('ü'), CHARSET('x'), HEX('ü')",
            f"SELECT @@server_id > 0, {n}", "DO 1", f"EXPLAIN SELECT {n}", "SELECT 1 LIMIT 0")
        if self.rng.random() < 0.25:
            yield from self.ask()

    def bad(self):
        yield "query", self.pick(
            "SELEC 1", "SELECT * FROM nosuch.table1", "SELECT nocolumn FROM " + self.own("t"), "SELECT (SELECT 1 UNION SELECT 2)",
            "INSERT INTO " + self.own("t") + " (nocolumn) VALUES (1)", "SELECT no_function(1)", "CALL nosuch.p()",
            "SELECT 1 FROM", "", "SELECT 18446744073709551615 + 1", "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'own'",
            "SELECT * FROM mysql.global_priv", "CREATE TABLE role_one.x (a INT)", "SELECT * FROM t, t", "KILL 1, 2",
            f"INSERT INTO {self.own('u')} (k) VALUES (1)", "RELEASE SAVEPOINT nosuch", "EXECUTE nosuch", "SELECT 'open")
        if self.rng.random() < 0.5:
            yield from self.ask()

    def ask(self):
        yield "query", self.pick(QUESTIONS)

    def ask_state(self):
        yield "query", self.pick(ASK_STATE)

    # ---- state that is a value

    def set_variable(self):
        names = self.rng.sample(list(VARIABLES), self.pick(1, 1, 1, 2, 3))
        scope = self.pick("", "SESSION ", "@@session.", "@@", "LOCAL ")
        yield "query", "SET " + ", ".join(
            f"{scope}{name} = {self.pick(VARIABLES[name])}" for name in names)
        yield from self.read() if self.rng.random() < 0.6 else self.ask_state()

    def set_mode(self):
        mode = self.pick(MODES)
        yield "query", self.pick(f"SET sql_mode = '{mode}'", f"SET SESSION sql_mode = '{mode}'",
                                 f"SET sql_mode = CONCAT(@@sql_mode, ',{mode}')")
        yield from self.pick(self.read, self.write, self.ask_state)()

    def set_bad(self):
        yield "query", self.pick(BAD_SETS)
        yield from self.pick(self.read, self.write, self.ask, self.ask_state)()

    def set_names(self):
        yield "query", self.pick(f"SET NAMES {self.pick(NAMES)}", "SET CHARACTER SET latin1", "SET CHARACTER SET utf8mb4",
                                 "SET character_set_client = latin1", "SET character_set_client = ucs2")
        yield from self.read()

    def user_variable(self):
        name, value = self.pick("@a", "@b", "@c"), self.pick(VALUES)
        yield "query", self.pick(
            f"SET {name} = {value}", f"SET {name} = {value}", f"SELECT {name} := {value}", f"SELECT {value} INTO {name}",
            f"SELECT MAX(n) INTO {name} FROM {self.own('t')}", f"SET {name} = (SELECT COUNT(*) FROM {self.own('t')})",
            f"SET @a = 1, {name} = {value}, group_concat_max_len = 30", f"SET {name} := {name} + 1",
            # not "@b := @b + id": whether the server takes @b for a constant depends on which statement has made it
            f"SELECT @b := n + id FROM {self.own('t')} WHERE id < 4 ORDER BY id")
        yield "query", self.pick("SELECT @a, @b, @c", f"SELECT {name}, LENGTH({name})", "SELECT @a + 1, CONCAT(@b, 'x')",
                                 f"SELECT id FROM {self.own('t')} WHERE n > @a ORDER BY id LIMIT 2")

    def use(self):
        schema = self.pick(self.schema(), self.schema(), "nosuch", "information_schema")
        yield self.pick(("query", f"USE {schema}"), ("init_db", schema))
        yield "query", self.pick("SELECT DATABASE()", "SELECT COUNT(*) FROM t", "SHOW TABLES LIKE 't'")

    def drop_schema(self):
        """After that the session has no schema."""
        yield "query", f"CREATE DATABASE s{self.number}_c COLLATE {self.pick('latin1_swedish_ci', 'utf8mb4_bin')}"
        yield "query", f"USE s{self.number}_c"
        yield "query", "CREATE TABLE tt (a INT) SELECT 1 AS a"
        yield "query", "SELECT a, DATABASE(), @@collation_database FROM tt"
        yield "query", f"DROP DATABASE s{self.number}_c"
        yield "query", "SELECT DATABASE()"
        yield "query", self.pick("SELECT COUNT(*) FROM t", "SELECT 1")
        yield "query", f"USE {self.schema()}"

    def role(self):
        yield "query", self.pick("SET ROLE reader_one", "SET ROLE reader_one", "SET ROLE NONE", "SET ROLE nosuch",
                                 "SET ROLE reader_none")
        yield "query", self.pick("SELECT CURRENT_ROLE()", "SELECT * FROM role_one.secret ORDER BY a",
                                 "SELECT COUNT(*) FROM role_one.secret")
        if self.rng.random() < 0.6:
            yield "query", "SET ROLE NONE"
            yield "query", "SELECT * FROM role_one.secret ORDER BY a"

    def clock(self):
        """What is set for a moment only and must never be set anywhere else."""
        yield "query", f"SET timestamp = {1700000000 + self.some_id()}"
        yield "query", self.pick("SELECT NOW(), UNIX_TIMESTAMP()", "SELECT CURRENT_TIMESTAMP", "SELECT CURDATE()")
        yield "query", "SET timestamp = DEFAULT"
        yield "query", "SELECT NOW() > '2024-01-01'"

    def insert_id(self):
        number = 1000 + self.fresh()
        yield "query", f"SET insert_id = {number}"
        yield "query", f"INSERT INTO {self.own('t')} (v) VALUES ('set id')"
        yield "query", "SELECT LAST_INSERT_ID()"
        yield "query", f"DELETE FROM {self.own('t')} WHERE id = {number}"

    # ---- writes

    def write(self):
        t, n = self.table(), self.some_id()
        yield "query", self.pick(
            f"INSERT INTO {t} (v, n) VALUES ('new', {n})", f"INSERT INTO {t} (v) VALUES ('a'), ('b'), ('c')",
            f"INSERT INTO {t} (id, v) VALUES ({n}, 'dup')", f"INSERT IGNORE INTO {t} (id, v) VALUES ({n}, 'dup'), (NULL, 'i')",
            f"UPDATE {t} SET n = n + 1 WHERE id = {n}", f"UPDATE {t} SET n = n WHERE id = {n}",
            f"UPDATE {t} SET v = 'x', n = {n}", f"DELETE FROM {t} WHERE id = {n} + 4", f"REPLACE INTO {t} (id, v) VALUES ({n}, 're')",
            f"INSERT INTO {t} (v, n) SELECT v, n FROM {self.own('t')} WHERE id <= 2 ORDER BY id",
            f"INSERT INTO {t} (v, n) VALUES (REPEAT('long', 30), 'word')", f"INSERT INTO {t} (v, n) VALUES (1/0, 1)",
            f"INSERT INTO {t} (v, n) VALUES ('ret', {n}) RETURNING id, v", f"DELETE FROM {t} WHERE id > 55 RETURNING id",
            f"INSERT INTO {t} (id, v) VALUES ({n}, 'odku') ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id), n = n + 1",
            f"UPDATE {t} SET n = LAST_INSERT_ID(n + 1) WHERE id = {n}", f"DELETE FROM {t} WHERE id > 60",
            f"INSERT INTO {self.own('u')} VALUES ({n}, 99999999999, 'ü', 'b', 'z')", f"DELETE FROM {self.own('u')} WHERE k > 2")
        if self.rng.random() < 0.4:
            yield from self.ask()
        if self.rng.random() < 0.4:
            yield from self.read()

    def write_and_look(self):
        """An insert and then a read of the very row: the replica may be behind, the answer may not."""
        t, mark = self.own("t"), f"m{self.fresh()}"
        yield "query", f"INSERT INTO {t} (v, n) VALUES ('{mark}', 3)"
        yield "query", f"SELECT COUNT(*) FROM {t} WHERE v = '{mark}'"
        yield "query", f"DELETE FROM {t} WHERE v = '{mark}'"
        yield "query", f"SELECT COUNT(*) FROM {t} WHERE v = '{mark}'"

    def ddl(self):
        name = self.own(f"d{self.fresh()}")
        yield "query", f"CREATE TABLE {name} (a INT PRIMARY KEY, b TEXT)"
        yield "query", self.pick(f"SELECT * FROM {name}", f"SHOW COLUMNS FROM {name}", f"INSERT INTO {name} VALUES (1, 'x')")
        yield "query", self.pick(f"ALTER TABLE {name} ADD c INT DEFAULT 5", f"CREATE INDEX bb ON {name} (b(3))")
        yield "query", f"SELECT * FROM {name} ORDER BY a"
        yield "query", f"DROP TABLE {self.pick('', 'IF EXISTS ')}{name}"
        yield "query", self.pick(f"SELECT * FROM {name}", f"DROP TABLE IF EXISTS {name}", "SHOW WARNINGS")

    # ---- transactions

    def transaction(self):
        yield "query", self.pick("BEGIN", "START TRANSACTION", "BEGIN WORK", "START TRANSACTION READ WRITE",
                                 "START TRANSACTION WITH CONSISTENT SNAPSHOT")
        for _ in range(self.rng.randint(0, 4)):
            yield from self.pick(self.read, self.write, self.ask, self.user_variable, self.savepoint, self.bad)()
        yield "query", self.pick("COMMIT", "COMMIT", "ROLLBACK", "COMMIT AND NO CHAIN", "BEGIN")
        yield "query", "ROLLBACK"
        yield from self.read()

    def savepoint(self):
        yield "query", "SAVEPOINT sp"
        yield from self.write()
        yield "query", self.pick("ROLLBACK TO sp", "RELEASE SAVEPOINT sp")

    def chain(self):
        yield "query", "START TRANSACTION"
        yield from self.write()
        yield "query", "COMMIT AND CHAIN"
        yield from self.read()
        yield "query", "ROLLBACK"

    def read_only(self):
        yield "query", self.pick("START TRANSACTION READ ONLY", "SET TRANSACTION READ ONLY")
        for _ in range(self.rng.randint(1, 3)):
            yield from self.pick(self.read, self.write, self.ask_state)()
        yield "query", "COMMIT"

    def read_only_session(self):
        """As Spring and Hibernate do for readOnly = true."""
        yield "query", "SET SESSION TRANSACTION READ ONLY"
        yield "query", "SET autocommit = 0"
        yield from self.read()
        yield from self.pick(self.read, self.write)()
        yield "query", "COMMIT"
        yield "query", "SET autocommit = 1"
        yield "query", "SET SESSION TRANSACTION READ WRITE"
        yield from self.write()

    def autocommit_off(self):
        yield "query", self.pick("SET autocommit = 0", "SET @@autocommit = OFF")
        for _ in range(self.rng.randint(1, 3)):
            yield from self.pick(self.read, self.write)()
            if self.rng.random() < 0.5:
                yield "query", self.pick("COMMIT", "ROLLBACK")
        yield "query", "SET autocommit = 1"
        yield from self.read()

    def isolation(self):
        level = self.pick("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
        yield "query", f"SET {self.pick('', 'SESSION ')}TRANSACTION ISOLATION LEVEL {level}"
        yield from self.pick(self.read, self.transaction, self.ask_state)()
        yield "query", "SELECT @@tx_isolation"

    # ---- what pins

    def temporary(self):
        name = self.pick("tmp", "t")
        table = f"s{self.number}_a.{name}"
        yield "query", f"CREATE TEMPORARY TABLE {table} (a INT, b VARCHAR(9)) ENGINE={self.pick('InnoDB', 'MEMORY')}"
        yield "query", f"INSERT INTO {table} VALUES (1, 'x'), (2, 'y')"
        for _ in range(self.rng.randint(0, 2)):
            yield "query", self.pick(f"SELECT * FROM {table} ORDER BY a", f"SELECT COUNT(*) FROM {table}", "SELECT 1",
                                     f"UPDATE {table} SET b = 'z' WHERE a = 1")
        yield "query", f"DROP {self.pick('TEMPORARY ', '')}TABLE {table}" if name == "tmp" else f"DROP TEMPORARY TABLE {table}"
        yield "query", f"SELECT COUNT(*) FROM {table}"

    def lock(self):
        name = f"own{self.number}_{self.pick('x', 'y')}"
        yield "query", f"SELECT GET_LOCK('{name}', 0)"
        yield from self.pick(self.read, self.write)()
        yield "query", self.pick(f"SELECT IS_FREE_LOCK('{name}')", f"SELECT IS_USED_LOCK('{name}') IS NULL")
        yield "query", self.pick(f"SELECT RELEASE_LOCK('{name}')", f"DO RELEASE_LOCK('{name}')", "SELECT RELEASE_ALL_LOCKS()")
        yield "query", f"SELECT IS_FREE_LOCK('{name}')"
        yield "query", "DO RELEASE_ALL_LOCKS()"

    def lock_tables(self):
        t = self.own("t")
        yield "query", f"LOCK TABLES {t} {self.pick('READ', 'WRITE')}"
        yield "query", self.pick(f"SELECT COUNT(*) FROM {t}", f"SELECT COUNT(*) FROM {self.own('u')}",
                                 f"INSERT INTO {t} (v) VALUES ('locked')")
        yield "query", "UNLOCK TABLES"
        yield from self.read()

    def handler(self):
        yield "query", f"HANDLER {self.own('u')} OPEN AS h"
        yield "query", self.pick("HANDLER h READ FIRST", "HANDLER h READ `PRIMARY` = (2)")
        yield "query", "HANDLER h CLOSE"

    def sequence(self):
        seq = self.own("seq")
        yield "query", f"SELECT LASTVAL({seq})"
        yield "query", f"SELECT NEXTVAL({seq})"
        yield "query", f"SELECT LASTVAL({seq})"

    def xa(self):
        name = f"'xa{self.number}'"
        yield "query", f"XA START {name}"
        yield from self.write()
        yield "query", f"XA END {name}"
        if self.rng.random() < 0.5:
            yield "query", f"XA PREPARE {name}"
            yield "query", self.pick(f"XA COMMIT {name}", f"XA ROLLBACK {name}")
        else:
            yield "query", self.pick(f"XA COMMIT {name} ONE PHASE", f"XA ROLLBACK {name}")
        yield "query", f"XA ROLLBACK {name}"
        yield from self.read()

    # ---- procedures

    def call(self):
        name = self.pick("two()", "set_things(5)", "out_param(4, @p)", "open_and_fail()", "nosuch()")
        yield "query", f"CALL {self.own(name)}"
        yield from self.pick(self.ask, self.ask_state)()
        if name == "open_and_fail()":
            yield from self.read()
            yield "query", self.pick("ROLLBACK", "COMMIT")
        yield "query", self.pick("SELECT @p, 1/3", "SELECT @p")

    def call_temporary(self):
        yield "query", f"USE s{self.number}_a"
        yield "query", f"CALL {self.own('make_temp()')}"
        yield "query", "SELECT * FROM made"
        yield "query", "DROP TEMPORARY TABLE made"

    def sneaky(self):
        """A function that says it only reads."""
        yield "query", f"SELECT {self.own('sneaky')}(9)"
        yield "query", f"SELECT COUNT(*) FROM {self.own('t')} WHERE v = 'sneaky'"
        yield "query", f"DELETE FROM {self.own('t')} WHERE v = 'sneaky'"

    # ---- prepared statements

    def prepare_text(self):
        name, t = self.pick("p", "q"), self.own("t")
        text = self.pick(f"SELECT COUNT(*) FROM {t} WHERE id > ?", f"UPDATE {t} SET n = ? WHERE id = 1", "SELECT ? + 1",
                         f"INSERT INTO {t} (v) VALUES (?)", "SELECT nosuchcolumn", "SET @b = ?")
        yield "query", f"SET @a = {self.some_id()}"
        yield "query", f"PREPARE {name} FROM '{text}'"
        yield from self.pick(self.set_variable, self.read, self.use)()
        yield "query", self.pick(f"EXECUTE {name} USING @a", f"EXECUTE {name}")
        yield "query", f"EXECUTE {name} USING @a"
        yield "query", f"DEALLOCATE PREPARE {name}"
        yield "query", f"EXECUTE {name} USING @a"

    def prepare_text_to_stay(self):
        """Names that are still there many episodes later, in another schema, sql_mode or transaction."""
        name, t = self.pick("k", "l"), self.own("t")
        text = self.pick(f"SELECT COUNT(*) > 1 FROM {t} WHERE id < ?", "SELECT COUNT(*) > 0, ? FROM t", f"UPDATE {t} SET n = ? WHERE id = 2",
                         f"INSERT INTO {t} (v) VALUES (CONCAT(''kept'', ?))", "SELECT \"v\" || ? FROM t WHERE id = 1", "SELECT @a, ?",
                         "SELECT LAST_INSERT_ID() > 0, ?", "SET @b = ?", f"CALL {self.own('two()')}")
        yield "query", f"PREPARE {name} FROM '{text}'"
        yield "query", f"EXECUTE {name} USING @a"

    def execute_text(self):
        yield "query", self.pick("EXECUTE k USING @a", "EXECUTE l USING @a", "EXECUTE k", "DEALLOCATE PREPARE l", "EXECUTE l USING @nosuch")

    def execute_immediate(self):
        yield "query", self.pick("EXECUTE IMMEDIATE 'SELECT 1 + ?' USING 5", "EXECUTE IMMEDIATE 'SET @c = 3'",
                                 f"EXECUTE IMMEDIATE 'INSERT INTO {self.own('t')} (v) VALUES (''ei'')'")
        yield from self.pick(self.ask, self.ask_state)()

    def prepare(self):
        """A NULL in "SET @b = ?" has the character set of the value before it, or not, by whether the server has prepared it anew."""
        t = self.table()
        text, params = self.pick(
            (f"SELECT * FROM {t} WHERE id = ?", 1), (f"SELECT id, v, n FROM {t} WHERE id > ? ORDER BY id LIMIT 3", 1),
            (f"INSERT INTO {t} (v, n) VALUES (?, ?)", 2), (f"UPDATE {t} SET n = ? WHERE id = ?", 2), ("SELECT ?, ?", 2),
            ("SELECT 'a' || ?", 1), (f"SELECT COUNT(*) FROM {t}", 0), ("SELECT @a, DATABASE(), ?", 1), ("SELECT 1 FROM nosuch.t", 0),
            ("SET @b = IFNULL(?, 'none')", 1), (f"DELETE FROM {t} WHERE id = ? + 20", 1), ("SELECT \"x\", 1/3", 0), ("BROKEN ?", 1),
            (f"SELECT {self.own('twice')}(?)", 1), (f"SELECT * FROM {self.own('u')} ORDER BY k", 0), ("CALL " + self.own("two()"), 0))
        if len(self.slots) >= 4:
            yield from self.close_one()
        slot = self.next_slot
        self.next_slot += 1
        self.slots[slot] = params
        yield "prepare", (slot, text)
        yield from self.execute(slot)

    def execute(self, slot=None):
        if slot is None:
            if not self.slots:
                return
            slot = self.pick(list(self.slots))
        values = [self.pick(self.some_id(), "word", None, 2.5, "ü", b"\x00\xff", -1) for _ in range(self.slots[slot])]
        yield "execute", (slot, values)
        if self.rng.random() < 0.2:
            yield from self.ask()

    def cursor(self):
        slot = self.next_slot
        self.next_slot += 1
        self.slots[slot] = 0
        yield "prepare", (slot, f"SELECT id, v FROM {self.own('t')} ORDER BY id")
        yield "cursor", (slot, self.pick(1, 2, 100))
        del self.slots[slot]
        yield "close", slot

    def close_one(self):
        if self.slots:
            slot = self.pick(list(self.slots))
            del self.slots[slot]
            yield "close", slot

    # ---- commands

    def many(self):
        parts = [self.pick("SELECT 1", f"SET @a = {self.some_id()}", "SELECT @a", f"INSERT INTO {self.own('t')} (v) VALUES ('m')",
                           "SELECT LAST_INSERT_ID()", "SELECT * FROM nosuch.t", "DO 0", "BEGIN", "COMMIT", "SELECT ';', \"a;b\"",
                           f"USE s{self.number}_b", "SET sql_mode = ''", "SHOW WARNINGS") for _ in range(self.rng.randint(2, 4))]
        yield "query", "; ".join(parts) + self.pick("", ";")
        yield "query", "ROLLBACK"
        yield from self.ask_state()

    def command(self):
        kind = self.pick("ping", "ping", "reset", "set_option", "reconnect", "change_user", "change_user")
        if kind == "ping":
            yield "ping", None
            yield from self.ask()
        elif kind == "set_option":
            yield "set_option", 1
            yield "query", "SELECT 1; SELECT 2"
            yield "set_option", 0
        else:
            self.slots.clear()
            if kind == "change_user":
                self.account = self.pick(ACCOUNTS)
            elif kind == "reconnect":
                self.account = ACCOUNTS[0]
            yield kind, self.account
            if kind == "change_user":  # a server lets the new user keep the old one's role; nobody wants that from a proxy
                yield "query", "SET ROLE NONE"
            yield from self.ask_state()
            yield "query", f"USE {self.schema()}"


# How often each kind of episode comes. TANDEM_RANDOM_ONLY names a few of them, to narrow a failure down.
WEIGHTS = {
    "read": 14, "bad": 4, "ask": 3, "ask_state": 6, "set_variable": 6, "set_mode": 3, "set_bad": 3, "set_names": 3,
    "user_variable": 6, "use": 5, "drop_schema": 1, "role": 4, "clock": 1, "insert_id": 1, "write": 9, "write_and_look": 5, "ddl": 2,
    "transaction": 6, "chain": 1, "read_only": 3, "read_only_session": 2, "autocommit_off": 3, "isolation": 2, "temporary": 3,
    "lock": 2, "lock_tables": 1, "handler": 1, "sequence": 1, "xa": 1, "call": 3, "call_temporary": 1, "sneaky": 1,
    "prepare_text": 3, "prepare_text_to_stay": 2, "execute_text": 4, "execute_immediate": 1, "prepare": 6, "execute": 6, "cursor": 1,
    "close_one": 1, "many": 3, "command": 4,
}
