"""Fixtures: a primary with two replicas and Tandem in front, shared by all tests of a run.

`tandem` is started with the defaults, two workers, and a causal_wait long enough that a slow machine does not send reads to the
primary in tests that ask where a read went. A test that breaks servers uses `heal`; a test that needs other settings starts
its own sandbox.Tandem(cluster, {...}).

`./dev test` runs the files in several processes side by side (pytest-xdist), each with its own servers; a test whose figures need an
idle machine is marked `alone`.

TANDEM_DIRECT=1 points every client at the primary instead: it shows that a test's own statements and expectations are sound
(reads "on a replica" are then seen on the primary, and tests marked `proxy_only` are skipped).
"""
import contextlib
import itertools
import os
import pathlib
import signal
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import rawmysql  # noqa: E402
import room  # noqa: E402
import sandbox  # noqa: E402
from last_words import pytest_runtest_makereport  # noqa: E402,F401

DIRECT = bool(os.environ.get("TANDEM_DIRECT"))
LONG = ("test_promotion.py", "test_failover.py", "test_partitions.py", "test_http2.py")  # begun late, they would end alone


class Direct:
    """Stands in for Tandem when tests run straight against the primary."""

    def __init__(self, cluster):
        self.cluster, self.server = cluster, cluster.primary
        self.port, self.socket = self.server.port, self.server.socket

    def connect(self, user="app", password="app", **more):
        return self.server.connect(user, password, **more)

    def wait_reads_on(self, *_):
        pass

    def close(self, check=False):
        pass


def pytest_configure(config):
    config.addinivalue_line("markers", "proxy_only: makes no sense straight against a server")
    config.addinivalue_line("markers", "memory: looks at figures that a sanitizer's allocator falsifies")
    config.addinivalue_line("markers", "core: the part that also runs under the sanitizers")
    config.addinivalue_line("markers", "alone: no other test runs meanwhile")
    # A shell ignores it in what it runs in the background, and so would we and all that we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if starts_others(config):
        room.open_for_all()


def pytest_unconfigure(config):
    if starts_others(config):
        room.close_for_all()


def starts_others(config):
    """Whether this process hands the tests out to others."""
    return bool(config.getoption("numprocesses", None)) and not hasattr(config, "workerinput")


@pytest.hookimpl(hookwrapper=True, tryfirst=True)  # before pytest-timeout looks at the clock
def pytest_runtest_protocol(item):
    if not hasattr(item.config, "workerinput"):
        yield
        return
    with room.entered(alone=bool(item.get_closest_marker("alone"))):
        yield


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONG)
    for item in items:
        if DIRECT and item.get_closest_marker("proxy_only"):
            item.add_marker(pytest.mark.skip(reason="straight against a server"))
        if item.get_closest_marker("memory") and sandbox.sanitized():
            item.add_marker(pytest.mark.skip(reason="memory figures of a sanitizer build say nothing"))


@pytest.fixture(scope="session")
def cluster():
    with sandbox.Cluster(replicas=2) as started:
        started.primary.sql("CREATE DATABASE work")
        yield started


@pytest.fixture(scope="session")
def shared_tandem(cluster):
    if DIRECT:
        yield Direct(cluster)
        return
    # How far the primary was when a session read there is asked of its connection. A session that has just moved to another worker has none, and
    # reads on the primary once more; here it is asserted who answers, so they stay.
    with sandbox.Tandem(cluster, {"proxy": {"causal_wait": "5s", "worker_load": 0}}) as started:
        started.wait_reads_on(cluster.replicas)
        yield started


@pytest.fixture
def tandem(shared_tandem):
    """The shared daemon; starts it again when the test before this one brought it down."""
    if not DIRECT and not shared_tandem.process.running():
        shared_tandem.start()
        shared_tandem.wait_reads_on(shared_tandem.cluster.replicas)
    return shared_tandem


@pytest.fixture
def heal(cluster):
    """For tests that break servers: afterwards all of them run and replicate again."""
    yield cluster
    cluster.heal()


@pytest.fixture
def client(tandem):
    with tandem.connect(database="work") as connection:
        yield connection


NUMBERS = itertools.count(1)


@pytest.fixture
def number():
    """A number no other test of this run uses, for names of tables and marks."""
    return next(NUMBERS)


@contextlib.contextmanager
def logs(cluster):
    """The general logs of all servers meanwhile: {server_id: GeneralLog}."""
    with contextlib.ExitStack() as stack:
        yield {server.server_id: stack.enter_context(server.logged()) for server in cluster.servers}


def in_threads(count, work):
    """Runs work(0) ... work(count - 1) at the same time and raises the first failure of any."""
    failures, start = [], threading.Barrier(count)

    def body(index):
        try:
            start.wait(30)
            work(index)
        except BaseException as error:  # the test's thread must hear of it
            failures.append(error)

    threads = [threading.Thread(target=body, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        if thread.is_alive():
            failures.append(TimeoutError("a client thread did not end within 120 s"))
    if failures:
        raise failures[0]
