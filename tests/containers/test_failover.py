"""The primary dies and comes back, once with every server version: its replica takes over, and it is made a replica of that one."""
import json
import os
import pathlib
import subprocess

import pytest

import sandbox
from sandbox import wait_for


def tandemctl(stack, *words):
    program = pathlib.Path(os.environ.get("TANDEM_BIN") or sandbox.TOP / "build" / "tandem").parent / "tandemctl"
    made = subprocess.run([str(program), "-c", str(stack.tandem.config), "--json", *words], capture_output=True, text=True, timeout=90)
    assert made.stdout.strip(), made.stderr
    return json.loads(made.stdout)


def told(report):
    return "\n".join([report["summary"], *(f"{r['level']} {r['step']} {r['server']} {r['remark']}" for r in report.get("remarks", []))])


def insert(stack, text):
    with stack.connect(timeout=40) as client:
        client.query(f"INSERT INTO ver.t (v) VALUES ('{text}')")


def writes(server):
    return server.value("SELECT @@global.read_only") == 0


@pytest.mark.parametrize("how", ["kill -9", "restarted"])
def test_kill_9_and_back(stack, how):
    old, new = (stack.primary, stack.replica) if writes(stack.primary) else (stack.replica, stack.primary)
    old.options["super-read-only" if stack.mysql else "read-only"] = "ON"
    insert(stack, f"before {how}")
    wait_for(lambda: new.value(f"SELECT COUNT(*) FROM ver.t WHERE v = 'before {how}'") == 1, 40, "the replica to have it")
    old.kill9()
    if how == "restarted":  # before anybody took over: `failover` compares it and opens it again
        old.start()
        wait_for(lambda: "is read-only" in stack.tandem.log_text(), 60, "it to be seen")
        report = tandemctl(stack, "failover")
        assert report["result"] == "done" and "nothing was lost" in report["summary"], told(report) + sandbox.tail(stack.tandem.log)
        old, new = new, old
    else:
        wait_for(lambda: "`tandemctl failover` does it" in stack.tandem.log_text(), 60, "the death to be seen")
        report = tandemctl(stack, "failover")
        assert report["result"] == "done", told(report) + sandbox.tail(stack.tandem.log)
        insert(stack, "meanwhile")
        old.start()
    wait_for(old.replicating, 60, f"{old.name} to follow {new.name}")
    insert(stack, f"after {how}")
    wait_for(lambda: old.value(f"SELECT COUNT(*) FROM ver.t WHERE v = 'after {how}'") == 1, 40, "it to have the next write")
    assert writes(new) and not writes(old)
    assert old.sql("SELECT v FROM ver.t ORDER BY id") == new.sql("SELECT v FROM ver.t ORDER BY id")


PLUGINS = {"rpl_semi_sync_source": "semisync_source.so", "rpl_semi_sync_replica": "semisync_replica.so"}
TERMS = {True: "SELECT @@rpl_semi_sync_source_enabled, @@rpl_semi_sync_source_wait_point, @@rpl_semi_sync_source_wait_for_replica_count, "
               "@@rpl_semi_sync_source_timeout",
         False: "SELECT @@rpl_semi_sync_master_enabled, @@rpl_semi_sync_master_wait_point, @@rpl_semi_sync_master_wait_no_slave, "
                "@@rpl_semi_sync_master_timeout"}


def test_strict(stack):
    """durability = strict is set on the primary, whatever its make; made available again, the wait is bounded."""
    old = stack.primary if writes(stack.primary) else stack.replica
    other = stack.replica if old is stack.primary else stack.primary
    if stack.mysql:
        other.sql("SET GLOBAL super_read_only = 0")
        for server in (old, other):
            server.sql("SET SESSION sql_log_bin = 0")
            for name, library in PLUGINS.items():
                server.sql(f"INSTALL PLUGIN {name} SONAME '{library}'")
            server.sql("SET SESSION sql_log_bin = 1")
        other.sql("SET GLOBAL super_read_only = 1")
    clients = "Rpl_semi_sync_source_clients" if stack.mysql else "Rpl_semi_sync_master_clients"
    stack.tandem.reload({"monitor": {"durability": "strict"}})
    wait_for(lambda: old.sql(TERMS[stack.mysql]) == [(1, "AFTER_SYNC", 1, 4294967295)] and old.status(clients) == 1, 60, "strict")
    insert(stack, "strict")
    log = stack.tandem.log_text()
    assert log.count("every commit waits for a replica, without a time-out") < 4, "it is set again and again"
    stack.tandem.reload({"monitor": {"durability": "available", "degrade_after": "7s"}})
    wait_for(lambda: old.sql(TERMS[stack.mysql])[0][3] == 7000, 60, "the limit")
    insert(stack, "available")
