"""The network is cut, a disk is full, a replica cannot apply: what is expected of each is written above the test.

A cut is a relay that stops passing bytes: one stands between Tandem and db1, another between the replicas and db1. `refused` means that
the host is there and refuses, `silent` that everything is swallowed. Semi-sync is on unless a test says otherwise, so that nothing that
was acknowledged may be lost; which commits wait, and how long, is what `durability` decides (test_durability.py).
"""
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import sandbox  # noqa: E402
from checker import Checker  # noqa: E402
from sandbox import wait_for  # noqa: E402
from test_failover import AUTO, BASELINE, Forwarder, IN_FLIGHT, ctl, primary_of, promoted, said, wait_level  # noqa: E402


class Cuts:
    """The two ways to db1."""

    def __init__(self, primary):
        self.tandem, self.links = Forwarder(primary), Forwarder(primary)

    @staticmethod
    def cut(relays, kind):
        for relay in relays:
            if kind == "refused":
                relay.cut()
            else:
                relay.silent = True

    @staticmethod
    def heal(relays, kind):
        for relay in relays:
            if kind == "refused":
                relay.join()
            relay.silent = False


@contextlib.contextmanager
def cut_setting(replicas, settings=None, degrade_ms=600000):
    with sandbox.Cluster(replicas=replicas, semi_sync=True) as cluster:
        cuts = Cuts(cluster.primary)
        cluster.primary.sql(f"SET GLOBAL rpl_semi_sync_master_timeout = {degrade_ms}")
        for server in cluster.replicas:
            server.follow(cluster.primary, MASTER_HEARTBEAT_PERIOD=0.4, MASTER_PORT=cuts.links.port)
        for server in cluster.servers:
            server.options.update(BASELINE)
        Checker.prepare(cluster)
        merged = {section: dict(names) for section, names in AUTO.items()}
        for section, names in (settings or {}).items():
            merged.setdefault(section, {}).update(names)
        merged["server db1"] = {"address": cuts.tandem.address, "replication_address": cuts.links.address}
        with sandbox.Tandem(cluster, merged) as tandem:
            tandem.wait_reads_on(cluster.replicas)
            yield cluster, tandem, cuts


def tell(*checkers):
    """Errors that nobody is to see."""
    for checker in checkers:
        assert not checker.read_errors, checker.read_errors[:5]
        strange = [text for _, text in checker.write_errors if not any(word in text for word in IN_FLIGHT)]
        assert not strange, strange[:5]


def home_again(tandem, old):
    """Until the old primary follows. One that holds what nobody acknowledged stays out until it is restarted and drops that itself."""
    wait_for(lambda: old.replicating() or "rejoin db1: refused" in tandem.log_text(), 40, "the old primary to be judged")
    if not old.replicating():
        old.kill9()
        old.start()
    wait_for(old.replicating, 40, "the old primary to follow")


# Expected: Tandem hears the primary and the primary no replica. No failover. Reads go on, and never go back: replicas that know nothing new are
# not asked. A commit waits for an acknowledgement until the primary has waited long enough (rpl_semi_sync_master_timeout), then all go on.
# Healed: the links come up by themselves and all agree.
@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_cut_between_primary_and_replicas(kind):
    with cut_setting(replicas=2, degrade_ms=1500) as (cluster, tandem, cuts):
        with Checker(tandem, clients=4) as checker:
            wait_for(lambda: len(checker.acks) > 30, 30, "appends")
            cuts.cut([cuts.links], kind)
            wait_for(lambda: cluster.primary.sql("SHOW STATUS LIKE 'Rpl_semi_sync_master_status'")[0][1] == "OFF", 30, "it to go on alone")
            acks, reads = len(checker.acks), checker.reads
            wait_for(lambda: len(checker.acks) > acks + 30 and checker.reads > reads + 30, 30, "reads and writes")
            assert primary_of(cluster) is cluster.primary
            cuts.heal([cuts.links], kind)
            for server in cluster.replicas:
                wait_for(server.replicating, 40, f"{server.name} to replicate again")
        assert wait_level(cluster) is cluster.primary
        print(f"\n{checker.verify(cluster.servers)}")
        assert not checker.write_errors, checker.write_errors[:5]
        tell(checker)
        assert "took over" not in tandem.log_text()


# Expected: three servers, and nobody hears the primary any more: the two others are a majority. One of them takes over, at once when the primary's
# address refuses, after failover_patience when it is silent. Nothing acknowledged is lost. The old primary, which never noticed, is not
# written to again; healed, it follows.
@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_primary_cut_off_from_everybody(kind):
    with cut_setting(replicas=2, settings={"proxy": {"primary_wait": "60s"}}) as (cluster, tandem, cuts):
        old = cluster.primary
        with Checker(tandem, clients=4) as checker:
            wait_for(lambda: len(checker.acks) > 30, 30, "appends")
            cuts.cut([cuts.tandem, cuts.links], kind)
            said(tandem, "took over from db1", 40)
            acks = len(checker.acks)
            wait_for(lambda: len(checker.acks) > acks + 30, 40, "writes on the new primary")
            assert old.value("SELECT @@global.read_only") == 0  # nobody could tell it
            cuts.heal([cuts.tandem, cuts.links], kind)
            home_again(tandem, old)
        assert wait_level(cluster) is not old
        print(f"\n{checker.verify(cluster.servers)}")
        tell(checker)


# Expected: two servers and no third opinion. A primary that refuses is gone, and the replica takes over; one that is silent may be heard by
# others, so nobody is promoted and the log says why. Nothing acknowledged is lost either way.
@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_both_cut_with_two_servers(kind):
    with cut_setting(replicas=1, settings={"proxy": {"primary_wait": "60s"}}) as (cluster, tandem, cuts):
        old = cluster.primary
        with Checker(tandem, clients=4) as checker:
            wait_for(lambda: len(checker.acks) > 30, 30, "appends")
            cuts.cut([cuts.tandem, cuts.links], kind)
            if kind == "refused":
                said(tandem, "took over from db1", 40)
            else:
                said(tandem, "without a majority of the servers that is no proof", 40)
                assert cluster.servers[1].value("SELECT @@global.read_only") == 1
            cuts.heal([cuts.tandem, cuts.links], kind)
            if kind == "refused":
                home_again(tandem, old)
            acks = len(checker.acks)
            wait_for(lambda: len(checker.acks) > acks + 30, 40, "writes to go on")
        wait_for(lambda: all(server.replicating() for server in cluster.servers if server is not primary_of(cluster)), 40, "the replica")
        assert (wait_level(cluster) is old) == (kind == "silent")
        print(f"\n{checker.verify(cluster.servers)}")
        tell(checker)


# ---- a full disk ------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def small_disk():
    """A file system of its own for binary logs, and a way to fill it."""
    folder = sandbox.new_folder("disk")
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=777", "none", folder], capture_output=True).returncode:
        sandbox.remove_folder(folder)
        pytest.skip("a small file system can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        sandbox.remove_folder(folder)


def fill(folder):
    ballast = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(ballast, bytes(4096)):
            pass
    os.close(ballast)


def onto(disk, server):
    """Moves a server's binary logs to another file system."""
    server.stop()
    for path in server.data.glob("binlog.*"):
        shutil.copy2(path, disk / path.name)
    index = disk / "binlog.index"
    index.write_text("".join(f"{disk}/{pathlib.Path(line).name}\n" for line in index.read_text().split()))
    server.start(log_bin=f"{disk}/binlog")


# The primary's disk is full: its server lives, answers, and lets each commit wait for space (it looks once a minute). Expected: no failover by
# itself, since the primary is heard; reads go on; a planned promotion is refused with the reason. Once somebody has
# stopped that server the replica takes over, with all that was acknowledged.
def test_full_disk_on_the_primary():
    with small_disk() as disk, contextlib.ExitStack() as stack:
        cluster = stack.enter_context(sandbox.Cluster(replicas=1, semi_sync=True))
        old, replica = cluster.servers
        onto(disk, old)
        old.sql("SET GLOBAL rpl_semi_sync_master_enabled = 1")
        replica.follow(old, MASTER_HEARTBEAT_PERIOD=0.4)
        Checker.prepare(cluster)
        tandem = stack.enter_context(sandbox.Tandem(cluster, {**AUTO, "proxy": {"primary_wait": "60s"}}))
        tandem.wait_reads_on(cluster.replicas)
        fill(disk)
        with Checker(tandem, clients=4) as checker:
            wait_for(lambda: b"Disk is full" in old.log.read_bytes(), 60, "the server to complain")
            reads = checker.reads
            with tandem.connect(database="checked") as reader:
                for _ in range(20):
                    reader.value("SELECT COUNT(*) FROM lists")
            status, text = ctl(tandem, "promote", "db2")
            assert status == 1 and "its disk is full" in text, text
            assert "took over" not in tandem.log_text()
            old.kill9()
            said(tandem, "took over from db1", 40)
            acks = len(checker.acks)
            wait_for(lambda: len(checker.acks) > acks + 30 and checker.reads > reads + 30, 40, "reads and writes")
        print(checker.verify([replica]))
        tell(checker)


# ---- a replica that cannot apply --------------------------------------------------------------------------------------

# Expected: a replica whose SQL thread has stopped with an error takes no reads, and the log says which error. When the primary dies it is not
# promoted, and the reason says what to do. Repaired, it takes over with all that was acknowledged.
def test_replica_sql_error():
    with sandbox.Cluster(replicas=1, semi_sync=True) as cluster:
        replica = cluster.servers[1]
        replica.follow(cluster.primary, MASTER_HEARTBEAT_PERIOD=0.4)
        Checker.prepare(cluster)
        with sandbox.Tandem(cluster, AUTO) as tandem, contextlib.ExitStack() as stack:
            tandem.wait_reads_on(cluster.replicas)
            client = stack.enter_context(tandem.connect(database="checked", timeout=40))
            replica.sql("SET SESSION sql_log_bin = 0")
            replica.sql("INSERT INTO checked.lists VALUES (5, 'in the way')")
            for number in range(10):
                client.query(f"INSERT INTO lists VALUES ({number}, 'acknowledged')")
                assert client.value(f"SELECT v FROM lists WHERE k = {number}") == "acknowledged"
            said(tandem, "replication is broken, error 1062: no reads there")
            assert client.value("SELECT @@server_id") == 1
            cluster.primary.kill9()
            said(tandem, "cannot apply what it received, error 1062: repair it and START SLAVE SQL_THREAD")
            assert replica.value("SELECT @@global.read_only") == 1
            replica.sql("DELETE FROM checked.lists WHERE k = 5")
            replica.sql("START SLAVE SQL_THREAD")
            wait_for(promoted(cluster, cluster.primary), 40, "a new primary")
            assert replica.value("SELECT COUNT(*) FROM checked.lists WHERE v = 'acknowledged'") == 10
            client.query("INSERT INTO lists VALUES (10, 'after')")


# ---- the candidate dies too -------------------------------------------------------------------------------------------

# The replica that was chosen is killed in mid-failover. Expected: the third server, which has the same, takes over. It does so by itself while
# the failover still holds the votes it was begun with; after that one server of three is no majority, which is told, and a person has to
# say that the others are gone.
@pytest.mark.parametrize("step", ["receivers", "choose", "catch-up", "stop", "release"])
def test_candidate_dies_in_mid_failover(step, tmp_path, monkeypatch):
    if os.environ.get("TANDEM_NO_FAULTS"):
        pytest.skip("the daemon was built without --enable-checked, and has no fault points")
    monkeypatch.setenv("TANDEM_FAULT", f"pause:{step}:{tmp_path}/go")
    with sandbox.Cluster(replicas=2, semi_sync=True) as cluster:
        for server in cluster.replicas:
            server.follow(cluster.primary, MASTER_HEARTBEAT_PERIOD=0.4)
        for server in cluster.servers:
            server.options.update(BASELINE)
        Checker.prepare(cluster)
        settings = {**AUTO, "server db2": {"address": cluster.servers[1].address, "promote": "prefer"},
                    "proxy": {"primary_wait": "60s"}}
        with sandbox.Tandem(cluster, settings) as tandem:
            tandem.wait_reads_on(cluster.replicas)
            with tandem.connect(database="checked", timeout=60) as client:
                for number in range(10):
                    client.query(f"INSERT INTO lists VALUES ({number}, 'acknowledged')")
            cluster.wait_synced()
            cluster.primary.kill9()
            said(tandem, f"paused after {step}")
            cluster.servers[1].kill9()
            (tmp_path / "go").touch()
            third = cluster.servers[2]

            def writable():
                return third.value("SELECT @@global.read_only") == 0
            wait_for(lambda: writable() or "1 of 3 votes, and 2 are needed" in tandem.log_text(), 60, "a decision about the third server")
            # What Tandem tries meanwhile may be under way.
            wait_for(lambda: writable() or ctl(tandem, "failover", "db3", "--force")[0] == 0, 60, "the third server to take over")
            with tandem.connect(database="checked", timeout=60) as client:
                client.query("INSERT INTO lists VALUES (10, 'after')")
            assert third.value("SELECT COUNT(*) FROM checked.lists") == 11
            for server in cluster.servers[:2]:
                server.start()
                wait_for(server.replicating, 40, f"{server.name} to follow")
            wait_level(cluster)
            for server in cluster.servers:
                assert server.value("SELECT COUNT(*) FROM checked.lists") == 11
