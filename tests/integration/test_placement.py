"""Sessions live on few workers while those are enough, and move between two statements; none of them notices."""
import contextlib
import json
import pathlib
import subprocess
import threading

import pytest

import sandbox
from load import Crew
from sandbox import wait_for
from test_admin import tandemctl

pytestmark = [pytest.mark.core, pytest.mark.proxy_only]

SCHEMA = """
CREATE DATABASE placement
CREATE TABLE placement.t (id INT PRIMARY KEY AUTO_INCREMENT, who INT, v VARCHAR(100))
CREATE TABLE placement.counted (who INT PRIMARY KEY, n INT NOT NULL)
"""
SESSIONS = 8
LITTLE = 20 if sandbox.sanitized() else 2  # percent of a core that these sessions use with ease, and do not use when they rest


@pytest.fixture(scope="module", autouse=True)
def schema(cluster):
    for statement in SCHEMA.strip().split("\n"):
        cluster.primary.sql(statement)
    cluster.wait_synced()
    yield
    cluster.primary.sql("DROP DATABASE placement")
    cluster.wait_synced()


@contextlib.contextmanager
def front(cluster, load, **more):
    with sandbox.Tandem(cluster, {"tandem": {"threads": 2}, "proxy": {"worker_load": load, **more}}) as daemon:
        daemon.wait_reads_on(cluster.replicas)
        yield daemon


def listed(daemon):
    """What tandemctl says of each session."""
    done = subprocess.run([str(tandemctl()), "-s", str(daemon.folder / "state" / "tandem.sock"), "--json", "sessions"],
                          capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)["sessions"]


def workers(daemon):
    """Of each session by its number."""
    return {one["id"]: one["worker"] for one in listed(daemon)}


def number_of(client):
    """As Tandem lists it, which is not what a server says."""
    return client.thread_id


class Session:
    """A client that knows what its session must be like, and looks whether it is, with each statement."""

    def __init__(self, daemon, who):
        self.who, self.turn, self.last_id = who, 0, 0
        self.client = daemon.connect(database="placement", tls=who % 4 == 1, timeout=60)
        self.number = number_of(self.client)
        self.client.query(f"REPLACE INTO counted VALUES ({who}, 0)")
        self.begin()
        self.reads = [self.plain, self.bound, self.kept, self.named, self.asked, self.forgotten]
        self.writes = [self.inserted, self.transaction, self.rolled_back, self.warned]

    def begin(self):
        self.maybe, self.last_id = None, 0
        self.client.query(f"SET @who = {self.who}, SESSION div_precision_increment = {self.who + 5}")
        self.read = self.client.prepare("SELECT ? + @who, @@div_precision_increment")
        self.add = self.client.prepare("INSERT INTO t (who, v) VALUES (?, ?)")
        self.client.query("PREPARE named FROM 'SELECT ? + 1'")

    def plain(self):
        assert self.client.query("SELECT @who, @@div_precision_increment, DATABASE()").rows == [(self.who, self.who + 5, "placement")]

    def bound(self):
        assert self.client.execute(self.read, [self.turn]).rows == [(self.turn + self.who, self.who + 5)]

    def named(self):
        self.client.query(f"SET @turn = {self.turn}")
        assert int(self.client.query("EXECUTE named USING @turn").value) == self.turn + 1

    def kept(self):
        """What it has taken back is not there again, on whatever connection it had it before."""
        value = self.client.value("SELECT @maybe")
        assert (value and int(value)) == self.maybe
        self.maybe = None if self.maybe else self.turn
        self.client.query(f"SET @maybe = {self.maybe or 'NULL'}")

    def forgotten(self):
        """What a reset has taken is not there again, either."""
        value = self.client.value("SELECT @maybe")
        assert (value and int(value)) == self.maybe
        if self.turn // len(self.reads) % 2:
            self.client.reset()
            self.begin()

    def asked(self):
        assert self.client.value("SELECT LAST_INSERT_ID()") == self.last_id
        assert self.client.value("SELECT @@session.autocommit") == 1

    def inserted(self):
        self.last_id = self.client.execute(self.add, [self.who, f"turn {self.turn}"]).insert_id
        assert self.client.value("SELECT LAST_INSERT_ID()") == self.last_id
        assert self.client.query(f"SELECT who, v FROM t WHERE id = {self.last_id}").rows == [(self.who, f"turn {self.turn}")]

    def transaction(self):
        self.client.query("BEGIN")
        before = self.client.value(f"SELECT n FROM counted WHERE who = {self.who} FOR UPDATE")
        self.client.query(f"UPDATE counted SET n = n + 1 WHERE who = {self.who}")
        self.client.query("COMMIT")
        assert self.client.value(f"SELECT n FROM counted WHERE who = {self.who}") == before + 1

    def rolled_back(self):
        before = self.client.value(f"SELECT n FROM counted WHERE who = {self.who}")
        self.client.query("START TRANSACTION")
        self.client.query(f"UPDATE counted SET n = -1 WHERE who = {self.who}")
        self.client.query("ROLLBACK")
        assert self.client.value(f"SELECT n FROM counted WHERE who = {self.who}") == before

    def warned(self):
        self.client.query(f"SELECT CAST('{self.turn}x' AS INT)")
        assert f"{self.turn}x" in self.client.query("SHOW WARNINGS").rows[0][2]

    def step(self, kinds):
        self.turn += 1
        kinds[self.turn % len(kinds)]()


def restless(daemon, sessions, rounds, busy_kinds, mobile=None):
    """All work as fast as they can until some of the mobile ones have moved to the second worker, then a little until all are back; so
    many times."""
    mobile = mobile or sessions
    gate = threading.Event()
    pace = threading.Event()

    def work(crew, index):
        session = sessions[index]
        while crew.running:
            session.step(busy_kinds(session) if gate.is_set() else session.reads)
            if not gate.is_set():
                pace.wait(0.2)

    def is_so(busy):
        found = workers(daemon)
        at = [found.get(one.number) for one in mobile]
        return 1 in at if busy else set(at) == {0}

    seen = {one.number: set() for one in sessions}
    with Crew(len(sessions), work) as crew:
        for _ in range(rounds):
            for busy in (True, False):
                gate.set() if busy else gate.clear()
                wait_for(lambda wanted=busy: not crew.running or is_so(wanted), 60, "sessions to move" if busy else "all to move back")
                for number, worker in workers(daemon).items():
                    seen.setdefault(number, set()).add(worker)
    return [one for one in sessions if len(seen[one.number]) == 2]


def close_all(cluster, sessions):
    for one in sessions:
        one.client.close()
    cluster.primary.sql("DELETE FROM placement.counted")
    cluster.primary.sql("TRUNCATE placement.t")


@pytest.mark.parametrize("kinds", ["reads", "writes", "all"])
def test_sessions_move_and_lose_nothing(cluster, kinds):
    of = {"reads": lambda one: one.reads, "writes": lambda one: one.writes, "all": lambda one: one.reads + one.writes}[kinds]
    with front(cluster, LITTLE) as daemon:
        sessions = [Session(daemon, who) for who in range(SESSIONS)]
        moved = restless(daemon, sessions, 2, of)
        print(f"{kinds}: {len(moved)} of {len(sessions)} sessions were seen on both workers, {sum(one.turn for one in sessions)} steps")
        assert moved
        for one in sessions:
            for check in one.reads + one.writes:
                check()
        close_all(cluster, sessions)


def test_who_is_bound_to_a_connection_stays(cluster):
    with front(cluster, 75) as daemon:
        sessions = [Session(daemon, who) for who in range(SESSIONS)]
        bound = sessions[::2]
        for one in bound:
            one.client.query("CREATE TEMPORARY TABLE mine (v INT)")
            one.client.query(f"INSERT INTO mine VALUES ({one.who})")
            one.reads.remove(one.forgotten)  # a reset would drop the table
            one.reads.append(lambda one=one: one.client.value("SELECT v FROM mine") == one.who or pytest.fail("another's table"))
        home = workers(daemon)
        daemon.reload({"proxy": {"worker_load": LITTLE}})
        restless(daemon, sessions, 2, lambda one: one.reads, mobile=sessions[1::2])
        now = workers(daemon)
        assert [now[one.number] for one in bound] == [home[one.number] for one in bound]
        close_all(cluster, sessions)


def test_kill_finds_who_has_moved(cluster):
    with front(cluster, 0) as daemon, daemon.connect() as killer:
        sessions = [Session(daemon, who) for who in range(SESSIONS)]
        daemon.reload({"proxy": {"worker_load": LITTLE}})
        restless(daemon, sessions, 1, lambda one: one.reads)
        away = [one for one in sessions if workers(daemon)[one.number] != (one.number & 0x7fffffff) % 2]
        assert len(away) in (SESSIONS // 2, SESSIONS // 2 - 1), "half of them, or one less beside the killer, had come to the second worker"
        for one in sessions:
            killer.query(f"KILL {one.number}")
            wait_for(one.client.closed_by_peer, 20, "the session to end")
            with pytest.raises(sandbox.rawmysql.MysqlError) as error:
                killer.query(f"KILL {one.number}")
            assert error.value.number == 1094
        cluster.primary.sql("DELETE FROM placement.counted")


def test_few_sessions_share_one_worker(cluster):
    with front(cluster, 75) as daemon:
        clients = [daemon.connect() for _ in range(10)]
        for client in clients:
            client.value("SELECT 1")
        found = workers(daemon)
        assert {found[number_of(client)] for client in clients} == {0}
        for client in clients:
            client.close()


def test_many_new_sessions_are_spread(cluster):
    """Each that has just come counts for two hundredths of a core until the worker has been measured."""
    with front(cluster, 10) as daemon:
        clients = []
        for _ in range(60):
            clients.append(daemon.connect())
        found = workers(daemon)
        assert {found[number_of(client)] for client in clients} == {0, 1}
        for client in clients:
            client.close()


def test_spread_evenly_on_demand(cluster):
    with front(cluster, 0) as daemon:
        sessions = [Session(daemon, who) for who in range(SESSIONS)]
        before = workers(daemon)
        assert sorted(before[one.number] for one in sessions) == [0, 0, 0, 0, 1, 1, 1, 1]

        def work(crew, index):
            for _ in range(400):
                sessions[index].step(sessions[index].reads)
        with Crew(len(sessions), work) as crew:
            crew.join(60)
        assert workers(daemon) == before
        daemon.reload({"proxy": {"worker_load": 75}})
        wait_for(lambda: {workers(daemon)[one.number] for one in sessions if one.step(one.reads) is None} == {0}, 30,
                 "the sessions to share a worker after the reload")
        close_all(cluster, sessions)


def policies(daemon):
    """The scheduling policy of each thread; sched(7): 0 is SCHED_OTHER, 3 SCHED_BATCH, 5 SCHED_IDLE."""
    tasks = pathlib.Path(f"/proc/{daemon.pid}/task")
    return [int((task / "stat").read_text().rpartition(")")[2].split()[38]) for task in tasks.iterdir()]


def test_workers_do_not_push_others_off_their_core(cluster, monkeypatch):
    with front(cluster, 75) as daemon:
        assert policies(daemon).count(3) == 2 and policies(daemon).count(0) > 2
    monkeypatch.setenv("TANDEM_WRAPPER", "chrt --idle 0")
    with front(cluster, 75) as daemon:
        assert set(policies(daemon)) == {5}, "who has chosen a policy for the daemon keeps it"
