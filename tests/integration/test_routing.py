"""Where statements go: each row of the routing table, in text and in binary protocol, with one and with eight clients.

A case is a list of steps "PLACE statement". A mark in a comment of each statement is looked for in the general logs of all
servers: it must have run exactly once, and there:

    P  the primary        R  a replica        S  the same server as the step before
    ?  anywhere, once     E  anywhere; an error is expected (the number follows: E1064)

{n} is a number of the case's own.
"""
import re
import struct
import subprocess

import pytest

import rawmysql
import sandbox
from conftest import DIRECT, NUMBERS, in_threads, logs
from rawmysql import MysqlError
from sandbox import wait_for

pytestmark = [pytest.mark.core]

SCHEMA = """
CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100), KEY (v))
INSERT INTO t (id, v) VALUES (1, 'one'), (2, 'two'), (3, 'three')
CREATE VIEW v AS SELECT * FROM t
CREATE FUNCTION harmless(a INT) RETURNS INT DETERMINISTIC RETURN a + 1
CREATE FUNCTION harmless_nested(a INT) RETURNS INT READS SQL DATA RETURN harmless(a) + (SELECT COUNT(*) FROM t)
CREATE TABLE written (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100))
CREATE FUNCTION liar(a INT) RETURNS INT READS SQL DATA BEGIN INSERT INTO written (v) VALUES (a); RETURN a; END
CREATE FUNCTION nested_liar(a INT) RETURNS INT NO SQL RETURN liar(a)
CREATE FUNCTION reads_variable() RETURNS INT NO SQL RETURN @seen
CREATE VIEW liar_view AS SELECT liar(7) AS x
CREATE VIEW harmless_view AS SELECT harmless(id) AS x, UPPER(v) AS v FROM t
CREATE VIEW lock_view AS SELECT GET_LOCK(CONCAT('view', CONNECTION_ID()), 0) AS x
CREATE VIEW lock_view_view AS SELECT x + 1 AS y FROM lock_view
CREATE VIEW seen_view AS SELECT reads_variable() AS x
CREATE SEQUENCE seq
CREATE VIEW last_view AS SELECT LASTVAL(seq) AS x
CREATE VIEW next_view AS SELECT NEXTVAL(seq) AS x
CREATE PROCEDURE shows() SELECT 1
CREATE PROCEDURE writes(a INT) INSERT INTO written (v) VALUES (a)
CREATE ROLE some_role
"""

# name -> steps. Cases of one statement are written with |-free text: the first word is the place.
CASES = {
    # a replica, under the causal rule
    "select": ["R SELECT * FROM t"],
    "select where": ["R SELECT v FROM t WHERE id = 1"],
    "select no table": ["R SELECT 1 + 1"],
    "select subquery": ["R SELECT (SELECT MAX(id) FROM t) AS m"],
    "select union": ["R (SELECT 1) UNION (SELECT 2)"],
    "select derived": ["R SELECT * FROM (SELECT id FROM t) AS d"],
    "select join": ["R SELECT a.id FROM t a JOIN t b USING (id) WHERE b.v LIKE 't%'"],
    "select group": ["R SELECT v, COUNT(*) FROM t GROUP BY v HAVING COUNT(*) > 0 ORDER BY 1 LIMIT 2"],
    "values": ["R VALUES (1), (2)"],
    "table value in cte": ["R WITH x(a) AS (VALUES (1), (2)) SELECT * FROM x"],
    "with select": ["R WITH x AS (SELECT * FROM t) SELECT COUNT(*) FROM x"],
    "recursive": ["R WITH RECURSIVE x AS (SELECT 1 AS n UNION SELECT n + 1 FROM x WHERE n < 4) SELECT * FROM x"],
    "explain select": ["R EXPLAIN SELECT * FROM t"],
    "explain update": ["? EXPLAIN UPDATE written SET v = 1 WHERE id = -1"],
    "describe": ["R DESCRIBE t"],
    "show tables": ["R SHOW TABLES"],
    "show full tables": ["R SHOW FULL TABLES LIKE 't%'"],
    "show columns": ["R SHOW COLUMNS FROM t"],
    "show index": ["R SHOW INDEX FROM t"],
    "show create table": ["R SHOW CREATE TABLE t"],
    "show create view": ["R SHOW CREATE VIEW v"],
    "show databases": ["R SHOW DATABASES"],
    "show triggers": ["R SHOW TRIGGERS"],
    "information_schema tables": ["R SELECT table_name FROM information_schema.tables WHERE table_schema = 'route'"],
    "information_schema columns": ["R SELECT column_name FROM information_schema.columns WHERE table_name = 't'"],
    "server_id shows the split": ["R SELECT @@server_id", "R SELECT @@hostname, @@port"],
    "session variable": ["R SELECT @@sql_mode", "R SELECT @@session.character_set_client"],
    "function built in": ["R SELECT CONCAT(UPPER('a'), NOW(), RAND() * 0, UUID())"],
    "function stored harmless": ["R SELECT harmless(1)", "R SELECT harmless_nested(1)", "R SELECT route.harmless(2)"],
    "view": ["R SELECT * FROM v"],
    "view with functions": ["R SELECT * FROM harmless_view", "R SELECT v.x FROM route.harmless_view AS v"],
    "view that reads a user variable": ["R SELECT x FROM seen_view", "? SET @seen = 5", "P SELECT x FROM seen_view"],
    "view that writes": ["P SELECT x, {n} FROM liar_view", "R SELECT 1"],
    "view that locks": ["P SELECT x FROM lock_view", "P SELECT 1", "P SELECT RELEASE_ALL_LOCKS()"],
    "view of a view that locks": ["P SELECT y FROM `lock_view_view`"],
    "view of a sequence": ["P SELECT x FROM next_view", "P SELECT x FROM last_view", "R SELECT 1"],
    "insert from a view that locks": ["P INSERT INTO written (v) SELECT x FROM lock_view", "P SELECT 1"],
    "comments are not code": ["R SELECT 1 /* FOR UPDATE */ -- FOR UPDATE", "R SELECT 1 # INTO OUTFILE"],
    "words in strings": ["R SELECT 'INSERT INTO t; DELETE', \"FOR UPDATE\", `id` FROM t"],
    "set statement for select": ["R SET STATEMENT max_statement_time = 10 FOR SELECT * FROM t"],
    # the primary: other SHOWs and server tables
    "show status": ["P SHOW STATUS LIKE 'Threads%'"],
    "show global status": ["P SHOW GLOBAL STATUS LIKE 'Uptime'"],
    "show variables": ["P SHOW VARIABLES LIKE 'read_only'"],
    "show processlist": ["P SHOW PROCESSLIST"],
    "show master status": ["P SHOW MASTER STATUS"],
    "show binary logs": ["P SHOW BINARY LOGS"],
    "show engine innodb status": ["P SHOW ENGINE INNODB STATUS"],
    "show grants": ["P SHOW GRANTS"],
    "show slave status": ["P SHOW SLAVE STATUS"],
    "show plugins": ["P SHOW PLUGINS"],
    "mysql schema": ["P SELECT User FROM mysql.user", "P SELECT `Host` FROM `mysql`.`global_priv`"],
    "performance_schema": ["P SELECT * FROM performance_schema.threads LIMIT 1"],
    "sys schema": ["P SELECT * FROM sys.version"],
    "server schema by bare names": ["? USE mysql", "P SELECT COUNT(*) FROM user", "? USE information_schema",
                                    "P SELECT COUNT(*) FROM processlist", "? USE route", "R SELECT COUNT(*) FROM t"],
    "information_schema processlist": ["P SELECT id FROM information_schema.processlist"],
    "information_schema global_status": ["P SELECT * FROM information_schema.global_status LIMIT 1"],
    "information_schema innodb": ["P SELECT * FROM information_schema.innodb_trx"],
    "global variable": ["P SELECT @@global.read_only", "P SELECT @@GLOBAL.gtid_binlog_pos"],
    "read_only": ["P SELECT @@read_only"],
    "tx_read_only": ["P SELECT @@tx_read_only"],
    # the primary: reads that lock, write or wait
    "for update": ["P SELECT * FROM t WHERE id = 1 FOR UPDATE"],
    "for update in union": ["P (SELECT id FROM t) UNION (SELECT id FROM t FOR UPDATE)"],
    "for update in version comment": ["P SELECT * FROM t /*! FOR UPDATE */", "P SELECT * FROM t /*M! FOR UPDATE */"],
    "lock in share mode": ["P SELECT * FROM t LOCK IN SHARE MODE"],
    "skip locked": ["P SELECT * FROM t FOR UPDATE SKIP LOCKED"],
    "into outfile": ["P SELECT * FROM t INTO OUTFILE '{file}'"],
    "nextval": ["P SELECT NEXTVAL(seq)", "P SELECT NEXT VALUE FOR seq", "P SELECT LASTVAL(seq)"],
    "function that reads a user variable": ["? SET @seen = 5", "P SELECT reads_variable(), {n}", "R SELECT harmless(1)"],
    "get_lock": ["P SELECT GET_LOCK('routing{n}', 0)", "P SELECT 1", "P SELECT RELEASE_LOCK('routing{n}')",
                 "R SELECT 2"],
    "is_free_lock": ["P SELECT IS_FREE_LOCK('free{n}')"],
    "master_gtid_wait": ["P SELECT MASTER_GTID_WAIT('', 0)"],
    "function that writes": ["P SELECT liar({n})", "P SELECT nested_liar({n})"],
    "function in where": ["P SELECT * FROM t WHERE id = liar(1)"],
    # the primary: everything that changes something
    "insert": ["P INSERT INTO written (v) VALUES ('x')"],
    "insert select": ["P INSERT INTO written (v) SELECT v FROM t"],
    "insert returning": ["P INSERT INTO written (v) VALUES ('r') RETURNING id"],
    "insert on duplicate": ["P INSERT INTO written (id, v) VALUES (1, 'x') ON DUPLICATE KEY UPDATE v = VALUES(v)"],
    "update": ["P UPDATE written SET v = 'y' WHERE id = -1"],
    "delete": ["P DELETE FROM written WHERE id = -1"],
    "replace": ["P REPLACE INTO written (id, v) VALUES (100000 + {n}, 'z')"],
    "with delete": ["P DELETE FROM written WHERE id IN (WITH x AS (SELECT -1 AS i) SELECT i FROM x)"],
    "truncate": ["P CREATE TABLE tr{n} (a INT)", "P TRUNCATE tr{n}", "P DROP TABLE tr{n}"],
    "ddl": ["P CREATE TABLE d{n} (a INT)", "P ALTER TABLE d{n} ADD b INT", "P CREATE INDEX i ON d{n} (a)",
            "P RENAME TABLE d{n} TO e{n}", "P DROP TABLE e{n}"],
    "grant": ["P CREATE USER u{n}@'%'", "P GRANT SELECT ON route.* TO u{n}@'%'", "P DROP USER u{n}@'%'"],
    "call": ["P CALL writes({n})", "P CALL shows()"],
    "analyze table": ["P ANALYZE TABLE written"],
    "optimize": ["P OPTIMIZE NO_WRITE_TO_BINLOG TABLE t"],
    "repair": ["P REPAIR NO_WRITE_TO_BINLOG TABLE t"],
    "check": ["P CHECK TABLE t"],
    "set global": ["P SET GLOBAL max_connect_errors = 100"],
    "analyze update": ["P ANALYZE UPDATE written SET v = v WHERE id = -1"],
    "version comment write": ["P /*!50000 DELETE FROM written WHERE id = -1 */"],
    "handler": ["P HANDLER t OPEN AS h{n}", "P HANDLER h{n} READ FIRST", "P HANDLER h{n} CLOSE", "R SELECT 1"],
    "do": ["P DO GET_LOCK('do{n}', 0)", "P DO RELEASE_LOCK('do{n}')"],
    "begin not atomic": ["P BEGIN NOT ATOMIC INSERT INTO written (v) VALUES ('b'); END"],
    "xa": ["P XA START 'x{n}'", "P SELECT * FROM t", "P XA END 'x{n}'", "P XA ROLLBACK 'x{n}'", "R SELECT 1"],
    "lock tables": ["P CREATE TABLE l{n} (a INT)", "P LOCK TABLES l{n} WRITE", "P SELECT * FROM l{n}",
                    "P UNLOCK TABLES", "R SELECT * FROM l{n}", "P DROP TABLE l{n}"],
    "signal": ["E1644 SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'x'"],
    "unknown": ["E1064 FROBNICATE t"],
    # transactions
    "begin": ["? BEGIN", "P SELECT * FROM t", "P SELECT 1", "P COMMIT", "R SELECT 1"],
    "start transaction": ["? START TRANSACTION", "P SELECT * FROM t", "P ROLLBACK", "R SELECT 1"],
    "savepoint": ["? BEGIN", "P INSERT INTO written (v) VALUES ('s')", "P SAVEPOINT a", "P SELECT * FROM t",
                  "P ROLLBACK TO SAVEPOINT a", "P SELECT 1", "P COMMIT", "R SELECT 1"],
    "chain": ["? BEGIN", "P SELECT * FROM t", "P COMMIT AND CHAIN", "P SELECT 1", "P ROLLBACK", "R SELECT 1"],
    "implicit commit": ["? BEGIN", "P INSERT INTO written (v) VALUES ('i')", "P CREATE TABLE i{n} (a INT)", "R SELECT 1",
                        "P DROP TABLE i{n}"],
    "autocommit off": ["? SET autocommit = 0", "P SELECT * FROM t", "P COMMIT", "P SELECT 1", "? SET autocommit = 1",
                       "R SELECT 1"],
    "serializable": ["? SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE", "P SELECT * FROM t",
                     "? SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "R SELECT * FROM t"],
    "read only transaction": ["? START TRANSACTION READ ONLY", "R SELECT * FROM t", "S SELECT 1", "S SELECT @@server_id",
                              "? COMMIT", "R SELECT 1"],
    "read only next": ["? SET TRANSACTION READ ONLY", "? BEGIN", "R SELECT * FROM t", "S SELECT 2", "? COMMIT",
                       "? BEGIN", "P SELECT 1", "? ROLLBACK"],
    "read only session": ["? SET SESSION TRANSACTION READ ONLY", "? SET autocommit = 0", "R SELECT * FROM t",
                          "S SELECT 1", "? COMMIT"],
    "read only with temporary table": ["P CREATE TEMPORARY TABLE ro{n} (a INT)", "? START TRANSACTION READ ONLY",
                                       "P SELECT * FROM ro{n}", "? COMMIT"],
    # what a session holds
    "temporary table": ["P CREATE TEMPORARY TABLE tt{n} (a INT)", "P INSERT INTO tt{n} VALUES (1)", "P SELECT * FROM tt{n}",
                        "P DROP TEMPORARY TABLE tt{n}", "R SELECT 1"],
    "user variable": ["? SET @a = 5", "? SELECT @a", "R SELECT 1"],
    "set with subquery that reads": ["? SET @b = (SELECT MAX(id) FROM t)", "? SELECT @b", "R SELECT 1"],
    # text PREPARE goes by its meaning
    "prepare read": ["? PREPARE p{n} FROM 'SELECT 1 FROM t'", "R EXECUTE p{n}", "? DEALLOCATE PREPARE p{n}"],
    "prepare write": ["? PREPARE w{n} FROM 'INSERT INTO written (v) VALUES (1)'", "P EXECUTE w{n}",
                      "? DEALLOCATE PREPARE w{n}"],
    # as told
    "hint primary": ["P SELECT /* tandem: primary */ 1"],
    "hint replica": ["R SELECT /* tandem: replica */ 1"],
    "hint server": ["3 SELECT /* tandem: server=db3 */ 1", "2 SELECT /* tandem: server=db2 */ 1",
                    "1 SELECT /* tandem: server=db1 */ 1"],
}

ONE_CLIENT = {  # stops others, so never with eight clients
    "flush tables with read lock": ["P FLUSH TABLES WITH READ LOCK", "P SELECT 1", "P UNLOCK TABLES", "R SELECT 1"],
    "backup stage": ["P BACKUP STAGE START", "P SELECT 1", "P BACKUP STAGE END", "R SELECT 1"],
}

# Only as text: the server does not prepare these, or a prepared form means something else.
TEXT_ONLY = {"use", "xa", "handler", "lock tables", "flush tables with read lock", "backup stage", "begin not atomic",
             "prepare read", "prepare write", "comments are not code", "version comment write", "unknown"}

ALL = {**CASES, **ONE_CLIENT}


@pytest.fixture(scope="module", autouse=True)
def schema(cluster, shared_tandem):
    root = cluster.primary
    root.sql("CREATE DATABASE route")
    with root.connect(database="route") as admin:
        for statement in SCHEMA.strip().split("\n"):
            admin.query(statement)
    cluster.wait_synced()
    if not DIRECT:
        wait_for(lambda: bodies_are_known(cluster, shared_tandem), 20, "stored functions to be known")
    yield
    root.sql("DROP DATABASE route")
    root.sql("DROP ROLE some_role")
    cluster.wait_synced()


def bodies_are_known(cluster, tandem):
    """A function nobody has read yet is caught by the replica's guard and runs a second time, on the primary; a view nobody has read yet is
    read there like a table. They come from behind Tandem's back, and it may have looked in the middle: at the functions before, at the views
    behind. The procedures, which come last, make it look again."""
    alias = f"probe{next(NUMBERS)}"
    with logs(cluster) as recorded, tandem.connect(database="route") as client:
        client.query(f"SELECT nested_liar(0) AS {alias}")
        client.query(f"SELECT x AS {alias} FROM last_view")
        client.query("SET @seen = 1")
        client.query(f"SELECT x AS {alias} FROM seen_view")
        return not any(recorded[server.server_id].has(alias) for server in cluster.replicas)


def expected(place, cluster, before):
    """The server ids a step may run on."""
    primary, replicas = cluster.primary.server_id, {server.server_id for server in cluster.replicas}
    if DIRECT:
        return {primary}
    return {"P": {primary}, "R": replicas, "S": {before}, "?": replicas | {primary}}.get(place) or {int(place)}


class Step:
    def __init__(self, line, n, folder):
        self.place, text = line.split(" ", 1)
        self.error = int(self.place[1:]) if self.place[0] == "E" else None
        self.mark = f"mark{next(NUMBERS)}."
        text = text.format(n=n, file=f"{folder}/out{n}_{self.mark}txt")
        # The mark is a comment of its own in front: a trailing one would vanish behind -- or #.
        self.text = f"/* {self.mark} */ {text}"

    def run(self, client, protocol):
        try:
            client.query_all(self.text) if protocol == "text" else binary(client, self.text)
        except MysqlError as error:
            if error.number != self.error:
                raise AssertionError(f"{self.text}: {error}") from None
        else:
            assert self.error is None, f"{self.text}: expected error {self.error}"


def binary(client, text):
    statement = client.prepare(text)
    client.execute_all(statement)
    client.close_statement(statement)


def check_places(steps, recorded, cluster):
    before = None
    for step in steps:
        ran = {ident: log.has(step.mark) for ident, log in recorded.items()}
        on = {ident for ident, count in ran.items() if count}
        if step.error:
            continue
        assert sum(ran.values()) == 1, f"{step.text}: ran {ran} times"
        assert on <= expected(step.place, cluster, before), f"{step.text}: ran on {on}, expected {step.place}"
        before = on.pop()


def run_case(lines, cluster, tandem, protocol, threads):
    every = [[Step(line, n, cluster.primary.folder) for line in lines] for n in (next(NUMBERS) for _ in range(threads))]

    def work(index):
        with tandem.connect(database="route") as client:
            for step in every[index]:
                step.run(client, protocol)

    with logs(cluster) as recorded:
        in_threads(threads, work)
        read = {ident: Recorded(log.entries()) for ident, log in recorded.items()}
    for steps in every:
        check_places(steps, read, cluster)


class Recorded:
    """The statements of a log, read once."""

    def __init__(self, entries):
        self.texts = [text for _, command, text in entries if command in ("Query", "Execute")]

    def has(self, mark):
        return sum(1 for text in self.texts if mark.encode() in text)


MATRIX = [(name, protocol, threads) for name in ALL for protocol in ("text", "binary") for threads in (1, 8)
          if not (protocol == "binary" and name in TEXT_ONLY) and not (threads > 1 and name in ONE_CLIENT)]


@pytest.mark.parametrize("name, protocol, threads", MATRIX, ids=["-".join(map(str, row)) for row in MATRIX])
def test_row(name, protocol, threads, cluster, tandem):
    run_case(ALL[name], cluster, tandem, protocol, threads)


# ---- rows that speak of values rather than of places --------------------------------------------------------------------

def on_server(client):
    return client.value("SELECT @@server_id")


@pytest.fixture
def route(tandem):
    with tandem.connect(database="route") as connection:
        yield connection


def test_view_behind_tandems_back_of_a_function_that_writes(route, cluster):
    """Until views are read again, the replica guard refuses it; it is run on the primary, and is a write from then on."""
    def written():
        return cluster.primary.value("SELECT COUNT(*) FROM route.written WHERE v = '7'")
    before = written()
    cluster.primary.sql("CREATE VIEW route.sudden_view AS SELECT route.liar(7) AS x")
    cluster.wait_synced()
    assert route.value("SELECT x FROM sudden_view") == 7
    assert written() == before + 1
    with logs(cluster) as seen:
        assert route.value("SELECT /* again */ x FROM sudden_view") == 7
        ran = {number: log.has("again") for number, log in seen.items()}
    assert DIRECT or ran == {server.server_id: server is cluster.primary for server in cluster.servers}
    assert written() == before + 2


@pytest.mark.parametrize("capabilities", [rawmysql.CLASSIC, rawmysql.MODERN], ids=["classic", "modern"])
def test_last_insert_id_is_asked_where_it_was_made(tandem, capabilities):
    with tandem.connect(database="route", capabilities=capabilities) as client:
        made = client.query("INSERT INTO written (v) VALUES ('a')")
        assert made.insert_id > 0
        client.value("SELECT 1")
        assert client.value("SELECT LAST_INSERT_ID()") == made.insert_id
        assert client.value("SELECT @@identity") == made.insert_id
        assert client.binary("SELECT LAST_INSERT_ID()").value == made.insert_id
        assert client.binary("SELECT * FROM written WHERE id = LAST_INSERT_ID()").rows == [(made.insert_id, "a")]


def test_row_count(route):
    route.query("INSERT INTO written (v) VALUES ('a'), ('b'), ('c')")
    assert route.value("SELECT ROW_COUNT()") == 3
    route.query("SELECT 1")
    assert route.value("SELECT ROW_COUNT()") == -1


def test_found_rows(route):
    assert len(route.query("SELECT SQL_CALC_FOUND_ROWS id FROM t LIMIT 1").rows) == 1
    assert route.value("SELECT FOUND_ROWS()") == 3
    assert len(route.query("SELECT id FROM t LIMIT 2").rows) == 2
    assert route.value("SELECT FOUND_ROWS()") == 2


def test_warnings_of_a_read(route):
    assert route.query("SELECT 1 / 0, CAST('x' AS INT)").warnings == 2
    shown = route.query("SHOW WARNINGS").rows
    assert [row[1] for row in shown] == [1365, 1292]
    assert route.value("SHOW COUNT(*) WARNINGS") == 2
    assert route.value("SELECT @@warning_count") == 2


def test_warnings_of_a_write(route):
    route.query("CREATE TEMPORARY TABLE narrow (a TINYINT)")
    route.query("SET sql_mode = ''")
    assert route.query("INSERT INTO narrow VALUES (1000)").warnings == 1
    assert route.query("SHOW WARNINGS").rows[0][1] == 1264


def test_errors_are_shown(route):
    with pytest.raises(MysqlError):
        route.query("SELECT * FROM no_such_table")
    assert route.query("SHOW ERRORS").rows[0][1] == 1146
    assert route.value("SELECT @@error_count") == 1


def test_get_diagnostics(route):
    with pytest.raises(MysqlError):
        route.query("SELECT * FROM no_such_table")
    route.query("GET DIAGNOSTICS CONDITION 1 @number = MYSQL_ERRNO, @text = MESSAGE_TEXT")
    assert route.query("SELECT @number").value == 1146
    assert "no_such_table" in route.value("SELECT @text")


def test_use_and_init_db(route, cluster):
    route.query("USE information_schema")
    assert route.value("SELECT DATABASE()") == "information_schema"
    route.init_db("route")
    assert route.value("SELECT DATABASE()") == "route"
    assert route.query("SELECT id FROM t WHERE id = 1").rows == [(1,)]
    with pytest.raises(MysqlError) as caught:
        route.query("USE no_such_schema")
    assert caught.value.number == 1049
    assert route.value("SELECT DATABASE()") == "route"


def test_prepared_in_a_server_schema_stays_on_the_primary(route, cluster):
    route.query("USE performance_schema")
    read = route.prepare("SELECT @@server_id, COUNT(*) FROM threads")
    route.query("USE route")
    assert on_server(route) != cluster.primary.server_id
    assert route.execute(read, []).rows[0][0] == cluster.primary.server_id


def test_set_names_reaches_the_replica(route):
    route.query("SET NAMES latin1")
    assert route.value("SELECT @@character_set_client") == "latin1"
    assert route.query(b"SELECT HEX('\xe9')").value == "E9"
    route.query("SET NAMES utf8mb4 COLLATE utf8mb4_bin")
    assert route.value("SELECT @@collation_connection") == "utf8mb4_bin"
    assert route.value("SELECT COLLATION('a')") == "utf8mb4_bin"


def test_set_reaches_the_replica(route):
    route.query("SET SESSION sql_mode = 'ANSI_QUOTES'")
    assert route.query('SELECT "id" FROM t WHERE id = 2').rows == [(2,)]
    route.query("SET time_zone = '+03:00'")
    assert route.value("SELECT @@time_zone") == "+03:00"
    route.query("SET @x = 'y', @n = NULL, @i = 7, @d = 1.50, @b = x'00ff27'")
    assert route.query("SELECT @x, @n, @i, @d, HEX(@b)").rows == [("y", None, 7, "1.50", "00FF27")]


def test_a_wrong_set_is_refused_at_once(route):
    for statement, number in (("SET no_such_variable = 1", 1193), ("SET sql_mode = 'nonsense'", 1231),
                              ("SET NAMES nonsense", 1115), ("SET ROLE no_such_role", 1959)):
        with pytest.raises(MysqlError) as caught:
            route.query(statement)
        assert caught.value.number == number, statement


def test_connection_id_is_the_primarys(route, cluster):
    ident = route.value("SELECT CONNECTION_ID()")
    assert ident in [row[0] for row in cluster.primary.sql("SELECT id FROM information_schema.processlist")]
    assert route.value("SELECT CONNECTION_ID()") == ident


@pytest.mark.proxy_only
def test_session_ids_begin_high(route):
    assert route.thread_id >= 0x80000000


def test_kill_of_a_session(tandem, route):
    with tandem.connect(database="route") as other:
        assert other.value("SELECT 1") == 1
        route.query(f"KILL {other.thread_id}")
        with pytest.raises((rawmysql.ProtocolError, MysqlError, OSError)):
            for _ in range(1000):
                other.value("SELECT 1")


@pytest.mark.parametrize("statement", ["SELECT SLEEP(30)", "SELECT SLEEP(30) FROM t FOR UPDATE"], ids=["read", "write"])
def test_kill_query_of_a_session(statement, tandem, route, cluster, number):
    mark = f"killme{number}"
    with tandem.connect(database="route") as other:
        other.send_query(f"/* {mark} */ {statement}")
        running = f"SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%/* {mark}%' AND id <> CONNECTION_ID()"
        wait_for(lambda: any(server.value(running) for server in cluster.servers), 10, "the statement to run")
        route.query(f"KILL QUERY {other.thread_id}")
        try:
            assert other.read_result().rows[0] == (1,)  # a sleep that was cut short says so
        except MysqlError as error:
            assert error.number == 1317
        assert other.value("SELECT 5") == 5


def test_kill_of_a_primarys_own_id(route, cluster):
    with cluster.primary.connect() as straight:
        route.query(f"KILL {straight.thread_id}")
        with pytest.raises((rawmysql.ProtocolError, MysqlError, OSError)):
            straight.value("SELECT 1")
    with pytest.raises(MysqlError) as caught:
        route.query("KILL 2147483000")
    assert caught.value.number == 1094


def test_multi_statements(route, cluster, number):
    first = [result.rows for result in route.query_all("SELECT 1; SELECT id FROM t WHERE id = 2; SELECT 3")]
    assert first == [[(1,)], [(2,)], [(3,)]]
    with logs(cluster) as recorded:
        results = route.query_all(
            f"SELECT 'm{number}a'; INSERT INTO written (v) VALUES ('m{number}b'); SELECT COUNT(*) FROM written "
            f"WHERE v = 'm{number}b'")
        assert results[2].value == 1
        seen = {ident: log.has(f"m{number}b") for ident, log in recorded.items()}
    assert seen[cluster.primary.server_id] > 0 and sum(seen.values()) == seen[cluster.primary.server_id]


def test_multi_statement_error_in_the_middle(route, number):
    route.send_query(f"INSERT INTO written (v) VALUES ('e{number}'); SELECT nonsense; INSERT INTO written (v) VALUES ('never')")
    assert route.read_result().status & rawmysql.STATUS_MORE_RESULTS
    with pytest.raises(MysqlError):
        route.read_result()
    assert route.value(f"SELECT COUNT(*) FROM written WHERE v = 'e{number}'") == 1
    assert route.value("SELECT COUNT(*) FROM written WHERE v = 'never'") == 0


def test_multi_statements_off(tandem):
    with tandem.connect(database="route") as client:
        client.set_option(1)
        with pytest.raises(MysqlError) as caught:
            client.query("SELECT 1; SELECT 2")
        assert caught.value.number == 1064
        client.set_option(0)
        assert [result.value for result in client.query_all("SELECT 1; SELECT 2")] == [1, 2]


def test_cursor_stays_where_it_was_opened(route):
    statement = route.prepare("SELECT id, @@server_id FROM t ORDER BY id")
    opened = route.execute(statement, cursor=1)
    assert opened.status & rawmysql.STATUS_CURSOR_EXISTS and opened.rows == []
    rows = []
    while True:
        fetched = route.fetch(statement, 1, opened.columns)
        rows += fetched.rows
        route.value("SELECT 'in between'")
        if fetched.status & rawmysql.STATUS_LAST_ROW_SENT:
            break
    assert [row[0] for row in rows] == [1, 2, 3] and len({row[1] for row in rows}) == 1
    route.close_statement(statement)


def test_prepared_with_parameters(route, cluster):
    read = route.prepare("SELECT v, @@server_id FROM t WHERE id = ?")
    write = route.prepare("INSERT INTO written (id, v) VALUES (?, ?)")
    base = 500000 + next(NUMBERS) * 100
    for step in range(20):
        (value, where), = route.execute(read, [step % 3 + 1]).rows
        assert value == ("one", "two", "three")[step % 3]
        assert DIRECT or where != cluster.primary.server_id
        assert route.execute(write, [base + step, None if step % 2 else "x"]).affected == 1
    assert route.value(f"SELECT COUNT(*) FROM written WHERE id BETWEEN {base} AND {base + 99}") == 20


def test_found_rows_after_an_execute(route):
    for text, found in (("SELECT id FROM t ORDER BY id LIMIT 2", 2), ("SELECT id FROM t ORDER BY id LIMIT 1, 1", 2),
                        ("SELECT id FROM t ORDER BY id LIMIT 1 OFFSET 2", 3), ("SELECT SQL_CALC_FOUND_ROWS id FROM t LIMIT 1", 3),
                        ("SELECT 1 UNION SELECT 2", 2), ("SELECT id FROM t WHERE id = 99", 0)):
        statement = route.prepare(text)
        for _ in range(3):  # from the second on the connection has it ready
            route.execute(statement)
            assert route.value("SELECT FOUND_ROWS()") == found, text
        route.close_statement(statement)


def test_an_execute_with_a_cursor_and_others_without(route):
    """The same statement, again and again: each execution has what belongs to it alone."""
    statement = route.prepare("SELECT id FROM t WHERE id > ? ORDER BY id")
    for turn in range(4):
        assert route.execute(statement, [turn % 3]).rows == [(n,) for n in range(turn % 3 + 1, 4)]
        opened = route.execute(statement, [0], cursor=1)
        assert opened.status & rawmysql.STATUS_CURSOR_EXISTS and opened.rows == []
        assert route.fetch(statement, 2, opened.columns).rows == [(1,), (2,)]
        if turn % 2:
            route.reset_statement(statement)
    route.close_statement(statement)


def test_long_data(route):
    statement = route.prepare("SELECT LENGTH(?), MD5(?)")
    for piece in (b"a" * 1000, b"b" * 1000):
        route.long_data(statement, 0, piece)
    result = route.execute(statement, [rawmysql.LONG_DATA, "x"])
    assert result.rows == [(2000, "9dd4e461268c8034f5c8564e155c67a6")]
    route.reset_statement(statement)
    assert route.execute(statement, ["abc", "x"]).rows[0][0] == 3


def test_prepared_statement_that_was_closed_is_unknown(route):
    statement = route.prepare("SELECT 1")
    route.close_statement(statement)
    with pytest.raises(MysqlError) as caught:
        route.execute(statement)
    assert caught.value.number == 1243


def test_binlog_dump_comes_from_the_primary(tandem, cluster):
    if DIRECT:
        pytest.skip("nothing to tell apart")
    with tandem.connect() as client:
        file_name, position = client.query("SHOW MASTER STATUS").rows[0][:2]
        client.query("SET @master_binlog_checksum = 'NONE', @mariadb_slave_capability = 4")
        client.simple(rawmysql.COM_REGISTER_SLAVE, struct.pack("<IBBBHII", 4711, 0, 0, 0, 0, 0, 0))
        client.command(rawmysql.COM_BINLOG_DUMP, struct.pack("<IHI", 4, 0, 4711) + file_name.encode())
        event = client.read_packet()
        assert event[0] == 0 and event[5] == 4  # a rotate event: the name of the log
        dumps = "SELECT COUNT(*) FROM information_schema.processlist WHERE command = 'Binlog Dump'"
        assert cluster.primary.value(dumps) == len(cluster.replicas) + 1
        assert all(server.value(dumps) == 0 for server in cluster.replicas)


def test_field_list(route):
    assert [column.name for column in route.field_list("t")] == ["id", "v"]
    with pytest.raises(MysqlError):
        route.field_list("no_such_table")


def test_statistics_and_ping(route):
    assert "Uptime" in route.statistics()
    route.ping()


def test_load_data_local(route, cluster, number):
    data = "".join(f"{number}-{line}\n" for line in range(1000)).encode()
    done = route.query("LOAD DATA LOCAL INFILE 'x' INTO TABLE written (v)", infile=data)
    assert done.affected == 1000 and "Records: 1000" in done.info
    assert route.value(f"SELECT COUNT(*) FROM written WHERE v LIKE '{number}-%'") == 1000


def test_load_data_local_refused_by_the_client(route):
    # An empty file is what a client sends that will not give one.
    assert route.query("LOAD DATA LOCAL INFILE 'x' INTO TABLE written (v)", infile=b"").affected == 0
    assert route.value("SELECT 1") == 1


def test_change_user(tandem, cluster):
    with tandem.connect(database="route") as client:
        client.query("SET @a = 1, sql_mode = ''")
        client.query("CREATE TEMPORARY TABLE mine (a INT)")
        client.change_user("app", "app", "route")
        assert client.value("SELECT @a") is None
        assert client.value("SELECT @@sql_mode") != ""
        with pytest.raises(MysqlError) as caught:
            client.query("SELECT * FROM mine")
        assert caught.value.number == 1146


def test_reset_connection(tandem):
    with tandem.connect(database="route") as client:
        statement = client.prepare("SELECT 1")
        client.query("SET @a = 1, autocommit = 0")
        client.query("INSERT INTO written (v) VALUES ('rolled back by the reset')")
        client.reset()
        assert client.value("SELECT @a") is None and client.value("SELECT DATABASE()") == "route"
        assert client.value("SELECT COUNT(*) FROM written WHERE v LIKE 'rolled%'") == 0
        with pytest.raises(MysqlError):
            client.execute(statement)


def test_pipelined_commands_are_answered_in_order(route, number):
    for step in range(50):
        route.send_query(f"SELECT {step}" if step % 5 else f"INSERT INTO written (v) VALUES ('pipe{number}')")
        if step % 7 == 0:
            route.command(rawmysql.COM_PING)
    for step in range(50):
        route.seq = 1
        result = route.read_result()
        assert result.value == step if step % 5 else result.affected == 1
        if step % 7 == 0:
            route.seq = 1
            assert route.read_result().columns is None
    assert route.value(f"SELECT COUNT(*) FROM written WHERE v = 'pipe{number}'") == 10


def test_packets_in_pieces(route):
    for size in (1, 3, 5):
        packet = route.framed(bytes([rawmysql.COM_QUERY]) + b"SELECT id FROM t ORDER BY id")
        for at in range(0, len(packet), size):
            route.send_bytes(packet[at:at + size])
        route.seq = 1
        assert route.read_result().rows == [(1,), (2,), (3,)]


@pytest.mark.parametrize("extra", [-1, 0, 1, 5000])
def test_statement_of_16_mib(route, extra):
    frame = len("\x03SELECT LENGTH('')")
    size = rawmysql.MAX_PACKET - frame + extra
    assert route.value("SELECT LENGTH('" + "x" * size + "')") == size
    assert route.value("SELECT 1") == 1


def test_result_row_over_16_mib(route):
    for size in (rawmysql.MAX_PACKET - 4, rawmysql.MAX_PACKET + 10, 2 * rawmysql.MAX_PACKET + 7):
        assert len(route.value(f"SELECT REPEAT('y', {size})")) == size
        assert len(route.binary(f"SELECT REPEAT('y', {size})").value) == size


def test_hint_for_a_server_that_is_not_there(route):
    if DIRECT:
        pytest.skip("nobody reads hints")
    with pytest.raises(MysqlError) as caught:
        route.query("SELECT /* tandem: server=nowhere */ 1")
    assert re.match("tandem: ", caught.value.text)
    assert route.value("SELECT 1") == 1


# ---- rules in the settings

RULES = {
    "rule tagged": {"text": r"/\* report \d+ \*/", "to": "server=db3"},
    "rule by_schema": {"schema": "work", "user": "app", "to": "primary"},
    "rule of_nobody": {"user": "nobody", "to": "primary"},
    "rule of_another_digest": {"digest": "00000000000000ff", "to": "primary"},
    "rule trusts": {"text": "liar|never_seen", "to": "replica"},
}


@pytest.fixture(scope="module")
def ruled(cluster):
    if DIRECT:
        pytest.skip("nobody reads rules")
    with sandbox.Tandem(cluster, {"proxy": {"causal_wait": "5s"}, **RULES}) as daemon:
        daemon.wait_reads_on(cluster.replicas)
        yield daemon


def test_a_rule_chooses_the_server(ruled, cluster):
    with ruled.connect(database="route") as client:
        client.query("SET @seen = 4")
        for number in range(6):
            assert client.value(f"SELECT /* Report {number} */ @@server_id") == 3
            assert client.binary("SELECT /* report 1 */ @@server_id + ?", [0]).value == 3
            assert client.value("SELECT /* report 1, tandem: server=db2 */ @@server_id") in (2, 3)
            assert client.value("SELECT /* tandem: primary */ /* report 1 */ @@server_id") == 1
            assert client.query("SELECT /* report 1 */ @@server_id, @seen").rows == [(1, 4)]
        client.query("INSERT /* report 1 */ INTO written (v) VALUES ('ruled')")
        assert client.value("SELECT /* report 1 */ COUNT(*) FROM written WHERE v = 'ruled'") == 1
        client.query("BEGIN")
        assert client.value("SELECT /* report 1 */ @@server_id") == 1
        client.query("COMMIT")
    with ruled.connect(database="work") as client:
        assert client.value("SELECT @@server_id") == 1
        assert client.value("SELECT /* report 1 */ @@server_id") == 3


def test_a_rule_trusts_a_function_as_far_as_it_can(ruled, cluster):
    number = next(NUMBERS) + 70000
    with ruled.connect(database="route") as client:
        assert client.value(f"SELECT liar({number})") == number
    cluster.wait_synced()
    assert [server.value(f"SELECT COUNT(*) FROM route.written WHERE v = '{number}'") for server in cluster.servers] == [1, 1, 1]


def test_a_rule_shows_nothing_stale(ruled, heal):
    number = next(NUMBERS) + 80000
    db3 = heal.replicas[1]
    with ruled.connect(database="route") as client:
        db3.stop_sql_thread()
        client.query(f"INSERT INTO written (v) VALUES ('{number}')")
        assert client.value(f"SELECT /* report 1 */ COUNT(*) FROM written WHERE v = '{number}'") == 1
        db3.start_sql_thread()
        wait_for(lambda: client.value("SELECT /* report 1 */ @@server_id") == 3, 20, "reads as the rule says")
        db3.stop()
        wait_for(lambda: client.value("SELECT /* report 1 */ @@server_id") != 3, 20, "reads elsewhere")
        db3.start()
        wait_for(lambda: client.value("SELECT /* report 1 */ @@server_id") == 3, 20, "reads as the rule says")


def test_faults_in_rules(tmp_path):
    path = tmp_path / "rules.conf"
    path.write_text("[monitor]\nuser = monitor\n[server db1]\naddress = x\n[rule a]\ntext = (open\nto = db1\n[rule b]\nto = server=nowhere\n"
                    "[rule c]\ndigest = 12\n[rule d]\nto = server=db1\ntext = ^select\n")
    path.chmod(0o600)
    done = subprocess.run([sandbox.tandem_binary(), "-t", "-c", path], capture_output=True, text=True)
    assert done.returncode == 2
    assert [re.sub(r"^\S+:(\d+: )\[rule( \w)?\]", r"\1", line) for line in done.stderr.splitlines()] == [
        "6:  text = (open: missing closing parenthesis, at character 6", "7:  to = db1: not primary, replica or server=NAME",
        "11:  digest = 12: not 16 hexadecimal digits", "10: : to is missing", "9:  to = server=nowhere: there is no [server nowhere]"]
