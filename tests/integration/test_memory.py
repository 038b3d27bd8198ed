"""The daemon's memory: a result of 1 GiB and an INSERT of 64 MiB pass through in next to none, idle clients cost next to none."""
import contextlib
import hashlib
import os
import pathlib
import resource
import subprocess
import sys

import pytest

import rawmysql
import sandbox

pytestmark = [pytest.mark.proxy_only, pytest.mark.memory, pytest.mark.alone]
MIB = 1 << 20


@pytest.fixture(scope="module")
def pair():
    options = {"max-allowed-packet": "256M", "innodb-log-file-size": "640M", "max-connections": "500"}
    init = ["CREATE DATABASE work", "CREATE TABLE work.big (id INT PRIMARY KEY, v LONGBLOB)", "INSERT INTO work.big VALUES (0, '')"]
    with sandbox.Cluster(replicas=1, options=options, init_sql=init) as started:
        yield started


@pytest.fixture
def front(pair):
    with sandbox.Tandem(pair) as started:
        started.wait_reads_on(pair.replicas)
        with started.connect(database="work") as client:  # what every later client finds already there
            client.query("SELECT id FROM big")
            client.query("UPDATE big SET v = id WHERE id = 0")
            client.query("SELECT REPEAT('w', 1000000) FROM seq_1_to_10")
        yield started


@contextlib.contextmanager
def peak_growth(front):
    """A list that holds, after the block, by how many bytes the daemon's resident memory grew at most in it."""
    pathlib.Path(f"/proc/{front.pid}/clear_refs").write_text("5")  # the high-water mark begins anew
    before, found = front.memory()["VmRSS"], []
    yield found
    found.append(front.memory()["VmHWM"] - before)


def skip_result(client):
    """Reads a result to its end without keeping it; (rows, bytes)."""
    sock, buffer = client.socket, memoryview(bytearray(4 * MIB))
    have, skip, rows, total, ends = 0, 0, -1, 0, 0
    while True:
        got = sock.recv_into(buffer[have:])
        if not got:
            raise rawmysql.ProtocolError("closed")
        have, at, total = have + got, 0, total + got
        while True:
            step = min(skip, have - at)
            at, skip = at + step, skip - step
            if skip or have - at < 5:
                break
            size, first = int.from_bytes(buffer[at:at + 3], "little"), buffer[at + 4]
            at, skip = at + 4, size
            if first == 0xff and rows >= 0:
                raise rawmysql.ProtocolError("error within the result")
            if first == 0xfe and size < 9:
                ends += 1
                rows += 1 if ends == 1 else 0
                if ends == 2:
                    return rows, total
            elif ends:
                rows += 1
        buffer[:have - at] = buffer[at:have]
        have -= at


@pytest.mark.parametrize("place", ["replica", "primary"])
def test_a_result_of_one_gibibyte(front, place):
    with front.connect(database="work", capabilities=rawmysql.CLASSIC, timeout=120) as client, peak_growth(front) as grown:
        if place == "primary":
            client.query("BEGIN")
        client.send_query("SELECT REPEAT('x', 1048570) FROM seq_1_to_1024")
        rows, total = skip_result(client)
        if place == "primary":
            client.socket.settimeout(10)
    assert rows == 1024 and total > 1024 * 1048570
    print(f"\n1 GiB from the {place}: memory grew by {grown[0] / MIB:.2f} MiB at most")
    assert grown[0] < 4 * MIB


@pytest.mark.parametrize("how", ["text", "prepared", "long data"])
def test_an_insert_of_64_mebibytes(front, how):
    data = b"0123456789abcdef" * (4 * MIB)
    with front.connect(database="work", timeout=60) as client:
        with peak_growth(front) as grown:
            if how == "text":
                done = client.query(b"REPLACE INTO big VALUES (1, '" + data + b"')")
            else:
                statement = client.prepare("REPLACE INTO big VALUES (1, ?)")
                if how == "prepared":
                    done = client.execute(statement, (data,))
                else:
                    for at in range(0, len(data), 8 * MIB):
                        client.long_data(statement, 0, data[at:at + 8 * MIB])
                    done = client.execute(statement, (rawmysql.LONG_DATA,))
        assert done.affected in (1, 2)
        assert client.query("SELECT LENGTH(v), MD5(v) FROM big WHERE id = 1").rows == \
            [(len(data), hashlib.md5(data).hexdigest())]
    print(f"\n64 MiB {how}: memory grew by {grown[0] / MIB:.2f} MiB at most")
    assert grown[0] < 4 * MIB


def test_many_large_results_at_once_are_not_held(front):
    """Sixteen clients ask for 16 MiB each and read it later: what waits for them stays with the servers."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(front.connect(database="work", capabilities=rawmysql.CLASSIC, timeout=60)) for _ in range(16)]
        with peak_growth(front) as grown:
            for client in clients:
                client.send_query("SELECT REPEAT('x', 1048570) FROM seq_1_to_16")
            for client in clients:
                assert skip_result(client)[0] == 16
    print(f"\n16 results of 16 MiB: memory grew by {grown[0] / MIB:.2f} MiB at most")
    assert grown[0] < 16 * MIB


CLIENT = """
import sys
sys.path.insert(0, sys.argv[1])
import rawmysql
clients = []
for _ in range(int(sys.argv[3])):
    clients.append(rawmysql.Connection(port=int(sys.argv[2]), timeout=60, capabilities=rawmysql.CLASSIC))
    clients[-1].query("SELECT 1")
    if len(clients) % 10 == 0:
        clients[-1].query("SELECT id FROM work.big")
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def idle_clients(port, count):
    """In a process of their own, because they need as many files as the daemon."""
    with subprocess.Popen([sys.executable, "-c", CLIENT, os.path.dirname(sandbox.__file__), str(port), str(count)],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout.readline() != "ready\n":
                raise sandbox.SandboxError("the idle clients did not all get in")
            yield
        finally:
            process.stdin.close()
            process.wait(60)


def test_five_thousand_idle_clients(pair):
    count = 5000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + 500:
        pytest.skip(f"the hard limit for open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limits = {f"server {server.name}": {"max_connections": 100} for server in pair.servers}
    with sandbox.Tandem(pair, limits) as front:
        front.wait_reads_on(pair.replicas)
        with idle_clients(front.port, 100):
            pass
        before = front.memory()["VmRSS"]
        with idle_clients(front.port, count):
            each = (front.memory()["VmRSS"] - before) / count
            print(f"\n{count} idle clients: {each / 1024:.2f} KiB each")
            with front.connect() as client:
                assert client.query("SELECT 1").value == 1
        assert each <= 3 * 1024
