"""What a session has read it does not read older again, whoever has written it, and wherever it reads next.

One replica is behind: a table that is locked there can be read and not written. What is new was written past Tandem, so that no account's
token speaks of it.
"""
import threading

import pytest

import sandbox
from test_placement import listed

pytestmark = [pytest.mark.proxy_only]


@pytest.fixture
def behind(heal):
    """The second replica has not applied the last write, the first one has."""
    cluster = heal
    cluster.primary.sql("CREATE OR REPLACE TABLE work.seen (id INT PRIMARY KEY, n INT)")
    cluster.primary.sql("INSERT INTO work.seen VALUES (1, 0)")
    cluster.wait_synced()
    first, second = cluster.replicas
    with second.connect("root", "") as locker:
        locker.query("LOCK TABLES work.seen READ")
        cluster.primary.sql("UPDATE work.seen SET n = 1")
        first.wait_position(cluster.primary.value("SELECT @@global.gtid_binlog_pos"))
        yield first, second
        locker.query("UNLOCK TABLES")
    cluster.primary.sql("DROP TABLE work.seen")


@pytest.fixture
def front(cluster):
    with sandbox.Tandem(cluster) as started:
        started.wait_reads_on(cluster.replicas)
        yield started


def gone(front, server):
    server.kill9()
    return lambda: None


def busy(front, server):
    """So many others read there that it would be better to read elsewhere."""
    clients = [front.connect(timeout=60) for _ in range(24)]
    for client in clients:
        client.send_query(f"/* tandem: server={server.name} */ SELECT SLEEP(60)")
    sandbox.wait_for(lambda: server.value("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%' "
                                          "OR info LIKE '%*/ SELECT SLEEP%'") >= len(clients), 30, "all to read there")

    def end():
        for client in clients:
            client.socket.close()
    return end


@pytest.mark.parametrize("leave", [gone, busy], ids=["gone", "busy"])
def test_what_one_replica_has_shown_the_next_one_shows(front, behind, leave):
    first, second = behind
    question = "SELECT n FROM work.seen WHERE id = 1"
    with front.connect(timeout=60) as client, front.connect(timeout=60) as fresh:
        assert client.query(f"/* tandem: server={second.name} */ {question}").value == 0
        assert client.query(f"/* tandem: server={first.name} */ {question}").value == 1
        end = leave(front, first)
        sandbox.wait_for(lambda: fresh.query(question).value == 0, 30, "others to be sent to the one that is behind")
        assert [client.query(question).value for _ in range(8)] == [1] * 8
        end()


def test_with_neither_that_replica_nor_a_primary_it_waits(cluster, behind):
    """As while a replica is being made the primary: who has read there does not read on one that is behind."""
    first, second = behind
    question = "SELECT n FROM work.seen WHERE id = 1"
    with sandbox.Tandem(cluster, {"proxy": {"primary_wait": "60s"}}) as own:
        own.wait_reads_on(cluster.replicas)
        with own.connect(timeout=60) as client, own.connect(timeout=60) as fresh:
            assert client.query(f"/* tandem: server={first.name} */ {question}").value == 1
            cluster.primary.kill9()
            first.kill9()
            sandbox.wait_for(lambda: fresh.query(question).value == 0, 30, "others to be sent to the one that is behind")
            client.send_query(question)
            sandbox.wait_for(lambda: any(one["state"].startswith("waits for a replica") for one in listed(own)), 30, "it to wait")
            cluster.primary.start()
            assert client.read_result().value == 1


def test_many_sessions_at_once_read_nothing_older(front, behind):
    """With both replicas in use: each session reads only newer things."""
    first, _ = behind
    older = []

    def life():
        with front.connect(timeout=60) as client:
            last = 0
            for _ in range(300):
                n = client.query("SELECT n FROM work.seen WHERE id = 1").value
                if n < last:
                    older.append((last, n))
                last = n

    threads = [threading.Thread(target=life) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not older
    assert front.connect().query(f"/* tandem: server={first.name} */ SELECT n FROM work.seen").value == 1
