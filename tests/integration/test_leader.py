"""Two Tandems, two servers and a witness: the Tandem that leads a promotion is killed in the middle of it, or stands still.

Expected throughout: the other Tandem ends what was begun by what the servers say, undone before the point of no return and finished after it.
Its clients see nothing of it; there are never two writable servers; nothing that was acknowledged through either is lost. The one that was
killed comes back and agrees.
"""
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import load  # noqa: E402
from sandbox import wait_for  # noqa: E402
from test_failover import IN_FLIGHT  # noqa: E402
from test_placement import listed  # noqa: E402
from test_promotion import needs_fault_points, tandemctl  # noqa: E402
from test_votes import Half, Net, PATIENCE, other  # noqa: E402

pytestmark = needs_fault_points
BEFORE = ["row", "hold", "fence", "catch-up", "stop"] if load.is_long() else ["hold", "stop"]
AFTER = ["reopen", "release", "unlock", "demote", "forget", "finish"] if load.is_long() else ["reopen", "demote"]


@pytest.fixture(scope="module")
def net():
    with contextlib.ExitStack() as stack:
        yield Net(stack)


class Doomed(Half):
    """The load of the Tandem that is to die: its clients look for it a few times a second."""

    class Door:
        def __init__(self, tandem):
            self.tandem = tandem

        def connect(self, **more):
            try:
                return self.tandem.connect(**more)
            except OSError:
                time.sleep(0.2)
                raise

    def __init__(self, tandem):
        super().__init__(self.Door(tandem))


class Guard(threading.Thread):
    """Looks all the time whether two servers are writable at once. One that is so before and after the other was is so meanwhile."""

    def __init__(self, servers):
        super().__init__(daemon=True)
        self.servers, self.stopping, self.looks, self.found = servers, threading.Event(), 0, []

    def run(self):
        one, two = self.servers
        with one.connect() as first, two.connect() as second:
            def is_open(link):
                return link.value("SELECT @@global.read_only") == 0
            while not self.stopping.wait(0.005):
                for a, b in ((first, second), (second, first)):
                    if is_open(a) and is_open(b) and is_open(a):
                        self.found.append(time.monotonic())
                self.looks += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join(PATIENCE)


def start_with(tandem, fault):
    tandem.stop()
    os.environ["TANDEM_FAULT"] = fault
    try:
        tandem.start()
    finally:
        del os.environ["TANDEM_FAULT"]


def let_lead(net, fault):
    """(the leader, which has the fault point, and the other one), at rest."""
    net.join()
    net.at_rest()
    leader = net.leader()
    chosen = next(tandem for tandem in net.tandems if tandem is not leader)
    start_with(chosen, fault)
    net.at_rest()
    leader.stop()
    wait_for(lambda: net.facts(chosen)["leader"] == "this Tandem", PATIENCE, "the other one to lead", pause=0.1)
    leader.start()
    net.at_rest()
    assert net.leader() is chosen
    return chosen, leader


def begin_promotion(tandem, server, *options):
    words = [str(tandemctl()), "-c", str(tandem.config), "promote", server.name, *options]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def check(net, halves, guard, survivor):
    """All is level, both Tandems agree, and every append is where it must be."""
    assert not guard.found and guard.looks > 10, f"two writable servers: {len(guard.found)} of {guard.looks} looks"
    primary = net.at_rest()
    position = primary.value("SELECT @@global.gtid_binlog_pos")
    for server in net.cluster.servers:
        if server is not primary:
            server.wait_position(position, PATIENCE)
    for half in halves:
        half.verify(net.cluster.servers)
    # On a busy machine its lease may run out for a moment: a write under way then hears that nobody knows what became of it.
    strange = [text for _, text in survivor.write_errors if not any(word in text for word in IN_FLIGHT)]
    assert not strange and not survivor.read_errors, (strange[:3], survivor.read_errors[:3])


def one_primary(net, tandem):
    """The only writable server, when the other one follows it and this Tandem writes there; else None."""
    writable = [server for server in net.cluster.servers if server.value("SELECT @@global.read_only") == 0]
    if len(writable) != 1 or not all(server.replicating() for server in net.cluster.servers if server is not writable[0]):
        return None
    facts = net.facts(tandem)
    return writable[0] if (facts["primary"], facts["writes"]) == (writable[0].name, "go to the primary") else None


@pytest.mark.parametrize("step", BEFORE + AFTER)
def test_the_leader_is_killed_after(net, step):
    leader, survivor = let_lead(net, f"kill:{step}")
    old, new = net.primary(), other(net)
    expected = new if step in AFTER else old
    with Guard(net.cluster.servers) as guard:
        with Half(survivor) as mine, Doomed(leader) as its:
            mine.goes_on()
            its.goes_on()
            command = begin_promotion(leader, new)
            wait_for(lambda: not leader.process.running(), PATIENCE, "the leader to be killed")
            command.wait(PATIENCE)
            wait_for(lambda: one_primary(net, survivor) is expected, PATIENCE, f"{expected.name} to be the primary", pause=0.05)
            mine.goes_on()
            leader.start()
            net.at_rest()
            its.goes_on()
        check(net, (mine, its), guard, mine)
    assert net.primary() is expected


# Expected: a leader that stands still for longer than the lease has lost the lead, and does nothing any more of what it was about to do: it neither
# opens the candidate, which the other one has undone, nor undoes what the other one has finished.
@pytest.mark.parametrize("step", ["catch-up", "stop", "reopen", "release"] if load.is_long() else ["stop", "reopen"])
def test_the_leader_stands_still_after(net, step, tmp_path):
    leader, survivor = let_lead(net, f"pause:{step}:{tmp_path}/go")
    old, new = net.primary(), other(net)
    expected = new if step in AFTER else old
    with Guard(net.cluster.servers) as guard:
        with Half(survivor) as mine, Half(leader) as its:
            mine.goes_on()
            its.goes_on()
            command = begin_promotion(leader, new)
            wait_for(lambda: f"paused after {step}" in leader.log_text(), PATIENCE, "the pause")
            leader.process.signal(signal.SIGSTOP)
            (tmp_path / "go").touch()
            wait_for(lambda: one_primary(net, survivor) is expected, PATIENCE, f"{expected.name} to be the primary", pause=0.05)
            mine.goes_on()
            leader.process.signal(signal.SIGCONT)
            command.wait(PATIENCE)
            net.at_rest()
            mine.goes_on()
            its.goes_on()
        check(net, (mine, its), guard, mine)
    assert net.primary() is expected


# Expected: a Tandem that is cut off from the leader lets nothing more through of a transaction on the primary that is being replaced, not even
# when it sees that this one is fenced and there is no other yet. The account is one whom read_only does not stop.
def test_an_open_transaction_beside_the_fence_waits(net, tmp_path):
    leader, away = let_lead(net, f"pause:stop:{tmp_path}/go")
    old, new = net.primary(), other(net)
    with Guard(net.cluster.servers) as guard, away.connect(database="checked", timeout=PATIENCE) as client:
        client.query("BEGIN")
        assert client.value("SELECT COUNT(*) FROM lists WHERE k < 0") == 0
        assert [old.name in one["servers"] for one in listed(away) if one["transaction"]] == [True]
        net.cut("t1-t2")
        wait_for(lambda: net.status(leader)["peers"][0]["state"] == "does not answer", PATIENCE, "the peer to be missed", pause=0.1)
        command = begin_promotion(leader, new, "--force")
        wait_for(lambda: "paused after stop" in leader.log_text(), PATIENCE, "the pause")
        wait_for(lambda: net.facts(away)["primary"] is None, PATIENCE, "the fence to be seen", pause=0.1)
        client.send_query("INSERT INTO lists VALUES (-1, 'beside the fence')")
        wait_for(lambda: [one for one in listed(away) if (one["statement"] or "").startswith("insert")], PATIENCE, "the statement")
        assert [one["state"] for one in listed(away) if one["transaction"]] == ["waits for a primary that takes writes"]
        assert not old.sql("SELECT 1 FROM information_schema.INNODB_TRX WHERE trx_rows_modified > 0")
        (tmp_path / "go").touch()
        assert client.read_result().affected == 1
        client.query("COMMIT")
        assert command.wait(PATIENCE) == 0
        net.join()
        assert net.at_rest() is new
        wait_for(lambda: [server.value("SELECT v FROM checked.lists WHERE k = -1") for server in net.cluster.servers] == 2 * ["beside the fence"],
                 PATIENCE, "both to have it")
    assert not guard.found and guard.looks > 10
    new.sql("DELETE FROM checked.lists WHERE k = -1")
