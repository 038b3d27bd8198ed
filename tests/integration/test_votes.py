"""Two Tandems, two servers and a witness: every pair cut in turn, and worse, under append-only load through both.

A cut is a relay that swallows everything: one stands on each way between two of the five. Semi-sync is on, so nothing that was acknowledged
may be lost. What is expected of each cut is written above its test; after each everything is healed, and all must agree.
"""
import contextlib
import json
import pathlib
import socket
import struct
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import sandbox  # noqa: E402
from cables import Cables  # noqa: E402
from checker import Checker  # noqa: E402
from sandbox import wait_for  # noqa: E402
from test_failover import BASELINE, IN_FLIGHT, ctl  # noqa: E402

SECRET = "0123456789abcdef0123456789abcdef"
PATIENCE = 60  # s: what a busy machine may take for anything


class Port:
    """Something a relay can stand in front of."""

    def __init__(self):
        self.port = sandbox.free_port()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"


class Half(Checker):
    """The load of one Tandem: a read there sees what its own clients were told, so each has lists of its own."""

    used = 0

    def __init__(self, tandem):
        Half.used += 1
        super().__init__(tandem, clients=3, seed=Half.used)
        self.offset = 1000000 * Half.used

    def pick(self, dice, count):
        time.sleep(0.005)  # what is tested is not how much can be done
        return [key + self.offset for key in super().pick(dice, count)]

    def check_server(self, server):
        class Own:
            name = server.name

            @staticmethod
            def sql(statement):
                return [row for row in server.sql(statement) if int(row[0]) // 1000000 == self.offset // 1000000]
        return super().check_server(Own)

    def goes_on(self, count=3):
        """Until some appends were acknowledged that began after now."""
        since = time.monotonic()
        wait_for(lambda: sum(at > since for at in self.acks) > count + self.clients, PATIENCE, "appends through this Tandem")


class Net:
    """The five and what lies between them."""

    def __init__(self, stack):
        self.cluster = stack.enter_context(sandbox.Cluster(replicas=1, semi_sync=True))
        self.witness = stack.enter_context(sandbox.Server("w1", 99))
        db1, db2 = self.cluster.servers
        self.doors = [Port(), Port()]
        targets = {"t1-db1": db1, "t1-db2": db2, "t1-w1": self.witness, "t2-db1": db1, "t2-db2": db2, "t2-w1": self.witness,
                   "db2-db1": db1, "db1-db2": db2, "t1-t2": self.doors[1], "t2-t1": self.doors[0]}
        self.cables = stack.enter_context(Cables({name: target.port for name, target in targets.items()}))
        db2.follow(db1, MASTER_HEARTBEAT_PERIOD=0.4, MASTER_PORT=self.cables.port("db2-db1"))
        for server in self.cluster.servers:
            server.options.update(BASELINE)
        Checker.prepare(self.cluster)
        self.tandems = [stack.enter_context(sandbox.Tandem(self.cluster, self.settings(own, other)))
                        for own, other in ((0, 1), (1, 0))]
        stack.callback(self.join)

    def settings(self, own, other):
        me, it = f"t{own + 1}", f"t{other + 1}"
        settings = {
            "tandem": {"name": me, "peer_listen": self.doors[own].address, "peer_secret": SECRET},
            "proxy": {"primary_wait": "60s"},
            "monitor": {"failover": "auto", "failover_patience": "2s", "failover_holddown": "0", "degrade_after": "10min"},
            "witness w1": {"address": self.cables.address(f"{me}-w1")},
            f"peer {it}": {"address": self.cables.address(f"{me}-{it}")}}
        for server, far in (("db1", "db2"), ("db2", "db1")):
            settings[f"server {server}"] = {"address": self.cables.address(f"{me}-{server}"),
                                            "replication_address": self.cables.address(f"{far}-{server}")}
        return settings

    def cut(self, *pairs):
        """`pairs` as "t1-db1"; both directions."""
        self.cables.cut(*[name for pair in pairs for name in (pair, "-".join(reversed(pair.split("-")))) if name in self.cables])

    def join(self):
        self.cables.join()

    def status(self, tandem):
        code, text = ctl(tandem, "status", "--json")
        assert code == 0, text
        return json.loads(text)

    def leader(self):
        """The Tandem that leads, as soon as both say so. On a busy machine a vote or a peer's word that comes late changes that for a moment."""
        return wait_for(self.look_who_leads, PATIENCE, "both Tandems to agree who leads", pause=0.1)

    def look_who_leads(self):
        """... or None, when they do not say so now."""
        facts = [self.facts(tandem) for tandem in self.tandems]
        names = [fact["leader"] for fact in facts]
        if names == ["this Tandem", "t1"]:
            return self.tandems[0]
        return self.tandems[1] if names == ["t2", "this Tandem"] else None

    def facts(self, tandem):
        facts = self.status(tandem)["status"]
        return facts[0] if isinstance(facts, list) else facts

    def primary(self):
        """The one writable server that both Tandems send writes to, with the other one following, as soon as it is so."""
        return wait_for(self.look_for_primary, PATIENCE, "both Tandems to send writes to one server", pause=0.1)

    def look_for_primary(self):
        """... or None, when it is not so now."""
        writable = [server for server in self.cluster.servers if server.value("SELECT @@global.read_only") == 0]
        if len(writable) != 1 or not all(server.replicating() for server in self.cluster.servers if server is not writable[0]):
            return None
        agreed = all((self.facts(tandem)["primary"], self.facts(tandem)["writes"]) == (writable[0].name, "go to the primary")
                     for tandem in self.tandems)
        return writable[0] if agreed else None

    def acquainted(self):
        return all(self.status(tandem)["peers"][0]["state"] in ("leads", "follows") for tandem in self.tandems)

    def at_rest(self):
        """All agree, on this server as the primary."""
        return wait_for(lambda: self.acquainted() and self.look_who_leads() and self.look_for_primary(), PATIENCE, "both Tandems to agree",
                        pause=0.1)

    def logs(self, text):
        return sum(tandem.log_text().count(text) for tandem in self.tandems)

    @property
    def failovers(self):
        return self.logs(" took over from ")


@pytest.fixture(scope="module")
def net():
    with contextlib.ExitStack() as stack:
        yield Net(stack)


@pytest.fixture
def rest(net):
    """At rest before, and again after the test."""
    net.join()
    net.at_rest()
    yield net
    net.join()


@contextlib.contextmanager
def load(net, in_flight=False):
    """Appends through both Tandems; at the end all is healed, agreed, and checked on both servers."""
    with Half(net.tandems[0]) as one, Half(net.tandems[1]) as two:
        one.goes_on()
        two.goes_on()
        yield one, two
        net.join()
        primary = net.at_rest()
        one.goes_on()
        two.goes_on()
    position = primary.value("SELECT @@global.gtid_binlog_pos")
    for server in net.cluster.servers:
        if server is not primary:
            server.wait_position(position, PATIENCE)
    for half in (one, two):
        half.verify(net.cluster.servers)
        assert not half.read_errors, half.read_errors[:3]
        strange = [text for _, text in half.write_errors if not (in_flight and any(word in text for word in IN_FLIGHT))]
        assert not strange, strange[:3]


def numbered(net):
    """(leader's name, other's name), and the halves in that order come from by_role()."""
    leads = net.leader()
    return ("t1", "t2") if leads is net.tandems[0] else ("t2", "t1")


def by_role(net, halves):
    return halves if net.leader() is net.tandems[0] else tuple(reversed(halves))


def promote(tandem, name, *options):
    program = pathlib.Path(sandbox.tandem_binary()).parent / "tandemctl"
    done = subprocess.run([program, "-c", tandem.config, "--json", "promote", name, *options], capture_output=True, text=True, timeout=90)
    return json.loads(done.stdout), done.stdout


def other(net):
    primary = net.primary()
    return next(server for server in net.cluster.servers if server is not primary)


# ---- who leads ----------------------------------------------------------------------------------------------------------

def test_one_leads_and_both_say_so(rest):
    leader = rest.leader()
    second = next(tandem for tandem in rest.tandems if tandem is not leader)

    def is_told():
        facts = rest.facts(leader)
        assert facts["lease_ms"] <= 1500
        return (facts["lease_ms"] > 0 and facts["votes"].startswith(("3 of 3", "2 of 3")) and
                rest.facts(second)["votes"].startswith(("0 of 3", "1 of 3")) and
                "follows" in json.dumps(rest.status(leader)["peers"]) and "leads" in json.dumps(rest.status(second)["peers"]))
    wait_for(is_told, PATIENCE, "both to say so", pause=0.1)


def test_only_the_leader_promotes(rest):
    leads, follows = numbered(rest)
    second = next(tandem for tandem in rest.tandems if tandem is not rest.leader())
    report, text = promote(second, other(rest).name)
    assert report["result"] == "refused" and f"{leads} leads: do it there" in text, text


# ---- a planned promotion ------------------------------------------------------------------------------------------------

# Expected: both Tandems hold their writes, so that none fails through either, and both go on with the new primary.
def test_promotion_over_both(rest):
    with load(rest) as (one, two):
        for _ in range(2):
            target = other(rest)
            report, text = promote(rest.leader(), target.name)
            assert report["result"] == "done", text + sandbox.tail(rest.tandems[0].log) + sandbox.tail(rest.tandems[1].log)
            assert "1 peer there" in text
            wait_for(lambda: rest.primary() is target, PATIENCE, "both to send writes to the new primary", pause=0.1)
            one.goes_on()
            two.goes_on()
    assert not one.write_errors and not two.write_errors


# Expected: without the peer's word nothing is touched; --force takes the lease from it, and then it is safe.
def test_promotion_without_the_peer(rest):
    leader, target = rest.leader(), other(rest)
    epoch = rest.facts(leader)["epoch"]
    with load(rest) as (one, two):
        rest.cut("t1-t2")
        wait_for(lambda: rest.status(leader)["peers"][0]["state"] == "does not answer", PATIENCE, "the peer to be missed", pause=0.1)
        report, text = promote(leader, target.name)
        assert report["result"] == "refused" and "does not answer" in text and "--force" in text, text
        assert other(rest) is target and rest.facts(leader)["epoch"] == epoch
        one.goes_on()
        two.goes_on()
        report, text = promote(leader, target.name, "--force")
        assert report["result"] == "done" and "its lease is over" in text, text
        wait_for(lambda: rest.primary() is target, PATIENCE, "both to send writes to the new primary", pause=0.1)


# ---- cuts ---------------------------------------------------------------------------------------------------------------

# Expected: a replica hears the primary, so nobody fails over. Whom the cut is between waits; the other Tandem goes on.
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_tandem_is_cut_off_from_the_primary(rest, role):
    name = numbered(rest)[role == "follower"]
    failovers, primary = rest.failovers, rest.primary()
    with load(rest) as halves:
        mine, its = by_role(rest, halves) if role == "leader" else reversed(by_role(rest, halves))
        rest.cut(f"{name}-{primary.name}")
        tandem = rest.tandems[name == "t2"]
        wait_for(lambda: rest.facts(tandem)["writes"] == "wait for a primary", PATIENCE, "the cut to be noticed", pause=0.1)
        its.goes_on()
        wait_for(lambda: "Tandem's host" in json.dumps(rest.status(tandem)["problems"]) or rest.failovers > failovers, PATIENCE, "advice")
        its.goes_on(20)
        assert rest.failovers == failovers
    assert rest.at_rest() is primary and rest.failovers == failovers


# Expected: nobody's writes stop, nothing changes.
@pytest.mark.parametrize("far", ["replica", "w1"])
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_tandem_is_cut_off_from_another_voter(rest, role, far):
    name = numbered(rest)[role == "follower"]
    failovers, primary = rest.failovers, rest.primary()
    with load(rest) as (one, two):
        rest.cut(f"{name}-{other(rest).name if far == 'replica' else far}")
        tandem = rest.tandems[name == "t2"]
        wait_for(lambda: "does not answer" in rest.facts(tandem)["votes"], PATIENCE, "the vote to be missed", pause=0.1)
        one.goes_on(20)
        two.goes_on(20)
    assert rest.at_rest() is primary and rest.failovers == failovers


# Expected: commits wait for the replica, nobody fails over, and all go on when the two meet again.
def test_the_servers_are_cut_off_from_each_other(rest):
    failovers, primary, replica = rest.failovers, rest.primary(), other(rest)
    with load(rest) as (one, two):
        before = replica.position()
        rest.cut("db1-db2")
        wait_for(lambda: replica.row("SHOW SLAVE STATUS")["Slave_IO_Running"] != "Yes" or replica.position() == before or
                 primary.status("Rpl_semi_sync_master_wait_sessions") != "0", PATIENCE, "the link to be cut")
    assert rest.at_rest() is primary and rest.failovers == failovers


# Expected: both go on; who leads still does.
def test_the_tandems_are_cut_off_from_each_other(rest):
    leader = rest.leader()
    failovers, primary = rest.failovers, rest.primary()
    with load(rest) as (one, two):
        rest.cut("t1-t2")
        wait_for(lambda: all(rest.status(tandem)["peers"][0]["state"] == "does not answer" for tandem in rest.tandems), PATIENCE,
                 "both to miss the other", pause=0.1)
        one.goes_on(20)
        two.goes_on(20)
    assert rest.at_rest() is primary and rest.failovers == failovers and rest.leader() is leader


# Expected: the other one leads and goes on; the leader that was keeps its writes back, since it cannot know. What was answered while it was cut
# off comes after its lease, and is not believed.
def test_the_leader_is_cut_off_from_everybody(rest):
    name, second = numbered(rest)
    with load(rest, in_flight=True) as halves:
        its = by_role(rest, halves)[1]
        rest.cut(*[f"{name}-{far}" for far in ("db1", "db2", "w1", second)])
        follower = rest.tandems[second == "t2"]
        wait_for(lambda: rest.facts(follower)["leader"] == "this Tandem", PATIENCE, "the other one to lead", pause=0.1)
        its.goes_on()
        assert rest.facts(rest.tandems[name == "t2"])["writes"] != "go to the primary"


# Expected: the side with two of three votes goes on with the other server. The other side still reaches the old primary, which is writable,
# and must not write there once its lease is over; when all is healed the old primary follows.
def test_the_primary_and_a_tandem_are_cut_off_from_the_rest(rest):
    name, second = numbered(rest)
    primary, replica, failovers = rest.primary(), other(rest), rest.failovers
    away = rest.tandems[second == "t2"]
    with load(rest, in_flight=True) as halves:
        mine = by_role(rest, halves)[0]
        rest.cut(f"{name}-{primary.name}", "db1-db2", f"{second}-{replica.name}", f"{second}-w1", "t1-t2")
        wait_for(lambda: rest.failovers == failovers + 1, PATIENCE, "a failover", pause=0.1)
        assert rest.facts(away)["writes"].startswith("wait"), rest.facts(away)
        mine.goes_on()
        primary.kill9()  # what it has and nobody acknowledged is dropped by its own recovery
        primary.start()
        assert rest.facts(away)["primary"] != primary.name or rest.facts(away)["writes"].startswith("wait")
        mine.goes_on()
    assert rest.at_rest() is replica and rest.failovers == failovers + 1


# Expected: one of the two fails over, the other goes with it.
def test_the_primary_dies(rest):
    primary, replica, failovers = rest.primary(), other(rest), rest.failovers
    with load(rest, in_flight=True) as (one, two):
        primary.kill9()
        one.goes_on()
        two.goes_on()
        wait_for(lambda: rest.failovers == failovers + 1, PATIENCE, "the failover to be over", pause=0.1)
        primary.start()
    assert rest.at_rest() is replica and rest.failovers == failovers + 1


# Expected: the other one leads within moments, and whatever was begun is ended by it.
def test_the_leader_dies(rest):
    leader = rest.leader()
    second = next(tandem for tandem in rest.tandems if tandem is not leader)
    leader.process.signal(9)
    wait_for(lambda: not leader.process.running(), PATIENCE, "the leader to be gone")
    wait_for(lambda: rest.facts(second)["leader"] == "this Tandem", PATIENCE, "the other one to lead", pause=0.1)
    with second.connect() as client:
        client.query("CREATE DATABASE IF NOT EXISTS after_the_leader")
    leader.start()


# ---- bad input ----------------------------------------------------------------------------------------------------------

def knock(door, data, reads=True):
    """Says that on a peer's port; gives what was answered until it hung up."""
    with socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE) as link:
        heard = link.recv(48) if reads else b""
        with contextlib.suppress(OSError):
            link.sendall(data)
            while more := link.recv(4096):
                heard += more
        return heard


def test_garbage_on_the_peer_port(rest):
    for data in (b"GET / HTTP/1.0\r\n\r\n" + b"x" * 200, bytes(144), b"\xff" * 5000, b"TANDEM-PEER 1\r\n\0" + bytes(128)):
        heard = knock(rest.doors[0], data)
        assert len(heard) == 48 and heard.startswith(b"TANDEM-PEER 1\r\n\0")
    for words in ("is no Tandem: hung up on", "has another peer_secret: hung up on"):
        wait_for(lambda words=words: words in rest.tandems[0].log_text(), PATIENCE, words)
    rest.at_rest()


def test_more_connections_than_peers(rest):
    """Those that say nothing are hung up on, and peers are served again."""
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            link = socket.create_connection(("127.0.0.1", rest.doors[0].port))
            stack.callback(link.close)
        wait_for(lambda: "more than 16 connections" in rest.tandems[0].log_text(), PATIENCE, "the limit")
    rest.at_rest()


def hello(secret, name, nonce_a, nonce_b):
    import hashlib
    import hmac
    text = b"tandem peer connector".ljust(64, b"\0") + nonce_a + nonce_b + name.encode().ljust(64, b"\0")
    return b"TANDEM-PEER 1\r\n\0" + nonce_b + name.encode().ljust(64, b"\0") + hmac.new(secret.encode(), text, hashlib.sha256).digest()


class Impostor:
    """A peer that knows the secret and says what no Tandem would."""

    def __init__(self, door, name, secret=SECRET):
        import hashlib
        import hmac
        self.socket = socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE)
        first, nonce = self.take(48), bytes(range(32))
        self.socket.sendall(hello(secret, name, first[16:], nonce))
        self.answer = self.take(96)
        text = b"tandem peer key".ljust(64, b"\0") + first[16:] + nonce + bytes(64)
        self.key, self.sent = hmac.new(secret.encode(), text, hashlib.sha256).digest(), 0

    def take(self, size):
        data = b""
        while len(data) < size and (more := self.socket.recv(size - len(data))):
            data += more
        return data

    def say(self, text, spoil=False):
        import hashlib
        import hmac
        proof = hmac.new(self.key, b"\0" + struct.pack(">Q", self.sent) + text, hashlib.sha256).digest()
        self.sent += 1
        self.socket.sendall(struct.pack(">I", len(text)) + (bytes(32) if spoil else proof) + text)
        head = self.take(36)
        return json.loads(self.take(struct.unpack(">I", head[:4])[0])) if len(head) == 36 else None


def test_strangers_on_the_peer_port(rest):
    assert not Impostor(rest.doors[0], "t2", "another secret, long enough").answer
    assert not Impostor(rest.doors[0], "t9").answer
    wait_for(lambda: "a Tandem called t9 connects" in rest.tandems[0].log_text(), PATIENCE, "the stranger to be told of")
    peer = Impostor(rest.doors[0], "t2")
    assert len(peer.answer) == 96 and peer.say(b'{"say":"state"}')["say"] == "state"
    assert peer.say(b'{"say":"state"}', spoil=True) is None
    peer = Impostor(rest.doors[0], "t2")
    assert peer.say(b"[1, 2") is None
    peer = Impostor(rest.doors[0], "t2")
    peer.socket.sendall(struct.pack(">I", 1 << 30) + bytes(32))
    assert peer.take(1) == b""


def test_a_peer_with_another_epoch(rest):
    facts = rest.facts(rest.tandems[0])
    server_id = rest.primary().server_id
    peer = Impostor(rest.doors[0], "t2")

    def hold(epoch, primary):
        return peer.say(json.dumps({"say": "hold", "operation": "promote of db2", "gate": "hold", "new_epoch": epoch,
                                    "primary_id": primary}).encode())
    assert facts["epoch"] > 1  # of the promotions above
    old = hold(facts["epoch"] - 1, server_id)
    assert old["say"] == "refused" and f"knows of epoch {facts['epoch']} already" in old["why"]
    wrong = hold(facts["epoch"] + 1, 77)
    assert wrong["say"] == "refused" and "as the primary, and not 77" in wrong["why"]
    wait_for(lambda: rest.facts(rest.tandems[0])["writes"] == "go to the primary", PATIENCE, "writes to go on", pause=0.1)


# Expected: what a peer that is lost had held goes on by itself.
def test_a_peer_that_holds_and_is_lost(rest):
    peer = Impostor(rest.doors[0], "t2")
    held = peer.say(json.dumps({"say": "hold", "operation": "promote of db2", "gate": "hold",
                                "new_epoch": rest.facts(rest.tandems[0])["epoch"] + 1,
                                "primary_id": rest.primary().server_id}).encode())
    assert held["say"] == "held", held
    assert "a promotion is under way" in rest.facts(rest.tandems[0])["writes"]
    peer.socket.close()
    rest.at_rest()
    with rest.tandems[0].connect() as client:
        client.query("CREATE DATABASE IF NOT EXISTS after_the_hold")


# ---- other settings -----------------------------------------------------------------------------------------------------

# Expected: a reload that changes peers is refused, by name; nothing of it is taken.
def test_peers_are_not_changed_by_a_reload(rest):
    one = rest.tandems[0]
    known = dict(one.settings["peer t2"])
    try:
        for change, named in (({"peer t3": {"address": "127.0.0.1:9"}}, "t3"), ({"peer t3": None, "peer t2": {"address": "127.0.0.1:9"}}, "t2"),
                              ({"peer t2": None}, "t2")):
            said = one.log_text().count("reload refused")
            one.reload(change)
            wait_for(lambda: one.log_text().count("reload refused") > said, PATIENCE, "the refusal")
            refusals = [line for line in one.log_text().splitlines() if "reload refused" in line]
            assert refusals[-1].endswith(f"reload refused, nothing was changed: [peer {named}] needs a restart")
    finally:
        one.change({"peer t3": None, "peer t2": known})
        one.write()
    rest.at_rest()


# Expected: a witness votes as soon as it is in the settings of both, and no more when it is not; writes go on.
def test_a_witness_comes_and_goes(rest):
    with sandbox.Server("w2", 98) as second, load(rest) as (one, two):
        for section, voters in (({"address": second.address}, 4), (None, 3)):
            for tandem in rest.tandems:
                tandem.reload({"witness w2": section})
            wait_for(lambda: all(f"of {voters} " in rest.facts(tandem)["votes"] for tandem in rest.tandems) and rest.look_who_leads(), PATIENCE,
                     f"{voters} voters", pause=0.1)
            one.goes_on()
            two.goes_on()
