"""Planned promotion with every server version, back and forth, under writers."""
import json
import os
import pathlib
import subprocess
import threading

import pytest

import sandbox
from sandbox import wait_for


def tandemctl():
    return pathlib.Path(os.environ.get("TANDEM_BIN") or sandbox.TOP / "build" / "tandem").parent / "tandemctl"


def promote(stack, server, *options):
    made = subprocess.run([str(tandemctl()), "-c", str(stack.tandem.config), "--json", "promote", server.name, *options],
                          capture_output=True, text=True, timeout=90)
    assert made.stdout.strip(), made.stderr
    return json.loads(made.stdout)


def told(report):
    return "\n".join([report["summary"], *(f"{r['level']} {r['step']} {r['server']} {r['took_ms']} {r['remark']}"
                                           for r in report.get("remarks", []))])


def writes(server):
    return server.value("SELECT @@global.read_only") == 0


def link_of(stack, server):
    return server.row("SHOW REPLICA STATUS" if stack.mysql else "SHOW SLAVE STATUS")


class Writer(threading.Thread):
    """Autocommit inserts through Tandem, each looked at again at once; stops at the first thing that is wrong."""

    def __init__(self, stack, number):
        super().__init__(daemon=True)
        self.stack, self.number, self.done, self.error, self.stopped = stack, number, 0, None, threading.Event()

    def run(self):
        try:
            with self.stack.connect(timeout=30) as client:
                while not self.stopped.is_set():
                    name = f"w{self.number}-{self.done + 1}"
                    client.query(f"INSERT INTO ver.t (v) VALUES ('{name}')")
                    self.done += 1
                    assert client.value(f"SELECT COUNT(*) FROM ver.t WHERE v = '{name}'") == 1, f"stale: {name}"
        except BaseException as error:
            self.error = error


def test_back_and_forth_under_load(stack):
    # Replicas come with the settings a careful administrator gives them; events are part of what moves.
    stack.primary.sql("CREATE EVENT IF NOT EXISTS ver.tick ON SCHEDULE EVERY 1 HOUR DO DO 1")
    stack.cluster.wait_synced()
    writers = [Writer(stack, number) for number in range(4)]
    for writer in writers:
        writer.start()
    figures = []
    try:
        for target in [stack.replica, stack.primary] * 3:
            goal = sum(writer.done for writer in writers) + 20
            wait_for(lambda: sum(writer.done for writer in writers) > goal or any(w.error for w in writers), 30, "writers to write")
            report = promote(stack, target)
            assert report["result"] == "done", told(report) + sandbox.tail(stack.tandem.log)
            figures.append(report.get("figures"))
            other = stack.primary if target is stack.replica else stack.replica
            assert writes(target) and not writes(other) and not link_of(stack, target)
            wait_for(other.replicating, 30, f"{other.name} to follow {target.name}")
    finally:
        for writer in writers:
            writer.stopped.set()
        for writer in writers:
            writer.join(30)
    assert not [writer.error for writer in writers if writer.error]
    stack.cluster.wait_synced()
    for server in (stack.primary, stack.replica):
        for writer in writers:
            assert server.value(f"SELECT COUNT(*) FROM ver.t WHERE v LIKE 'w{writer.number}-%'") == writer.done
    assert stack.primary.value("SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME = 'tick'") == "ENABLED"
    assert stack.replica.value("SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME = 'tick'") != "ENABLED"
    print("\n" + stack.image.name, figures)


def test_refused_by_name_and_reason(stack):
    report = promote(stack, stack.primary)
    assert report["result"] == "refused" and "is the primary already" in report["summary"]
    before = link_of(stack, stack.replica)
    assert promote(stack, stack.replica, "--dry-run")["result"] == "done"
    assert link_of(stack, stack.replica)["Gtid_IO_Pos" if not stack.mysql else "Retrieved_Gtid_Set"] == \
        before["Gtid_IO_Pos" if not stack.mysql else "Retrieved_Gtid_Set"]
