"""What servers really do and drivers hide: each trap that would make the split wrong, a test named after it.

`tight` is a Tandem with one worker and two connections per server, so that sessions take connections from each other all the
time; `churn` makes others use them in between.
"""
import contextlib
import time

import pytest

import rawmysql
import sandbox
from conftest import DIRECT, NUMBERS, Direct
from rawmysql import CLASSIC, MODERN, STATUS_IN_TRANS, MysqlError, ProtocolError
from sandbox import wait_for

pytestmark = [pytest.mark.core]

SCHEMA = """
CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100))
CREATE TABLE other_trap.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100))
CREATE PROCEDURE leaves_open(x VARCHAR(100)) BEGIN START TRANSACTION; INSERT INTO t (v) VALUES (x); SIGNAL SQLSTATE '45000'; END
CREATE PROCEDURE commits_and_fails(x VARCHAR(100)) BEGIN INSERT INTO t (v) VALUES (x); COMMIT; SET div_precision_increment = 7; \
SET @from_call = x; SIGNAL SQLSTATE '45000'; END
CREATE PROCEDURE sets_things() BEGIN SET @from_call = 'called'; SET SESSION div_precision_increment = 8; END
CREATE FUNCTION liar(x VARCHAR(100)) RETURNS INT READS SQL DATA BEGIN INSERT INTO t (v) VALUES (x); RETURN 1; END
CREATE ROLE trap_role
GRANT trap_role TO app@'%'
"""


@pytest.fixture(scope="module", autouse=True)
def schema(cluster):
    cluster.primary.sql("CREATE DATABASE trap")
    cluster.primary.sql("CREATE DATABASE other_trap")
    with cluster.primary.connect("root", "", database="trap") as admin:
        for statement in SCHEMA.strip().split("\n"):
            admin.query(statement)
    cluster.wait_synced()
    yield
    for statement in ("DROP DATABASE trap", "DROP DATABASE IF EXISTS other_trap", "DROP ROLE trap_role"):
        cluster.primary.sql(statement)
    cluster.wait_synced()


@pytest.fixture(scope="module")
def shared_tandem(cluster):
    """With the usual causal_wait: these tests stop replication and ask what is read, not where."""
    if DIRECT:
        yield Direct(cluster)
        return
    with sandbox.Tandem(cluster) as started:
        started.wait_reads_on(cluster.replicas)
        yield started


@pytest.fixture(scope="module")
def shared_tight(cluster):
    if DIRECT:
        yield Direct(cluster)
        return
    limits = {f"server {server.name}": {"address": server.address, "max_connections": 2} for server in cluster.servers}
    with sandbox.Tandem(cluster, {"tandem": {"threads": 1}, **limits}) as started:
        started.wait_reads_on(cluster.replicas)
        yield started


@pytest.fixture
def tight(shared_tight):
    if not DIRECT and not shared_tight.process.running():
        shared_tight.start()
    return shared_tight


@pytest.fixture
def stopped(cluster):
    """No replica applies anything during the test."""
    for server in cluster.replicas:
        server.stop_sql_thread()
    yield
    for server in cluster.replicas:
        server.start_sql_thread()
    cluster.wait_synced()


def churn(tandem, rounds=2):
    """Other sessions of another kind of state read and write, so that every pooled connection has been in other hands."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(tandem.connect(database="other_trap")) for _ in range(5)]
        for _ in range(rounds):
            for client in clients:
                client.query("SET @from_call = 'stranger', sql_mode = 'NO_ZERO_DATE'")
                client.value("SELECT @@server_id")
                client.query("UPDATE t SET v = 'x' WHERE id = -1")


def mark():
    return f"trap{next(NUMBERS)}"


def count(where, text, table="trap.t"):
    return where.query(f"SELECT COUNT(*) FROM {table} WHERE v = '{text}'").value


def fails(number, client, statement):
    with pytest.raises(MysqlError) as caught:
        client.query(statement)
    numbers = number if isinstance(number, tuple) else (number,)
    assert caught.value.number in numbers, f"{statement}: {caught.value}"
    return caught.value


# ---- errors and what was sent behind them

def test_the_failed_use_before_an_insert(tight, cluster):
    """The schema goes away while another session has the connection: the INSERT must not land in that one's schema."""
    text, name = mark(), f"gone{next(NUMBERS)}"
    cluster.primary.sql(f"CREATE DATABASE {name}")
    cluster.primary.sql(f"CREATE TABLE {name}.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100))")
    with tight.connect(database=name) as client:
        client.query("INSERT INTO t (v) VALUES ('first')")
        churn(tight)
        cluster.primary.sql(f"DROP DATABASE {name}")
        fails((1046, 1049, 1146), client, f"INSERT INTO t (v) VALUES ('{text}')")
    with cluster.primary.connect() as straight:
        assert count(straight, text) == 0 and count(straight, text, "other_trap.t") == 0


def test_the_failed_set_before_an_insert(tight, cluster):
    """A value that can no longer be set: the INSERT runs with it or not at all."""
    text, user = mark(), f"binlogger{next(NUMBERS)}"
    for statement in (f"CREATE USER {user}@'%' IDENTIFIED BY 'x'", f"GRANT ALL ON trap.* TO {user}@'%'",
                      f"GRANT BINLOG ADMIN, SUPER ON *.* TO {user}@'%'"):
        cluster.primary.sql(statement)
    cluster.wait_synced()
    with wait_for(lambda: tight.connect(user, "x", database="trap"), 15, "the new account"):
        pass
    with tight.connect(user, "x", database="trap") as client:
        client.query("SET SESSION sql_log_bin = 0")
        client.query("DO 1")
        churn(tight)
        cluster.primary.sql(f"REVOKE BINLOG ADMIN, SUPER ON *.* FROM {user}@'%'")
        before = cluster.primary.position()
        try:
            client.query(f"INSERT INTO t (v) VALUES ('{text}')")
        except (MysqlError, ProtocolError, OSError):
            with cluster.primary.connect() as straight:
                assert count(straight, text) == 0
        else:
            assert cluster.primary.position() == before, "the row went to the binary log"
    cluster.primary.sql("SET sql_log_bin = 0")
    cluster.primary.sql(f"DELETE FROM trap.t WHERE v = '{text}'")
    cluster.primary.sql("SET sql_log_bin = 1")
    cluster.primary.sql(f"DROP USER {user}@'%'")


def test_the_failed_set_that_the_client_pipelined(tandem, cluster):
    text = mark()
    with tandem.connect(database="trap") as client:
        client.send_query("SET sql_mode = 'nonsense'")
        client.send_query(f"INSERT INTO t (v) VALUES ('{text}')")
        client.seq = 1
        with pytest.raises(MysqlError) as caught:
            client.read_result()
        assert caught.value.number == 1231
        client.seq = 1
        assert client.read_result().affected == 1
        assert count(client, text) == 1


@pytest.mark.parametrize("capabilities", [CLASSIC, MODERN], ids=["classic", "modern"])
def test_the_procedure_that_leaves_a_transaction_open_behind_an_error(tandem, cluster, capabilities):
    text = mark()
    with tandem.connect(database="trap", capabilities=capabilities) as client, cluster.primary.connect() as straight:
        fails(1644, client, f"CALL leaves_open('{text}')")
        assert count(client, text) == 1, "the session reads outside of its own transaction"
        assert count(straight, text) == 0
        assert client.status & STATUS_IN_TRANS
        client.query("ROLLBACK")
        assert count(client, text) == 0


def test_the_procedure_that_leaves_a_transaction_open_and_the_client_that_leaves(tight, cluster):
    text = mark()
    with tight.connect(database="trap") as client:
        fails(1644, client, f"CALL leaves_open('{text}')")
    churn(tight)
    with cluster.primary.connect() as straight:
        assert count(straight, text) == 0


def test_the_procedure_that_commits_sets_and_fails(tandem, stopped):
    """The tracking of what it did comes with a later reply or never: the reads that follow must know all the same."""
    text = mark()
    with tandem.connect(database="trap") as client:
        fails(1644, client, f"CALL commits_and_fails('{text}')")
        assert count(client, text) == 1
        assert client.value("SELECT @from_call") == text
        assert client.value("SELECT 1 / 3") == "0.3333333"


# ---- writes that look like reads

def written_once(cluster, text):
    cluster.wait_synced()
    for server in cluster.servers:
        with server.connect() as straight:
            assert count(straight, text) == 1, f"{server.name}"
        assert server.row("SHOW SLAVE STATUS").get("Last_SQL_Errno", 0) in (0, "0")
    assert len({server.value("SELECT @@global.gtid_binlog_pos") for server in cluster.servers}) == 1


def test_the_function_declared_reads_sql_data_that_writes(client_of_trap, cluster):
    text = mark()
    assert client_of_trap.value(f"SELECT liar('{text}')") == 1
    written_once(cluster, text)


@pytest.fixture
def client_of_trap(tandem):
    with tandem.connect(database="trap") as connection:
        yield connection


def test_row_count_and_found_rows_as_a_server_shows_them(client_of_trap, cluster):
    """Names and lengths of columns, inside of expressions, in later parts of a packet, behind LIMIT, in a definition."""
    table = f"counted{next(NUMBERS)}"
    client_of_trap.query(f"CREATE TABLE {table} (a INT)")
    with cluster.primary.connect(database="trap") as straight:
        for who in (straight, client_of_trap):
            who.set_option(0)
        both = []
        for who in (straight, client_of_trap):
            answers = [who.query(f"INSERT INTO {table} VALUES (1), (2), (3)") and who.query("SELECT HEX(CONCAT(ROW_COUNT())), ROW_COUNT()")]
            answers.append(who.query_all(f"UPDATE {table} SET a = a + 10; SELECT ROW_COUNT(); DELETE FROM {table} LIMIT 2; SELECT ROW_COUNT()"))
            who.query(f"INSERT INTO {table} VALUES (7), (8)")
            answers.append(who.query(f"SELECT a FROM {table} ORDER BY a LIMIT 1, 1") and who.query("SELECT FOUND_ROWS()"))
            answers.append(who.query("SELECT 1 UNION SELECT 2") and who.query("SELECT FOUND_ROWS() + 1, FOUND_ROWS()"))
            with pytest.raises(MysqlError) as caught:
                who.query(f"CREATE TABLE never{table} (a INT DEFAULT ROW_COUNT())")
            assert caught.value.number == 1901
            flat = [one for answer in answers for one in (answer if isinstance(answer, list) else [answer])]
            both.append([(one.rows, [column[3:] for column in one.columns or []]) for one in flat])
            who.query(f"DELETE FROM {table}")
        assert both[0] == both[1]


def test_a_function_leaves_traces_on_its_connection(client_of_trap, cluster, tandem):
    """It sets a user variable and a session variable, and takes a lock: whoever called it has them, and nobody else."""
    name = f"traces{next(NUMBERS)}"
    client_of_trap.query(f"CREATE FUNCTION {name}(x INT) RETURNS INT NO SQL BEGIN SET @{name} = x, @@sort_buffer_size = 262144;"
                         f" RETURN GET_LOCK('{name}', 0) + IFNULL(@{name}, 0); END")
    client_of_trap.query(f"CREATE FUNCTION {name}_reads() RETURNS INT NO SQL RETURN @{name}")
    assert client_of_trap.value(f"SELECT {name}(5)") == 6
    with tandem.connect(database="work") as other:
        assert other.query(f"SELECT @{name}, @@sort_buffer_size = 262144").rows == [(None, 0)]
        assert other.value(f"SELECT IS_FREE_LOCK('{name}')") == 0
        for _ in range(3):
            assert client_of_trap.value(f"SELECT {name}_reads()") == 5
            assert client_of_trap.query(f"SELECT @{name}, @@sort_buffer_size").rows == [(5, 262144)]
    client_of_trap.query(f"DO RELEASE_LOCK('{name}')")


def test_the_function_that_writes_and_is_new(client_of_trap, cluster):
    """Created a moment ago, so that nobody has read its body yet."""
    for how in ("text", "binary", "view"):
        text, name = mark(), f"new_liar{next(NUMBERS)}"
        client_of_trap.query(f"CREATE FUNCTION {name}(x VARCHAR(100)) RETURNS INT READS SQL DATA "
                             "BEGIN INSERT INTO t (v) VALUES (x); RETURN 1; END")
        if how == "view":
            client_of_trap.query(f"CREATE VIEW v_{name} AS SELECT {name}('{text}') AS one")
            cluster.wait_synced()
            assert client_of_trap.query(f"SELECT one FROM v_{name}").rows == [(1,)]
        elif how == "text":
            cluster.wait_synced()
            assert client_of_trap.value(f"SELECT {name}('{text}')") == 1
        else:
            cluster.wait_synced()
            assert client_of_trap.binary(f"SELECT {name}(?)", [text]).value == 1
        written_once(cluster, text)


def test_1792_in_the_clients_own_read_only_transaction(client_of_trap):
    client_of_trap.query("START TRANSACTION READ ONLY")
    client_of_trap.query("SELECT COUNT(*) FROM t")
    fails(1792, client_of_trap, "INSERT INTO t (v) VALUES ('never')")
    client_of_trap.query("COMMIT")
    assert count(client_of_trap, "never") == 0


# ---- reading what was just written

@pytest.mark.parametrize("capabilities", [CLASSIC, MODERN], ids=["classic", "modern"])
@pytest.mark.parametrize("write", [
    "INSERT INTO t (v) VALUES ('{text}') RETURNING id", "INSERT INTO t (v) VALUES ('{text}')",
    "SELECT liar('{text}')", "CALL commits_and_fails('{text}')",
    "BEGIN NOT ATOMIC INSERT INTO t (v) VALUES ('{text}'); SELECT 1; END",
], ids=["returning", "insert", "function", "procedure", "block"])
def test_insert_returning_and_then_a_read(tandem, stopped, capabilities, write):
    """Tracking rides only in OK packets, and a classic client's result set ends in EOF."""
    text = mark()
    with tandem.connect(database="trap", capabilities=capabilities) as client, tandem.connect(database="trap") as mate:
        try:
            client.query_all(write.format(text=text))
        except MysqlError as error:
            assert error.number == 1644
        assert count(client, text) == 1
        assert count(mate, text) == 1, "an account-mate does not see it"
    with tandem.connect(database="trap") as later:
        assert count(later, text) == 1, "a later connection of the account does not see it"


def test_insert_returning_binary_and_then_a_read(tandem, stopped):
    text = mark()
    with tandem.connect(database="trap", capabilities=CLASSIC) as client:
        made = client.binary("INSERT INTO t (v) VALUES (?) RETURNING id", [text]).value
        assert client.binary("SELECT v FROM t WHERE id = ?", [made]).rows == [(text,)]


def test_the_commit_and_then_a_read(tandem, stopped):
    text = mark()
    with tandem.connect(database="trap", capabilities=CLASSIC) as client:
        client.query("BEGIN")
        client.query(f"INSERT INTO t (v) VALUES ('{text}')")
        client.query("COMMIT")
        assert count(client, text) == 1


def test_the_table_another_session_has_just_created(tandem, stopped, cluster):
    name, schema = f"fresh{next(NUMBERS)}", f"freshdb{next(NUMBERS)}"
    with cluster.primary.connect(database="trap") as creator, tandem.connect(database="trap") as client:
        creator.query(f"CREATE TABLE {name} (a INT)")
        creator.query(f"INSERT INTO {name} VALUES (7)")
        assert client.value(f"SELECT a FROM {name}") == 7
        assert client.binary(f"SELECT a FROM {name} WHERE a = ?", [7]).value == 7
        assert client.query(f"DESCRIBE {name}").rows[0][0] == "a"
        creator.query(f"ALTER TABLE {name} ADD b INT DEFAULT 8")
        assert client.value(f"SELECT b FROM {name}") == 8
        creator.query(f"CREATE FUNCTION f{name}() RETURNS INT NO SQL RETURN 9")
        assert client.value(f"SELECT f{name}()") == 9
        creator.query(f"CREATE DATABASE {schema}")
        client.query(f"USE {schema}")
        assert client.value("SELECT DATABASE()") == schema
        with tandem.connect(database=schema) as other:
            assert other.value("SELECT DATABASE()") == schema
        fails(1146, client, "SELECT * FROM trap.this_table_is_nowhere")
        creator.query(f"DROP DATABASE {schema}")
        creator.query(f"DROP FUNCTION f{name}")


def test_the_right_another_session_has_just_granted(tandem, cluster):
    user = f"newcomer{next(NUMBERS)}"
    for statement in (f"CREATE USER {user}@'%' IDENTIFIED BY 'x'", f"GRANT SELECT ON other_trap.* TO {user}@'%'"):
        cluster.primary.sql(statement)
    cluster.wait_synced()
    with wait_for(lambda: tandem.connect(user, "x"), 15, "the new account") as client:
        fails(1142, client, "SELECT COUNT(*) FROM trap.t")
        for server in cluster.replicas:
            server.stop_sql_thread()
        try:
            cluster.primary.sql(f"GRANT SELECT ON trap.* TO {user}@'%'")
            assert client.value("SELECT COUNT(*) >= 0 FROM trap.t") == 1
            client.query("USE trap")
        finally:
            for server in cluster.replicas:
                server.start_sql_thread()
    cluster.primary.sql(f"DROP USER {user}@'%'")
    cluster.wait_synced()


# ---- values about the last statement

@pytest.mark.parametrize("capabilities", [CLASSIC, MODERN], ids=["classic", "modern"])
def test_last_insert_id_against_oks_insert_id(tight, capabilities):
    with tight.connect(database="trap", capabilities=capabilities) as client:
        client.query("CREATE TEMPORARY TABLE auto (id INT PRIMARY KEY AUTO_INCREMENT, v INT)")
        client.query("INSERT INTO t (v) VALUES ('generated')")
        generated = client.value("SELECT LAST_INSERT_ID()")
        assert client.query("INSERT INTO auto (id) VALUES (5000)").insert_id == 5000
        assert client.value("SELECT LAST_INSERT_ID()") == generated
        client.query("DROP TEMPORARY TABLE auto")
        churn(tight)
        assert client.value("SELECT LAST_INSERT_ID()") == generated
        client.query("SELECT LAST_INSERT_ID(77)")
        churn(tight)
        assert client.value("SELECT LAST_INSERT_ID()") == 77
        assert client.query("INSERT INTO t (v) VALUES (LAST_INSERT_ID())").affected == 1
    with tight.connect(database="trap") as fresh:
        assert fresh.value("SELECT LAST_INSERT_ID()") == 0


def test_row_count_after_a_state_change(tight):
    with tight.connect(database="trap") as client:
        client.query("SET sql_mode = 'ANSI_QUOTES', @a = 1")
        client.value("SELECT @@server_id")
        assert client.query("INSERT INTO t (v) VALUES ('rc'), ('rc'), ('rc')").affected == 3
        assert client.value("SELECT ROW_COUNT()") == 3
        client.query("INSERT INTO t (v) VALUES ('rc'), ('rc')")
        churn(tight)
        assert client.value("SELECT ROW_COUNT()") == 2


def test_warnings_after_others_used_the_connection(tight):
    with tight.connect(database="trap") as client:
        assert client.query("SELECT CAST('x' AS INT)").warnings == 1
        churn(tight)
        assert [row[1] for row in client.query("SHOW WARNINGS").rows] == [1292]


def test_lastval_of_a_sequence(tight, cluster):
    with tight.connect(database="trap") as client:
        client.query("CREATE OR REPLACE SEQUENCE trap_seq")
        first = client.value("SELECT NEXTVAL(trap_seq)")
        churn(tight)
        assert client.value("SELECT LASTVAL(trap_seq)") == first


# ---- state

def test_a_role_left_by_the_client_before(tight):
    with tight.connect(database="trap") as client:
        client.query("SET ROLE trap_role")
        assert client.value("SELECT CURRENT_ROLE()") == "trap_role"
        churn(tight)
        assert client.value("SELECT CURRENT_ROLE()") == "trap_role"
    for _ in range(6):
        with tight.connect(database="trap") as client:
            assert client.value("SELECT CURRENT_ROLE()") is None
            assert client.value("SELECT CURRENT_ROLE() FROM t LIMIT 1 FOR UPDATE") is None


def test_nothing_else_is_left_by_the_client_before(tight):
    for _ in range(3):
        with tight.connect(database="trap") as client:
            client.query("SET @secret = 1, sql_mode = '', time_zone = '+05:00', autocommit = 0, foreign_key_checks = 0")
            client.query("SET NAMES latin1")
            client.query("INSERT INTO t (v) VALUES ('not committed')")
            client.query("CREATE TEMPORARY TABLE left_behind (a INT)")
            client.query("SELECT GET_LOCK('left behind', 0)")
            client.query("PREPARE left_behind FROM 'SELECT 1'")
            client.query("USE other_trap")
        with tight.connect() as client:
            for expression, expected in (("@secret", None), ("@@time_zone", "SYSTEM"), ("@@autocommit", 1),
                                         ("@@foreign_key_checks", 1), ("@@character_set_client", "utf8mb4"),
                                         ("DATABASE()", None)):
                assert client.value(f"SELECT {expression}") == expected, expression
                assert client.binary(f"SELECT {expression}").value == expected, expression
            assert client.value("SELECT @@sql_mode") != ""
            assert client.value("SELECT GET_LOCK('left behind', 0)") == 1
            client.query("DO RELEASE_LOCK('left behind')")
            fails(1243, client, "EXECUTE left_behind")
            fails(1146, client, "SELECT * FROM trap.left_behind")
            fails(1046, client, "SELECT * FROM t")
            assert count(client, "not committed") == 0


def test_variables_set_where_nobody_reports_them(tight):
    with tight.connect(database="trap") as client:
        client.query("SELECT @assigned := 5")
        client.query("SELECT 6, 'six' INTO @into, @text")
        client.query("CALL sets_things()")
        churn(tight)
        assert client.query("SELECT @assigned, @into, @text, @from_call").rows == [(5, 6, "six", "called")]
        assert client.value("SELECT @@div_precision_increment") == 8
        assert client.value("SELECT 1 / 3") == "0.33333333"


def test_a_long_user_variable(tight):
    """The server's own list of user variables cuts values at 2,048 characters."""
    with tight.connect(database="trap") as client:
        client.query("SET @long = REPEAT('x', 100000), @bytes = x'0001ff27225c'")
        client.query("SELECT @long_assigned := REPEAT('y', 5000)")
        churn(tight)
        assert client.query("SELECT LENGTH(@long), LENGTH(@long_assigned), HEX(@bytes)").rows == \
            [(100000, 5000, "0001FF27225C")]


def test_timestamp_is_never_brought_back(tight):
    with tight.connect(database="trap") as client:
        client.query("SET timestamp = 5")
        assert client.value("SELECT UNIX_TIMESTAMP()") == 5
        churn(tight)
        assert client.value("SELECT UNIX_TIMESTAMP()") == 5
        client.query("SET timestamp = DEFAULT")
        churn(tight)
        assert abs(float(client.value("SELECT UNIX_TIMESTAMP()")) - time.time()) < 60


def test_set_names_with_a_collation(tight):
    with tight.connect(database="trap") as client:
        client.query("SET NAMES utf8mb4 COLLATE utf8mb4_bin")
        churn(tight)
        assert client.value("SELECT @@collation_connection") == "utf8mb4_bin"
        assert client.value("SELECT 'a' = 'A'") == 0


def test_the_dropped_current_schema(tight, cluster):
    name = f"current{next(NUMBERS)}"
    cluster.primary.sql(f"CREATE DATABASE {name}")
    cluster.wait_synced()
    with tight.connect(database=name) as client:
        client.value("SELECT 1")
        client.query(f"DROP DATABASE {name}")
        assert client.value("SELECT DATABASE()") is None
        fails(1046, client, "SELECT * FROM t")
        churn(tight)
        assert client.value("SELECT DATABASE()") is None
        fails(1046, client, "INSERT INTO t (v) VALUES ('nowhere')")


def test_get_lock_as_a_mutex_between_two_clients(tight):
    name = f"mutex{next(NUMBERS)}"
    with tight.connect(database="trap") as one, tight.connect(database="trap") as two:
        assert one.value(f"SELECT GET_LOCK('{name}', 0)") == 1
        assert two.value(f"SELECT GET_LOCK('{name}', 0)") == 0
        one.query("INSERT INTO t (v) VALUES ('in the lock')")
        assert two.value(f"SELECT IS_FREE_LOCK('{name}')") == 0
        assert two.value(f"SELECT GET_LOCK('{name}', 0)") == 0
        assert one.value(f"SELECT RELEASE_LOCK('{name}')") == 1
        assert two.value(f"SELECT GET_LOCK('{name}', 0)") == 1
        assert one.value(f"SELECT GET_LOCK('{name}', 0)") == 0
    with tight.connect(database="trap") as third:
        assert wait_for(lambda: third.value(f"SELECT GET_LOCK('{name}', 0)") == 1, 10, "the leaver's lock")


def test_read_only_sessions_as_spring_sets_them(tandem, cluster):
    text = mark()
    with tandem.connect(database="trap") as client:
        client.query("SET SESSION TRANSACTION READ ONLY")
        client.query("SET autocommit = 0")
        assert client.value("SELECT @@tx_read_only") == 1
        client.query("COMMIT")
        cluster.wait_synced()
        servers = {client.value("SELECT @@server_id FROM t LIMIT 1") for _ in range(5)}
        assert len(servers) == 1, "one transaction, one server"
        assert DIRECT or cluster.primary.server_id not in servers
        fails(1792, client, f"INSERT INTO t (v) VALUES ('{text}')")
        client.query("ROLLBACK")
        client.query("SET autocommit = 1")
        client.query("SET SESSION TRANSACTION READ WRITE")
        assert client.value("SELECT @@tx_read_only") == 0
        assert client.query(f"INSERT INTO t (v) VALUES ('{text}')").affected == 1
        assert count(client, text) == 1


def test_a_read_only_session_with_autocommit(tandem):
    with tandem.connect(database="trap") as client:
        client.query("SET SESSION TRANSACTION READ ONLY")
        fails(1792, client, "INSERT INTO t (v) VALUES ('never')")
        assert client.value("SELECT @@tx_read_only") == 1
        client.query("SET SESSION TRANSACTION READ WRITE")
        assert client.query("INSERT INTO t (v) VALUES ('again')").affected == 1


def test_the_replica_guard_does_not_show(tandem):
    with tandem.connect(database="trap") as client:
        client.value("SELECT @@server_id")
        assert client.value("SELECT @@tx_read_only") == 0
        assert client.value("SELECT @@session.tx_read_only") == 0
        assert client.query("SHOW VARIABLES LIKE 'tx_read_only'").rows == [("tx_read_only", "OFF")]


# ---- prepared statements

def test_a_prepared_statement_keeps_its_schema_and_mode(tight):
    text = mark()
    with tight.connect(database="trap") as client:
        write = client.prepare("INSERT INTO t (v) VALUES (?)")
        read = client.prepare("SELECT COUNT(*) FROM t WHERE v = ?")
        quoted = client.prepare('SELECT "literal"')
        client.query("USE other_trap")
        client.query("SET sql_mode = 'ANSI_QUOTES'")
        churn(tight)
        client.execute(write, [text])
        churn(tight)
        assert client.execute(read, [text]).value == 1
        assert client.execute(quoted).value == "literal"
        assert count(client, text) == 1 and count(client, text, "other_trap.t") == 0


def test_parameter_types_are_remembered(tight):
    with tight.connect(database="trap") as client:
        statement = client.prepare("SELECT CONCAT(?, ?)")
        assert client.execute(statement, ["a", 1]).value == "a1"
        churn(tight)
        assert client.execute(statement, ["b", 2], types=False).value == "b2"


@pytest.mark.proxy_only
def test_max_prepared_stmt_count(tight, cluster):
    """The server's limit is for all connections: Tandem keeps within it where a client could not."""
    for server in cluster.servers:
        server.sql("SET GLOBAL max_prepared_stmt_count = 20")
    try:
        with tight.connect(database="trap") as client:
            statements = [client.prepare(f"SELECT {number} + ?") for number in range(60)]
            for number, statement in enumerate(statements):
                assert client.execute(statement, [1]).rows[0][0] == number + 1
            for statement in statements:
                client.close_statement(statement)
    finally:
        for server in cluster.servers:
            server.sql("SET GLOBAL max_prepared_stmt_count = 16382")


@pytest.mark.proxy_only
def test_prepared_statements_are_shared_out_by_the_connections_there_are(cluster):
    """Each connection keeps what it can be given; when there are more connections, those that have much give some back."""
    primary = cluster.primary
    others = int(primary.status("Prepared_stmt_count"))  # connections of the daemon that other tests use keep some
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(sandbox.Tandem(cluster))

        def connect():
            client = stack.enter_context(own.connect(database="trap"))
            client.query("BEGIN")
            return client

        few = [connect() for _ in range(10)]
        prepared = [[client.prepare(f"SELECT {number} + ? /* kept */ FROM t LIMIT 0") for number in range(200)] for client in few]
        before = primary.status("Com_stmt_prepare")
        for _ in range(3):
            for client, statements in zip(few, prepared):
                for statement in statements:
                    client.execute(statement, [1])
        assert primary.status("Com_stmt_prepare") - before <= len(few) * 200
        many = [connect() for _ in range(120)]
        for client in many:
            client.execute(client.prepare("SELECT ? FROM t LIMIT 0"), [1])
        share = 13000 // (len(few) + len(many))
        assert share < 200
        most = others + len(few) * share + len(many)
        # A server does not answer a CLOSE: what it was told last may not have been heard yet.
        wait_for(lambda: int(primary.status("Prepared_stmt_count")) <= most, 20, "what was given back to be closed")
        before = primary.status("Com_stmt_prepare")
        for client, statements in zip(few, prepared):
            assert client.execute(statements[0], [1]).rows == []
        assert primary.status("Com_stmt_prepare") > before


# ---- connections

def test_wait_timeout_of_the_servers(cluster):
    """The servers close idle connections after a second; a client of Tandem never notices, and its write runs once."""
    if DIRECT:
        pytest.skip("a server would close the client")
    for server in cluster.servers:
        server.sql("SET GLOBAL wait_timeout = 1")
    try:
        with sandbox.Tandem(cluster) as own, own.connect(database="trap") as client:
            own.wait_reads_on(cluster.replicas)
            client.query("SET @kept = 'yes'")
            client.query("INSERT INTO t (v) VALUES ('before')")
            client.value("SELECT @@server_id")
            with contextlib.ExitStack() as stack:
                for server in cluster.servers:
                    control = stack.enter_context(server.connect())
                    assert control.value("SELECT @@wait_timeout") == 1
                    wait_for(control.closed_by_peer, 20, "the server to close an idle connection")
            text = mark()
            assert client.value("SELECT @kept") == "yes"
            assert client.query(f"INSERT INTO t (v) VALUES ('{text}')").affected == 1
            assert count(client, text) == 1
    finally:
        for server in cluster.servers:
            server.forget_connection()
            server.sql("SET GLOBAL wait_timeout = 28800")


def test_wait_timeout_of_the_session(tandem):
    with tandem.connect(database="trap") as client:
        client.query("SET SESSION wait_timeout = 1")
        client.value("SELECT 1")
        try:
            assert client.closed_by_peer()
        except rawmysql.socket.timeout:
            pytest.fail("the idle client was not closed")


def test_autocommit_off_as_db_api_drivers_set_it(tandem, cluster):
    pymysql = pytest.importorskip("pymysql")
    connection = pymysql.connect(host="127.0.0.1", port=tandem.port, user="app", password="app", database="trap")
    text = mark()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@server_id")
            assert cursor.fetchone()[0] == cluster.primary.server_id
            cursor.execute("INSERT INTO t (v) VALUES (%s)", (text,))
            cursor.execute("SELECT COUNT(*) FROM t WHERE v = %s", (text,))
            assert cursor.fetchone()[0] == 1
        connection.rollback()
        connection.autocommit(True)
        cluster.wait_synced()
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*), @@server_id FROM t WHERE v = %s", (text,))
            rows, where = cursor.fetchone()
            assert rows == 0 and (DIRECT or where != cluster.primary.server_id)
    finally:
        connection.close()


# ---- accounts: exactly the server's own numbers and texts

@pytest.mark.parametrize("user, password, database", [
    ("app", "wrong", None), ("app", "", None), ("nobody", "x", None), ("nobody", "", None), ("", "", None),
    ("app", "app", "no_such_schema"), ("fenced", "x", None), ("narrow", "x", "trap"),
], ids=["wrong password", "no password", "unknown user", "unknown without password", "no name", "no schema", "wrong host",
        "schema denied"])
def test_a_refused_login_says_what_the_server_says(tandem, cluster, user, password, database):
    for statement in ("CREATE USER IF NOT EXISTS fenced@'10.99.99.99' IDENTIFIED BY 'x'",
                      "CREATE USER IF NOT EXISTS narrow@'%' IDENTIFIED BY 'x'"):
        cluster.primary.sql(statement)
    cluster.wait_synced()
    if user == "narrow" and not DIRECT:
        wait_for(lambda: tandem.connect("narrow", "x"), 15, "the new account").close()
    heard = []
    for where in (cluster.primary, tandem):
        with pytest.raises(MysqlError) as caught:
            where.connect(user, password, database=database)
        heard.append((caught.value.number, caught.value.state, caught.value.text))
    assert heard[0] == heard[1]


def test_a_changed_password_holds(tandem, cluster):
    user = f"changing{next(NUMBERS)}"
    cluster.primary.sql(f"CREATE USER {user}@'%' IDENTIFIED BY 'one'")
    cluster.wait_synced()
    wait_for(lambda: tandem.connect(user, "one"), 15, "the new account").close()
    cluster.primary.sql(f"ALTER USER {user}@'%' IDENTIFIED BY 'two'")
    cluster.wait_synced()
    with wait_for(lambda: tandem.connect(user, "two"), 15, "the new password") as client:
        assert client.value("SELECT USER() LIKE 'changing%'") == 1
    with pytest.raises(MysqlError) as caught:
        tandem.connect(user, "one")
    assert caught.value.number == 1045
    cluster.primary.sql(f"DROP USER {user}@'%'")


# ---- what a session may still ask for, when somebody else wants its connection

@pytest.fixture(scope="module")
def single(cluster):
    """One connection per server: whoever keeps it idle lets all others wait, and they do not wait for long."""
    if DIRECT:
        yield Direct(cluster)
        return
    limits = {f"server {server.name}": {"address": server.address, "max_connections": 1} for server in cluster.servers}
    with sandbox.Tandem(cluster, {"tandem": {"threads": 1}, "proxy": {"pool_wait": "5s"}, **limits}) as started:
        started.wait_reads_on(cluster.replicas)
        yield started


MANY = "INSERT IGNORE INTO t (id, v) VALUES ('7x', 'a'), ('8y', REPEAT('long', 50))"
LEAVES = {  # statements, then questions with what they are answered
    "warnings": ([MANY], [
        ("SELECT @@warning_count, @@error_count", [(3, 0)]), ("SHOW COUNT(*) WARNINGS", [(3,)]), ("SHOW ERRORS", []),
        ("SHOW WARNINGS", [1265, 1265, 1265]), ("SHOW WARNINGS LIMIT 1, 1", [1265]), ("SHOW WARNINGS LIMIT 2 OFFSET 2", [1265])]),
    "an error": (["SELECT * FROM nosuch"], [
        ("SELECT @@warning_count, @@error_count, ROW_COUNT()", [(1, 1, -1)]), ("SHOW WARNINGS", [1146]), ("SHOW ERRORS", [1146]),
        ("SHOW COUNT(*) ERRORS", [(1,)])]),
    "an error in a write": (["INSERT INTO t (nosuch) VALUES (1)"], [("SHOW ERRORS", [1054]), ("SELECT ROW_COUNT()", [(-1,)])]),
    "found rows": (["INSERT INTO t (v) VALUES ('f'), ('f')", "SELECT SQL_CALC_FOUND_ROWS id FROM t WHERE v = 'f' LIMIT 1"],
                   [("SELECT FOUND_ROWS() > 1, FOUND_ROWS()+1 AS more", None)]),
    "rows of a union": (["SET sql_select_limit = 1", "SELECT 1 UNION SELECT 2"], [("SELECT FOUND_ROWS()", [(2,)])]),
    "an insert id": (["INSERT INTO t (id, v) VALUES (LAST_INSERT_ID(4711), 'x')"], [("SELECT LAST_INSERT_ID()", [(4711,)])]),
    "variables of every kind": (
        ["SET @long = REPEAT('ü', 5000), @bytes = x'0001ff27225c', @back = 'a\\\\b', @none = NULL, @i = -7, @u = 18446744073709551615",
         "SET @d = 2.50, @whole = CAST(3 AS DECIMAL(5,0)), @f = 0.1e0 + 0.2e0, @bin = _latin1'é' COLLATE latin1_bin, @nil = ''"],
        [("SELECT LENGTH(@long), HEX(@bytes), @back, @none, @i, @u", [(10000, "0001FF27225C", "a\\b", None, -7, 18446744073709551615)]),
         ("SELECT @d, @whole, @f, COLLATION(@bin), @nil, COLLATION(@long)",
          [("2.50", "3", 0.1 + 0.2, "latin1_bin", "", "utf8mb4_general_ci")])]),
}


def use_every_connection(front):
    """Somebody else does it, at once: nobody idle stands in the way."""
    with front.connect(database="other_trap", timeout=20) as other:
        begun = time.monotonic()
        other.query("SET @from_call = 'stranger', sql_mode = 'NO_ZERO_DATE', @@session.time_zone = '+04:00'")
        other.query("INSERT INTO t (v) VALUES ('x'), ('y')")
        other.query("SELECT @@server_id FROM t LIMIT 1")
        fails(1146, other, "SELECT * FROM other_trap.nosuch")
        assert time.monotonic() - begun < 4


@pytest.mark.parametrize("capabilities", [CLASSIC, MODERN], ids=["classic", "modern"])
@pytest.mark.parametrize("left", LEAVES)
def test_an_idle_session_gives_its_connection_away(single, left, capabilities):
    statements, questions = LEAVES[left]
    for question, expected in questions:
        with single.connect(database="trap", capabilities=capabilities) as client:
            client.query("DELETE FROM t WHERE id IN (7, 8, 4711)")
            client.query("SET sql_mode = ''")
            for statement in statements:
                with contextlib.suppress(MysqlError):
                    client.query(statement)
            use_every_connection(single)
            rows = client.query(question).rows
            if expected is None:
                assert rows[0][0] == 1
            else:
                assert ([row[1] for row in rows] if question.startswith("SHOW") and "COUNT" not in question else rows) == expected
            assert client.query("INSERT INTO t (v) VALUES ('afterwards')").affected == 1


def test_get_diagnostics_after_others_used_the_connection(single):
    with single.connect(database="trap") as client:
        client.query("SET sql_mode = '', @kept = 'kept'")
        client.query(MANY.replace("7x", "7017x").replace("8y", "7018y"))
        use_every_connection(single)
        client.query("GET DIAGNOSTICS @n = NUMBER, @r = ROW_COUNT")
        assert client.query("SELECT @n, @r, @kept").rows == [(3, 2, "kept")]
        fails(1146, client, "SELECT * FROM nosuch")
        use_every_connection(single)
        client.query("GET DIAGNOSTICS CONDITION 1 @s = RETURNED_SQLSTATE, @e = MYSQL_ERRNO, @m = MESSAGE_TEXT")
        assert client.query("SELECT @s, @e, @m, @kept").rows == [("42S02", 1146, "Table 'trap.nosuch' doesn't exist", "kept")]
        client.query("DELETE FROM t WHERE id IN (7017, 7018)")


def test_a_question_that_needs_two_connections(tandem):
    """The statement it is about ran on a replica; the insert id, the variable or the transaction is the primary's."""
    with tandem.connect(database="trap") as client:
        client.query("INSERT INTO t (v) VALUES ('two')")
        last = client.value("SELECT LAST_INSERT_ID()")
        client.query("SET @mine = 5")
        assert client.query("SELECT CAST('12x' AS SIGNED)").warnings == 1
        assert client.query("SELECT LAST_INSERT_ID(), ROW_COUNT(), @@warning_count, @mine").rows == [(last, -1, 1, 5)]
        assert client.query("SELECT CAST('12x' AS SIGNED), CAST('13y' AS SIGNED)").warnings == 2
        client.query("BEGIN")
        assert client.value("SELECT @@warning_count") == 2
        assert [row[1] for row in client.query("SHOW WARNINGS").rows] == [1292, 1292]
        client.query("GET DIAGNOSTICS @n = NUMBER")
        assert client.query("SELECT @n, @mine").rows == [(2, 5)]
        assert client.query("COMMIT").status & STATUS_IN_TRANS == 0


def test_the_name_of_a_question_with_a_value_in_it(single):
    with single.connect(database="trap") as client:
        client.query("INSERT INTO t (v) VALUES ('n'), ('n')")
        use_every_connection(single)
        result = client.query("SELECT ROW_COUNT() , hex(concat(row_count())), 1+ROW_COUNT() AS named, 'row_count()'")
        assert [column.name for column in result.columns] == ["ROW_COUNT()", "hex(concat(row_count()))", "named", "row_count()"]
        assert result.rows == [(2, "32", 3, "row_count()")]


@pytest.mark.skipif(DIRECT, reason="asks for a replica")
def test_variables_come_along_to_a_read_only_block(tandem, cluster):
    with tandem.connect(database="trap") as client:
        client.query("SET @before = 'ü'")
        client.query("INSERT INTO t (v) VALUES ('ro')")
        last = client.value("SELECT LAST_INSERT_ID()")
        cluster.wait_synced()
        client.query("START TRANSACTION READ ONLY")
        server, before, seen = client.query("SELECT @@server_id, @before, LAST_INSERT_ID()").rows[0]
        assert server != cluster.primary.server_id and (before, seen) == ("ü", last)
        client.query("SET @inside = 'replica'")
        client.query("COMMIT")
        assert client.query("INSERT INTO t (v) VALUES (CONCAT(@before, @inside)) RETURNING v").rows == [("üreplica",)]
        assert client.query("SELECT @before, @inside").rows == [("ü", "replica")]


def test_a_refusal_in_a_read_only_block_is_listed_as_it_was_told(tandem):
    with tandem.connect(database="trap") as client:
        client.query("START TRANSACTION READ ONLY")
        client.query("SELECT COUNT(*) FROM t")
        fails(1792, client, "INSERT INTO t (v) VALUES ('no')")
        assert [row[1] for row in client.query("SHOW ERRORS").rows] == [1792]
        client.query("ROLLBACK")


def test_a_reset_forgets_the_collation_of_the_schema(tight, cluster):
    cluster.primary.sql("CREATE DATABASE IF NOT EXISTS other_trap")
    name = f"latin{next(NUMBERS)}"
    cluster.primary.sql(f"CREATE DATABASE {name} COLLATE latin1_swedish_ci")
    with tight.connect(database=name) as client:
        assert client.value("SELECT @@collation_database") == "latin1_swedish_ci"
        client.reset()
        assert client.query("SELECT DATABASE(), @@collation_database").rows == [(name, "utf8mb4_general_ci")]
        churn(tight)
        assert client.query("SELECT DATABASE(), @@collation_database").rows == [(name, "utf8mb4_general_ci")]
        client.query(f"USE {name}")
        churn(tight)
        assert client.value("SELECT @@collation_database") == "latin1_swedish_ci"
    cluster.primary.sql(f"DROP DATABASE {name}")


def test_a_statement_prepared_without_a_schema_has_none(tight):
    with tight.connect() as client:
        statement = client.prepare("SELECT DATABASE(), 1")
        client.query("USE trap")
        churn(tight)
        assert client.execute(statement).rows == [(None, 1)]
        assert client.value("SELECT DATABASE()") == "trap"


def test_the_collation_of_results_after_others_used_the_connection(tight):
    with tight.connect(database="trap") as client:
        client.query("SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci")
        client.query("SET character_set_client = latin1")
        before = client.query("SELECT 'x' AS x, USER() AS u")
        churn(tight)
        after = client.query("SELECT 'x' AS x, USER() AS u")
        assert [column.charset for column in after.columns] == [column.charset for column in before.columns] == [224, 224]


def test_questions_in_a_packet_are_about_the_part_before(tight):
    with tight.connect(database="trap", capabilities=MODERN | rawmysql.CLIENT_MULTI_STATEMENTS) as client:
        client.query("INSERT INTO t (v) VALUES ('p'), ('p'), ('p'), ('p')")
        results = client.query_all("INSERT INTO t (v) VALUES ('q'), ('q'); SELECT ROW_COUNT()")
        assert results[1].rows == [(2,)]
        client.query("SET sql_mode = ''")
        client.query("SELECT CAST('1x' AS SIGNED), CAST('2y' AS SIGNED)")
        churn(tight)
        results = client.query_all("SET @z = 1; SHOW WARNINGS; SELECT @z")
        assert [row[1] for row in results[1].rows] == [1292, 1292]
        assert results[2].rows == [(1,)]


def test_a_refusal_is_listed_as_it_was_told_in_a_packet_of_several(tandem):
    with tandem.connect(database="trap", capabilities=MODERN | rawmysql.CLIENT_MULTI_STATEMENTS) as client:
        client.query("START TRANSACTION READ ONLY")
        client.query("SELECT COUNT(*) FROM t")
        fails(1792, client, "INSERT INTO t (v) VALUES ('no')")
        client.query("ROLLBACK")
        results = client.query_all("SHOW WARNINGS; SHOW COUNT(*) ERRORS; COMMIT")
        assert [row[1] for row in results[0].rows] == [1792] and results[1].rows == [(1,)]
