"""A session's connection has been in other hands: what it was to the session, it is again, whatever the others have left or need.

Servers with one or two connections each let sessions take them from each other all the time. Each test here is a
difference that the random test once found.
"""
import contextlib

import pytest

import rawmysql
import sandbox
from conftest import DIRECT, NUMBERS, Direct
from load import Crew
from rawmysql import MODERN, MysqlError
from sandbox import wait_for
from test_placement import listed

pytestmark = [pytest.mark.core]

BINARY_FLAG = 128


@pytest.fixture(scope="module", autouse=True)
def schema(cluster):
    cluster.primary.sql("CREATE DATABASE hands")
    cluster.primary.sql("CREATE DATABASE other_hands")
    cluster.primary.sql("CREATE TABLE hands.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100), n INT NOT NULL DEFAULT 0)")
    cluster.primary.sql("INSERT INTO hands.t (v, n) VALUES ('one', 1), ('two', 2), ('three', 3)")
    cluster.wait_synced()
    yield
    cluster.primary.sql("DROP DATABASE hands")
    cluster.primary.sql("DROP DATABASE other_hands")
    cluster.wait_synced()


def narrow(cluster, connections):
    if DIRECT:
        return contextlib.nullcontext(Direct(cluster))
    limits = {f"server {server.name}": {"address": server.address, "max_connections": connections} for server in cluster.servers}
    return sandbox.Tandem(cluster, {"tandem": {"threads": 1}, "proxy": {"causal_wait": "5s"}, **limits})


@pytest.fixture(scope="module")
def one(cluster):
    """One connection per server."""
    with narrow(cluster, 1) as started:
        started.wait_reads_on(cluster.replicas)
        yield started


@pytest.fixture(scope="module")
def two(cluster):
    with narrow(cluster, 2) as started:
        started.wait_reads_on(cluster.replicas)
        yield started


def wait_for_reads_on_replicas(client, cluster):
    """After a write, and after a change of the routines, which are read again first."""
    cluster.wait_synced()
    wait_for(lambda: DIRECT or client.query("SELECT @@server_id").value != cluster.primary.server_id)


def use_every_connection(front):
    with front.connect(timeout=60) as other:
        other.query("SET @stranger = 1, sql_mode = 'NO_ZERO_DATE'")
        other.query("INSERT INTO hands.t (v) VALUES ('x'), ('y')")
        other.query("SELECT id FROM hands.t LIMIT 2")
        other.query("DELETE FROM hands.t WHERE v IN ('x', 'y')")


def test_a_write_is_prepared_where_a_session_was_read_only(two):
    """A server refuses to prepare what writes in a READ ONLY session: that session's settings must be gone first."""
    with two.connect(database="hands") as writer, two.connect() as reader, two.connect() as third:
        statement = writer.prepare("UPDATE t SET n = ? WHERE id = ?")
        writer.execute(statement, [1, 1])
        reader.query("SET SESSION TRANSACTION READ ONLY")
        reader.query("SET autocommit = 0")
        third.query("BEGIN")  # takes the writer's connection, so that it has to take the reader's
        assert writer.execute(statement, [5, 1]).status & rawmysql.STATUS_IN_TRANS == 0
        third.query("ROLLBACK")
        assert writer.query("SELECT n FROM t WHERE id = 1").value == 5


def test_the_insert_id_that_came_along_to_a_read_only_block_is_written(one, cluster):
    with one.connect(database="hands", capabilities=MODERN | rawmysql.CLIENT_MULTI_STATEMENTS) as client:
        client.query("INSERT INTO t (v) VALUES ('ro')")
        last = client.query("SELECT LAST_INSERT_ID()").value
        cluster.wait_synced()
        for statement in ("INSERT INTO t (v) VALUES (LAST_INSERT_ID()) RETURNING v",
                          "SELECT LAST_INSERT_ID(); INSERT INTO t (v, n) SELECT LAST_INSERT_ID(), 7 FROM t LIMIT 0"):
            client.query("START TRANSACTION READ ONLY")
            assert client.query("SELECT LAST_INSERT_ID()").value == last
            client.query("COMMIT")
            result = client.query_all(statement)[0]
            assert int(result.value) == last
            client.query(f"SET last_insert_id = {last}")


def test_a_read_only_block_ends_where_another_transaction_begins(one, cluster):
    """BEGIN commits what is open: the new transaction writes, so it is the primary's."""
    with one.connect(database="hands") as client:
        for begin in ("BEGIN", "START TRANSACTION", "LOCK TABLES t WRITE"):
            cluster.wait_synced()
            client.query("START TRANSACTION READ ONLY")
            client.query("SELECT COUNT(*) FROM t")
            client.query(begin)
            client.query("UPDATE t SET n = n + 1 WHERE id = 2")
            client.query("COMMIT")
            client.query("UNLOCK TABLES")
        assert client.query("UPDATE t SET n = n + 1 WHERE id = 2").affected == 1


def test_the_collation_of_parameters(two):
    """SET NAMES gives it to the client's side, where no variable shows it."""
    with two.connect(database="hands") as client:
        client.query("SET NAMES utf8mb4 COLLATE utf8mb4_bin")
        client.query("SET character_set_results = latin1")
        statement = client.prepare("SELECT ? AS x")
        for _ in range(3):
            assert client.execute(statement, ["word"]).columns[0].flags & BINARY_FLAG
            use_every_connection(two)
        client.query("SET character_set_client = utf8mb4")
        for _ in range(3):
            assert not client.execute(statement, ["word"]).columns[0].flags & BINARY_FLAG
            use_every_connection(two)
        client.query("SET NAMES utf8mb4 COLLATE utf8mb4_bin, character_set_results = NULL")
        use_every_connection(two)
        assert client.execute(statement, ["word"]).columns[0].flags & BINARY_FLAG
        assert client.query("SELECT @@character_set_results, @@collation_connection").rows == [(None, "utf8mb4_bin")]


@pytest.mark.parametrize("statement, number", [("SELECT CAST('ü' AS SIGNED)", 1292),
                                               ("SELECT CAST('ü' AS SIGNED), CAST('ä' AS SIGNED)", 1292)], ids=["one", "several"])
def test_warnings_are_told_in_the_character_set_of_the_time(one, statement, number):
    with one.connect(database="hands") as client:
        for before, after, text in (("utf8mb4", "latin1", "'\udcfc'"), ("latin1", "utf8mb4", "'ü'")):
            client.query("SET NAMES utf8mb4")
            client.query(f"SET character_set_results = {before}")
            client.query(statement)
            use_every_connection(one)
            client.query(f"SET character_set_results = {after}")
            result = client.query("SHOW WARNINGS")
            assert result.rows[0][1] == number and text in result.rows[0][2]
            assert result.columns[2].charset == {"latin1": 8, "utf8mb4": 45}[after]
            assert [row[1] for row in client.query("SHOW WARNINGS LIMIT 1, 1").rows] == [number] * (statement.count("CAST") - 1)
            assert client.query("SHOW ERRORS").rows == []
            client.query("SELECT COUNT(*) FROM t")
        client.query("SET NAMES utf8mb4")
        client.query(statement)
        use_every_connection(one)
        client.query("SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci")
        assert client.query("SHOW WARNINGS").columns[2].charset == 224


@pytest.mark.parametrize("statements", [["PREPARE p FROM 'SELECT 1'", "DEALLOCATE PREPARE p"], ["CREATE OR REPLACE VIEW w AS SELECT 1"],
                                        ["INSERT INTO t (v) VALUES ('select')"]], ids=["prepare", "view", "text"])
def test_what_does_not_run_a_select_leaves_the_found_rows(one, statements):
    with one.connect(database="hands") as client:
        client.query("SELECT id FROM t WHERE id < 4")
        for statement in statements:
            client.query(statement)
        use_every_connection(one)
        assert client.query("SELECT FOUND_ROWS()").value == 3


def test_the_row_count_when_the_schema_was_changed_meanwhile(two):
    """The connection has to choose its schema again, which would be the last statement."""
    with two.connect(database="hands") as client, two.connect() as other:
        client.query("BEGIN")
        with pytest.raises(MysqlError):
            client.query("SELECT (SELECT 1 UNION SELECT 2)")
        client.query("SHOW WARNINGS")
        other.query("CREATE DATABASE IF NOT EXISTS hands")
        assert client.query("SELECT ROW_COUNT()").value == -1
        client.query("ROLLBACK")


def test_a_prepared_statement_of_a_session_whose_schema_was_dropped(one):
    name = f"hands{next(NUMBERS)}"
    with one.connect(database="hands", timeout=60) as client:
        statement = client.prepare("SELECT COUNT(*), DATABASE() FROM t WHERE id < ?")
        for step in (f"CREATE DATABASE {name}", f"USE {name}", f"DROP DATABASE {name}"):
            client.query(step)
        for _ in range(2):
            use_every_connection(one)
            assert client.execute(statement, [4]).rows == [(3, "hands")]
        assert client.query("SELECT DATABASE()").value is None


def test_the_names_behind_one_with_an_alias(one):
    with one.connect(database="hands") as client:
        with pytest.raises(MysqlError):
            client.query("SELECT 1 FROM")
        use_every_connection(one)
        result = client.query("SELECT ROW_COUNT() AS n, @@error_count, FOUND_ROWS() FROM DUAL")
        assert [column.name for column in result.columns] == ["n", "@@error_count", "FOUND_ROWS()"]
        assert result.rows[0][:2] == (-1, 1)


def test_warnings_in_a_transaction_of_a_session_without_a_schema(one):
    """The way back to no schema is a new login, which a transaction does not survive."""
    name = f"hands{next(NUMBERS)}"
    with one.connect(database="hands", timeout=60) as client:
        statement = client.prepare("SELECT COUNT(*) FROM t WHERE id < ?")
        for step in (f"CREATE DATABASE {name}", f"USE {name}", f"DROP DATABASE {name}"):
            client.query(step)
        use_every_connection(one)
        client.query("SET autocommit = 0")
        assert client.execute(statement, [4]).value == 3
        client.query("UPDATE hands.t SET v = 'changed' WHERE id = 1")
        with pytest.raises(MysqlError):
            client.query("SELEC 1")
        assert [row[1] for row in client.query("SHOW WARNINGS").rows] == [1064]
        client.query("ROLLBACK")
        assert client.query("SELECT v FROM hands.t WHERE id = 1").value == "one"


def test_frozen_warnings_in_a_packet_are_all_told(one):
    with one.connect(database="hands", capabilities=MODERN | rawmysql.CLIENT_MULTI_STATEMENTS) as client:
        client.query("SET sql_select_limit = 1")
        client.query("SELECT CAST('a' AS SIGNED), CAST('b' AS SIGNED), CAST('c' AS SIGNED)")
        use_every_connection(one)
        assert len(client.query_all("SET @z = 1; SHOW WARNINGS")[1].rows) == 3


def test_an_older_error_where_the_found_rows_are(one):
    """The session's list is empty, on the replica; its only other connection still has one, and knows FOUND_ROWS()."""
    with one.connect(database="hands") as client:
        for question, answer in (("SHOW ERRORS", []), ("SELECT @@error_count", [(0,)]), ("SHOW COUNT(*) WARNINGS", [(0,)])):
            client.query("BEGIN")
            with pytest.raises(MysqlError):
                client.query("SELECT 1 FROM")
            client.query("COMMIT")
            client.query("SELECT /* tandem: replica */ id FROM t ORDER BY id LIMIT 1")
            client.query("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            client.query("SELECT 1 UNION SELECT 10 ORDER BY 1")
            assert client.query(question).rows == answer
            client.query("SELECT FOUND_ROWS()")
            client.query("COMMIT")


PACKETS_IN_A_BLOCK = [
    "SELECT id FROM t WHERE id < 3; COMMIT; INSERT INTO t (v) VALUES ('part'); SELECT ROW_COUNT(), v FROM t WHERE v = 'part'",
    "SELECT 1; INSERT INTO t (v) VALUES ('part'); SELECT 2",
    "ROLLBACK; UPDATE t SET n = n + 1 WHERE id = 3; SELECT nosuch FROM t; SELECT 3",
    "SELECT nosuch FROM t; COMMIT; INSERT INTO t (v) VALUES ('part')",
    "BEGIN; UPDATE t SET n = n + 1 WHERE id = 3; COMMIT; SELECT n > 0 FROM t WHERE id = 3;",
    "SELECT 1/0; SHOW WARNINGS; COMMIT; DELETE FROM t WHERE v = 'part'; DO 0; ; SELECT 4",
    "COMMIT; START TRANSACTION READ ONLY; DELETE FROM t WHERE v = 'part'",
    "COMMIT; DELETE FROM t WHERE v = 'part'; CREATE TEMPORARY TABLE p (a INT) SELECT 7 AS a; SELECT a FROM p; DROP TEMPORARY TABLE p",
    "SELECT 'a;b' /* ; */; COMMIT ; -- ;\n SELECT \";\"; INSERT INTO t (v) VALUES ('part') ; ;",
    "SELECT NOT a FROM (SELECT 1 AS a) AS b; COMMIT; SELEC 1",
    "COMMIT; KILL QUERY 1; SELECT 5",
]


LASTING = rawmysql.STATUS_IN_TRANS | rawmysql.STATUS_AUTOCOMMIT | rawmysql.STATUS_MORE_RESULTS


def told(client, text):
    """All that a packet is answered with, up to the error."""
    client.send_query(text)
    replies = []
    try:
        while True:
            result = client.read_result(False)
            replies.append((result.affected, result.rows, result.warnings, result.status & LASTING))
            if not result.status & rawmysql.STATUS_MORE_RESULTS:
                return replies
    except MysqlError as error:
        return replies + [(error.number, error.state, error.text)]


@pytest.mark.parametrize("capabilities", [rawmysql.CLASSIC, MODERN], ids=["classic", "modern"])
@pytest.mark.parametrize("begin", [["START TRANSACTION READ ONLY"], ["SET SESSION TRANSACTION READ ONLY", "SET autocommit = 0"]],
                         ids=["block", "session"])
def test_a_packet_that_writes_behind_a_read_only_block(one, cluster, capabilities, begin):
    """The block is on a replica: what stands behind its end in the same packet is not."""
    more = {"database": "hands", "capabilities": capabilities | rawmysql.CLIENT_MULTI_STATEMENTS}
    for packet in PACKETS_IN_A_BLOCK + ["SET autocommit = 1; SET SESSION TRANSACTION READ WRITE; INSERT INTO t (v) VALUES ('part')"]:
        with one.connect(**more) as client, cluster.primary.connect("app", "app", **more) as model:
            wait_for_reads_on_replicas(client, cluster)
            answers = []
            for side in (client, model):
                for statement in [*begin, "SELECT COUNT(*) FROM t"]:
                    side.query(statement)
                answers.append(told(side, packet))
                assert side.query("SELECT 'alive'").value == "alive"
                for statement in ("ROLLBACK", "SET autocommit = 1", "SET SESSION TRANSACTION READ WRITE", "DELETE FROM t WHERE v = 'part'"):
                    side.query(statement)
            assert answers[0] == answers[1], packet


def test_the_inserted_row_is_found_once_by_null(two):
    """With sql_auto_is_null: only the connection of the INSERT knows whether it has been found, and a reset does not make it forget."""
    with two.connect(database="hands") as client, two.connect(database="hands") as other, two.connect(timeout=60) as third:
        client.query("SET sql_auto_is_null = 1")
        client.query("INSERT INTO t (v) VALUES ('null')")
        assert client.query("SELECT v FROM t WHERE id IS NULL").rows == [("null",)]
        other.query("BEGIN")
        third.send_query("INSERT INTO hands.t (v) VALUES ('third')")  # there are two connections, and it can have neither
        for _ in range(50):
            assert client.query("SELECT v FROM t WHERE id IS NULL").rows == []
        other.query("ROLLBACK")
        assert third.read_result(False).affected == 1
        client.query("DELETE FROM t WHERE v IN ('null', 'third')")


@pytest.mark.parametrize("failing", ["SELEC 1", "CALL writes_one()", "CALL nosuch()", "EXECUTE IMMEDIATE 'DELETE FROM t'"])
@pytest.mark.parametrize("begin", [["START TRANSACTION READ ONLY"], ["SET SESSION TRANSACTION READ ONLY", "SET autocommit = 0"]],
                         ids=["block", "session"])
def test_what_fails_in_a_read_only_block_does_not_keep_the_session_there(one, cluster, begin, failing):
    with one.connect(database="hands") as client:
        client.query("CREATE OR REPLACE PROCEDURE writes_one() UPDATE t SET n = n + 1 WHERE id = 3")
        wait_for_reads_on_replicas(client, cluster)
        for statement in [*begin, "SELECT COUNT(*) FROM t"]:
            client.query(statement)
        with pytest.raises(MysqlError):
            client.query(failing)
        for statement in ("ROLLBACK", "SET autocommit = 1", "SET SESSION TRANSACTION READ WRITE"):
            client.query(statement)
        assert client.query("UPDATE t SET n = n + 1 WHERE id = 2").affected == 1
        client.query("CREATE TEMPORARY TABLE behind (a INT) SELECT 3 AS a")
        assert client.query("SELECT a FROM behind").value == 3


def test_a_read_that_fails_half_way_may_have_begun_a_transaction(two, cluster):
    """With autocommit = 0; its ERR does not say so. What the session reads behind it is what was there when it began."""
    with two.connect(database="hands") as client, two.connect() as other, two.connect(timeout=60) as third:
        client.query("SET autocommit = 0")
        with pytest.raises(MysqlError) as failed:
            client.query("SELECT v, (SELECT v FROM t AS b WHERE b.id >= a.id) FROM t AS a ORDER BY id DESC")
        assert failed.value.number == 1242
        cluster.primary.sql("UPDATE hands.t SET n = n + 100 WHERE id = 1")
        other.query("BEGIN")
        third.send_query("DELETE FROM hands.t WHERE v = 'nobody'")  # there are two connections, and it can have neither
        for _ in range(20):
            assert client.query("SELECT n < 100 FROM t WHERE id = 1").value == 1
        other.query("ROLLBACK")
        client.query("COMMIT")
        assert client.query("SELECT n > 100 FROM t WHERE id = 1").value == 1
        cluster.primary.sql("UPDATE hands.t SET n = n - 100 WHERE id = 1")
        assert third.read_result(False).affected == 0


def test_a_statement_prepared_by_name_in_a_read_only_block(one, cluster):
    """The block is on a replica, and what is executed behind it writes."""
    with one.connect(database="hands") as client:
        client.query("CREATE OR REPLACE PROCEDURE change_one(x INT) UPDATE t SET v = 'called' WHERE id = x")
        for place in ("SELECT 1", "COMMIT"):
            wait_for_reads_on_replicas(client, cluster)
            client.query("START TRANSACTION READ ONLY")
            client.query("SELECT COUNT(*) FROM t")
            client.query("PREPARE p FROM 'CALL change_one(?)'")
            client.query("SET @n = 2")
            client.query(place)
            client.query("COMMIT")
            client.query("USE other_hands")
            client.query("EXECUTE p USING @n")
            client.query("USE hands")
            assert client.query("UPDATE t SET v = 'two' WHERE id = 2").affected == 1
            client.query("DEALLOCATE PREPARE p")
            for statement in ("EXECUTE p USING @n", "DEALLOCATE PREPARE p", "START TRANSACTION READ ONLY", "EXECUTE p USING @n"):
                if statement.startswith("START"):
                    client.query(statement)
                    continue
                with pytest.raises(MysqlError) as unknown:
                    client.query(statement)
                assert unknown.value.number == 1243
            client.query("COMMIT")


def test_a_statement_prepared_by_name_in_front_of_a_read_only_block(one, cluster):
    with one.connect(database="hands") as client:
        client.query("SET @a = 2")
        client.query("PREPARE p FROM 'SELECT v FROM t WHERE id = ?'")
        client.query("PREPARE w FROM 'UPDATE t SET n = 7 WHERE id = 3'")
        wait_for_reads_on_replicas(client, cluster)
        client.query("START TRANSACTION READ ONLY")
        for _ in range(2):
            assert client.query("EXECUTE p USING @a").value == "two"
            with pytest.raises(MysqlError) as refused:
                client.query("EXECUTE w")
            assert refused.value.number == 1792
        client.query("DEALLOCATE PREPARE p")
        client.query("COMMIT")
        with pytest.raises(MysqlError) as unknown:
            client.query("EXECUTE p USING @a")
        assert unknown.value.number == 1243
        client.query("PREPARE p FROM 'SELECT 5 + ?'")
        with pytest.raises(MysqlError):
            client.query("PREPARE p FROM 'SELECT nosuch FROM t'")
        with pytest.raises(MysqlError) as unknown:
            client.query("EXECUTE p USING @a")
        assert unknown.value.number == 1243


def test_a_name_holds_no_connection(one):
    """One connection, and four sessions that each have prepared something else by the same name, in another sql_mode or schema."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(one.connect(database="hands", timeout=60)) for _ in range(4)]
        texts = ['SELECT "a" || ?', 'SELECT CONCAT(?, "b"), DATABASE()', "INSERT INTO t (id, v) VALUES (?, 'by name')", 'SELECT "v" FROM t WHERE id = ?']
        clients[0].query("SET sql_mode = PIPES_AS_CONCAT")
        clients[1].query("USE other_hands")
        clients[3].query("SET sql_mode = ANSI_QUOTES")
        for number, (client, text) in enumerate(zip(clients, texts)):
            client.query(f"SET @n = {number}")
            client.query(f"PREPARE p FROM '{text.replace(chr(39), chr(39) * 2)}'")
        clients[0].query("SET sql_mode = ''")  # what is prepared keeps that of its time
        for value in (1000, 2, 1001):
            for client in clients:
                client.query(f"SET @n = {value}")
            assert clients[0].query("EXECUTE p USING @n").value == f"a{value}"
            assert clients[1].query("EXECUTE p USING @n").rows == [(f"{value}b", "other_hands")]
            if value >= 1000:
                assert clients[2].query("EXECUTE p USING @n").affected == 1
            assert clients[3].query("EXECUTE p USING @n").rows == [("by name",) if value >= 1000 else ("two",)]
        for client in clients:
            client.query("DEALLOCATE PREPARE p")
            with pytest.raises(MysqlError) as unknown:
                client.query("EXECUTE p USING @n")
            assert unknown.value.number == 1243
        clients[0].query("DELETE FROM t WHERE id >= 1000")


def test_a_prepare_changes_what_it_would_assign(one):
    """The server gives the variable its new character set when it prepares the statement, so that has to be where the variable is, and once."""
    with one.connect(database="hands") as client:
        client.query("SELECT @b := 'text'")
        use_every_connection(one)
        client.query("PREPARE p FROM 'SET @b = ?'")
        assert client.query("SELECT @b").columns[0].charset == 63
        client.query("SET @b = 'more'")
        client.query("DEALLOCATE PREPARE p")
        use_every_connection(one)
        result = client.query("SELECT @b")
        assert result.value == "more" and result.columns[0].charset == 45


@pytest.mark.proxy_only
def test_an_execute_that_fails_changes_no_variable(two):
    """To prepare it again on another connection would: it holds its own, and who wants that waits."""
    with two.connect(database="hands") as client, two.connect(database="hands") as holder, two.connect(timeout=60) as third:
        client.query("PREPARE p FROM 'SET @b = ?'")
        client.query("SET @b = 'more'")
        holder.query("BEGIN")
        holder.query("INSERT INTO t (v) VALUES ('holder')")
        with Crew(1, lambda *_: third.query("INSERT INTO hands.t (v) VALUES ('third')")) as crew:
            wait_for(lambda: not crew.threads[0].is_alive() or any(one["state"].startswith("waits") for one in listed(two)), 20,
                     "the third to be served, or to wait")
            with pytest.raises(MysqlError) as error:
                client.query("EXECUTE p")
            assert error.value.number == 1210
            result = client.query("SELECT @b")
            client.query("DEALLOCATE PREPARE p")
            crew.join(30)
        holder.query("ROLLBACK")
        client.query("DELETE FROM t WHERE v = 'third'")
        assert result.value == "more" and result.columns[0].charset == 45


@pytest.mark.parametrize("source", ["'{}'", "@text"])
@pytest.mark.parametrize("text, question, answer", [
    ("CREATE TEMPORARY TABLE by_name (a INT) SELECT 7 AS a", "SELECT a FROM by_name", 7), ("SET @x = 5", "SELECT @x", 5),
    ("SELECT 6 INTO @x", "SELECT @x", 6), ("INSERT INTO t (v) VALUES (1)", "SELECT LAST_INSERT_ID() > 3", 1),
    ("SET sql_mode = ANSI_QUOTES", "SELECT @@sql_mode", "ANSI_QUOTES"), ("DO GET_LOCK(\"hands\", 0)", "SELECT IS_USED_LOCK('hands') = CONNECTION_ID()", 1)])
def test_what_a_statement_prepared_by_name_leaves_behind(two, source, text, question, answer):
    """It is there when the name is not any more."""
    with two.connect(database="hands") as client, two.connect() as other, two.connect(timeout=60) as third:
        client.query(f"SET @text = '{text}'")
        client.query(f"PREPARE p FROM {source.format(text)}")
        client.query("EXECUTE p")
        client.query("DEALLOCATE PREPARE p")
        other.query("BEGIN")
        third.send_query("UPDATE hands.t SET n = n WHERE id = 1")  # there are two connections: it has the client's, or none
        for _ in range(20):
            assert client.query(question).value == answer
        other.query("ROLLBACK")
        client.query("DELETE FROM t WHERE v = '1'")
        client.reset()
        assert third.read_result(False).affected == 0


def test_a_schema_that_was_made_anew_with_another_collation(one, cluster):
    """The replica's connection has selected the old one of that name."""
    name = f"hands{next(NUMBERS)}"
    with one.connect(timeout=60) as client:
        for collation in ("utf8mb4_bin", "latin1_swedish_ci", "utf8mb4_unicode_ci"):
            for statement in (f"CREATE DATABASE {name} COLLATE {collation}", f"USE {name}", "CREATE TABLE tt (a INT) SELECT 1 AS a"):
                client.query(statement)
            wait_for_reads_on_replicas(client, cluster)
            assert client.query("SELECT a, DATABASE(), @@collation_database FROM tt").rows == [(1, name, collation)]
            client.query(f"DROP DATABASE {name}")
