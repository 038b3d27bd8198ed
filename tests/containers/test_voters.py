"""Votes at MySQL 9: two Tandems, two servers and a witness, all of them MySQL. One Tandem leads, the primary dies and its replica takes over with
the votes of the other two, the old one comes back, and a planned promotion gives it the role again."""
import contextlib
import json
import os
import pathlib
import subprocess

import pytest
import versions

import sandbox
from conftest import CHOSEN, image, prepare, settings_for
from sandbox import wait_for

SECRET = "0123456789abcdef0123456789abcdef"
PATIENCE = 90


def ctl(tandem, *words):
    program = pathlib.Path(os.environ.get("TANDEM_BIN") or sandbox.TOP / "build" / "tandem").parent / "tandemctl"
    made = subprocess.run([str(program), "-c", str(tandem.config), "--json", *words], capture_output=True, text=True, timeout=PATIENCE)
    assert made.stdout.strip(), made.stderr
    return json.loads(made.stdout)


def facts(tandem):
    found = ctl(tandem, "status")["status"]
    return found[0] if isinstance(found, list) else found


def writable(cluster):
    return [server for server in cluster.servers if server.running() and server.value("SELECT @@global.super_read_only") == 0]


class Pair:
    def __init__(self, stack, made):
        self.cluster = stack.enter_context(made.cluster())
        with made.environment():
            self.witness = versions.MysqlServer("w1", 99)
            stack.callback(self.witness.close)
            self.witness.start()
        with self.cluster.primary.connect() as admin:
            prepare(admin)
        self.cluster.wait_synced()
        for server in self.cluster.servers:
            server.options["super-read-only"] = "ON"
        doors = [sandbox.free_port(), sandbox.free_port()]
        self.tandems = [stack.enter_context(sandbox.Tandem(self.cluster, {
            **settings_for(made, self.cluster),
            "tandem": {"name": f"t{own + 1}", "peer_listen": f"127.0.0.1:{doors[own]}", "peer_secret": SECRET},
            "proxy": {"primary_wait": f"{PATIENCE}s"},
            "monitor": {"failover": "auto", "failover_patience": "3s", "failover_holddown": "0"},
            "witness w1": {"address": self.witness.address},
            f"peer t{other + 1}": {"address": f"127.0.0.1:{doors[other]}"}})) for own, other in ((0, 1), (1, 0))]

    def leader(self):
        return wait_for(self.look_who_leads, PATIENCE, "both Tandems to agree who leads", pause=0.2)

    def look_who_leads(self):
        names = [facts(tandem)["leader"] for tandem in self.tandems]
        return {("this Tandem", "t1"): self.tandems[0], ("t2", "this Tandem"): self.tandems[1]}.get(tuple(names))

    def at_rest(self):
        """The primary, when both Tandems write there and the other server follows it."""
        def agreed():
            found = writable(self.cluster)
            return len(found) == 1 and self.look_who_leads() and all(server.replicating() for server in self.cluster.servers if server is not found[0]) \
                and all((facts(t)["primary"], facts(t)["writes"]) == (found[0].name, "go to the primary") for t in self.tandems) and found[0]
        return wait_for(agreed, PATIENCE, "both Tandems to agree", pause=0.2)

    def write(self, text):
        for number, tandem in enumerate(self.tandems):
            with tandem.connect(timeout=PATIENCE) as client:
                client.query(f"INSERT INTO ver.t (v) VALUES ('{text} through {number}')")


def test_failover_with_a_witness():
    if "sid" not in CHOSEN:
        pytest.skip("MySQL 9 was not asked for: TANDEM_ALL_VERSIONS=1")
    made = image("sid")
    with contextlib.ExitStack() as stack:
        pair = Pair(stack, made)
        old = pair.at_rest()
        new = next(server for server in pair.cluster.servers if server is not old)
        votes = facts(pair.leader())["votes"]
        assert "w1 has voted for this Tandem" in votes and votes.split()[2] == "3", votes
        pair.write("before")
        wait_for(lambda: new.value("SELECT COUNT(*) FROM ver.t") == 2, PATIENCE, "the replica to have it")
        old.kill9()
        pair.write("meanwhile")
        assert writable(pair.cluster) == [new]
        with made.environment():
            old.start()
        assert pair.at_rest() is new
        report = ctl(pair.leader(), "promote", old.name)
        assert report["result"] == "done" and "1 peer there" in json.dumps(report), report
        assert pair.at_rest() is old
        pair.write("after")
        wait_for(lambda: new.value("SELECT COUNT(*) FROM ver.t") == 6, PATIENCE, "the replica to have all")
        assert old.sql("SELECT v FROM ver.t ORDER BY id") == new.sql("SELECT v FROM ver.t ORDER BY id")
        assert sum(tandem.log_text().count(" took over from ") for tandem in pair.tandems) == 1
