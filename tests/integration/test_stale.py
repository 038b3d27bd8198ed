"""A read sees every write acknowledged to any session of its account, while replication is stopped and started at random."""
import random
import threading
import time

import pytest

import sandbox
from conftest import DIRECT
from load import Crew, percentile, seconds

WRITERS = 8


@pytest.fixture(scope="module")
def pair():
    with sandbox.Cluster(replicas=1, init_sql=["CREATE DATABASE work"]) as started:
        yield started


class Straight:
    """Clients of one server, in place of Tandem's."""

    def __init__(self, server, user="app", password="app"):
        self.server = server

    def connect(self, **more):
        return self.server.connect(**more)


@pytest.fixture(scope="module")
def front(pair):
    if DIRECT:
        yield Straight(pair.primary)
        return
    with sandbox.Tandem(pair) as started:
        started.wait_reads_on(pair.replicas)
        yield started


class Ledger:
    """What has been acknowledged, what was read, and what was read too old."""

    def __init__(self):
        self.lock = threading.Lock()
        self.acknowledged = {}      # writer -> number of its last acknowledged row
        self.stale = []
        self.reads = []             # (seconds, server_id)

    def wrote(self, writer, number):
        with self.lock:
            self.acknowledged[writer] = number

    def snapshot(self):
        with self.lock:
            return dict(self.acknowledged)

    def read(self, who, wanted, rows, begun):
        took = time.monotonic() - begun
        server, seen = rows[0]
        with self.lock:
            self.reads.append((took, server))
            if seen is None or seen < wanted:
                self.stale.append(f"{who} read {seen} on server {server}, {wanted} was acknowledged")

    def share(self, server_id):
        return sum(1 for _, server in self.reads if server == server_id) / max(1, len(self.reads))


def make_tables(cluster):
    cluster.primary.sql("DROP TABLE IF EXISTS work.stale, work.counters")
    cluster.primary.sql("CREATE TABLE work.stale (writer INT, number INT, PRIMARY KEY (writer, number))")
    cluster.primary.sql("CREATE TABLE work.counters (writer INT PRIMARY KEY, number INT)")
    cluster.primary.sql("INSERT INTO work.counters VALUES " + ",".join(f"({n}, 0)" for n in range(WRITERS)))
    cluster.wait_synced()


def write_and_read(write_to, read_from, ledger, pace=0.0):
    """A writer: INSERT, read by key; then UPDATE, read; odd ones with prepared statements. All on its own connections."""
    def work(crew, index):
        writer = write_to.connect(database="work")
        reader = writer if read_from is write_to else read_from.connect(database="work")
        query = (lambda c, text: c.binary(text)) if index % 2 else (lambda c, text: c.query(text))
        number = 0
        while crew.running:
            number += 1
            query(writer, f"INSERT INTO stale VALUES ({index}, {number})")
            begun = time.monotonic()
            rows = query(reader, "SELECT @@server_id, (SELECT number FROM stale"
                                 f" WHERE writer = {index} AND number = {number})").rows
            ledger.read(f"writer {index} after INSERT", number, rows, begun)
            query(writer, f"UPDATE counters SET number = {number} WHERE writer = {index}")
            ledger.wrote(index, number)
            begun = time.monotonic()
            rows = query(reader, f"SELECT @@server_id, number FROM counters WHERE writer = {index}").rows
            ledger.read(f"writer {index} after UPDATE", number, rows, begun)
            crew.stopped.wait(pace)
    return work


def account_mate(front, ledger, rng):
    """Reads what another connection has just written, over a new connection each time."""
    def work(crew, _):
        while crew.running:
            known = ledger.snapshot()
            if not known:
                crew.stopped.wait(0.001)
                continue
            writer = rng.choice(list(known))
            with front.connect(database="work") as fresh:
                wanted = ledger.snapshot()[writer]
                begun = time.monotonic()
                rows = fresh.query(f"SELECT @@server_id, number FROM counters WHERE writer = {writer}").rows
                ledger.read(f"account mate of {writer}", wanted, rows, begun)
    return work


def disturb(replica, rng, crew, until):
    """Stops and starts the replica's SQL thread at random moments."""
    stops = 0
    while crew.running and time.monotonic() < until:
        crew.wait(rng.uniform(0, 0.4))
        replica.stop_sql_thread()
        stops += 1
        crew.wait(rng.choice([0, 0.005, 0.02, 0.1, 0.7]) * rng.random())
        replica.start_sql_thread()
    return stops


def both_crews(write_to, read_from, ledger, rng, pace=0.0):
    mates = Crew(1, account_mate(read_from, ledger, rng), "account mate")
    return Crew(WRITERS, write_and_read(write_to, read_from, ledger, pace), "writer"), mates


def test_no_stale_reads_while_the_replica_lags(pair, front):
    seed = random.SystemRandom().randrange(1 << 32)
    rng, ledger = random.Random(seed), Ledger()
    make_tables(pair)
    writers, mates = both_crews(front, front, ledger, rng)
    try:
        with writers, mates:
            stops = disturb(pair.replicas[0], rng, writers, time.monotonic() + seconds(60))
    finally:
        pair.heal()
    print(f"\nseed {seed}: {len(ledger.reads)} reads, {ledger.share(2):.0%} of them on the replica, "
          f"SQL thread stopped {stops} times, {len(ledger.stale)} stale")
    assert not ledger.stale, ledger.stale[:5]
    assert len(ledger.reads) > 100


@pytest.mark.proxy_only
def test_reads_stay_on_the_replica_when_it_is_not_delayed(pair, front):
    rng, ledger = random.Random(1), Ledger()
    make_tables(pair)
    writers, mates = both_crews(front, front, ledger, rng, pace=0.002)
    with writers, mates:
        writers.wait(min(15, seconds(60) / 4))
    on_replica = [took for took, server in ledger.reads if server == 2]
    print(f"\n{len(ledger.reads)} reads right after a write, {ledger.share(2):.1%} on the replica; "
          f"parked reads there: p50 {percentile(on_replica, 50) * 1e3:.2f} ms, p95 {percentile(on_replica, 95) * 1e3:.2f} ms")
    assert not ledger.stale, ledger.stale[:5]
    assert ledger.share(2) >= 0.9


@pytest.mark.proxy_only
def test_a_stopped_replica_sends_reads_to_the_primary_at_once(pair, front):
    """The deadline holds: with the SQL thread stopped a read after a write comes from the primary, right and soon."""
    make_tables(pair)
    replica = pair.replicas[0]
    with front.connect(database="work") as client:
        replica.stop_sql_thread()
        try:
            times = []
            for number in range(1, 21):
                client.query(f"INSERT INTO stale VALUES (100, {number})")
                begun = time.monotonic()
                server, seen = client.query("SELECT @@server_id, MAX(number) FROM stale WHERE writer = 100").rows[0]
                times.append(time.monotonic() - begun)
                assert (server, seen) == (1, number)
        finally:
            pair.heal()
        print(f"\nread after write with the SQL thread stopped: p95 {percentile(times, 95) * 1e3:.1f} ms")
        front.wait_reads_on(pair.replicas)


def test_the_check_can_fail(pair):
    """Reads straight from a replica that lags are stale, and the ledger says so."""
    rng, ledger = random.Random(2), Ledger()
    make_tables(pair)
    writers, mates = both_crews(Straight(pair.primary), Straight(pair.replicas[0]), ledger, rng)
    try:
        with writers, mates:
            sandbox.wait_for(lambda: ledger.reads, 20, "the first read")
            pair.replicas[0].stop_sql_thread()
            sandbox.wait_for(lambda: ledger.stale, 20, "a stale read")
    finally:
        pair.heal()
    assert ledger.stale


@pytest.mark.proxy_only
def test_off_means_off(pair):
    """With read_your_writes = off nothing waits: a read sees what its server has, old or new, and at once."""
    make_tables(pair)
    with sandbox.Tandem(pair, {"proxy": {"read_your_writes": "off", "causal_wait": "20s"}}) as front:
        front.wait_reads_on(pair.replicas)
        pair.replicas[0].stop_sql_thread()
        try:
            with front.connect(database="work", timeout=10) as client:
                client.query("UPDATE counters SET number = 7 WHERE writer = 0")
                server, seen = client.query("SELECT @@server_id, number FROM counters WHERE writer = 0").rows[0]
                assert (server, seen) in ((1, 7), (2, 0))
        finally:
            pair.heal()
