"""Planned promotion over real servers: nobody notices, nothing is lost, and whatever goes wrong before the point of no return is undone."""
import contextlib
import json
import os
import pathlib
import subprocess
import threading
import time

import pytest

import load
import rawmysql
import sandbox
from rawmysql import MysqlError

TABLE = "CREATE TABLE work.ledger (writer INT, seq INT, part INT, PRIMARY KEY (writer, seq, part)) ENGINE=InnoDB"
# The steps in their order. What is killed after one of the first is undone; after one of the others, finished.
BEFORE = ["row", "semi-sync", "events off", "prepare", "hold", "fence", "catch-up", "stop"]
AFTER = ["reopen", "release", "unlock", "demote", "others", "connected", "forget", "events", "scheduler", "dumps", "compare", "finish"]


def tandemctl():
    """Beside the daemon, wherever that was built."""
    return pathlib.Path(os.environ.get("TANDEM_BIN") or sandbox.TOP / "build" / "tandem").parent / "tandemctl"


class Report:
    """What an operation said."""

    def __init__(self, data):
        self.data, self.result, self.summary = data, data["result"], data["summary"]
        self.remarks = data.get("remarks", [])
        figures = data.get("figures") or {}
        self.figures = figures[0] if isinstance(figures, list) else figures

    def said(self, level):
        return [remark["remark"] for remark in self.remarks if remark["level"] == level]

    def __str__(self):
        return "\n".join([f"{self.result}: {self.summary}"] + [
            f"  {remark['level']:8} {remark['step']:11} {remark['server']} {remark['took_ms']} {remark['remark']}" for remark in self.remarks])


def promote(tandem, server, *options):
    name = server if isinstance(server, str) else server.name
    words = [str(tandemctl()), "-c", str(tandem.config), "--json", "promote", name, *options]
    made = subprocess.run(words, capture_output=True, text=True, timeout=90)
    assert made.stdout.strip(), f"{words}: {made.returncode}: {made.stderr}"
    return Report(json.loads(made.stdout))


def exchange(cluster, tandem, target, *options):
    """A promotion that has to succeed, and the cluster at rest after it."""
    report = promote(tandem, target, *options)
    assert report.result == "done", f"{report}\n{sandbox.tail(tandem.log, 40)}"
    assert wait_settled(cluster) is target
    return report


def primary_of(cluster):
    """The one server that takes writes; None when there is not exactly one."""
    writable = [server for server in cluster.servers if server.running() and server.value("SELECT @@global.read_only") == 0]
    return writable[0] if len(writable) == 1 else None


def settled(cluster):
    """One primary, replicating from nobody, and all others replicate."""
    primary = primary_of(cluster)
    return primary and not primary.row("SHOW SLAVE STATUS") and \
        all(server.replicating() for server in cluster.servers if server is not primary)


def wait_settled(cluster, timeout=20):
    sandbox.wait_for(lambda: settled(cluster), timeout, "one primary and replicas that follow it")
    return primary_of(cluster)


def wait_level(cluster):
    """Until all servers have what the primary has."""
    primary = primary_of(cluster)
    position = primary.value("SELECT @@global.gtid_binlog_pos")
    for server in cluster.servers:
        if server is not primary:
            server.wait_position(position)


@contextlib.contextmanager
def setting(replicas=1, settings=None, servers=None, **options):
    """A fresh cluster with the ledger, and Tandem that knows its roles."""
    with sandbox.Cluster(replicas=replicas, **options) as cluster:
        cluster.primary.sql("CREATE DATABASE work")
        cluster.primary.sql(TABLE)
        cluster.wait_synced()
        with sandbox.Tandem(cluster, settings) as tandem:
            tandem.wait_reads_on(cluster.replicas)
            yield cluster, tandem


class Ledger:
    """Writers whose every acknowledged row is remembered, and what they suffered."""

    def __init__(self, tandem, transactions=8, autocommits=0, readers=2):
        self.tandem, self.acknowledged, self.times, self.longest = tandem, {}, [], 0.0
        self.lock, self.progress = threading.Lock(), 0
        self.crew = load.Crew(transactions + autocommits + readers, self.work, "ledger")
        self.kinds = [self.in_transaction] * transactions + [self.autocommit] * autocommits + [self.read] * readers

    def __enter__(self):
        self.crew.__enter__()
        sandbox.wait_for(lambda: self.progress > 50 or self.crew.failures, 30, "writers to be at work")
        return self

    def __exit__(self, *arguments):
        self.crew.__exit__(*arguments)

    def work(self, crew, index):
        with self.tandem.connect(timeout=30) as client:
            sequence = 0
            while crew.running:
                sequence += 1
                self.kinds[index](client, index, sequence)

    def acknowledge(self, index, sequence, rows, start):
        end = time.monotonic()
        with self.lock:
            self.acknowledged[(index, sequence)] = rows
            self.times.append(end)
            self.longest = max(self.longest, end - start)
            self.progress += 1

    def in_transaction(self, client, index, sequence):
        start = time.monotonic()
        client.query("BEGIN")
        for part in range(3):
            client.query(f"INSERT INTO work.ledger VALUES ({index}, {sequence}, {part})")
        client.query("COMMIT")
        self.acknowledge(index, sequence, 3, start)
        self.look(client, index, sequence, 3)

    def autocommit(self, client, index, sequence):
        start = time.monotonic()
        client.query(f"INSERT INTO work.ledger VALUES ({index}, {sequence}, 0)")
        self.acknowledge(index, sequence, 1, start)
        self.look(client, index, sequence, 1)

    @staticmethod
    def look(client, index, sequence, rows):
        seen = client.value(f"SELECT COUNT(*) FROM work.ledger WHERE writer = {index} AND seq = {sequence}")
        assert seen == rows, f"stale read: writer {index} wrote {rows} rows of {sequence} and sees {seen}"

    def read(self, client, index, sequence):
        """Everything acknowledged to the account before the read began must be in it."""
        with self.lock:
            known = dict(list(self.acknowledged.items())[-20:])
        for (writer, number), rows in known.items():
            self.look(client, writer, number, rows)

    def wait_progress(self, more=30):
        goal = self.progress + more
        sandbox.wait_for(lambda: self.progress >= goal or self.crew.failures, 30, "writers to go on")
        assert not self.crew.failures, self.crew.failures[:3]

    def longest_pause(self, since=0.0, until=float("inf")):
        """Between two acknowledgements of whomever."""
        with self.lock:
            times = list(self.times)
        return max((b - a for a, b in zip(times, times[1:]) if b > since and a < until), default=0.0)

    def check(self, cluster):
        """Every acknowledged row once (the key sees to that) on every server, and no row that nobody wrote."""
        wait_level(cluster)
        for server in cluster.servers:
            found = {(writer, seq): count for writer, seq, count in
                     server.sql("SELECT writer, seq, COUNT(*) FROM work.ledger GROUP BY writer, seq")}
            lost = {key: rows for key, rows in self.acknowledged.items() if found.get(key) != rows}
            assert not lost, f"{server.name} lacks {len(lost)} acknowledged writes: {list(lost.items())[:5]}"
            halves = {key: rows for key, rows in found.items() if key not in self.acknowledged and rows not in (1, 3)}
            assert not halves, f"{server.name} has parts of transactions: {halves}"


def print_figures(label, reports, ledger, pauses):
    """Of all promotions. A pause is from the last acknowledged write before the fence to the first after it, so it is the longer one."""
    def middle(name):
        return load.percentile([report.figures[name] for report in reports], 50)
    print(f"\n{label}: {len(reports)} promotions, {len(ledger.acknowledged)} acknowledged writes; median (worst) ms: "
          + ", ".join(f"{name[:-3]} {middle(name):.1f} ({max(report.figures[name] for report in reports):.1f})"
                      for name in ("sql_ms", "drain_ms", "stall_ms"))
          + f"; acknowledged again after {1000 * load.percentile(pauses, 50):.1f} ({1000 * max(pauses):.1f}); longest stall of a writer "
          f"{1000 * ledger.longest:.0f} ms")


def others(cluster, *known):
    return [server for server in cluster.servers if server not in known]


# ---- nobody notices ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("semi_sync", [False, True], ids=["async", "semi-sync"])
@pytest.mark.parametrize("transactions, autocommits, times", [(8, 0, 20), (16, 0, 20), (16, 4, 20), (0, 8, 20), (0, 16, 20)] if load.is_long()
                         else [(8, 0, 12), (16, 4, 6), (0, 8, 12)])
def test_back_and_forth_under_load(transactions, autocommits, times, semi_sync):
    with setting(replicas=1, semi_sync=semi_sync) as (cluster, tandem):
        reports, pauses = [], []
        with Ledger(tandem, transactions, autocommits) as ledger:
            for _ in range(times):
                target, begun = others(cluster, primary_of(cluster))[0], time.monotonic()
                reports.append(exchange(cluster, tandem, target))
                ledger.wait_progress()
                pauses.append(ledger.longest_pause(begun, time.monotonic()))
        ledger.check(cluster)
        print_figures(f"{transactions} + {autocommits} writers, {'semi-sync' if semi_sync else 'async'}", reports, ledger, pauses)


@pytest.mark.parametrize("replicas", [2, 3])
def test_other_replicas_follow(replicas):
    with setting(replicas=replicas) as (cluster, tandem):
        with Ledger(tandem, transactions=0, autocommits=4) as ledger:
            for target in [*cluster.servers[1:], cluster.servers[0]]:
                exchange(cluster, tandem, target)
                ledger.wait_progress()
        ledger.check(cluster)


def test_several_domains():
    with setting(replicas=2) as (cluster, tandem):
        for target in [*cluster.servers[1:], cluster.servers[0]]:
            exchange(cluster, tandem, target)
            with tandem.connect() as client:
                for domain in (0, 3, 7):
                    client.query(f"SET SESSION gtid_domain_id = {domain}")
                    client.query(f"INSERT INTO work.ledger VALUES ({domain}, {target.server_id}, 0)")
            wait_level(cluster)
        assert {server.value("SELECT COUNT(*) FROM work.ledger") for server in cluster.servers} == {9}


# ---- the servers afterwards ----------------------------------------------------------------------------------------

def events_of(server):
    return dict(server.sql("SELECT EVENT_NAME, STATUS FROM information_schema.EVENTS ORDER BY EVENT_NAME"))


def test_events_move_as_they_were():
    """Only what was enabled is, with its definer, character set and mode; nothing of it reaches the binary log."""
    with setting(replicas=2) as (cluster, tandem):
        old, new, third = cluster.servers
        old.sql("SET NAMES latin1 COLLATE latin1_german1_ci")
        old.sql("SET SESSION sql_mode = 'ANSI_QUOTES'")
        old.sql("CREATE DEFINER = 'some body'@'10.%' EVENT work.runs ON SCHEDULE EVERY 1 HOUR DO INSERT INTO work.ledger VALUES (9, 9, 9)")
        old.sql("CREATE EVENT work.sleeps ON SCHEDULE EVERY 1 HOUR DISABLE DO DELETE FROM work.ledger")
        question = ("SELECT EVENT_NAME, DEFINER, CHARACTER_SET_CLIENT, COLLATION_CONNECTION, SQL_MODE, TIME_ZONE, EVENT_DEFINITION, STATUS "
                    "FROM information_schema.EVENTS ORDER BY EVENT_NAME")
        cluster.wait_synced()
        before = old.sql(question)
        exchange(cluster, tandem, new)
        wait_level(cluster)
        # One that was disabled cannot be told from the others on a replica, and stays off.
        assert [row[:-1] for row in new.sql(question)] == [row[:-1] for row in before]
        assert events_of(new) == {"runs": "ENABLED", "sleeps": "SLAVESIDE_DISABLED"}
        assert events_of(old) == {"runs": "SLAVESIDE_DISABLED", "sleeps": "DISABLED"}
        assert events_of(third) == {"runs": "SLAVESIDE_DISABLED", "sleeps": "SLAVESIDE_DISABLED"}
        exchange(cluster, tandem, old)
        assert events_of(old) == {"runs": "ENABLED", "sleeps": "DISABLED"}
        assert events_of(new)["runs"] == "SLAVESIDE_DISABLED"


def test_semi_sync_is_carried_over():
    with setting(replicas=1, options={"rpl-semi-sync-slave-enabled": "ON"}) as (cluster, tandem):
        old, new = cluster.servers
        new.sql("STOP SLAVE")
        new.sql("START SLAVE")
        old.sql("SET GLOBAL rpl_semi_sync_slave_enabled = 0, rpl_semi_sync_master_enabled = 1, rpl_semi_sync_master_timeout = 4321")
        sandbox.wait_for(lambda: old.status("Rpl_semi_sync_master_clients") == 1, what="semi-sync")
        exchange(cluster, tandem, new)
        assert new.sql("SELECT @@rpl_semi_sync_master_enabled, @@rpl_semi_sync_master_timeout") == [(1, 4321)]
        sandbox.wait_for(lambda: new.status("Rpl_semi_sync_master_clients") == 1, what="semi-sync the other way")


def test_who_has_written_without_tandem_is_ended():
    """READ ONLY ADMIN writes under read_only: left alone, its transaction would be committed on the old primary only."""
    with setting(replicas=1) as (cluster, tandem):
        old, new = cluster.servers
        with old.connect() as writer, old.connect() as reader:
            writer.query("BEGIN")
            writer.query("INSERT INTO work.ledger VALUES (1, 1, 1)")
            reader.query("BEGIN")
            reader.value("SELECT COUNT(*) FROM work.ledger")
            exchange(cluster, tandem, new)
            with pytest.raises((MysqlError, OSError, rawmysql.ProtocolError)):
                writer.query("COMMIT")
            reader.query("COMMIT")  # who has only read is left in peace
        wait_level(cluster)
        assert [server.value("SELECT COUNT(*) FROM work.ledger") for server in cluster.servers] == [0, 0]


def test_statements_prepared_by_name_go_along():
    """They are prepared again on the new primary; one whose text only the server knows ends its session with an error that says so."""
    with setting(replicas=1) as (cluster, tandem), tandem.connect(database="work") as client, tandem.connect(database="work") as fixed:
        old, new = cluster.servers
        client.query("SET @n = 1")
        client.query("PREPARE w FROM 'INSERT INTO ledger VALUES (?, 1, 1)'")
        client.query("PREPARE r FROM 'SELECT COUNT(*), @@server_id FROM ledger'")
        client.query("EXECUTE w USING @n")
        fixed.query("SET @text = 'SELECT 1'")
        fixed.query("PREPARE f FROM @text")
        exchange(cluster, tandem, new)
        client.query("BEGIN")
        client.query("SET @n = 2")
        client.query("EXECUTE w USING @n")
        assert client.query("EXECUTE r").rows == [(2, new.server_id)]
        client.query("COMMIT")
        with pytest.raises(MysqlError) as ended:
            fixed.query("EXECUTE f")
        assert "connect again" in ended.value.text
        exchange(cluster, tandem, old)
        assert client.query("EXECUTE r").rows[0][0] == 2
        client.query("DEALLOCATE PREPARE w")


def wait_open_transaction(server, level):
    """Until the only one there that has written has this level. InnoDB shows what it showed before to whoever asks again within 100 ms."""
    question = "SELECT trx_isolation_level FROM information_schema.INNODB_TRX WHERE trx_rows_modified > 0"
    sandbox.wait_for(lambda: server.sql(question) == [(level,)], 10, f"an open transaction that is {level}", 0.2)


@pytest.mark.parametrize("how", ["promoted", "connection killed"])
def test_set_transaction_for_the_next_one_goes_along(how):
    """Said but not yet used, and used by a transaction that has only read: on the next connection it is said again, and is over with its transaction."""
    with setting(replicas=1) as (cluster, tandem), tandem.connect(database="work") as waits, tandem.connect(database="work") as reads:
        old, new = cluster.servers
        waits.query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        waits.query("SET TRANSACTION READ WRITE")
        reads.query("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
        if how == "promoted":
            reads.query("BEGIN")
            assert reads.query("SELECT COUNT(*) FROM ledger WHERE 0").value == 0
            exchange(cluster, tandem, new)
        else:
            new = old
            for row in old.sql("SELECT id FROM information_schema.PROCESSLIST WHERE user = 'app'"):
                old.sql(f"KILL {row[0]}")
        for sequence, (client, level) in enumerate(((waits, "SERIALIZABLE"), (reads, "READ UNCOMMITTED"))):
            if client is waits or how != "promoted":
                client.query("BEGIN")
            client.query(f"INSERT INTO ledger VALUES ({sequence}, 1, 1)")
            wait_open_transaction(new, level)
            client.query("COMMIT")
            client.query("BEGIN")
            client.query(f"INSERT INTO ledger VALUES ({sequence}, 2, 1)")
            wait_open_transaction(new, "REPEATABLE READ")
            client.query("COMMIT")
        assert reads.query("SELECT @@server_id, COUNT(*) FROM ledger").rows[0][1] == 4


def test_dump_threads_are_ended():
    """The thread that served the new primary would make it wait for 100 ms when the old one is promoted again."""
    with setting(replicas=1) as (cluster, tandem):
        old, new = cluster.servers
        for source, target in ((old, new), (new, old)):
            exchange(cluster, tandem, target)
            assert not source.sql("SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'")


# ---- refusals ------------------------------------------------------------------------------------------------------

VOLATILE = {"GTID_BINLOG_POS", "GTID_BINLOG_STATE", "GTID_CURRENT_POS"}


def state_of(server):
    """All that a promotion may change: variables, the link (without what counts by itself), events, accounts' locks."""
    link = server.row("SHOW SLAVE STATUS")
    kept = {name: link.get(name) for name in ("Master_Host", "Master_Port", "Master_User", "Connect_Retry", "Slave_IO_Running",
                                              "Slave_SQL_Running", "Using_Gtid", "Gtid_IO_Pos", "SQL_Delay", "Slave_heartbeat_period")}
    variables = dict(server.sql("SHOW GLOBAL VARIABLES"))
    return variables, kept, server.sql("SHOW EVENTS FROM work"), server.sql("SHOW DATABASES")


@pytest.fixture(scope="module")
def pair():
    with setting(replicas=2) as (cluster, tandem):
        yield cluster, tandem


def undoing(server, *statements):
    for statement in statements:
        server.sql(statement)


@contextlib.contextmanager
def stopped_sql_thread(old, new):
    new.sql("STOP SLAVE SQL_THREAD")
    yield "SQL thread does not run"
    new.sql("START SLAVE SQL_THREAD")


@contextlib.contextmanager
def stopped_io_thread(old, new):
    new.sql("STOP SLAVE IO_THREAD")
    yield "IO thread is not connected"
    new.sql("START SLAVE IO_THREAD")


def changed_link(words, back, reason):
    @contextlib.contextmanager
    def change(old, new):
        undoing(new, "STOP SLAVE", f"CHANGE MASTER TO {words}", "START SLAVE")
        sandbox.wait_for(new.replicating, what="the changed link")
        yield reason
        undoing(new, "STOP SLAVE", f"CHANGE MASTER TO {back}", "START SLAVE")
    return change


@contextlib.contextmanager
def filtered(old, new):
    undoing(new, "STOP SLAVE", "SET GLOBAL replicate_ignore_table = 'nosuch.table'", "START SLAVE")
    sandbox.wait_for(new.replicating, what="the filter")
    yield "does not replicate everything"
    undoing(new, "STOP SLAVE", "SET GLOBAL replicate_ignore_table = ''", "START SLAVE")


@contextlib.contextmanager
def prepared_xa(old, new):
    with old.connect() as client:
        client.query("XA START 'left'")
        client.query("INSERT INTO work.ledger VALUES (5, 5, 5)")
        client.query("XA END 'left'")
        client.query("XA PREPARE 'left'")
        new.wait_position(old.position())
        yield "prepared XA transaction"
        client.query("XA ROLLBACK 'left'")


@contextlib.contextmanager
def lagging(old, new):
    """Replication hangs on a lock that somebody holds on the candidate."""
    with new.connect() as holder:
        holder.query("FLUSH TABLES WITH READ LOCK")
        old.sql("INSERT INTO work.ledger VALUES (6, 6, 6)")
        yield "it lags"
        holder.query("UNLOCK TABLES")
    old.sql("DELETE FROM work.ledger")


def revoked(privilege, on="*.*"):
    @contextlib.contextmanager
    def revoke(old, new):
        old.sql(f"REVOKE {privilege} ON {on} FROM monitor@'%'")
        new.wait_position(old.position())
        yield f"GRANT {privilege} ON"
        old.sql(f"GRANT {privilege} ON {on} TO monitor@'%'")
        new.wait_position(old.position())
    return revoke


@contextlib.contextmanager
def wrong_replication_account(old, new):
    old.sql("SET PASSWORD FOR repl@'%' = PASSWORD('another')")
    new.wait_position(old.position())
    yield "repl cannot log in"
    old.sql("SET PASSWORD FOR repl@'%' = PASSWORD('repl')")
    new.wait_position(old.position())


@contextlib.contextmanager
def another_operation(old, new):
    with old.connect() as other:
        other.value("SELECT GET_LOCK('tandem.operation', 0)")
        yield "another Tandem"


TROUBLES = {
    "sql thread": stopped_sql_thread,
    "io thread": stopped_io_thread,
    "no gtid": changed_link("MASTER_USE_GTID = no", "MASTER_USE_GTID = slave_pos", "by file and position"),
    "delay": changed_link("MASTER_DELAY = 60", "MASTER_DELAY = 0", "delayed replica"),
    "ignored domains": changed_link("IGNORE_DOMAIN_IDS = (5)", "IGNORE_DOMAIN_IDS = ()", "does not replicate everything"),
    "filter": filtered,
    "xa": prepared_xa,
    "lag": lagging,
    "no right to replicate": revoked("REPLICATION SLAVE ADMIN"),
    "no right to see events": revoked("EVENT"),
    "replication account": wrong_replication_account,
    "two at once": another_operation,
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_refused_and_nothing_touched(pair, trouble):
    cluster, tandem = pair
    old, new = cluster.primary, cluster.replicas[0]
    with TROUBLES[trouble](old, new) as reason:
        before = [state_of(server) for server in (old, new)]
        report = promote(tandem, new)
        after = [state_of(server) for server in (old, new)]
        assert report.result == "refused" and any(reason in text for text in report.said("refused")), str(report)
        assert before == after
    sandbox.wait_for(new.replicating, what="replication as before")
    cluster.wait_synced()


@pytest.mark.parametrize("domain", [0, 77])
def test_refused_with_extra_transactions(domain):
    """Also when its position says nothing of them: strict mode is off, and the primary has gone past the number meanwhile."""
    with setting(replicas=1, options={"gtid-strict-mode": "OFF"}) as (cluster, tandem):
        old, new = cluster.servers
        undoing(new, f"SET SESSION gtid_domain_id = {domain}", "CREATE DATABASE extra")
        for number in range(5):
            old.sql(f"INSERT INTO work.ledger VALUES ({number}, 1, 1)")
        cluster.wait_synced()
        before = [state_of(server) for server in (old, new)]
        report = promote(tandem, new)
        assert report.result == "refused", report
        assert any("transactions that the primary does not have" in text for text in report.said("refused")), report
        assert before == [state_of(server) for server in (old, new)]


@pytest.mark.parametrize("missing, reason", [({"log-bin": False}, "it has no binary log"), ({"log-slave-updates": "OFF"}, "log_slave_updates")],
                         ids=["binlog", "log_slave_updates"])
def test_refused_without(missing, reason):
    """What cannot be had without a restart is missing on the candidate."""
    with setting(replicas=1) as (cluster, tandem):
        old, new = cluster.servers
        new.restart(**{**missing, "log-slave-updates": "OFF"})
        sandbox.wait_for(new.replicating, what="the replica")
        tandem.wait_reads_on([new])
        before = [state_of(server) for server in (old, new)]
        report = promote(tandem, new)
        assert report.result == "refused" and any(reason in text for text in report.said("refused")), report
        assert before == [state_of(server) for server in (old, new)]


@pytest.mark.parametrize("name, reason", [("db9", "no server is named db9"), ("db1", "is the primary already")])
def test_refused_name(pair, name, reason):
    report = promote(pair[1], name)
    assert report.result == "refused" and reason in report.summary


def test_refused_when_down(pair):
    cluster, tandem = pair
    victim = cluster.replicas[1]
    victim.stop()
    try:
        sandbox.wait_for(lambda: "down" in promote(tandem, victim).summary, what="db3 to be seen down")
    finally:
        victim.start()
        sandbox.wait_for(victim.replicating, what="db3 to replicate")


def test_dry_run_touches_nothing(pair):
    cluster, tandem = pair
    old, new = cluster.primary, cluster.replicas[0]
    sandbox.wait_for(lambda: promote(tandem, new, "--dry-run").result == "done", what="a candidate")
    before = [state_of(server) for server in (old, new)]
    report = promote(tandem, new, "--dry-run")
    assert report.result == "done" and "would take over" in report.summary, report
    assert any("sync_binlog = 1" in text for text in report.said("warning"))
    assert before == [state_of(server) for server in (old, new)]


# ---- undone --------------------------------------------------------------------------------------------------------

def test_undone_when_a_transaction_does_not_end():
    with setting(replicas=1) as (cluster, tandem):
        old, new = cluster.servers
        with tandem.connect() as slow, tandem.connect() as quick:
            slow.query("BEGIN")
            slow.query("INSERT INTO work.ledger VALUES (1, 1, 1)")
            report = promote(tandem, new, "--timeout", "300ms")
            assert report.summary.startswith("undone"), report
            assert "1 transactions" in report.summary
            quick.query("INSERT INTO work.ledger VALUES (2, 2, 2)")
            slow.query("COMMIT")
        assert wait_settled(cluster) is old
        assert old.value("SELECT COUNT(*) FROM work.ledger") == 2
        assert old.value("SELECT state FROM tandem.cluster") == "undone"
        exchange(cluster, tandem, new)


class Fault:
    """The daemon with a fault point, and somebody to run the promotion beside."""

    def __init__(self, tandem, fault):
        self.tandem, self.report = tandem, None
        tandem.stop()
        os.environ["TANDEM_FAULT"] = fault
        try:
            tandem.start()
        finally:
            del os.environ["TANDEM_FAULT"]
        tandem.wait_reads_on(tandem.cluster.replicas)

    def start(self, server):
        self.thread = threading.Thread(target=self.run, args=(server,))
        self.thread.start()

    def run(self, server):
        with contextlib.suppress(AssertionError, ValueError):  # the daemon may be killed
            self.report = promote(self.tandem, server)

    def join(self):
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.report


needs_fault_points = pytest.mark.skipif(
    bool(os.environ.get("TANDEM_NO_FAULTS")), reason="the daemon was built without --enable-checked, and has no fault points")


@needs_fault_points
@pytest.mark.parametrize("step", ["row", "hold", "fence", "stop"])
def test_candidate_dies_before_the_point_of_no_return(step, tmp_path):
    with setting(replicas=2) as (cluster, tandem):
        old, new, _ = cluster.servers
        fault = Fault(tandem, f"pause:{step}:{tmp_path}/go")
        fault.start(new)
        sandbox.wait_for(lambda: f"paused after {step}" in tandem.log_text(), what="the pause")
        # DDL is not crash-safe on a replica (10.11: in the binlog, not in gtid_slave_pos, and error 1950 afterwards), and the first
        # operation has just created tandem.cluster.
        new.wait_position(old.position())
        new.kill9()
        (tmp_path / "go").touch()
        report = fault.join()
        assert report.summary.startswith("undone"), report
        with tandem.connect() as client:
            client.query("INSERT INTO work.ledger VALUES (1, 1, 1)")
        assert old.value("SELECT COUNT(*) FROM work.ledger") == 1
        new.start()
        try:
            sandbox.wait_for(new.replicating, what="the candidate to replicate again")
        except sandbox.SandboxError as error:
            raise AssertionError(f"{new.row('SHOW SLAVE STATUS')}\n{sandbox.tail(tandem.log)}") from error


@needs_fault_points
def test_who_begins_to_write_under_the_fence_is_ended(tmp_path):
    """Once the lock is off it would commit on the old primary only: what was on its way there when the others were ended, or comes after."""
    with setting(replicas=1) as (cluster, tandem):
        old, new = cluster.servers
        fault = Fault(tandem, f"pause:stop:{tmp_path}/go")
        fault.start(new)
        sandbox.wait_for(lambda: "paused after stop" in tandem.log_text(), what="the pause")
        with old.connect() as writer:
            writer.send_query("INSERT INTO work.ledger VALUES (8, 8, 8)")
            sandbox.wait_for(lambda: old.sql("SELECT 1 FROM information_schema.PROCESSLIST WHERE INFO LIKE 'INSERT%' AND STATE LIKE 'Waiting%'"),
                             what="the writer to wait for the lock")
            (tmp_path / "go").touch()
            report = fault.join()
            with pytest.raises((MysqlError, OSError, rawmysql.ProtocolError)):
                writer.read_result()
        assert report.result == "done", str(report)
        wait_level(cluster)
        assert [server.value("SELECT COUNT(*) FROM work.ledger") for server in cluster.servers] == [0, 0]


# ---- what cannot be stopped is seen ----------------------------------------------------------------------------------

@needs_fault_points
def test_who_writes_past_the_fence_is_seen(tmp_path):
    """Nothing stops READ ONLY ADMIN on a server that is not locked any more. That it happened is said at once."""
    with setting(replicas=1) as (cluster, tandem):
        old, new = cluster.servers
        fault = Fault(tandem, f"pause:unlock:{tmp_path}/go")
        fault.start(new)
        sandbox.wait_for(lambda: "paused after unlock" in tandem.log_text(), what="the pause")
        with old.connect() as writer:
            writer.query("INSERT INTO work.ledger VALUES (7, 7, 7)")
        (tmp_path / "go").touch()
        report = fault.join()
        assert primary_of(cluster) is new
        assert report.result == "failed" and any("past the fence" in text for text in report.said("failed")), str(report)


# ---- kill -9 of the daemon -----------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def trio():
    with setting(replicas=2) as (cluster, tandem):
        cluster.primary.sql("CREATE EVENT work.tick ON SCHEDULE EVERY 1 HOUR DO DELETE FROM work.ledger")
        cluster.wait_synced()
        yield cluster, tandem


@needs_fault_points
@pytest.mark.parametrize("step", BEFORE + AFTER)
def test_daemon_killed_after(trio, step):
    cluster, tandem = trio
    old = wait_settled(cluster)
    new, third = others(cluster, old)
    tandem.stop()
    cluster.servers.sort(key=lambda server: server is not old)
    fault = Fault(tandem, f"kill:{step}")
    fault.start(new)
    sandbox.wait_for(lambda: not tandem.process.running(), what="the daemon to be killed")
    fault.join()
    tandem.start(wait=False)
    with tandem_client(tandem) as client:
        client.query(f"REPLACE INTO work.ledger VALUES (1, 1, {len(step)})")
    primary = wait_settled(cluster)
    assert primary is (old if step in BEFORE else new)
    wait_level(cluster)
    sandbox.wait_for(lambda: primary.value("SELECT state FROM tandem.cluster") == ("undone" if step in BEFORE else "done"), what="the row")
    assert events_of(primary) == {"tick": "ENABLED"}
    assert [events_of(server) for server in others(cluster, primary)] == [{"tick": "SLAVESIDE_DISABLED"}] * 2
    assert len({server.value("SELECT GROUP_CONCAT(part ORDER BY part) FROM work.ledger") for server in cluster.servers}) == 1


def tandem_client(tandem):
    return sandbox.wait_for(lambda: tandem.connect(timeout=20), what="Tandem to answer again")


# ---- tandem -t --online --------------------------------------------------------------------------------------------

def online(tandem):
    made = subprocess.run([sandbox.tandem_binary(), "-t", "--online", "-c", str(tandem.config)], capture_output=True, text=True, timeout=60)
    return made.returncode, made.stdout


def test_online_check_of_a_whole_cluster(pair):
    cluster, tandem = pair
    new = cluster.replicas[0]
    status, said = online(tandem)
    assert status == 0, said
    assert "add sync_binlog = 1 to its [mysqld] section" in said
    with stopped_sql_thread(cluster.primary, new) as reason:
        before = state_of(new)
        status, said = online(tandem)
        assert status == 1 and f"fault    {new.name}" in said and reason in said, said
        assert before == state_of(new)
    sandbox.wait_for(new.replicating, what="replication as before")


def test_settings_fragment_leaves_nothing_to_say():
    """sql/tandem.cnf as servers read it: every setting is known to them, and nothing is missing."""
    printed = subprocess.run([sandbox.find_program("my_print_defaults"), f"--defaults-file={sandbox.TOP}/sql/tandem.cnf", "mariadb"],
                             capture_output=True, text=True, check=True).stdout
    options = {}
    for line in printed.split():
        name, _, value = line.removeprefix("--").partition("=")
        options[name.replace("_", "-")] = value or None
    assert options["read-only"] == "1"
    with sandbox.Cluster(replicas=1, options=options) as cluster:
        assert "loose" not in cluster.primary.log.read_text()  # it is known
        cluster.primary.sql("SET GLOBAL read_only = 0")
        with sandbox.Tandem(cluster) as tandem:
            tandem.wait_reads_on(cluster.replicas)
            status, said = online(tandem)
            assert status == 0 and "warning" not in said and "fault" not in said, said
            report = promote(tandem, cluster.replicas[0])
            assert report.result == "done" and not report.said("warning"), str(report)


@needs_fault_points
def test_daemon_killed_and_the_candidate_is_down_when_it_comes_back():
    with setting(replicas=2) as (cluster, tandem):
        old, new, _ = cluster.servers
        fault = Fault(tandem, "kill:fence")
        fault.start(new)
        sandbox.wait_for(lambda: not tandem.process.running(), what="the daemon to be killed")
        fault.join()
        new.stop()
        tandem.start(wait=False)
        sandbox.wait_for(lambda: "was not ended" in tandem.log_text(), what="the doubt to be said")
        assert old.value("SELECT @@read_only") == 1
        new.start()
        assert wait_settled(cluster) is old
        assert old.value("SELECT state FROM tandem.cluster") == "undone"


@needs_fault_points
def test_one_at_a_time(tmp_path):
    with setting(replicas=2) as (cluster, tandem):
        _, new, third = cluster.servers
        fault = Fault(tandem, f"pause:hold:{tmp_path}/go")
        fault.start(new)
        sandbox.wait_for(lambda: "paused after hold" in tandem.log_text(), what="the pause")
        second = promote(tandem, third)
        (tmp_path / "go").touch()
        assert second.result == "refused" and "promote db2 is under way" in second.summary, str(second)
        assert fault.join().result == "done"
        assert wait_settled(cluster) is new
