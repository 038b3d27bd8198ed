"""Sessions while the primary changes: what waits, what moves, what is run again, and what ends in an honest error.

Most tests change the primary by hand, as somebody without Tandem would: read_only on the old one (or kill -9), the replica made
writable. That is harder than a promotion of Tandem's own, which holds writes first.
"""
import contextlib
import threading

import pytest

import rawmysql
import sandbox
from rawmysql import MysqlError

pytestmark = [pytest.mark.proxy_only]
INIT = ["CREATE DATABASE work", "CREATE TABLE work.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100))",
        "CREATE TABLE work.n (id INT PRIMARY KEY, n INT)", "INSERT INTO work.n VALUES (1, 0), (2, 0)",
        # ALL would include READ_ONLY ADMIN, whom read_only does not stop.
        "CREATE USER web@'%' IDENTIFIED BY 'web'",
        "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, CREATE TEMPORARY TABLES, PROCESS ON *.* TO web@'%'"]
WEB = {"user": "web", "password": "web"}
WAIT = {"proxy": {"primary_wait": "20s"}}


@pytest.fixture
def pair():
    with sandbox.Cluster(replicas=1, init_sql=INIT) as started:
        yield started


@pytest.fixture
def front(pair):
    with sandbox.Tandem(pair, WAIT, **WEB) as started:
        started.wait_reads_on(pair.replicas)
        yield started


def take_over(server):
    """Makes a replica the primary. Without its link and not yet writable it would be a stray."""
    server.sql("STOP SLAVE")
    server.sql("SET GLOBAL read_only = 0")
    server.sql("RESET SLAVE ALL")


def swap(old, new):
    """Roles exchanged by hand, without a word to Tandem."""
    old.sql("SET GLOBAL read_only = 1")
    new.wait_position(old.value("SELECT @@global.gtid_binlog_pos"))
    take_over(new)
    old.sql(f"SET GLOBAL gtid_slave_pos = '{old.value('SELECT @@global.gtid_binlog_pos')}'")
    old.follow(new)


def kill_and_take_over(old, new):
    old.kill9()
    take_over(new)


CHANGES = {"swap": swap, "kill": kill_and_take_over}


@pytest.fixture(params=sorted(CHANGES))
def change(request, pair):
    """Changes the primary, in two ways, and waits until Tandem knows."""
    def run():
        CHANGES[request.param](*pair.servers)
    run.kills = request.param == "kill"
    return run


def wait_writes_on(front, server):
    def written():
        with front.connect(timeout=30) as client:
            return client.value("/* tandem: primary */ SELECT @@server_id") == server.server_id
    sandbox.wait_for(written, 20, f"writes on {server.name}")


def rows(server, table="t"):
    return [row[0] for row in server.sql(f"SELECT v FROM work.{table} ORDER BY id")]


# ---- transactions that are run again ----------------------------------------------------------------------------------

@pytest.mark.parametrize("capabilities", [rawmysql.MODERN, rawmysql.CLASSIC], ids=["modern", "classic"])
def test_open_transaction_goes_on_elsewhere(pair, front, change, capabilities):
    with front.connect(database="work", capabilities=capabilities) as client:
        client.query("BEGIN")
        first = client.query("INSERT INTO t (v) VALUES ('one')")
        assert client.query("SELECT v FROM t").rows == [("one",)]
        change()
        second = client.query("INSERT INTO t (v) VALUES ('two')")
        assert second.insert_id == first.insert_id + 1
        assert client.query("SELECT v FROM t ORDER BY id").rows == [("one",), ("two",)]
        client.query("COMMIT")
        assert client.query("SELECT COUNT(*) FROM t").rows == [(2,)]
    assert rows(pair.replicas[0]) == ["one", "two"]


def test_commit_is_the_first_to_know(pair, front, change):
    """COMMIT under read_only means "rolled back", and one to a dead server was never sent."""
    with front.connect(database="work") as client:
        client.query("BEGIN")
        client.query("UPDATE n SET n = n + 1 WHERE id = 1")
        client.query("INSERT INTO t (v) VALUES ('x')")
        change()
        client.query("COMMIT")
        client.query("UPDATE n SET n = n + 10 WHERE id = 1")
    assert pair.replicas[0].sql("SELECT n FROM work.n WHERE id = 1") == [(11,)]
    assert rows(pair.replicas[0]) == ["x"]


def test_without_autocommit(pair, front, change):
    with front.connect(database="work") as client:
        client.query("SET autocommit = 0")
        client.query("INSERT INTO t (v) VALUES ('one')")
        change()
        client.query("INSERT INTO t (v) VALUES ('two')")
        client.query("COMMIT")
        client.query("INSERT INTO t (v) VALUES ('rolled back')")
        client.query("ROLLBACK")
    assert rows(pair.replicas[0]) == ["one", "two"]


def test_prepared_statements_closed_ones_too(pair, front, change):
    with front.connect(database="work") as client:
        insert = client.prepare("INSERT INTO t (v) VALUES (?)")
        client.query("BEGIN")
        client.execute(insert, ["one"])
        once = client.prepare("INSERT INTO t (v) VALUES (CONCAT(?, ?))")
        client.execute(once, ["tw", "o"])
        client.close_statement(once)
        read = client.prepare("SELECT v, ? FROM t ORDER BY id")
        assert client.execute(read, [5]).rows == [("one", 5), ("two", 5)]
        assert client.execute(read, ["text"]).rows == [("one", "text"), ("two", "text")]
        change()
        client.execute(insert, ["three"])
        assert client.execute(read, [7]).rows == [("one", 7), ("two", 7), ("three", 7)]
        client.query("COMMIT")
        client.execute(insert, ["four"])
    assert rows(pair.replicas[0]) == ["one", "two", "three", "four"]


def test_errors_and_settings_inside_are_part_of_it(pair, front, change):
    with front.connect(database="work") as client:
        client.query("BEGIN")
        client.query("INSERT INTO n VALUES (3, 0)")
        with pytest.raises(MysqlError) as error:
            client.query("INSERT INTO n VALUES (3, 1)")
        assert error.value.number == 1062
        client.query("SET @a = 7, SESSION sql_mode = 'ANSI_QUOTES'")
        client.query("USE test")
        change()
        assert client.query('INSERT INTO work.n VALUES (4, @a)').affected == 1
        assert client.query("SELECT DATABASE(), @a, @@sql_mode").rows == [("test", 7, "ANSI_QUOTES")]
        client.query("COMMIT")
    assert pair.replicas[0].sql("SELECT n FROM work.n WHERE id > 2 ORDER BY id") == [(0,), (7,)]


def test_user_variables_from_before_come_along(pair, front, change):
    """Known by value only once they have been asked for: after kill -9 nobody can be asked."""
    with front.connect(database="work") as client:
        client.query("SET @a = 5, @b = 'text'")
        if not change.kills:
            change()
            assert client.query("INSERT INTO t (v) VALUES (@b)").affected == 1
            assert client.query("SELECT @a, @b").rows == [(5, "text")]
            assert rows(pair.replicas[0]) == ["text"]
            return
        change()
        with pytest.raises((MysqlError, rawmysql.ProtocolError)):
            client.query("SELECT @a, @b")


def test_lost_in_mid_statement(pair, front):
    """The statement was on its way; its transaction cannot have been committed."""
    with front.connect(database="work") as holder, front.connect(database="work") as client:
        client.query("BEGIN")
        client.query("INSERT INTO t (v) VALUES ('one')")
        pair.primary.sql("BEGIN")
        pair.primary.sql("UPDATE work.n SET n = 99 WHERE id = 1")
        client.send_query("UPDATE n SET n = n + 1 WHERE id = 1")
        sandbox.wait_for(lambda: pair.primary.sql(
            "SELECT COUNT(*) FROM information_schema.innodb_lock_waits")[0][0] == 1, 10, "the update to wait for its lock",
            pause=0.2)  # InnoDB looks again only when nobody has looked for 0.1 s
        kill_and_take_over(*pair.servers)
        assert client.read_results()[0].affected == 1
        client.query("COMMIT")
        assert holder.query("/* tandem: primary */ SELECT n FROM n WHERE id = 1").rows == [(1,)]
    assert rows(pair.replicas[0]) == ["one"]


def test_rollback_of_what_is_lost(pair, front, change):
    with front.connect(database="work") as client:
        client.query("BEGIN")
        client.query("INSERT INTO t (v) VALUES ('never')")
        change()
        assert not client.query("ROLLBACK").status & rawmysql.STATUS_IN_TRANS
        client.query("INSERT INTO t (v) VALUES ('after')")
    assert rows(pair.replicas[0]) == ["after"]


def test_bound_to_be_different(pair, front, change):
    """Error 1213 and 40001: the transaction is over, the session goes on."""
    with front.connect(database="work") as client:
        client.query("BEGIN")
        assert client.value("SELECT @@server_id") == 1
        client.query("INSERT INTO t (v) VALUES ('never')")
        client.query("SET SESSION sql_mode = 'ANSI_QUOTES'")
        change()
        with pytest.raises(MysqlError) as error:
            client.query("INSERT INTO t (v) VALUES ('never either')")
        assert (error.value.number, error.value.state) == (1213, "40001")
        assert error.value.text.startswith("tandem:") and "another result" in error.value.text
        result = client.query("INSERT INTO t (v) VALUES ('after')")
        assert not result.status & rawmysql.STATUS_IN_TRANS
        assert client.value("SELECT @@sql_mode") == "ANSI_QUOTES"
    assert rows(pair.replicas[0]) == ["after"]


def test_somebody_was_faster(pair, front):
    with front.connect(database="work") as slow, front.connect(database="work") as fast:
        slow.query("BEGIN")
        assert slow.value("SELECT n FROM n WHERE id = 1") == 0
        slow.query("UPDATE n SET n = 1 WHERE id = 2")
        kill_and_take_over(*pair.servers)
        fast.query("UPDATE n SET n = 5 WHERE id = 1")
        with pytest.raises(MysqlError) as error:
            slow.query("COMMIT")
        assert error.value.number == 1213
    assert pair.replicas[0].sql("SELECT n FROM work.n ORDER BY id") == [(5,), (0,)]


@pytest.mark.parametrize("settings, why", [({"transaction_replay": "off"}, "transaction_replay is off"),
                                           ({"transaction_replay_size": 1024}, "longer than transaction_replay_size")])
def test_limits_of_the_setting(pair, change, settings, why):
    with sandbox.Tandem(pair, {"proxy": {**WAIT["proxy"], **settings}}, **WEB) as front, front.connect(database="work") as client:
        client.query("BEGIN")
        client.query(f"INSERT INTO t (v) VALUES ('{'x' * 90}')")
        for _ in range(12):
            client.query(f"UPDATE t SET v = '{'y' * 90}'")
        change()
        with pytest.raises(MysqlError) as error:
            client.query("COMMIT")
        assert error.value.number == 1213 and why in error.value.text
        client.query("INSERT INTO t (v) VALUES ('after')")
    assert rows(pair.replicas[0]) == ["after"]


@pytest.mark.parametrize("statement", ["SELECT GET_LOCK('a', 0)", "CREATE TEMPORARY TABLE tt (i INT)"])
def test_what_only_the_connection_has_ends_the_session(pair, front, statement):
    with front.connect(database="work") as client:
        client.query("BEGIN")
        client.query(statement)
        client.query("INSERT INTO t (v) VALUES ('never')")
        kill_and_take_over(*pair.servers)
        with pytest.raises((MysqlError, rawmysql.ProtocolError, OSError)):
            client.query("COMMIT")
    assert rows(pair.replicas[0]) == []


def test_a_commit_whose_answer_is_lost_is_not_sent_again(pair, front):
    with front.connect(database="work") as client, pair.primary.connect() as locker:  # root's own connection is closed before the kill
        client.query("BEGIN")
        client.query("INSERT INTO t (v) VALUES ('in doubt')")
        locker.query("FLUSH TABLES WITH READ LOCK")
        client.send_query("COMMIT")
        sandbox.wait_for(lambda: pair.primary.sql(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'COMMIT' AND user = 'web'")[0][0] == 1, 10,
            "the COMMIT to hang")
        kill_and_take_over(*pair.servers)
        with pytest.raises(MysqlError) as error:
            client.read_results()
        assert error.value.number == 1927 and "not known" in error.value.text
        client.query("INSERT INTO t (v) VALUES ('after')")
    assert rows(pair.replicas[0]) == ["after"]


def test_a_connection_that_was_killed_stays_killed(pair, front):
    """Its primary lives: somebody wanted the transaction to end."""
    with front.connect(database="work") as client:
        client.query("BEGIN")
        client.query("INSERT INTO t (v) VALUES ('never')")
        pair.primary.sql(f"KILL {client.value('SELECT CONNECTION_ID()')}")
        with pytest.raises((MysqlError, rawmysql.ProtocolError)):
            client.query("COMMIT")
    assert rows(pair.primary) == []


# ---- what stays, and what ends ----------------------------------------------------------------------------------------

def test_a_transaction_that_only_read_ends_where_it_was(pair, front):
    with front.connect(database="work") as client, front.connect(database="work") as other:
        client.query("BEGIN")
        assert client.value("SELECT n FROM n WHERE id = 1") == 0
        swap(*pair.servers)
        wait_writes_on(front, pair.replicas[0])
        other.query("UPDATE n SET n = 5 WHERE id = 1")
        assert client.value("SELECT n FROM n WHERE id = 1") == 0
        assert client.value("SELECT @@server_id") == 1
        client.query("COMMIT")
        assert client.value("SELECT n FROM n WHERE id = 1") == 5


def test_sessions_bound_to_the_old_primary_are_told(pair, front):
    with front.connect(database="work") as client:
        client.query("CREATE TEMPORARY TABLE tt (i INT)")
        swap(*pair.servers)
        wait_writes_on(front, pair.replicas[0])
        with pytest.raises(MysqlError) as error:
            client.query("INSERT INTO tt VALUES (1)")
        assert error.value.number == 1927 and error.value.text.startswith("tandem:")
        assert client.closed_by_peer()


def test_resting_connections_leave_the_old_primary(pair, front):
    def at_old():
        return pair.primary.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'web'")[0][0]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(front.connect(database="work")) for _ in range(5)]
        for number, client in enumerate(clients):
            client.query(f"SET @x = {number}")
            client.query(f"INSERT INTO t (v) VALUES ('{number}')")
        assert at_old() >= 5
        swap(*pair.servers)
        sandbox.wait_for(lambda: at_old() == 0, 10, "the connections to leave")
        pair.primary.stop()
        assert [client.value("SELECT @x") for client in clients] == [0, 1, 2, 3, 4]
        assert all(client.value("SELECT LAST_INSERT_ID()") for client in clients)


def test_autocommit_writes_meet_no_error(pair, front):
    """1290 outside a transaction: the statement did nothing and is sent again to whoever is the primary."""
    done, failures, stop = [], [], threading.Event()

    def write(index):
        try:
            with front.connect(database="work", timeout=60) as client:
                while not stop.is_set():
                    client.query(f"INSERT INTO t (v) VALUES ('{index}')")
                    done.append(index)
        except Exception as error:  # the test's thread must hear of it
            failures.append(error)

    writers = [threading.Thread(target=write, args=(index,)) for index in range(4)]
    for writer in writers:
        writer.start()
    sandbox.wait_for(lambda: len(done) > 50, 20, "writes")
    swap(*pair.servers)
    count = len(done)
    sandbox.wait_for(lambda: failures or len(done) > count + 50, 30, "writes on the new primary")
    stop.set()
    for writer in writers:
        writer.join(60)
    assert failures == []
    assert len(rows(pair.replicas[0])) == len(done)
