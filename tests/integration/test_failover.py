"""The primary dies, falls silent or is cut off. What is expected of each is written above the test.

With semi-sync nothing that was acknowledged may be lost, whatever happens to one server. Reads go on throughout. Only writes whose
answer was under way may end in an error.
"""
import contextlib
import json
import os
import pathlib
import random
import socket
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import load  # noqa: E402
import sandbox  # noqa: E402
from checker import Checker  # noqa: E402
from sandbox import wait_for  # noqa: E402

SECONDS = float(os.environ.get("TANDEM_TEST_SECONDS", "60"))
AUTO = {"monitor": {"failover": "auto", "failover_patience": "2s", "failover_holddown": "0"}}
# What Tandem asks for: a server that comes back is read-only, and drops what nobody acknowledged.
# A write whose answer was under way; a transaction that was open and could not be replayed.
# (Told to a client that was between two statements, its number is 0: it answers nothing.)
IN_FLIGHT = ("whether it took effect", "1213", "cannot be restored", "sequence number 0")
BASELINE = {"read-only": "ON", "init-rpl-role": "SLAVE"}


def acknowledged_by_all(cluster):
    """Each link acknowledges. (The primary may count a link that has ended as well, until it has something to send there.)"""
    return all(server.sql("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_slave_status'")[0][1] == "ON" for server in cluster.replicas) and \
        cluster.primary.status("Rpl_semi_sync_master_clients") >= len(cluster.replicas)


@contextlib.contextmanager
def setting(replicas=2, semi_sync=True, settings=None, addresses=None, **more):
    """A cluster with the tables of the checker, links with a short heartbeat, and Tandem in front."""
    with sandbox.Cluster(replicas=replicas, semi_sync=semi_sync, link={"MASTER_HEARTBEAT_PERIOD": 0.4}, **more) as cluster:
        for server in cluster.replicas:
            server.wait_replicating()
        if semi_sync:  # else the first write may wait for one who came too late to acknowledge it
            wait_for(lambda: acknowledged_by_all(cluster), 60, "semi-sync")
        for server in cluster.servers:
            server.options.update(BASELINE)
        Checker.prepare(cluster)
        merged = {section: dict(names) for section, names in AUTO.items()}
        for section, names in (settings or {}).items():
            merged.setdefault(section, {}).update(names)
        for name, address in (addresses or {}).items():
            server = cluster.server(name)
            merged.setdefault(f"server {name}", {}).update({"address": address, "replication_address": server.address})
        with sandbox.Tandem(cluster, merged) as tandem:
            tandem.wait_reads_on(cluster.replicas)
            yield cluster, tandem


def primary_of(cluster):
    """The writable server; there must be exactly one."""
    writable = [server for server in cluster.servers if server.running() and server.value("SELECT @@global.read_only") == 0]
    assert len(writable) == 1, [server.name for server in writable]
    return writable[0]


def promoted(cluster, old):
    def found():
        for server in cluster.servers:
            if server is not old and server.running() and server.value("SELECT @@global.read_only") == 0:
                return server
        return None
    return found


def wait_level(cluster):
    """Until all that run have what the primary has."""
    primary = primary_of(cluster)
    position = primary.value("SELECT @@global.gtid_binlog_pos")
    for server in cluster.servers:
        if server is not primary and server.running():
            wait_for(server.replicating, 20, f"{server.name} to replicate")
            server.wait_position(position)
    return primary


def said(tandem, text, timeout=20):
    wait_for(lambda: text in tandem.log_text(), timeout, f"the log to say {text!r}")


def ctl(tandem, *words):
    """tandemctl beside the daemon: (exit status, what it printed)."""
    import subprocess
    program = pathlib.Path(sandbox.tandem_binary()).parent / "tandemctl"
    if not program.exists():
        pytest.skip("no tandemctl beside the daemon")
    done = subprocess.run([program, "-c", tandem.config, *words], capture_output=True, text=True, timeout=90)
    return done.returncode, done.stdout + done.stderr


class Forwarder:
    """A TCP relay in front of a server that can be cut: connections are reset and new ones refused, or everything is swallowed."""

    def __init__(self, server):
        self.server, self.pairs, self.silent = server, [], False
        self.port = sandbox.free_port()
        self.listener = None
        self.join()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def join(self):
        self.silent = False
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.server.port))
                except OSError:  # as its own port would have said
                    near.close()
                    continue
                self.pairs.append((near, far))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self.relay, args=(one, other), daemon=True).start()

    def relay(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self.silent:
                    time.sleep(0.01)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        """The host is there and refuses."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for pair in self.pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self.pairs = []


# Expected: a replica is the primary within a second; no acknowledged append is lost or doubled on any server; no read fails or goes back;
# a write fails only when its answer was under way; the old primary, started again, takes no statement before it follows the new one.
@pytest.mark.parametrize("replicas, writers", [(1, 8), (1, 16), (2, 8), (2, 16)] if load.is_long() else [(1, 8), (2, 16)])
def test_kill_9_at_random_moments(replicas, writers):
    end, runs, gaps = float("inf") if load.is_long() else time.monotonic() + 0.6 * SECONDS, 0, []
    with setting(replicas=replicas) as (cluster, tandem):
        dice = random.Random(replicas)
        with Checker(tandem, clients=writers, seed=replicas) as checker:
            while time.monotonic() < end and runs < 50:
                time.sleep(dice.uniform(0.3, 1.0))
                old = primary_of(cluster)
                killed = time.monotonic()
                old.kill9()
                wait_for(lambda: checker.first_ack_after(killed + 0.02), 20, "a write after the failover")
                gaps.append(checker.first_ack_after(killed + 0.02) - killed)
                old.start()
                wait_for(lambda: old.replicating(), 20, f"{old.name} to be made a replica")
                runs += 1
        wait_level(cluster)
        figures = checker.verify(cluster.servers)
        gaps.sort()
        print(f"\n{replicas + 1} servers, {writers} clients, {runs} runs: kill to first acknowledged write median {gaps[len(gaps) // 2] * 1000:.0f} ms, "
              f"longest {gaps[-1] * 1000:.0f} ms; {figures}; {len(checker.write_errors)} writes failed in flight")
        assert not checker.read_errors, checker.read_errors[:5]
        assert len(checker.write_errors) <= writers * runs, checker.write_errors[:5]
        strange = [text for _, text in checker.write_errors if not any(word in text for word in IN_FLIGHT)]
        assert not strange, strange[:5]
        assert gaps[len(gaps) // 2] < 1.0 and gaps[-1] < 5.0  # the longest wait for the applier of a busy machine
        assert "quarantine" not in tandem.log_text()


# Expected: three servers: the silent primary is replaced when failover_patience is over, nothing acknowledged is lost. When it goes on it is
# made a replica, unless it has transactions that nobody acknowledged; then it stays out until they are gone.
def test_silent_primary_of_three():
    with setting(replicas=2, settings={"proxy": {"primary_wait": "30s"}}) as (cluster, tandem):
        old = cluster.primary
        with Checker(tandem, clients=4) as checker:
            wait_for(lambda: len(checker.acks) > 50, 20, "appends")
            stopped = time.monotonic()
            old.sigstop()
            wait_for(lambda: checker.first_ack_after(stopped + 0.5), 20, "a write after the failover")
            took = checker.first_ack_after(stopped + 0.5) - stopped
            old.sigcont()
            wait_for(lambda: "rejoin db1: " in tandem.log_text(), 20, "the old primary to be judged")
            if "quarantine" in tandem.log_text() or "stays out" in tandem.log_text():
                old.kill9()
                old.start()
            wait_for(old.replicating, 20, "the old primary to follow")
        assert took > 1.9
        wait_level(cluster)
        print(f"\nSIGSTOP to first acknowledged write {took:.2f} s (patience 2 s); {checker.verify(cluster.servers)}")
        assert not checker.read_errors, checker.read_errors[:5]


# Expected: two servers and no third opinion: silence is no proof, so nobody is promoted; reads go on; the log says why. When the primary
# goes on, everything does.
def test_silent_primary_of_two():
    with setting(replicas=1) as (cluster, tandem):
        old = cluster.primary
        with tandem.connect(database="checked") as reader:
            old.sigstop()
            said(tandem, "without a majority")
            assert reader.value("SELECT COUNT(*) FROM lists") == 0
            assert cluster.servers[1].value("SELECT @@global.read_only") == 1
            old.sigcont()
        with tandem.connect(database="checked") as writer:
            wait_for(lambda: writer.query("INSERT INTO lists VALUES (1, 'x')"), 20, "writes to go on")
        assert primary_of(cluster) is old


# Expected: Tandem cannot reach the primary and a replica still hears it: no failover, whatever the cut looks like; reads go on; it is loud.
@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_cut_between_tandem_and_primary_only(kind):
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(sandbox.Cluster(replicas=2, semi_sync=True))
        for server in cluster.replicas:
            server.follow(cluster.primary, MASTER_HEARTBEAT_PERIOD=0.4)
        Checker.prepare(cluster)
        relay = Forwarder(cluster.primary)
        settings = {**AUTO, "server db1": {"address": relay.address, "replication_address": cluster.primary.address}}
        tandem = stack.enter_context(sandbox.Tandem(cluster, settings))
        tandem.wait_reads_on(cluster.replicas)
        with tandem.connect(database="checked") as reader:
            if kind == "refused":
                relay.cut()
            else:
                relay.silent = True
            said(tandem, "the network between is cut, no failover")
            assert reader.value("SELECT COUNT(*) FROM lists") == 0
            # Longer than the patience: heartbeats go on, and so does the verdict.
            beats = cluster.servers[1].status("Slave_received_heartbeats")
            wait_for(lambda: cluster.servers[1].status("Slave_received_heartbeats") > beats + 8, 20, "heartbeats")
            assert primary_of(cluster) is cluster.primary
            if kind == "refused":
                relay.join()
            relay.silent = False
            with tandem.connect(database="checked", timeout=30) as writer:
                writer.query("INSERT INTO lists VALUES (1, 'x')")
        assert "took over" not in tandem.log_text()


# Ten acknowledged rows lie in the relay log of a replica whose SQL thread stands. Expected: all ten are there after the failover.
def test_relay_log_of_ten_acknowledged_rows():
    with setting(replicas=1, settings={"proxy": {"read_your_writes": "off"}}) as (cluster, tandem):
        replica = cluster.servers[1]
        replica.stop_sql_thread()
        with tandem.connect(database="checked") as client:
            for key in range(10):
                client.query(f"INSERT INTO lists VALUES ({key}, 'kept')")
            assert replica.value("SELECT COUNT(*) FROM checked.lists") == 0
            cluster.primary.kill9()
            wait_for(promoted(cluster, cluster.primary), 20, "a new primary")
            assert replica.value("SELECT COUNT(*) FROM checked.lists") == 10
            wait_for(lambda: client.query("INSERT INTO lists VALUES (10, 'new')"), 20, "a write")


# A replica that restarts after the primary died has thrown away what it had not applied. Expected: it is not promoted with max_loss = 0,
# and the log says what is lost and what to do.
def test_replica_restarted_after_the_primary_died():
    with setting(replicas=1, settings={"monitor": {"failover": "manual"}, "proxy": {"read_your_writes": "off"}}) as (cluster, tandem):
        replica = cluster.servers[1]
        replica.stop_sql_thread()
        with tandem.connect(database="checked") as client:
            for key in range(10):
                client.query(f"INSERT INTO lists VALUES ({key}, 'lost')")
        wait_for(lambda: cluster.primary.value("SELECT @@global.gtid_binlog_pos") == replica.row("SHOW SLAVE STATUS")["Gtid_IO_Pos"],
                 10, "the replica to have received all")
        cluster.primary.kill9()
        said(tandem, "`tandemctl failover` does it")
        replica.restart()
        tandem.reload({"monitor": {"failover": "auto"}})
        said(tandem, "lacks 10 transactions that clients were told are stored")
        assert replica.value("SELECT @@global.read_only") == 1


# The replica that is ahead has promote = never, or prefer is behind. Expected: the most advanced is promoted.
def test_most_advanced_of_two_is_promoted():
    with setting(replicas=2, semi_sync=False, settings={"proxy": {"read_your_writes": "off"}, "server db2": {"promote": "prefer"}}) \
            as (cluster, tandem):
        behind, ahead = cluster.replicas
        behind.sql("STOP SLAVE IO_THREAD")
        with tandem.connect(database="checked") as client:
            client.query("INSERT INTO lists VALUES (1, 'x')")
        ahead.wait_position(cluster.primary.value("SELECT @@global.gtid_binlog_pos"))
        cluster.primary.kill9()
        assert wait_for(promoted(cluster, cluster.primary), 20, "a new primary") is ahead
        wait_for(lambda: behind.value("SELECT COUNT(*) FROM checked.lists") == 1, 20, "the other one to have it too")


# Without semi-sync an acknowledged write may be on the primary alone. Expected with max_loss = 0: nobody is promoted, and the log says how
# much would be lost.
def test_loss_is_measured_and_refused():
    with setting(replicas=1, semi_sync=False, settings={"proxy": {"read_your_writes": "off"}}) as (cluster, tandem):
        replica = cluster.servers[1]
        replica.sql("STOP SLAVE IO_THREAD")
        with tandem.connect(database="checked") as client:
            for key in range(3):
                client.query(f"INSERT INTO lists VALUES ({key}, 'x')")
        cluster.primary.kill9()
        said(tandem, "lacks 3 transactions that clients were told are stored; max_loss is 0")
        assert replica.value("SELECT @@global.read_only") == 1
        tandem.reload({"monitor": {"max_loss": 3}})
        wait_for(promoted(cluster, cluster.primary), 30, "a new primary")
        said(tandem, "3 transactions that clients were told of are lost")


# The daemon is killed after each step of a failover. Expected: its next start finishes it; one server is writable, nothing is lost, writes go on.
@pytest.mark.parametrize("step", ["journal", "receivers", "choose", "catch-up", "stop", "fork", "reopen", "release", "others", "finish"])
def test_daemon_killed_in_mid_failover(step, monkeypatch):
    with setting(replicas=2) as (cluster, tandem):
        with tandem.connect(database="checked") as client:
            client.query("INSERT INTO lists VALUES (1, 'before')")
        tandem.stop()
        monkeypatch.setenv("TANDEM_FAULT", f"kill:{step}")
        tandem.start()
        tandem.wait_reads_on(cluster.replicas)
        cluster.primary.kill9()
        wait_for(lambda: not tandem.process.running(), 20, "the daemon to be killed")
        monkeypatch.delenv("TANDEM_FAULT")
        tandem.start(wait=False)
        new = wait_for(promoted(cluster, cluster.primary), 20, "a new primary")

        def written():
            with tandem.connect(database="checked", timeout=15) as client:
                return client.query("INSERT IGNORE INTO lists VALUES (2, 'after')")
        wait_for(written, 30, "a write")
        assert primary_of(cluster) is new
        cluster.primary.start()
        wait_for(cluster.primary.replicating, 20, "the old primary to follow")
        wait_level(cluster)
        for server in cluster.servers:
            assert sorted(server.sql("SELECT k, v FROM checked.lists"))[0][1] == "before"
            assert len(server.sql("SELECT k FROM checked.lists")) == 2


# The primary has given up waiting for its replica (degraded) before it dies. Expected with max_loss = 0: no failover by itself, though what
# this Tandem knows of is all there: others may have been told more. A person decides.
def test_degraded_before_it_died():
    with setting(replicas=1) as (cluster, tandem):
        replica = cluster.servers[1]
        cluster.primary.sql("SET GLOBAL rpl_semi_sync_master_timeout = 50")
        replica.sql("STOP SLAVE IO_THREAD")
        with tandem.connect(database="checked") as client:
            client.query("INSERT INTO lists VALUES (1, 'x')")
        wait_for(lambda: cluster.primary.sql("SHOW STATUS LIKE 'Rpl_semi_sync_master_status'")[0][1] == "OFF", 10, "it to degrade")
        replica.sql("SET GLOBAL rpl_semi_sync_slave_enabled = 0")  # so that it stays degraded when the replica is back
        replica.sql("START SLAVE")
        cluster.wait_synced()
        cluster.primary.sql("SELECT SLEEP(0.5)")  # two looks of the monitor
        cluster.primary.kill9()
        said(tandem, "had stopped waiting for its replicas before it died")
        assert replica.value("SELECT @@global.read_only") == 1
        status, text = ctl(tandem, "failover", "--force")
        assert status == 0, text
        assert primary_of(cluster) is replica


# failover = manual. Expected: nothing is touched, the log says what would be done, and what command does it.
def test_manual_says_what_it_would_do():
    with setting(replicas=1, settings={"monitor": {"failover": "manual"}}) as (cluster, tandem):
        replica = cluster.servers[1]
        before = replica.row("SHOW SLAVE STATUS")["Slave_SQL_Running"], replica.value("SELECT @@global.read_only")
        cluster.primary.kill9()
        said(tandem, "db2 would take over from db1; nothing was touched. `tandemctl failover` does it")
        assert (replica.row("SHOW SLAVE STATUS")["Slave_SQL_Running"], replica.value("SELECT @@global.read_only")) == before
        status, text = ctl(tandem, "failover")
        assert status == 0, text
        assert primary_of(cluster) is replica


# The scheduled events that ran on the primary run on the new one, and no others; on the old one, back as a replica, none does.
def test_events_move_at_a_failover():
    statements = ["CREATE DATABASE work", "CREATE TABLE work.t (k INT)", "SET GLOBAL event_scheduler = ON", "GRANT SUPER ON *.* TO monitor@'%'",
                  "CREATE DEFINER = 'some body'@'10.%' EVENT work.runs ON SCHEDULE EVERY 1 HOUR STARTS '2037-01-01 00:00:00' DO DELETE FROM work.t",
                  "CREATE EVENT work.sleeps ON SCHEDULE EVERY 1 HOUR DISABLE DO DELETE FROM work.t"]
    with setting(replicas=1, init_sql=statements, settings={"tandem": {"log_level": "debug"}}) as (cluster, tandem):
        old, new = cluster.servers
        said(tandem, "events remembered for a failover: event_scheduler=ON\\x0a`work`.`runs`", 40)
        old.kill9()
        wait_for(promoted(cluster, old), 20, "a new primary")
        said(tandem, "failover: done: ")
        question = "SELECT EVENT_NAME, DEFINER, STATUS FROM information_schema.EVENTS ORDER BY EVENT_NAME"
        assert new.sql(question) == [("runs", "some body@10.%", "ENABLED"), ("sleeps", "root@localhost", "SLAVESIDE_DISABLED")]
        assert new.value("SELECT @@global.event_scheduler") == "ON"
        old.start()
        wait_for(old.replicating, 20, "the old primary to follow")
        assert old.sql(question) == [("runs", "some body@10.%", "SLAVESIDE_DISABLED"), ("sleeps", "root@localhost", "DISABLED")]


# Expected: the hold-down holds for a Tandem that was started anew as well.
def test_holddown_survives_a_restart():
    with setting(replicas=2, settings={"monitor": {"failover_holddown": "1h"}}) as (cluster, tandem):
        cluster.primary.kill9()
        second = wait_for(promoted(cluster, cluster.primary), 20, "a new primary")
        said(tandem, "done: ")
        tandem.stop()
        tandem.start()
        tandem.wait_reads_on([server for server in cluster.replicas if server is not second])
        second.kill9()
        said(tandem, "less than failover_holddown ago")
        assert promoted(cluster, second)() is None


# Two failovers within failover_holddown. Expected: the second waits for a person.
def test_holddown():
    with setting(replicas=2, settings={"monitor": {"failover_holddown": "1h"}}) as (cluster, tandem):
        cluster.primary.kill9()
        second = wait_for(promoted(cluster, cluster.primary), 20, "a new primary")
        said(tandem, "done: ")
        second.kill9()
        said(tandem, "less than failover_holddown ago")


# Expected: the fence command is told who is to be fenced; when it fails, fence = required stops the failover, best_effort does not.
def test_fence_command_and_events(tmp_path):
    facts, events, gate = tmp_path / "facts", tmp_path / "events", tmp_path / "gate"
    hooks = {"fence_command": f"cat > {facts}; test -e {gate}", "event_command": f"cat >> {events}; echo >> {events}"}
    with setting(replicas=1, settings={"monitor": hooks}) as (cluster, tandem):
        cluster.primary.kill9()
        said(tandem, "fence_command failed (ended with status 1), and fence = required")
        assert json.loads(facts.read_text()) == {"operation": "failover", "server": "db1", "address": cluster.primary.address,
                                                 "successor": "db2"}
        assert cluster.servers[1].value("SELECT @@global.read_only") == 1
        assert cluster.servers[1].row("SHOW SLAVE STATUS")["Slave_SQL_Running"] == "Yes"
        gate.touch()
        wait_for(promoted(cluster, cluster.primary), 30, "a new primary")
        said(tandem, "done: ")
        wait_for(lambda: any(json.loads(line)["kind"] == "failover" and "took over" in json.loads(line)["text"]
                             for line in events.read_text().splitlines()), 20, "the event to be told")


# Expected: an HTTP address gets each event as JSON.
def test_event_url():
    got, server = [], socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                with near:
                    data = b""
                    while b"\r\n\r\n" not in data or b"}" not in data:
                        data += near.recv(65536)
                    got.append(data)
                    near.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    threading.Thread(target=serve, daemon=True).start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}/events"
    with setting(replicas=1, settings={"monitor": {"event_url": url}}) as (_, tandem):
        wait_for(lambda: any(b'"primary is db1"' in data for data in got), 20, "the event")
        head, _, body = got[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /events HTTP/1.1\r\n") and b"Content-Type: application/json" in head
        assert set(json.loads(body)) == {"number", "time", "kind", "server", "text", "host"}
        said(tandem, "event_url for event 1: done")
    server.close()
