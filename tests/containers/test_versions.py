"""What must hold with every server version: who runs what, nothing stale, nothing lost, and what the server itself would say."""
import contextlib
import threading

import pytest
import versions

import sandbox
from conftest import CHOSEN, NUMBERS, image, settings_for
from rawmysql import CLASSIC, MODERN, MysqlError
from sandbox import wait_for

both_ends = pytest.mark.parametrize("capabilities", [CLASSIC, MODERN], ids=["classic", "modern"])


def refused(call):
    with pytest.raises(MysqlError) as caught:
        call()
    return caught.value.number, caught.value.state, caught.value.text


def count(connection, text):
    return connection.value(f"SELECT COUNT(*) FROM ver.t WHERE v = '{text}'")


def counted(server, text):
    return server.value(f"SELECT COUNT(*) FROM ver.t WHERE v = '{text}'")


@pytest.mark.parametrize("suite", versions.ALL)
def test_every_version_has_servers(suite):
    if suite not in CHOSEN:
        pytest.skip(f"{versions.ALL[suite]} ({suite}): only with TANDEM_ALL_VERSIONS=1")
    assert image(suite).server_version()


# ---- accounts

@pytest.mark.parametrize("user, password, database", [
    ("app", "wrong", None), ("app", "", None), ("nobody", "x", None), ("app", "app", "no_such_schema"),
], ids=["wrong password", "no password", "unknown user", "no schema"])
def test_a_refused_login_says_what_the_server_says(stack, user, password, database):
    heard = [refused(lambda: where.connect(user, password, database=database, tls=stack.mysql))
             for where in (stack.primary, stack.tandem)]
    assert heard[0] == heard[1]


@both_ends
def test_a_learned_account(stack, capabilities):
    user = f"learned{next(NUMBERS)}"
    stack.primary.sql(f"CREATE USER {user}@'%' IDENTIFIED BY 'secret'")
    stack.primary.sql(f"GRANT ALL ON ver.* TO {user}@'%'")
    stack.cluster.wait_synced()
    with wait_for(lambda: stack.connect(user, "secret", tls=True, capabilities=capabilities), 20, "the account") as client:
        assert client.value("SELECT CURRENT_USER()") == f"{user}@%"
        assert client.value("SELECT @@server_id") == stack.replica.server_id
        client.query(f"INSERT INTO ver.t (v) VALUES ('{user}')")
        assert count(client, user) == 1
    # A second login: MySQL's servers now know the account and ask for less.
    with stack.connect(user, "secret", tls=True, database="ver") as client:
        assert client.value("SELECT @@server_id") == stack.replica.server_id
    assert refused(lambda: stack.connect(user, "wrong", tls=True))[0] == 1045


def test_a_changed_password_holds(stack):
    user = f"changing{next(NUMBERS)}"
    stack.primary.sql(f"CREATE USER {user}@'%' IDENTIFIED BY 'one'")
    stack.cluster.wait_synced()
    wait_for(lambda: stack.connect(user, "one", tls=True), 20, "the account").close()
    stack.primary.sql(f"ALTER USER {user}@'%' IDENTIFIED BY 'two'")
    stack.cluster.wait_synced()
    wait_for(lambda: stack.connect(user, "two", tls=True), 20, "the new password").close()
    # Accounts are read again every few seconds; connections made with the old password do not vouch for it afterwards.
    wait_for(lambda: no_longer(stack, user, "one"), 20, "the old password to be refused")


def no_longer(stack, user, password):
    try:
        stack.connect(user, password, tls=True).close()
    except MysqlError as error:
        return error.number == 1045
    return False


# ---- who runs what

@both_ends
def test_writes_on_the_primary_and_reads_on_the_replica(stack, capabilities, text):
    with stack.connect(database="ver", capabilities=capabilities) as client:
        made = client.query(f"INSERT INTO t (v) VALUES ('{text}')")
        assert made.affected == 1 and made.insert_id > 0
        assert counted(stack.primary, text) == 1
        assert client.value("SELECT @@server_id") == stack.replica.server_id
        assert client.query("SELECT @@server_id, a FROM one").rows == [(stack.replica.server_id, 1)]
        assert client.value("SELECT @@server_id FROM one FOR UPDATE") == stack.primary.server_id
        assert client.value("SELECT @@hostname IS NOT NULL AND LAST_INSERT_ID()") == 1
        assert client.value("SELECT LAST_INSERT_ID()") == made.insert_id


def test_a_read_after_a_write_comes_back_to_the_replica(stack, client, text):
    """The token of a write is understood: the replica is used once it has the write."""
    for number in range(20):
        client.query(f"INSERT INTO t (v) VALUES ('{text}-{number}')")
        where, rows = client.query(f"SELECT @@server_id, COUNT(*) FROM t WHERE v LIKE '{text}-%'").rows[0]
        assert (where, rows) == (stack.replica.server_id, number + 1)


@both_ends
def test_own_writes_are_read_while_the_replica_is_behind(stack, behind, capabilities, text):
    with stack.connect(database="ver", capabilities=capabilities) as client:
        client.query(f"INSERT INTO t (v) VALUES ('{text}')")
        assert count(client, text) == 1
        assert client.binary("SELECT v FROM t WHERE v = ?", [text]).rows == [(text,)]
        with stack.connect() as mate:
            assert count(mate, text) == 1
    with stack.connect() as later:
        assert count(later, text) == 1
    assert counted(stack.replica, text) == 0


def test_own_commit_is_read_while_the_replica_is_behind(stack, behind, client, text):
    client.query("BEGIN")
    client.query(f"INSERT INTO t (v) VALUES ('{text}')")
    client.query("COMMIT")
    assert count(client, text) == 1


def test_a_table_just_created(stack, behind, client, text):
    client.query(f"CREATE TABLE {text} (a INT)")
    client.query(f"INSERT INTO {text} VALUES (7)")
    with stack.straight(database="ver") as stranger:
        stranger.query(f"CREATE TABLE {text}b AS SELECT 8 AS a")
    assert client.value(f"SELECT a FROM {text}") == 7
    with stack.connect(database="ver") as mate:
        assert mate.value(f"SELECT a FROM {text}b") == 8
        assert mate.binary(f"SELECT a FROM {text}b WHERE a = ?", [8]).value == 8


def test_a_transaction_stays_on_the_primary(stack, client, text):
    client.query("START TRANSACTION")
    client.query(f"INSERT INTO t (v) VALUES ('{text}')")
    assert client.value("SELECT @@server_id") == stack.primary.server_id
    assert count(client, text) == 1
    client.query("ROLLBACK")
    assert count(client, text) == 0
    back_on_the_replica(stack, client)
    client.query("SET autocommit = 0")
    assert client.value("SELECT @@server_id") == stack.primary.server_id
    client.query("COMMIT")
    client.query("SET autocommit = 1")
    back_on_the_replica(stack, client)


def back_on_the_replica(stack, client):
    """Soon: right after a replica was behind, a read may still be the primary's."""
    wait_for(lambda: client.value("SELECT @@server_id") == stack.replica.server_id, 10, "a read on the replica")


def test_a_read_only_transaction_is_the_replicas(stack, client):
    client.query("START TRANSACTION READ ONLY")
    assert client.value("SELECT @@server_id") == stack.replica.server_id
    with pytest.raises(MysqlError) as caught:
        client.query("INSERT INTO t (v) VALUES ('never')")
    assert caught.value.number == 1792
    client.query("COMMIT")
    assert client.value("SELECT COUNT(*) FROM t WHERE v = 'never'") == 0


# ---- session state

STATE = "SELECT @@server_id, @@sql_mode, @@character_set_client, @@collation_connection, @@time_zone, DATABASE(), @@sort_buffer_size"


def test_session_state_follows_to_either_server(stack, client):
    for statement in ("SET NAMES latin1 COLLATE latin1_german1_ci", "SET SESSION sql_mode = 'ANSI_QUOTES,NO_ZERO_DATE'",
                      "SET time_zone = '+03:00', sort_buffer_size = 131072", "USE other"):
        client.query(statement)
    on_replica = client.query(STATE).rows[0]
    client.query("BEGIN")
    on_primary = client.query(STATE).rows[0]
    client.query("COMMIT")
    assert on_primary[0] == stack.primary.server_id and on_replica[0] == stack.replica.server_id
    assert on_primary[1:] == on_replica[1:]
    assert on_primary[2:] == ("latin1", "latin1_german1_ci", "+03:00", "other", 131072)
    assert set(on_primary[1].split(",")) == {"ANSI_QUOTES", "NO_ZERO_DATE"}
    assert client.value("SELECT a FROM one") == 2


def test_user_variables_follow(stack, client):
    client.query("SET @number = 7, @word = 'grün', @none = NULL")
    for begin in ("BEGIN", "START TRANSACTION READ ONLY"):
        client.query(begin)
        assert client.query("SELECT @number + 1, @word, @none").rows == [(8, "grün", None)]
        client.query("COMMIT")
    assert client.query("SELECT @number + 1, @word, @none FROM one").rows == [(8, "grün", None)]


@pytest.fixture(scope="module")
def tight(stack):
    """One worker and two connections per server: sessions take each other's all the time."""
    with sandbox.Tandem(stack.cluster, {"tandem": {"threads": 1},
                                        **settings_for(stack.image, stack.cluster, max_connections=2)}) as tandem:
        tandem.wait_reads_on(stack.cluster.replicas)
        yield tandem


def test_state_is_restored_on_connections_that_others_used(stack, tight):
    modes = ["ANSI_QUOTES", "HIGH_NOT_PRECEDENCE", "PIPES_AS_CONCAT", "NO_BACKSLASH_ESCAPES", ""]
    with contextlib.ExitStack() as several:
        # No client can ask MySQL for its user variables, so there they keep the connection with its session.
        share(modes, [several.enter_context(tight.connect(database="ver" if number % 2 else "other")) for number in range(5)],
              variables=not stack.mysql)
    with tight.connect() as fresh, stack.straight() as straight:
        assert fresh.value("SELECT DATABASE()") is None
        assert fresh.value("SELECT @mine") is None
        for statement in ("SELECT @@sql_mode", "SELECT @@sql_mode FROM ver.one FOR UPDATE"):
            assert fresh.value(statement) == straight.value(statement)


def share(modes, clients, variables):
    for number, client in enumerate(clients):
        client.query(f"SET SESSION sql_mode = '{modes[number]}'" + (f", @mine = {number}" if variables else ""))
    for _ in range(3):
        for number, client in enumerate(clients):
            assert client.query("SELECT @@sql_mode, DATABASE(), a FROM one").rows == [
                (modes[number], "ver" if number % 2 else "other", 1 if number % 2 else 2)]
            assert not variables or client.value("SELECT @mine") == number
            client.query(f"INSERT INTO ver.t (v) VALUES ('tight{number}')")
            assert client.value("SELECT @@sql_mode FROM one FOR UPDATE") == modes[number]


def test_the_session_looks_as_on_the_server(stack, client):
    """But for session_track_*, which is Tandem's."""
    names = ("autocommit", "wait_timeout", "sql_mode", "character_set_client", "character_set_results", "collation_connection",
             "net_write_timeout", "transaction_isolation" if stack.mysql else "tx_isolation", "foreign_key_checks", "unique_checks")
    query = "SELECT " + ", ".join(f"@@{name}" for name in names)
    with stack.straight(database="ver") as straight:
        assert dict(zip(names, client.query(query).rows[0])) == dict(zip(names, straight.query(query).rows[0]))
        assert client.query(query + " FROM one FOR UPDATE").rows == straight.query(query).rows


CHARSETS = "SELECT @@character_set_client, @@character_set_results, @@collation_connection"


def test_the_character_set_of_the_login(stack, tight):
    """Each connection has been in other hands before; what a reset goes back to is another thing with each server."""
    for charset in (8, 45, 33, 8, 45, 33):
        with tight.connect(database="ver", charset=charset) as client, stack.straight(database="ver", charset=charset) as straight:
            for _ in range(2):
                wanted = straight.query(CHARSETS).rows
                assert client.query(CHARSETS).rows == wanted
                assert client.query(CHARSETS + " FROM one FOR UPDATE").rows == wanted
                client.reset()
                straight.reset()


def test_change_user_and_reset(stack):
    with stack.connect(database="ver") as client:
        client.query("SET @x = 1, sql_mode = 'ANSI_QUOTES'")
        client.reset()
        assert client.query("SELECT @x, DATABASE()").rows == [(None, "ver")]
        assert "ANSI_QUOTES" not in client.value("SELECT @@sql_mode")
        client.query("SET @x = 1")
        client.change_user("app", "app", "other")
        assert client.query("SELECT @x, DATABASE()").rows == [(None, "other")]
        assert client.value("SELECT a FROM one") == 2


# ---- statements

def test_prepared_statements(stack, client, text):
    write = client.prepare("INSERT INTO t (v) VALUES (?)")
    read = client.prepare("SELECT @@server_id, v, ? + 1 FROM t WHERE v = ?")
    for number in range(3):
        assert client.execute(write, [f"{text}-{number}"]).affected == 1
        assert client.execute(read, [number, f"{text}-{number}"]).rows[0][1:] == (f"{text}-{number}", number + 1)
    wait_for(lambda: client.execute(read, [1, f"{text}-0"]).rows[0][0] == stack.replica.server_id, 10, "a read there")
    client.query("BEGIN")
    assert client.execute(read, [1, f"{text}-0"]).rows == [(stack.primary.server_id, f"{text}-0", 2)]
    client.query("COMMIT")
    client.close_statement(write)
    assert refused(lambda: client.prepare("SELECT nothing FROM one"))[0] == 1054
    assert client.execute(read, [5, f"{text}-1"]).rows[0][1:] == (f"{text}-1", 6)


def test_a_cursor(stack, client):
    with stack.connect(database="ver", capabilities=CLASSIC) as classic:
        for who in (client, classic):
            read = who.prepare("SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3")
            opened = who.execute(read, [], cursor=1)
            rows = list(opened.rows or [])
            while len(rows) < 3:
                rows += who.fetch(read, 2, opened.columns).rows
            assert rows == [(1,), (2,), (3,)]


def test_several_results(stack, client):
    assert [result.rows for result in client.query_all("CALL two()")][:2] == [[(1,)], [(2,)]]
    client.set_option(0)
    assert [result.rows for result in client.query_all("SELECT 1; SELECT a FROM one; SELECT 3")] == [[(1,)], [(1,)], [(3,)]]


def test_load_data_local(stack, client, text):
    done = client.query("LOAD DATA LOCAL INFILE 'any' INTO TABLE t (v)", infile=f"{text}\n{text}\n".encode())
    assert done.affected == 2 and count(client, text) == 2


def test_the_function_declared_reads_sql_data_that_writes(stack, client, text):
    assert client.value(f"SELECT liar('{text}')") == 1
    assert client.binary("SELECT liar(?)", [text]).value == 1
    written(stack, text, 2)


def test_the_function_that_writes_and_is_new(stack, client, text):
    client.query(f"CREATE FUNCTION f_{text}(x VARCHAR(100)) RETURNS INT READS SQL DATA "
                 "BEGIN INSERT INTO t (v) VALUES (x); RETURN 1; END")
    client.query(f"CREATE VIEW v_{text} AS SELECT f_{text}('{text}') AS one")
    stack.cluster.wait_synced()
    assert client.value(f"SELECT f_{text}('{text}')") == 1
    assert client.query(f"SELECT one FROM v_{text}").rows == [(1,)]
    written(stack, text, 2)


def written(stack, text, times):
    """So often everywhere, and by the primary: the replica has made no transaction of its own."""
    stack.cluster.wait_synced()
    assert [counted(server, text) for server in stack.cluster.servers] == [times, times]
    assert stack.replica.replicating()
    assert stack.replica.position() == stack.primary.position()


@pytest.mark.parametrize("statement", [
    "SELEC 1", "SELECT * FROM nowhere", "SELECT nothing FROM one", "INSERT INTO t (id) VALUES (1), (1)", "USE nowhere",
    "SET no_such_variable = 1", "SET NAMES nonsense", "CALL nowhere()", "SELECT nowhere()", "DROP TABLE nowhere",
    "INSERT INTO nowhere VALUES (1)", "SELECT 1 FROM one FOR UPDATE garbage", "KILL 4000000",
    "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'mine'", "SELECT 'open",
])
def test_errors_are_the_servers_own(stack, client, statement):
    with stack.straight(database="ver") as straight:
        assert refused(lambda: client.query(statement)) == refused(lambda: straight.query(statement))
    assert client.value("SELECT 1") == 1


@pytest.mark.parametrize("statement", ["SELECT SLEEP(30)", "SELECT SLEEP(30) FROM one FOR UPDATE"], ids=["read", "write"])
def test_kill_query(stack, client, statement):
    with stack.connect(database="ver") as other:
        heard = []

        def run():
            try:
                heard.append(other.query(statement).rows)
            except MysqlError as error:
                heard.append(error.number)
        thread = threading.Thread(target=run)
        thread.start()
        wait_for(lambda: any("SLEEP(30)" in (row[0] or "") for server in stack.cluster.servers for row in server.sql(
            "SELECT info FROM information_schema.processlist WHERE command IN ('Query', 'Execute') AND info LIKE 'SELECT SL%'")),
            10, "the statement to run")
        client.query(f"KILL QUERY {other.thread_id}")
        thread.join(20)
        assert heard in ([1317], [[(1,)]])
        assert other.value("SELECT 5") == 5


def test_the_binary_log_is_the_primarys(stack, client):
    name = "BINARY LOG STATUS" if stack.mysql else "MASTER STATUS"
    assert client.query(f"SHOW {name}").rows[0][:1] == stack.primary.root().query(f"SHOW {name}").rows[0][:1]


# ---- servers that go and come

def test_the_replica_restarts(stack, client, text):
    client.query(f"INSERT INTO t (v) VALUES ('{text}')")
    # A replica that takes its time over the row leaves the first read to the primary.
    wait_for(lambda: client.value("SELECT @@server_id") == stack.replica.server_id, 10, "the replica to have the row")
    stack.replica.stop()
    for _ in range(20):
        assert client.value("SELECT @@server_id") == stack.primary.server_id
        assert count(client, text) == 1
    stack.replica.start()
    wait_for(lambda: client.value("SELECT @@server_id") == stack.replica.server_id, 30, "reads on the replica again")
    assert count(client, text) == 1


def test_the_primary_restarts(stack, client, text):
    stack.primary.stop()
    heard = []

    def write():
        with stack.connect(database="ver", timeout=60) as other:
            heard.append(other.query(f"INSERT INTO t (v) VALUES ('{text}')").affected)
    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(20):
        with stack.connect() as reader:
            assert reader.value("SELECT @@server_id") == stack.replica.server_id
    stack.primary.start()
    thread.join(60)
    assert heard == [1]
    assert count(client, text) == 1


def test_nothing_is_stale_while_the_replica_stops_and_starts(stack, text):
    """Four writers of one account read by key what they wrote, each on the connection and on another one."""
    stale, ended, errors = [], threading.Event(), []

    def work(worker):
        try:
            with stack.connect(database="ver") as mine, stack.connect(database="ver") as mate:
                for number in range(60):
                    key = f"{text}-{worker}-{number}"
                    mine.query(f"INSERT INTO t (v) VALUES ('{key}')")
                    stale.extend(key for who in (mine, mate) if count(who, key) != 1)
        except Exception as error:  # reported by the test itself
            errors.append(error)
    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        stack.replica.stop_sql_thread()
        ended.wait(0.05)
        stack.replica.start_sql_thread()
        ended.wait(0.05)
    for thread in threads:
        thread.join()
    assert not errors and not stale
