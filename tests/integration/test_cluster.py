"""What Tandem makes of the servers: roles, lag, accounts and routines, also when they change behind its back."""
import contextlib
import signal
import threading

import pytest

import rawmysql
import sandbox
from rawmysql import MysqlError

pytestmark = [pytest.mark.proxy_only]
INIT = ["CREATE DATABASE work", "CREATE TABLE work.t (id INT PRIMARY KEY AUTO_INCREMENT, v INT)", "INSERT INTO work.t (v) VALUES (1)",
        "SET GLOBAL log_bin_trust_function_creators = 1"]


@pytest.fixture
def pair():
    """Each test turns the cluster inside out: a fresh one for each."""
    with sandbox.Cluster(replicas=1, init_sql=INIT) as started:
        yield started


@contextlib.contextmanager
def in_front(cluster, **sections):
    with sandbox.Tandem(cluster, sections) as front:
        front.wait_reads_on(cluster.replicas)
        yield front


def server_of_reads(front):
    with front.connect() as client:
        return client.value("SELECT @@server_id")


def promote_by_hand(old, new):
    """As an operator does it: fence, catch up, open the new one, let the old one follow."""
    old.sql("SET GLOBAL read_only = 1")
    new.wait_position(old.value("SELECT @@global.gtid_binlog_pos"))
    new.sql("STOP SLAVE")
    new.sql("RESET SLAVE ALL")
    new.sql("SET GLOBAL read_only = 0")
    old.follow(new, MASTER_USE_GTID="current_pos")


def test_promotion_by_hand(pair):
    db1, db2 = pair.servers
    with in_front(pair, proxy={"primary_wait": "20s"}) as front:
        with front.connect(database="work") as client:
            client.query("INSERT INTO t (v) VALUES (2)")
            promote_by_hand(db1, db2)
        sandbox.wait_for(lambda: server_of_reads(front) == 1, 10, "reads on the old primary")
        with front.connect(database="work") as client:
            client.query("INSERT INTO t (v) VALUES (3)")
            assert client.value("SELECT COUNT(*) FROM t") == 3
        assert db2.value("SELECT COUNT(*) FROM work.t") == 3
        assert db2.value("SELECT @@global.gtid_binlog_pos").split("-")[1] == "2"  # written there first
        assert "primary is db2" in front.log_text()


def test_two_writable_servers_are_no_primary(pair):
    db1, db2 = pair.servers
    with in_front(pair, proxy={"primary_wait": "500ms"}) as front:
        # At once for Tandem: who is seen as nobody's replica first and writable later is a stray, and db1 goes on.
        front.process.signal(signal.SIGSTOP)
        db2.sql("STOP SLAVE")
        db2.sql("RESET SLAVE ALL")
        db2.sql("SET GLOBAL read_only = 0")
        front.process.signal(signal.SIGCONT)

        def refused():
            try:
                with front.connect() as client:
                    client.query("INSERT INTO work.t (v) VALUES (2)")
            except MysqlError as error:
                return "tandem:" in error.text
            return False
        sandbox.wait_for(refused, 10, "writes to be refused")
        assert "db1 and db2 are writable" in front.log_text()
        count = db2.value("SELECT COUNT(*) FROM work.t")
        assert count == 1
        db2.follow(db1, MASTER_USE_GTID="current_pos")
        with front.connect(database="work") as client:
            sandbox.wait_for(lambda: client.query("INSERT INTO t (v) VALUES (3)").affected == 1, 10, "writes to go on")
        sandbox.wait_for(lambda: server_of_reads(front) == 2, 10, "reads on the replica")


def test_a_lagging_replica_takes_no_reads(pair):
    db1, db2 = pair.servers
    with in_front(pair, proxy={"max_lag": "1s"}) as front:
        db2.stop_sql_thread()
        end = threading.Event()

        def write():
            with db1.connect(database="work") as client:
                while not end.wait(0.05):
                    client.query("INSERT INTO t (v) VALUES (1)")
        writer = threading.Thread(target=write)
        writer.start()
        try:
            sandbox.wait_for(lambda: server_of_reads(front) == 1, 10, "reads to leave the replica")
            assert "too far behind" in front.log_text()
            db2.start_sql_thread()
            sandbox.wait_for(lambda: server_of_reads(front) == 2, 10, "reads to come back")
        finally:
            end.set()
            writer.join()


def test_a_stopped_replica_of_an_idle_primary_is_level(pair):
    """Nothing was written: a stopped SQL thread has missed nothing."""
    with in_front(pair, proxy={"max_lag": "500ms"}) as front:
        pair.replicas[0].stop_sql_thread()
        with front.connect() as client:
            for _ in range(20):
                assert client.value("SELECT @@server_id") == 2
                client.query("DO SLEEP(0.1)")


def test_accounts_change_behind_its_back(pair):
    db1, _ = pair.servers
    with in_front(pair) as front:
        db1.sql("CREATE USER late@'%' IDENTIFIED BY 'one'")
        with front.connect("late", "one") as client:
            assert client.value("SELECT CURRENT_USER()") == "late@%"
        with pytest.raises(MysqlError) as error:
            front.connect("late", "wrong")
        assert error.value.number == 1045
        db1.sql("ALTER USER late@'%' IDENTIFIED BY 'two'")
        pair.wait_synced()
        with front.connect("late", "two") as client:
            assert client.value("SELECT 1") == 1
        db1.sql("DROP USER late@'%'")

        def refused():
            try:
                front.connect("late", "two").close()
            except MysqlError as denied:
                return denied.number == 1045
            return False
        sandbox.wait_for(refused, 15, "the dropped account to be refused")


def test_a_more_specific_account_shadows_the_general_one(pair):
    """The anonymous local account of old installations beats app@'%' for local clients, in Tandem as in the server."""
    db1, _ = pair.servers
    with in_front(pair) as front:
        db1.sql("CREATE USER ''@localhost")
        try:
            with pytest.raises(MysqlError) as direct:
                db1.connect("nobody", "some")
            with pytest.raises(MysqlError) as through:
                front.connect("nobody", "some")
            assert (direct.value.number, direct.value.text) == (through.value.number, through.value.text)
        finally:
            db1.sql("DROP USER ''@localhost")


def test_a_routine_changes_behind_its_back(pair):
    db1, _ = pair.servers
    db1.sql("CREATE FUNCTION work.f() RETURNS INT DETERMINISTIC RETURN 1")
    pair.wait_synced()
    with in_front(pair) as front, front.connect(database="work") as client:
        def called_on():
            return client.query("SELECT f(), @@server_id").rows[0][1]
        sandbox.wait_for(lambda: called_on() == 2, 10, "the harmless function on the replica")
        db1.sql("CREATE OR REPLACE FUNCTION work.f() RETURNS INT DETERMINISTIC RETURN GET_LOCK('work', 0)")
        sandbox.wait_for(lambda: called_on() == 1, 15, "the function that locks to be called on the primary")


def test_a_monitor_with_no_more_rights_than_it_needs(pair):
    db1, _ = pair.servers
    db1.sql("CREATE USER watch@'%' IDENTIFIED BY 'watch'")
    db1.sql("GRANT SELECT ON mysql.* TO watch@'%'")
    db1.sql("GRANT SLAVE MONITOR ON *.* TO watch@'%'")
    db1.sql("CREATE FUNCTION work.w() RETURNS INT DETERMINISTIC RETURN GET_LOCK('work', 0)")
    pair.wait_synced()
    with in_front(pair, monitor={"user": "watch", "password": "watch"}) as front:
        with front.connect(database="work") as client:
            assert client.query("SELECT w(), @@server_id").rows == [(1, 1)]
            assert client.query("INSERT INTO t (v) VALUES (2)").affected == 1
            assert client.value("SELECT COUNT(*) FROM t") == 2
        assert "cannot read" not in front.log_text()
        db1.sql("REVOKE SELECT ON mysql.* FROM watch@'%'")
        db1.sql("CREATE USER late@'%' IDENTIFIED BY 'one'")
        pair.wait_synced()
        db1.sql("KILL USER watch")
        with pytest.raises(MysqlError):
            front.connect("late", "one")
        sandbox.wait_for(lambda: "cannot read the account tables" in front.log_text(), 10, "the refusal in the log")
        with front.connect() as client:
            assert client.value("SELECT 1") == 1


def test_a_monitor_that_is_refused_says_so(pair):
    with sandbox.Tandem(pair, {"monitor": {"password": "wrong"}, "proxy": {"primary_wait": "500ms"}}, wait=False) as front:
        sandbox.wait_for(lambda: "refuses the monitor's account" in front.log_text(), 10, "the refusal in the log")
        assert "check user and password in [monitor]" in front.log_text()


def test_killed_monitor_connections_are_no_outage(pair):
    with in_front(pair) as front:
        before = front.log_text()
        for _ in range(5):
            for server in pair.servers:
                server.sql("KILL USER monitor")
            with front.connect() as client:
                assert client.value("SELECT @@server_id") == 2
        with front.connect(database="work") as client:
            assert client.query("INSERT INTO t (v) VALUES (2)").affected == 1
            assert client.value("SELECT COUNT(*) FROM t") == 2
        assert "down" not in front.log_text()[len(before):]


def test_a_full_server_is_not_down(pair):
    """1040 to the monitor: the server lives, and those who are connected go on."""
    _, db2 = pair.servers
    with in_front(pair) as front, front.connect(database="work") as client, contextlib.ExitStack() as stack:
        assert client.value("SELECT @@server_id FROM t") == 2
        db2.sql("SET GLOBAL max_connections = 20")
        with contextlib.suppress(MysqlError):
            for _ in range(25):
                stack.enter_context(rawmysql.Connection(port=db2.port, user="repl", password="repl"))
        db2.sql("KILL USER monitor")
        with contextlib.suppress(MysqlError):
            for _ in range(25):
                stack.enter_context(rawmysql.Connection(port=db2.port, user="repl", password="repl"))
        for _ in range(10):
            assert client.value("SELECT @@server_id FROM t") == 2
        assert "db2: down" not in front.log_text()


def test_servers_come_and_go_with_a_reload(pair):
    db1, db2 = pair.servers
    with in_front(pair) as front, front.connect(database="work") as client:
        assert client.value("SELECT @@server_id FROM t") == 2
        section = dict(front.settings["server db2"])
        front.reload({"server db2": None})
        sandbox.wait_for(lambda: client.value("SELECT @@server_id FROM t") == 1, 10, "reads to leave the removed server")
        front.reload({"server db2": section})
        sandbox.wait_for(lambda: client.value("SELECT @@server_id FROM t") == 2, 10, "reads on the server that came back")
        assert client.query("INSERT INTO t (v) VALUES (2)").affected == 1
