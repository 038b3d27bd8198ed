"""Servers and clients that die, hang, disappear and talk nonsense."""
import contextlib
import os
import random
import socket
import struct
import threading
import time

import pytest

import rawmysql
import sandbox
from load import Crew, Readers, seconds
from mangler import Mangler
from rawmysql import MysqlError, ProtocolError
from sandbox import wait_for

pytestmark = [pytest.mark.proxy_only]
MIB = 1 << 20
INIT = ["CREATE DATABASE work", "CREATE TABLE work.load_rows (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100))",
        "INSERT INTO work.load_rows (v) VALUES ('a'), ('b'), ('c')", "CREATE TABLE work.locked (id INT PRIMARY KEY, n INT)",
        "INSERT INTO work.locked VALUES (1, 0)"]
# Rows of 1,000 bytes, as many as asked for; the text in front is what the mangler looks for.
ROWS = "SELECT '{mark}', REPEAT('x', 1000), @@server_id FROM work.seq_1_to_{count}"


@pytest.fixture(scope="module")
def pair():
    with sandbox.Cluster(replicas=1, init_sql=INIT) as started:
        yield started


@pytest.fixture(scope="module")
def shared(pair):
    with sandbox.Tandem(pair, {"proxy": {"login_timeout": "2s"}}) as started:
        yield started


@pytest.fixture
def front(pair, shared):
    """The daemon of this file, healthy before and after: a fault may not cost it its life nor its replicas."""
    shared.wait_reads_on(pair.replicas)
    with shared.connect(database="work") as client:
        client.query("UPDATE locked SET n = n")  # waits for the primary: a test before may have restarted it
    pid = shared.pid
    yield shared
    assert shared.process.running() and shared.pid == pid, sandbox.tail(shared.log)
    pair.heal()
    shared.wait_reads_on(pair.replicas)
    with shared.connect(database="work") as client:
        assert client.query("UPDATE locked SET n = n + 1").affected == 1


# ---- servers ----------------------------------------------------------------------------------------------------------

def test_replica_is_killed_under_read_load(pair, front):
    replica = pair.replicas[0]
    with Readers(front) as readers:
        readers.wait_answers(200, server=2)
        killed = time.monotonic()
        replica.kill9()
        readers.wait_answers(400, killed)
        on_primary = [answer for answer in readers.since(killed) if answer[2] == 1]
        replica.start()
        readers.wait_answers(100, time.monotonic(), server=2)
    print(f"\n{len(readers.answers)} reads, {len(readers.errors)} failed, slowest {readers.slowest() * 1e3:.0f} ms")
    assert readers.errors == []
    assert on_primary


def test_replica_is_killed_again_and_again_in_long_results(pair, front):
    """Results that are passed on already cannot be saved: they end in an error or a closed connection, never short and well."""
    replica, outcomes = pair.replicas[0], []

    def work(crew, index):
        while crew.running:
            try:
                with front.connect(database="work", timeout=30) as client:
                    while crew.running:
                        rows = client.query(ROWS.format(mark="long", count=3000)).rows
                        outcomes.append(len(rows))
            except (MysqlError, ProtocolError, OSError) as error:
                outcomes.append(error)

    with Crew(4, work) as crew:
        for _ in range(3):
            sandbox.wait_for(lambda: len(outcomes) > 5, 20, "results")
            del outcomes[:-1]
            replica.kill9()
            replica.start()
            front.wait_reads_on(pair.replicas)
            assert crew.running
    assert all(not isinstance(outcome, int) or outcome == 3000 for outcome in outcomes)


class Writers(Crew):
    """Clients that insert numbered rows; an error is remembered and the client goes on, with a new connection if it must."""

    def __init__(self, front, count=4):
        self.front, self.lock = front, threading.Lock()
        self.acknowledged, self.errors, self.times = [], [], []
        super().__init__(count, Writers.write, "writer")

    def write(self, index):
        client, number = None, 0
        while self.running:
            number += 1
            begun = time.monotonic()
            try:
                client = client or self.front.connect(database="work", timeout=60)
                client.query(f"INSERT INTO load_rows (v) VALUES ('w{index} {number}')")
                with self.lock:
                    self.acknowledged.append(f"w{index} {number}")
                    self.times.append((time.monotonic(), time.monotonic() - begun))
            except (MysqlError, ProtocolError, OSError) as error:
                with self.lock:
                    self.errors.append((f"w{index} {number}", error))
                if not isinstance(error, MysqlError) or error.number in (1927, 2013, 1053):
                    client = None

    def wait_written(self, count, moment=0.0, timeout=60):
        sandbox.wait_for(lambda: sum(1 for at, _ in self.times if at > moment) >= count, timeout, f"{count} writes")


def test_primary_is_killed_and_restarted_under_load(pair, front):
    """Reads go on, writes wait; only a write that was under way may get an error, and none is lost or done twice. The readers are of another
    account: those of the writers' own wait for what was acknowledged and had not come to the replica yet."""
    primary, account = pair.primary, ("root", "")
    with Readers(front, statement="SELECT @@server_id, COUNT(*) FROM work.locked", account=account) as readers, Writers(front) as writers:
        writers.wait_written(50)
        readers.wait_answers(50)
        killed = time.monotonic()
        primary.kill9()
        readers.wait_answers(200, killed)
        reads_meanwhile = len(readers.since(killed))
        primary.start()
        started = time.monotonic()
        writers.wait_written(50, started)
        readers.wait_answers(50, started)
    longest = max(took for _, took in writers.times)
    print(f"\nprimary away {started - killed:.1f} s: {reads_meanwhile} reads meanwhile, {len(readers.errors)} failed, slowest "
          f"{readers.slowest() * 1e3:.0f} ms; {len(writers.acknowledged)} writes, longest {longest:.1f} s, errors {writers.errors}")
    assert readers.errors == []
    assert len(writers.errors) <= 4
    rows = [row[0] for row in primary.sql("SELECT v FROM work.load_rows WHERE v LIKE 'w%'")]
    assert len(rows) == len(set(rows)), "a write was done twice"
    assert set(writers.acknowledged) <= set(rows), "an acknowledged write is gone"


def test_writes_fail_clearly_when_the_primary_stays_away(pair):
    with sandbox.Tandem(pair, {"proxy": {"primary_wait": "1s"}}) as front, front.connect(database="work") as client:
        front.wait_reads_on(pair.replicas)
        client.query("UPDATE locked SET n = n + 1")
        pair.wait_synced()
        pair.primary.kill9()
        try:
            def fails():
                with pytest.raises((MysqlError, ProtocolError)) as error:
                    with front.connect(database="work") as other:
                        begun = time.monotonic()
                        other.query("UPDATE locked SET n = n + 1")
                return isinstance(error.value, MysqlError) and "tandem:" in error.value.text \
                    and 0.9 <= time.monotonic() - begun < 5
            sandbox.wait_for(fails, 20, "a clear error after primary_wait")
            assert client.query("SELECT @@server_id, COUNT(*) FROM locked").rows == [(2, 1)]
        finally:
            pair.heal()


def test_replica_hangs(pair, front):
    """SIGSTOP: the sockets stay open and nothing answers. Reads move within two seconds, those under way too."""
    replica = pair.replicas[0]
    with Readers(front) as readers:
        readers.wait_answers(200, server=2)
        stopped = time.monotonic()
        replica.sigstop()
        try:
            readers.wait_answers(8, stopped + 2.5, server=1)
        finally:
            replica.sigcont()
        slowest = max(took for at, took, _ in readers.since(stopped))
        readers.wait_answers(100, time.monotonic(), server=2)
    print(f"\n{len(readers.errors)} failed, the slowest read while the replica hung took {slowest:.2f} s")
    assert readers.errors == []
    assert slowest < 2.5


def test_a_result_goes_on_after_a_silence(pair, front):
    """The rest of a result can be had from nowhere else: it is waited for, while what comes after goes to the primary."""
    replica, mib = pair.replicas[0], 1 << 20
    stuck = "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'Writing to net' AND info LIKE 'SELECT @@server_id, REP%'"
    with front.connect(database="work", capabilities=rawmysql.CLASSIC, timeout=60) as client, front.connect() as other:
        assert client.query("SELECT @@server_id").value == 2
        client.send_query(f"SELECT @@server_id, REPEAT('x', {mib}) FROM seq_1_to_64")
        sandbox.wait_for(lambda: replica.value(stuck), 20, "the result to stop at a full socket")
        replica.sigstop()
        try:
            sandbox.wait_for(lambda: other.query("SELECT @@server_id").value == 1, 20, "the replica to be down")
        finally:
            replica.sigcont()
        rows = client.read_result().rows
        assert len(rows) == 64 and all(row == (2, "x" * mib) for row in rows)
    front.wait_reads_on([replica])


def connections_of(pid):
    """(local port, remote port, which timer the kernel has for it: 0 none, 1 of sending, 2 keepalive) of each open IPv4 TCP connection."""
    mine = {os.readlink(entry.path)[8:-1] for entry in os.scandir(f"/proc/{pid}/fd") if os.readlink(entry.path).startswith("socket:")}
    with open(f"/proc/{pid}/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return [(int(row[1].split(":")[1], 16), int(row[2].split(":")[1], 16), int(row[5].split(":")[0]))
            for row in rows if row[9] in mine and row[3] == "01"]


def test_peers_that_go_without_a_word_are_asked_for(front):
    """The kernel sends keepalives to clients and servers: a host that is gone holds nothing for ever."""
    with front.connect() as client:
        client.query("SELECT 1")
        found = connections_of(front.pid)
        clients = [timer for local, _, timer in found if local == front.port]
        servers = [timer for _, remote, timer in found if remote in {server.port for server in front.cluster.servers}]
    assert clients and all(clients)
    assert servers and all(servers)


def test_replication_breaks(pair, front):
    """A replica whose SQL thread stands still with an error takes no reads of what it does not have, and none at all soon."""
    replica = pair.replicas[0]
    replica.sql("SET SESSION sql_log_bin = 0")
    replica.sql("SET SESSION gtid_domain_id = 9")
    replica.sql("INSERT INTO work.load_rows (id, v) VALUES (1000000, 'in the way')")
    try:
        with front.connect(database="work") as client:
            client.query("INSERT INTO load_rows (id, v) VALUES (1000000, 'the real one')")
            assert client.query("SELECT v FROM load_rows WHERE id = 1000000").value == "the real one"
            sandbox.wait_for(lambda: client.value("SELECT @@server_id") == 1, 20, "reads to leave the replica")
    finally:
        replica.sql("DELETE FROM work.load_rows WHERE id = 1000000")
        replica.forget_connection()
        pair.heal()


# ---- a backend that misbehaves ----------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def mangled(pair):
    """Tandem that finds the replica behind a mangler."""
    with Mangler(pair.replicas[0].port) as relay:
        replica = pair.replicas[0]
        settings = {f"server {replica.name}": {"address": relay.address, "replication_address": replica.address}}
        with sandbox.Tandem(pair, settings) as front:
            front.relay = relay
            front.wait_reads_on(pair.replicas)
            yield front


@pytest.mark.parametrize("action", ["close", "reset"])
def test_backend_closes_before_the_result(mangled, action):
    """Nothing was passed on: the read runs again, there or elsewhere, and the client sees nothing of it."""
    mark = f"early_{action}"
    mangled.relay.on(mark, action, after=0, times=1)
    with mangled.connect() as client:
        assert client.query(f"SELECT '{mark}', COUNT(*) FROM work.locked").rows == [(mark, 1)]
        assert mangled.relay.hits(mark) == 1
    mangled.wait_reads_on([mangled.cluster.replicas[0]])


@pytest.mark.parametrize("action", ["close", "reset", "garbage"])
@pytest.mark.parametrize("after", [3, 50, 300, 70000, 300000])
def test_backend_closes_in_mid_result(mangled, action, after):
    """All of the rows, or an error, or the end of the connection; never some rows and a good end. Garbage within a packet is the
    client's to find out: nothing that passes bytes on can."""
    mark = f"mid_{action}_{after}_"
    mangled.relay.on(mark, action, after=after, times=1, garbage=b"\xff" * 100)
    try:
        with mangled.connect(timeout=10) as client:
            rows = client.query(ROWS.format(mark=mark, count=1000)).rows
        assert len(rows) == 1000
        assert after < 65536, "it was passed on before it ended, so it cannot have run again"
    except socket.timeout:
        pytest.fail("the client was left waiting")
    except (MysqlError, ProtocolError, OSError):
        pass
    except (ValueError, KeyError, IndexError, struct.error):
        assert action == "garbage"
    assert mangled.relay.hits(mark) == 1
    mangled.wait_reads_on([mangled.cluster.replicas[0]])


def test_backend_says_half_a_packet_and_no_more(mangled):
    """The client waits, as it would for a server; others go on, and when it leaves nothing stays behind."""
    mangled.relay.on("half_packet", "hold", after=2)
    with mangled.connect() as client, mangled.connect() as other:
        client.send_query("SELECT 'half_packet'")
        sandbox.wait_for(lambda: mangled.relay.hits("half_packet"), 10, "the mangled statement")
        for _ in range(20):
            assert other.query("SELECT 1").value == 1
        client.abort()
        mangled.relay.off("half_packet")
        for _ in range(20):
            assert other.query("SELECT 'half_packet'").value == "half_packet"


# ---- clients ----------------------------------------------------------------------------------------------------------

def test_client_that_stops_reading(front):
    """A result of 500 MB that nobody takes: the daemon's memory stays, others are served, the backend is given up after."""
    with front.connect(database="work") as other:
        other.query("SELECT 1")
        before = front.memory()["VmRSS"]
        idle = [front.connect(timeout=30) for _ in range(3)]
        for client in idle:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.send_query(ROWS.format(mark="unread", count=500000))
            client.socket.recv(1)
        sandbox.wait_for(lambda: running_statements(front.cluster, "unread") == 3, 10, "three results under way")
        end, most = time.monotonic() + 2, 0
        while time.monotonic() < end:
            assert other.query("SELECT COUNT(*) FROM locked").value == 1
            most = max(most, front.memory()["VmRSS"])
        print(f"\nmemory grew by {(most - before) / MIB:.1f} MiB with three results of 500 MB unread")
        assert most - before < 12 * MIB
        for client in idle:
            client.abort()
        wait_no_statement(front.cluster, "unread")


def test_client_that_reads_slowly_gets_everything(front):
    with front.connect(timeout=60) as client:
        client.send_query(ROWS.format(mark="slow", count=20000))
        for _ in range(5):
            client.fill(len(client.buffer) + 1000)
            time.sleep(0.1)
        assert len(client.read_result().rows) == 20000


def running_statements(cluster, mark):
    return sum(server.value(f"SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%{mark}%'"
                            " AND id <> CONNECTION_ID()") for server in cluster.servers)


def wait_no_statement(cluster, mark, timeout=20):
    sandbox.wait_for(lambda: running_statements(cluster, mark) == 0, timeout, f"{mark} to end on every server", 0.05)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_client_disappears_in_mid_statement(front, how):
    """A long read and a long write whose clients go away; the connections are not lost for others, locks are free."""
    for statement in ("SELECT 'vanish', SLEEP(2)", "UPDATE locked SET n = n + SLEEP(2) /* vanish */"):
        clients = [front.connect(database="work") for _ in range(5)]
        for client in clients:
            client.send_query(statement)
        sandbox.wait_for(lambda: running_statements(front.cluster, "vanish"), 10, "the statements to run")
        for client in clients:
            client.socket.close() if how == "close" else client.abort()
    with front.connect(database="work", timeout=90) as client:
        assert client.query("SELECT COUNT(*) FROM locked").value == 1
        assert client.query("UPDATE locked SET n = n + 1").affected == 1
    wait_no_statement(front.cluster, "vanish", 60)


def test_client_disappears_in_a_transaction(front):
    """Its row locks are free at once, and the next client does not find its transaction."""
    client = front.connect(database="work")
    client.query("BEGIN")
    client.query("UPDATE locked SET n = -1000")
    client.abort()
    with front.connect(database="work") as other:
        assert other.query("UPDATE locked SET n = n + 1").affected == 1
        assert other.query("SELECT n > 0, @@in_transaction FROM locked").rows == [(1, 0)]


def test_client_disappears_in_mid_packet(front):
    for cut in (1, 3, 4, 5, 20, 5000):
        client = front.connect(database="work")
        packet = client.framed(b"\x03INSERT INTO load_rows (v) VALUES ('" + b"half" * 3000 + b"')")
        client.send_bytes(packet[:cut])
        client.abort()
    with front.connect(database="work") as client:
        assert client.query("SELECT COUNT(*) FROM load_rows WHERE v LIKE 'half%'").value == 0


@pytest.mark.parametrize("command", ["a parameter", "a statement", "a file"])
def test_client_disappears_in_mid_upload(pair, command):
    """The server waits for the rest of what it was sent: nobody else may have that connection."""
    with sandbox.Tandem(pair, {"tandem": {"threads": 1}}) as daemon:
        for _ in range(3):
            received = int(pair.primary.status("Bytes_received"))
            client = daemon.connect(database="work")
            half = b"x" * (2 * MIB)
            if command == "a parameter":
                statement = client.prepare("INSERT INTO load_rows (v) VALUES (?)")
                packet = client.framed(bytes([rawmysql.COM_STMT_SEND_LONG_DATA]) + struct.pack("<IH", statement.id, 0) + 2 * half)
            elif command == "a statement":
                packet = client.framed(b"\x03INSERT INTO load_rows (v) VALUES ('" + 2 * half)
            else:
                client.send_query("LOAD DATA LOCAL INFILE 'any' INTO TABLE load_rows (v)")
                assert client.read_packet()[:1] == b"\xfb"
                packet = client.framed(half, client.seq)
            client.send_bytes(packet[:len(half)])
            wait_for(lambda: int(pair.primary.status("Bytes_received")) > received + MIB, 20, "half of it to be on its way")
            client.abort()
            with daemon.connect(database="work", timeout=10) as other:
                assert other.query("INSERT INTO load_rows (v) VALUES ('after')").affected == 1
                assert other.query("SELECT COUNT(*) FROM load_rows WHERE v LIKE 'x%'").value == 0


def test_half_a_packet_then_silence(front):
    """Before the login a time-out ends it; after the login it holds up nobody."""
    with front.connect(login=False, timeout=10) as client, front.connect(database="work") as quiet:
        client.greet()
        client.send_bytes(b"\x20\x00")
        quiet.send_bytes(b"\x05\x00\x00\x00\x03SE")
        with front.connect(database="work") as other:
            for _ in range(50):
                other.query("SELECT 1")
        with contextlib.suppress(MysqlError, ProtocolError, OSError):
            client.read_packet()
        assert ended(client.socket, 8), "a login that never comes is not given up"
        quiet.send_bytes(b"")
        quiet.socket.close()


def test_silence_instead_of_a_login(front):
    client = front.connect(login=False, timeout=10)
    with contextlib.suppress(MysqlError, ProtocolError, OSError):
        client.greet()
        client.read_packet()
    assert ended(client.socket, 8)


def ended(sock, timeout):
    """Whether the other side ends the connection within that time, whatever it says before."""
    sock.settimeout(timeout)
    try:
        while sock.recv(65536):
            pass
        return True
    except socket.timeout:
        return False
    except OSError:
        return True


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20,
    "zeros": b"\0" * 100000,
    "ones": b"\xff" * 100000,
    "tls hello": bytes.fromhex("16030100c8010000c40303") + b"\x5a" * 4000,
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "huge login": b"\xff\xff\xff\x01" + b"a" * 70000,
    "empty login": b"\0\0\0\x01",
    "wrong number": b"\x05\0\0\x09hello",
    "short login": b"\x04\0\0\x01\x0d\xa2\x1b\0",
    "tls request then text": struct.pack("<I", 32)[:3] + b"\x01" + struct.pack("<IIB23x", 0x81bea205 | 0x800, 1 << 24, 45)
                             + b"this is no handshake at all" * 10,
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_instead_of_a_login(front, name):
    with socket.create_connection(("127.0.0.1", front.port), 10) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(GARBAGE[name])
        assert ended(sock, 8)


def test_random_garbage(front):
    rng = random.Random(7)
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", front.port), 10) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(rng.randbytes(rng.choice([1, 4, 36, 90, 3000])))
                sock.shutdown(socket.SHUT_WR)
            assert ended(sock, 10)


def test_login_bytes_flipped(front):
    """A good login with one byte changed: an error, a login or the end, never a hang and never a crash."""
    good = capture_login(front)
    rng = random.Random(11)
    for position in rng.sample(range(len(good)), min(len(good), 100)):
        with front.connect(login=False, timeout=10) as client:
            client.greet()
            packet = bytearray(good)
            packet[position] ^= 1 << rng.randrange(8)
            with contextlib.suppress(OSError):
                client.send_bytes(bytes(packet))
                client.socket.shutdown(socket.SHUT_WR)
            assert ended(client.socket, 10), f"byte {position}"


def capture_login(front):
    class Recorder(rawmysql.Connection):
        sent = b""

        def send_bytes(self, data):
            self.sent = self.sent or data
            super().send_bytes(data)
    with Recorder(port=front.port, database="work", attributes={"a": "b", "program": "test"}) as client:
        return client.sent


# ---- malformed commands -----------------------------------------------------------------------------------------------

QUIT = b"\1\0\0\0\1"


def try_packet(front, payload, prepare=None):
    """Sends it and a COM_QUIT behind it; whatever the answer, the connection must come to its end. With `prepare`, the payload's
    bytes 1 to 4 become the number of that statement."""
    with front.connect(database="work", timeout=15) as client:
        if prepare:
            payload = payload[:1] + struct.pack("<I", client.prepare(prepare).id) + payload[5:]
        with contextlib.suppress(OSError):
            client.send_bytes(client.framed(payload) + QUIT)
            client.socket.shutdown(socket.SHUT_WR)
        return ended(client.socket, 10)


BODIES = (b"", b"\0", b"\xff" * 3, b"\0" * 4, b"\xff" * 9, b"\1\0\0\0\0\1\0\0\0", b"\1\0\0\0" + b"\xff" * 40, b"a" * 5000)
# Commands that rightly stay open or stop the server are not for this list: shutdown (8), binlog dumps (18, 254).
CODES = [code for code in range(256) if code not in (8, 18, 254)]


def breaks_replication(code, body):
    """COM_REFRESH with the flag of RESET MASTER: after it a replica that has to connect again finds its position nowhere."""
    return code == 7 and body and body[0] & 0x80


@pytest.mark.parametrize("first", range(0, 256, 32))
def test_malformed_packets_of_every_command(front, first):
    for code in CODES:
        if first <= code < first + 32:
            for body in BODIES:
                if not breaks_replication(code, body):
                    assert try_packet(front, bytes([code]) + body), f"command {code} with {body[:10]!r}"
    with front.connect(database="work") as client:
        assert client.query("SELECT COUNT(*) FROM locked").value == 1


def test_malformed_executes(front):
    """Bodies of COM_STMT_EXECUTE for a statement that exists: cut at every length, and with wild lengths and types."""
    rng = random.Random(3)
    with front.connect(database="work") as first:
        good = rawmysql.execute_body(first.prepare("SELECT ?, ?, ?").id, (1, "text", b"\0\1"))
    bodies = [good[:cut] for cut in range(len(good))]
    for _ in range(60):
        wild = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            wild[rng.randrange(4, len(wild))] = rng.randrange(256)
        bodies.append(bytes(wild))
    for body in bodies:
        assert try_packet(front, bytes([rawmysql.COM_STMT_EXECUTE]) + body, "SELECT ?, ?, ?"), body


def test_wrong_sequence_numbers(front):
    for number in (1, 2, 255):
        with front.connect(timeout=10) as client:
            client.send_bytes(b"\x09\0\0" + bytes([number]) + b"\x03SELECT 1")
            with contextlib.suppress(MysqlError, ProtocolError, OSError):
                client.read_packet()
            with contextlib.suppress(OSError):
                client.socket.shutdown(socket.SHUT_WR)
            assert ended(client.socket, 10)


def test_packet_longer_than_the_server_allows(front):
    """40 MiB where 16 are allowed: an error or the end, as a server does it, without 40 MiB of memory."""
    before = front.memory()["VmRSS"]
    with front.connect(database="work", timeout=30) as client:
        with contextlib.suppress(OSError, MysqlError, ProtocolError):
            client.send_query(b"INSERT INTO load_rows (v) VALUES ('" + b"x" * (40 * MIB) + b"')")
            client.read_result()
            pytest.fail("40 MiB were taken")
        client.socket.close()
    assert front.memory()["VmRSS"] - before < 12 * MIB


def test_many_commands_without_reading(front):
    """10,000 pipelined statements whose answers nobody takes: bounded memory, then every answer in order."""
    count = 10000
    with front.connect(timeout=60) as client:
        before = front.memory()["VmRSS"]
        sender = threading.Thread(target=lambda: client.send_bytes(
            b"".join(client.framed(b"\x03SELECT %d, REPEAT('y', 500)" % number) for number in range(count))))
        sender.start()
        time.sleep(0.5)
        grown = front.memory()["VmRSS"] - before
        client.seq = 1
        for number in range(count):
            assert client.read_result().rows[0][0] == number
            client.seq = 1
        sender.join(30)
        print(f"\nmemory grew by {grown / MIB:.1f} MiB with 10,000 statements waiting")
        assert grown < 12 * MIB


def test_storm(pair, front):
    """Everything at once for a while: clients that come, go and talk nonsense, next to clients whose answers must be right."""
    length = min(20, seconds(60) / 3)
    rng = random.Random(5)

    def good(crew, index):
        with front.connect(database="work") as client:
            number = 0
            while crew.running:
                number += 1
                client.query(f"SET @n = {index * 1000000 + number}")
                assert client.query("SELECT @n, REPEAT('z', 2000)").rows == [(index * 1000000 + number, "z" * 2000)]

    def bad(crew, index):
        while crew.running:
            with contextlib.suppress(MysqlError, ProtocolError, OSError):
                client = front.connect(database="work", timeout=10)
                if rng.random() < 0.5:
                    client.query("BEGIN")
                client.send_query(rng.choice(["SELECT SLEEP(0.01)", ROWS.format(mark="storm", count=2000), "UPDATE locked SET n = 1"]))
                if rng.random() < 0.3:
                    client.send_bytes(rng.randbytes(20))
                client.abort() if rng.random() < 0.7 else client.socket.close()

    with Crew(4, good, "good"), Crew(4, bad, "bad") as crew:
        crew.wait(length)
    assert os.path.exists(f"/proc/{front.pid}")
