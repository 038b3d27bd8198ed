"""[monitor] durability over real servers: who waits for whom, and who is told. What is expected is written above each test."""
import contextlib
import pathlib
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import sandbox  # noqa: E402
from sandbox import wait_for  # noqa: E402
from test_failover import ctl, primary_of, promoted, said, setting, wait_level  # noqa: E402

FOREVER = 4294967295
TERMS = ("SELECT @@rpl_semi_sync_master_enabled, @@rpl_semi_sync_master_wait_point, @@rpl_semi_sync_master_wait_no_slave, "
         "@@rpl_semi_sync_master_timeout")
STRICT = {"monitor": {"durability": "strict"}}


def is_strict(server):
    return server.sql(TERMS) == [(1, "AFTER_SYNC", 1, FOREVER)] and server.status("Rpl_semi_sync_master_clients") > 0


def waits(server):
    return server.sql("SHOW STATUS LIKE 'Rpl_semi_sync_master_status'")[0][1] == "ON"


@contextlib.contextmanager
def writing(tandem, key):
    """An INSERT under way; gives a thread whose `answer` is None, "ok" or the error."""
    class Writer(threading.Thread):
        answer = None

        def run(self):
            try:
                with tandem.connect(database="checked", timeout=60) as client:
                    client.query(f"INSERT INTO lists VALUES ({key}, 'x')")
                self.answer = "ok"
            except Exception as error:  # whatever a driver may raise
                self.answer = repr(error)
    thread = Writer(daemon=True)
    thread.start()
    yield thread
    thread.join(60)


# Expected: servers that do not know of semi-sync are made to wait for each other, whichever is the primary: as found, after a promotion, after a
# failover. A primary on which somebody has changed it is set right again.
def test_strict_is_set_and_verified_on_each_primary():
    with setting(replicas=2, semi_sync=False, settings=STRICT) as (cluster, tandem):
        first, second, third = cluster.servers
        wait_for(lambda: is_strict(first), 30, "the primary to wait for its replicas")
        first.sql("SET GLOBAL rpl_semi_sync_master_timeout = 100, rpl_semi_sync_master_wait_no_slave = 0")
        wait_for(lambda: is_strict(first), 30, "it to be set right")
        status, text = ctl(tandem, "promote", "db2")
        assert status == 0, text
        wait_for(lambda: is_strict(second), 30, "the promoted one to wait")
        with tandem.connect(database="checked") as client:
            client.query("INSERT INTO lists VALUES (1, 'x')")
        wait_level(cluster)
        second.kill9()
        new = wait_for(promoted(cluster, second), 30, "a new primary")
        wait_for(lambda: is_strict(new), 30, "the next one to wait")
        with tandem.connect(database="checked", timeout=40) as client:
            client.query("INSERT INTO lists VALUES (2, 'x')")
        second.start()
        wait_for(second.replicating, 30, "db2 to follow")
        wait_level(cluster)
        assert {server.value("SELECT COUNT(*) FROM checked.lists") for server in (first, second, third)} == {2}


# Expected with strict: the last replica is lost, so a write waits; the log, `status` and the events say so and what to do; reads go on. Nothing
# is promoted. The replica comes back, and the write is stored. Made available meanwhile instead, it goes on without.
@pytest.mark.parametrize("how", ["replica back", "made available"])
def test_strict_waits_for_a_lost_replica(how):
    with setting(replicas=1, semi_sync=False, settings=STRICT) as (cluster, tandem):
        primary, replica = cluster.servers
        wait_for(lambda: is_strict(primary), 30, "the primary to wait for its replica")
        replica.kill9()
        with writing(tandem, 1) as writer:
            said(tandem, "writes wait until one does (durability = strict)", 40)
            wait_for(lambda: primary.status("Rpl_semi_sync_master_wait_sessions") > 0, 30, "the write to wait")
            with tandem.connect(database="checked") as reader:
                assert reader.value("SELECT COUNT(*) FROM lists") == 0
            wait_for(lambda: "no replica acknowledges" in ctl(tandem, "status")[1], 30, "status to say so")
            assert "durability = available" in ctl(tandem, "events")[1]
            assert writer.answer is None
            if how == "replica back":
                replica.start()
            else:
                tandem.reload({"monitor": {"durability": "available", "degrade_after": "1s"}})
            writer.join(60)
            assert writer.answer == "ok"
        assert primary_of(cluster) is primary
        if how == "replica back":
            said(tandem, "a replica acknowledges again: writes go on")
        else:
            said(tandem, "those that waited for one that is not there go on")


# Expected with strict: kill -9 with writes that wait for a replica that is cut off: nothing acknowledged can be lost, since nothing was.
def test_strict_acknowledges_nothing_alone():
    with setting(replicas=1, semi_sync=False, settings=STRICT) as (cluster, tandem):
        primary, replica = cluster.servers
        wait_for(lambda: is_strict(primary), 30, "the primary to wait for its replica")
        with tandem.connect(database="checked") as client:
            client.query("INSERT INTO lists VALUES (1, 'acknowledged')")
        replica.sql("STOP SLAVE IO_THREAD")
        with writing(tandem, 2) as writer:
            wait_for(lambda: primary.status("Rpl_semi_sync_master_wait_sessions") > 0, 30, "the write to wait")
            replica.sql("START SLAVE IO_THREAD")
            writer.join(60)
            assert writer.answer == "ok"
        primary.kill9()
        wait_for(promoted(cluster, primary), 30, "a new primary")
        assert [key for key, in replica.sql("SELECT k FROM checked.lists ORDER BY k")] == [1, 2]


# Expected with available: nobody waits longer than degrade_after, whatever the server was told. That the primary goes on alone is said, and written
# down; when it dies then, nobody is promoted by itself with max_loss = 0, also by a Tandem that was started afterwards. With a replica back
# it waits again, and that is written down too.
def test_available_degrades_and_comes_back():
    with setting(replicas=1, settings={"monitor": {"degrade_after": "1s"}}) as (cluster, tandem):
        primary, replica = cluster.servers
        wait_for(lambda: primary.sql(TERMS)[0][3] == 1000, 30, "the limit")
        replica.sql("STOP SLAVE IO_THREAD")
        with tandem.connect(database="checked", timeout=40) as client:
            client.query("INSERT INTO lists VALUES (1, 'x')")
        assert not waits(primary)
        said(tandem, "has stopped waiting for its replicas: what it tells clients is stored may be lost with it")
        recorded = "SELECT state, old_primary FROM tandem.cluster WHERE id = 2"
        wait_for(lambda: primary.sql(recorded) == [("degraded", "db1")], 30, "the row")
        assert "stopped waiting for its replicas" in ctl(tandem, "status")[1]
        replica.sql("START SLAVE IO_THREAD")
        said(tandem, "waits for its replicas again", 40)
        wait_for(lambda: replica.sql(recorded) == [("whole", "db1")], 30, "the row")
        assert waits(primary) and primary.sql(TERMS)[0][3] == 1000


def test_degraded_is_known_to_a_tandem_that_comes_later():
    with setting(replicas=1, settings={"monitor": {"degrade_after": "1s"}}) as (cluster, tandem):
        primary, replica = cluster.servers
        replica.sql("STOP SLAVE IO_THREAD")
        with tandem.connect(database="checked", timeout=40) as client:
            client.query("INSERT INTO lists VALUES (1, 'x')")
        wait_for(lambda: primary.sql("SELECT state FROM tandem.cluster WHERE id = 2") == [("degraded",)], 30, "the row")
        replica.sql("SET GLOBAL rpl_semi_sync_slave_enabled = 0")  # so that it has the row and the primary stays degraded
        replica.sql("START SLAVE IO_THREAD")
        cluster.wait_synced()
        assert not waits(primary)
        tandem.stop()
        primary.kill9()
        tandem.start(wait=False)
        said(tandem, "had stopped waiting for its replicas before it died", 40)
        assert replica.value("SELECT @@global.read_only") == 1
