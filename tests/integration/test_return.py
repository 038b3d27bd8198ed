"""The primary restarts, read-only as its settings have it, before anybody took over from it: it is compared first and opened, or a replica that
knows more takes over. What is expected is written above each test."""
import contextlib
import pathlib
import signal
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from sandbox import wait_for  # noqa: E402
from test_failover import ctl, primary_of, promoted, said, setting, wait_level  # noqa: E402


class Blind:
    """Tandem sees nothing of what happens meanwhile, as if the server had restarted between two looks."""

    def __init__(self, tandem):
        self.tandem = tandem

    def __enter__(self):
        self.tandem.process.signal(signal.SIGSTOP)

    def __exit__(self, *_):
        self.tandem.process.signal(signal.SIGCONT)


def rows(server):
    return server.value("SELECT COUNT(*) FROM checked.lists")


def insert(tandem, key):
    with tandem.connect(database="checked", timeout=60) as client:
        client.query(f"INSERT INTO lists VALUES ({key}, 'x')")


# Expected: nobody knows more than it, so it is made writable again by itself, and waits for its replicas as before. Nothing is lost. That Tandem
# itself stood still for longer than failover_patience is no silence of the primary.
@pytest.mark.parametrize("how", ["kill9", "stop"])
def test_it_is_opened_again(how):
    with setting(replicas=2, settings={"proxy": {"primary_wait": "60s"}}) as (cluster, tandem):
        old = cluster.primary
        insert(tandem, 1)
        cluster.wait_synced()
        with Blind(tandem):
            getattr(old, how)()
            old.start()
            wait_for(lambda: old.status("Uptime") >= 3, 40, "longer than failover_patience")
        said(tandem, "is back with everything that others know of, and writable again", 40)
        insert(tandem, 2)
        assert primary_of(cluster) is old
        assert old.sql("SELECT @@rpl_semi_sync_master_enabled") == [(1,)]
        for server in cluster.replicas:
            wait_for(server.replicating, 40, f"{server.name} to replicate")
        wait_level(cluster)
        assert [rows(server) for server in cluster.servers] == [2, 2, 2]
        assert "took over" not in tandem.log_text()


# Expected: it has lost what clients were told is stored, and a replica has it: the replica takes over, and the old primary follows.
def test_a_replica_is_ahead():
    with setting(replicas=2, settings={"proxy": {"primary_wait": "60s"}}) as (cluster, tandem):
        old = cluster.primary
        with Blind(tandem):  # a clean copy of it, as it is now
            old.stop()
            subprocess.run(["cp", "-a", old.data, old.folder / "before"], check=True)
            old.start()
        said(tandem, "writable again", 40)
        for key in range(5):
            insert(tandem, key)
        cluster.wait_synced()
        with Blind(tandem):
            old.kill9()
            subprocess.run(["sh", "-c", f"rm -rf {old.data} && mv {old.folder}/before {old.data}"], check=True)
            old.start()
        said(tandem, "it is back, read-only, and lacks transactions that others know of: ahead is db", 40)
        new = wait_for(promoted(cluster, old), 40, "a replica to take over")
        insert(tandem, 5)
        wait_for(old.replicating, 40, "the old primary to follow")
        assert wait_level(cluster) is new
        assert [rows(server) for server in cluster.servers] == [6, 6, 6]


# A crash has cost the primary what its replica has received, it comes back writable (its own settings do not say read_only), and nothing is
# written down of it: no journal, no row. Expected, at the start of Tandem and while it runs: it is compared first, and takes nothing; what to do
# is said, and done nothing is lost.
@pytest.mark.parametrize("when", ["before the start", "meanwhile", "unseen"])
def test_writable_and_behind(when):
    with setting(replicas=1, settings={"monitor": {"failover": "manual"}, "proxy": {"primary_wait": "60s"}}) as (cluster, tandem):
        old, replica = cluster.servers
        old.options.pop("read-only")
        with Blind(tandem):
            old.stop()
            subprocess.run(["cp", "-a", old.data, old.folder / "before"], check=True)
            old.start()
        if when != "unseen":
            for key in range(5):
                insert(tandem, key)
            cluster.wait_synced()
        if when == "before the start":
            tandem.stop()
            assert not (tandem.folder / "state" / "operation").exists()
        with contextlib.nullcontext() if when == "before the start" else Blind(tandem):
            if when == "unseen":  # what the replica has got was not seen there before the crash either
                for key in range(5):
                    old.sql(f"INSERT INTO checked.lists VALUES ({key}, 'x')")
                cluster.wait_synced()
            old.kill9()
            subprocess.run(["sh", "-c", f"rm -rf {old.data} && mv {old.folder}/before {old.data}"], check=True)
            old.start()
            for _ in range(60):  # a quick restart, and its connection numbers get further than they were
                old.connect().close()
        if when == "before the start":
            tandem.start(wait=False)
        said(tandem, "no primary: db1 is writable but lacks what db2 has received from it", 40)
        assert old.value("SELECT @@global.read_only") == 0 and rows(old) == 0
        assert "SET GLOBAL read_only = 1 there" in ctl(tandem, "status")[1]
        old.sql("SET GLOBAL read_only = 1")
        said(tandem, "db1 is read-only: `tandemctl failover`", 40)
        status, text = ctl(tandem, "failover")
        assert status == 0 and "db2 is the primary" in text, text
        insert(tandem, 5)
        wait_for(old.replicating, 40, "the old primary to follow")
        assert wait_level(cluster) is replica and [rows(server) for server in cluster.servers] == [6, 6]


# Expected with failover = manual: it says what it would do, and the command does it.
def test_by_hand():
    with setting(replicas=1, settings={"monitor": {"failover": "manual"}}) as (cluster, tandem):
        old = cluster.primary
        insert(tandem, 1)
        with Blind(tandem):
            old.kill9()
            old.start()
        said(tandem, "would be made writable again; nothing was touched. `tandemctl failover` does it", 40)
        assert old.value("SELECT @@global.read_only") == 1
        status, text = ctl(tandem, "failover")
        assert status == 0 and "db1 is the primary again" in text, text
        insert(tandem, 2)
        assert primary_of(cluster) is old


# Expected: who makes a primary read-only by hand is not corrected; `failover` opens it again when that is asked for.
def test_read_only_by_hand_is_left_alone():
    with setting(replicas=1) as (cluster, tandem):
        old = cluster.primary
        old.sql("SET GLOBAL read_only = 1")
        said(tandem, "no primary: db1 is read-only: `tandemctl failover`", 40)
        for _ in range(10):
            assert "db1 is read-only" in ctl(tandem, "status")[1]
        assert old.value("SELECT @@global.read_only") == 1
        status, text = ctl(tandem, "failover")
        assert status == 0, text
        insert(tandem, 1)
        assert primary_of(cluster) is old
