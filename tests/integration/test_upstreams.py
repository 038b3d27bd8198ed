"""Upstream servers: who gets the next request, what HTTP servers may say, and what becomes of requests when servers fail."""
import collections
import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import threading

import pytest

import sandbox
from origin import Origin, fine

pytestmark = pytest.mark.core

SECONDS = 30  # for conditions: much more than any of them needs


class Stage:
    """A daemon with a route for each upstream: /NAME leads to upstream NAME."""

    def __init__(self, upstreams, **web):
        self.port = sandbox.free_port()
        self.sections = {
            "monitor": {"user": "nobody", "password": "nothing"},
            "server db1": {"address": f"127.0.0.1:{sandbox.free_port()}"},
            "web": {"listen": f"127.0.0.1:{self.port}", **web},
            "site *": {},
        }
        for name, settings in upstreams.items():
            self.sections[f"route */{name}"] = {"to": f"upstream:{name}"}
            self.sections[f"upstream {name}"] = settings
        self.tandem = sandbox.Tandem(None, self.sections, wait=False)
        sandbox.wait_for(lambda: "ready:" in self.tandem.log_text() or not self.tandem.process.running(), SECONDS, "the daemon")

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def raw(self, request):
        """All that is answered until the connection ends."""
        with self.connect() as s:
            s.sendall(request)
            return b"".join(iter(lambda: s.recv(65536), b""))

    def ask(self, request):
        with Client(self) as client:
            return client.ask(request)

    def get(self, path, method="GET", body=None, **fields):
        with Client(self) as client:
            return client.get(path, method, body, **fields)

    def logged(self, pattern):
        sandbox.wait_for(lambda: re.search(pattern, self.tandem.log_text()), SECONDS, f"{pattern} in the log")

    def tell(self, *words):
        """tandemctl."""
        control = pathlib.Path(sandbox.tandem_binary()).parent / "tandemctl"
        place = ["-s", str(self.tandem.folder / "state" / "tandem.sock")]
        return subprocess.run([str(control), *place, *words], capture_output=True, text=True, timeout=SECONDS, check=False)

    def close(self):
        self.tandem.close(check=True)


class Answer:
    def __init__(self, status, fields, body):
        self.status, self.fields, self.body = status, fields, body

    def __getitem__(self, name):
        found = [value for key, value in self.fields if key.lower() == name.lower()]
        return found[0] if found else None


class Client:
    """One connection that is kept."""

    def __init__(self, stage):
        self.socket = stage.connect()
        self.stream = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()

    def get(self, path, method="GET", body=None, **fields):
        lines = [f"{method} {path} HTTP/1.1", "Host: www.foobar.com:81"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        return self.ask("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    def ask(self, request):
        self.socket.sendall(request)
        return self.read(request.startswith(b"HEAD"))

    def read(self, to_head=False):
        line = self.stream.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        status = int(line.split()[1])
        fields = []
        while (field := self.stream.readline()) != b"\r\n":
            name, colon, value = field.decode("latin-1").rstrip("\r\n").partition(": ")
            assert colon, field
            fields.append((name, value))
        answer = Answer(status, fields, b"")
        if to_head or status in (204, 304) or status < 200:
            return answer
        if answer["Transfer-Encoding"] == "chunked":
            while (size := int(self.stream.readline(), 16)):
                answer.body += self.stream.read(size)
                assert self.stream.readline() == b"\r\n"
            assert self.stream.readline() == b"\r\n"
        elif answer["Content-Length"] is not None:
            answer.body = self.stream.read(int(answer["Content-Length"]))
            assert len(answer.body) == int(answer["Content-Length"]), "cut short"
        else:
            answer.body = self.stream.read()
        return answer


# ---- HTTP ------------------------------------------------------------------------------------------------------------------

class Plain:
    """A daemon with one HTTP server, `origin`, that each test gives its own answers."""

    def __init__(self):
        self.origin = Origin()
        self.stage = Stage({"app": {"server": self.origin.address, "protocol": "http"},
                            "fixed": {"server": self.origin.address, "protocol": "http", "host": "inside.example", "keepalive": 0}},
                           upstream_timeout="20s", tunnel_timeout="20s")


@pytest.fixture(scope="module")
def shared():
    shared = Plain()
    yield shared
    shared.stage.close()
    shared.origin.kill()


@pytest.fixture
def plain(shared):
    shared.origin.forget()
    shared.origin.answer = lambda request, peer: fine()
    yield shared


def test_what_a_server_is_sent(plain):
    answer = plain.stage.ask(
        b"GET /app/a%20b?x=1&y HTTP/1.1\r\nHost: www.foobar.com:81\r\nAccept: text/x\r\nCookie: a=b\r\nCookie: c=d\r\n"
        b"Connection: keep-alive, X-Secret\r\nX-Secret: no\r\nKeep-Alive: 5\r\nTE: trailers\r\nX_Forwarded_For: 9.9.9.9\r\n"
        b"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=evil\r\nProxy: evil\r\n"
        b"Upgrade: h2c\r\nProxy-Connection: x\r\n\r\n")
    assert (answer.status, answer.body) == (200, b"fine")
    request = plain.origin.requests[0]
    assert request.line == "GET /app/a%20b?x=1&y HTTP/1.1"
    assert re.fullmatch(r"[0-9a-zA-Z-]+", request["X-Request-Id"])
    assert sorted(field for field in request.fields if field[0] != "X-Request-Id") == [
        ("Accept", "text/x"), ("Cookie", "a=b"), ("Cookie", "c=d"), ("Host", "www.foobar.com:81"), ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Host", "www.foobar.com:81"), ("X-Forwarded-Proto", "http")]
    plain.stage.get("/fixed")
    assert plain.origin.requests[1]["Host"] == "inside.example"
    assert plain.origin.requests[1]["X-Forwarded-Host"] == "www.foobar.com:81"
    assert plain.origin.requests[1]["Connection"] == "close"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_methods_and_bodies(plain, method):
    plain.origin.answer = lambda request, peer: fine(request.method.encode() + request.body)
    assert plain.stage.get("/app", method, b"body").body == method.encode() + b"body"
    assert plain.origin.requests[0]["Content-Length"] == "4"
    assert plain.stage.get("/app", method).body == method.encode()
    assert plain.origin.requests[1]["Content-Length"] is None


def test_a_body_in_chunks_stays_one(plain):
    plain.origin.answer = lambda request, peer: fine(request.body)
    answer = plain.stage.ask(b"POST /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n02\r\nde\r\n0\r\nT: x\r\n\r\n")
    assert answer.body == b"abcde"
    assert plain.origin.requests[0]["Transfer-Encoding"] == "chunked" and plain.origin.requests[0]["Content-Length"] is None


def test_large_bodies_are_streamed_both_ways(plain):
    body = os.urandom(6_000_000)
    plain.origin.answer = lambda request, peer: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
        b"".join(b"%x\r\n%s\r\n" % (len(request.body[i:i + 70000]), request.body[i:i + 70000]) for i in range(0, len(body), 70000)) +
        b"0\r\nX-Trailer: y\r\n\r\n")
    with Client(plain.stage) as client:
        sender = threading.Thread(target=client.socket.sendall,
                                  args=(b"POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),))
        sender.start()
        assert client.read().body == body
        sender.join()
        assert client.get("/app").status == 200, "and the connection goes on"


def test_a_client_that_waits_to_be_told(plain):
    plain.origin.answer = lambda request, peer: fine(request.body)
    with Client(plain.stage) as client:
        client.socket.sendall(b"POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.read().status == 100
        client.socket.sendall(b"abc")
        assert client.read().body == b"abc"
    assert plain.origin.requests[0]["Expect"] is None


def test_connections_are_kept(plain):
    """Sequential safe requests share one; each unsafe one gets a new one, which later ones may use."""
    for _ in range(10):
        assert plain.stage.get("/app").status == 200
    # Each of the two workers has its own.
    assert plain.origin.links <= 3
    with Client(plain.stage) as client:
        for _ in range(3):
            client.get("/app")
        before = plain.origin.links
        for _ in range(5):
            client.get("/app", "POST", b"x")
        assert plain.origin.links == before + 5
        for _ in range(5):
            client.get("/app")
        assert plain.origin.links == before + 5


def test_a_kept_connection_that_is_closed_costs_no_request(plain):
    """The server hangs up at the moment of the next request: the client is not to notice."""
    def answer(request, peer):
        return None if request.link in seen else seen.add(request.link) or fine(b"again")
    seen = set()
    plain.origin.answer = answer
    with Client(plain.stage) as client:
        for _ in range(20):
            assert client.get("/app").body == b"again"
    assert len(plain.origin.requests) > 20 and "is left out" not in plain.stage.tandem.log_text()


def late(*pieces):
    """Pieces in packets of their own."""
    def answer(_request, peer):
        for piece in pieces:
            peer.sendall(piece)
            threading.Event().wait(0.01)
        return b""
    return answer


@pytest.mark.parametrize("said, status, body", [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    (b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nuntil the end", 200, b"until the end"),
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", 200, b""),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b""),
    (b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 404, b"no"),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", 503, b"busy"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ny", 200, b"x"),
])
def test_answers(plain, said, status, body):
    plain.origin.answer = lambda request, peer: said
    with Client(plain.stage) as client:
        answer = client.get("/app")
        assert (answer.status, answer.body) == (status, body)
        # What came behind an answer is nobody's, and the client's connection is as good as before.
        plain.origin.answer = lambda request, peer: fine(b"next")
        assert client.get("/app").body == b"next"


def test_an_answer_byte_by_byte(plain):
    said = b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    plain.origin.answer = late(*[said[i:i + 1] for i in range(len(said))])
    answer = plain.stage.get("/app")
    assert (answer.body, answer["X"]) == (b"abc", "y")


def test_head(plain):
    plain.origin.answer = lambda request, peer: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nX: y\r\n\r\n"
    with Client(plain.stage) as client:
        for _ in range(3):
            answer = client.get("/app", "HEAD")
            assert (answer.status, answer["Content-Length"], answer["X"]) == (200, "1000", "y")
    assert plain.origin.links <= 2, "a HEAD's answer ends with its head: the connection is kept"


def test_fields_between_neighbours_stay_there(plain):
    plain.origin.answer = lambda request, peer: fine(b"x", "Connection: keep-alive, X-Inside\r\nX-Inside: no\r\nKeep-Alive: timeout=5\r\n"
                                                           "Server: other\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nX-Other: z\r\n")
    answer = plain.stage.get("/app")
    names = collections.Counter(name.lower() for name, _ in answer.fields)
    assert names["set-cookie"] == 2 and names["x-other"] == 1 and names["date"] == 1
    assert not names["x-inside"] and not names["keep-alive"] and answer["Server"] != "other"


BAD = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "the same length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
    "a signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
    "a huge length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two codings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx",
    "a folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx",
    "a line feed in a value": b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\nContent-Length: 1\r\n\r\nx",
    "a zero byte": b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "a low status": b"HTTP/1.1 099 OK\r\n\r\n",
    "a high status": b"HTTP/1.1 600 OK\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "an unasked upgrade": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "an empty line first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "no head": None,
    "half a head": b"HTTP/1.1 200 OK\r\nConnection: close\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000,
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_answer(plain, what):
    """502, nothing of it passed on, and a line in the log; the request is safe, and still ends after a few tries."""
    def answer(request, peer):
        if BAD[what]:
            peer.sendall(BAD[what])
        return None
    plain.origin.answer = answer
    answer = plain.stage.get("/app")
    assert answer.status == 502 and b"502" in answer.body
    assert not [name for name, _ in answer.fields if name in ("X", "Set-Cookie")]
    plain.origin.answer = lambda request, peer: fine()
    assert plain.stage.get("/app").status == 200


@pytest.mark.parametrize("said", [b"Content-Length: 100\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
                                  b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"])
def test_half_an_answer_looks_like_one(plain, said):
    def answer(request, peer):
        peer.sendall(b"HTTP/1.1 200 OK\r\n" + said)
        return None
    plain.origin.answer = answer
    received = plain.stage.raw(b"GET /app HTTP/1.1\r\nHost: a\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200") and not received.endswith(b"0\r\n\r\n")


def test_an_answer_before_the_body_has_come(plain):
    """The server has seen enough: the client gets its answer although nobody reads the rest."""
    def serve():
        peer = listener.accept()[0]
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        done.wait(SECONDS)
        peer.close()
    done = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, daemon=True).start()
    stage = Stage({"app": {"server": f"127.0.0.1:{listener.getsockname()[1]}", "protocol": "http"}})
    with Client(stage) as client:
        client.socket.sendall(b"POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1000)
        answer = client.read()
        assert (answer.status, answer.body) == (413, b"big")
    done.set()
    stage.close()
    listener.close()


def test_a_websocket(plain):
    """After 101 bytes pass both ways as they come, whatever they look like, until one side hangs up."""
    def answer(request, peer):
        assert request["Connection"] == "upgrade" and request["Upgrade"] == "websocket" and request["Sec-WebSocket-Key"] == "k"
        peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\nearly")
        while (got := peer.recv(65536)) not in (b"", b"bye"):
            peer.sendall(got.upper())
        return None
    plain.origin.answer = answer
    with Client(plain.stage) as client:
        switched = client.get("/app", Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Key="k")
        assert (switched.status, switched["Upgrade"], switched["Connection"], switched["Sec-WebSocket-Accept"]) == (
            101, "websocket", "upgrade", "a")
        assert switched["Content-Length"] is None and switched["Transfer-Encoding"] is None
        assert client.stream.read(5) == b"early"
        for said in (b"hello", b"GET / HTTP/1.1\r\n\r\n", os.urandom(300)):
            client.socket.sendall(said)
            assert client.stream.read(len(said)) == said.upper()
        client.socket.sendall(b"bye")
        assert client.stream.read() == b""


def test_a_refused_websocket_is_an_answer(plain):
    plain.origin.answer = lambda request, peer: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    with Client(plain.stage) as client:
        assert client.get("/app", Connection="Upgrade", Upgrade="websocket").body == b"no"
        assert client.get("/app").status == 403


def test_a_slow_client_holds_nothing_but_itself(plain):
    """An answer that nobody takes is not collected: the server feels it."""
    def answer(request, peer):
        if request.target != "/app/large":
            return fine()
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n")
        peer.settimeout(0.5)
        try:
            for _ in range(200):
                peer.sendall(bytes(1_000_000))
                sent.append(1)
        except OSError:
            full.set()
        return None
    sent, full = [], threading.Event()
    plain.origin.answer = answer
    with Client(plain.stage) as client:
        client.socket.sendall(b"GET /app/large HTTP/1.1\r\nHost: a\r\n\r\n")
        assert full.wait(SECONDS) and len(sent) < 100
        assert plain.stage.get("/app").status == 200


# ---- Who is next -----------------------------------------------------------------------------------------------------------

class Group:
    """Named servers behind one upstream each of several kinds."""

    def __init__(self, names="abc"):
        self.origins = {name: Origin(name=name) for name in names}

    def servers(self, **more):
        """server lines, with what is told of each by name."""
        return [f"{origin.address} {more.get(name, '')}".strip() for name, origin in self.origins.items()]

    def __getitem__(self, name):
        return self.origins[name]

    def counts(self):
        return {name: len(origin.requests) for name, origin in self.origins.items()}

    def reset(self):
        for name, origin in self.origins.items():
            if not origin.listener:
                origin.open()
            origin.forget()
            origin.health = 200
            origin.answer = lambda request, peer, name=name: fine(name.encode())

    def kill(self):
        for origin in self.origins.values():
            origin.kill()


class Groups:
    def __init__(self):
        self.group = group = Group()
        quick = {"protocol": "http", "fail_timeout": "300ms"}
        self.stage = Stage({
            "weighted": {"server": group.servers(a="weight=3", b="weight=2"), **quick},
            "backup": {"server": group.servers(c="backup"), **quick},
            "sticky": {"server": group.servers(), "sticky": "server", **quick},
            "least": {"server": group.servers(), "balance": "least_connections", **quick},
            "limited": {"server": group.servers(a="max_connections=1", b="max_connections=2", c="max_connections=3")[:2],
                        "queue": 4, **quick},
            "total": {"server": group.servers(), "max_connections": 2, "queue": 1000, **quick},
            "drained": {"server": group.servers(), "sticky": "server", **quick},
            "slow": {"server": group.servers(), "slow_start": "1h", **quick},
            "checked": {"server": group.servers(), "check": "request", "check_path": "/health", "check_interval": "50ms",
                        "check_rise": 2, "check_fall": 2, **quick},
            "checked_tcp": {"server": group.servers(), "check": "tcp", "check_interval": "50ms", "check_rise": 1, "check_fall": 1, **quick},
        }, queue_timeout="1s", connect_timeout="5s")

    def state(self, upstream):
        """{server's name: its row}"""
        rows = json.loads(self.stage.tell("upstreams", upstream, "--json").stdout)["upstreams"]
        names = {origin.address: name for name, origin in self.group.origins.items()}
        return {names[row["server"]]: row for row in rows}

    def command(self, upstream, name, *words):
        done = self.stage.tell("upstream", upstream, "--server", self.group[name].address, *words)
        assert done.returncode == 0, done


@pytest.fixture(scope="module")
def shared_groups():
    groups = Groups()
    yield groups
    groups.stage.close()
    groups.group.kill()


@pytest.fixture
def groups(shared_groups):
    shared_groups.group.reset()
    # What the last test has killed is up again.
    for upstream in ("weighted", "backup", "checked", "checked_tcp"):
        sandbox.wait_for(lambda upstream=upstream: all(row["state"] == "up" for row in shared_groups.state(upstream).values()), SECONDS, upstream)
    shared_groups.group.reset()
    return shared_groups


def users(count, work):
    """`count` threads, each with a connection; what goes wrong in one is raised."""
    errors = []

    def run():
        try:
            work()
        except BaseException as error:  # pylint: disable=broad-except
            errors.append(error)
    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_weights_count_over_all_workers(groups):
    """3:2:1 within 1 % over 6,000 requests of 12 clients on 2 workers, and smoothly: one client alone sees no bursts."""
    def work():
        with Client(groups.stage) as client:
            for _ in range(500):
                assert client.get("/weighted").status == 200
    users(12, work)
    counts = groups.group.counts()
    print(counts)
    for name, share in (("a", 3000), ("b", 2000), ("c", 1000)):
        assert abs(counts[name] - share) <= 0.01 * share, counts
    with Client(groups.stage) as client:
        row = "".join(client.get("/weighted").body.decode() for _ in range(600))
    assert collections.Counter(row) == {"a": 300, "b": 200, "c": 100}
    assert "aaa" not in row and "bb" not in row and "cc" not in row


def test_a_server_killed_under_load_fails_no_safe_request(groups):
    stop, done = threading.Event(), collections.Counter()

    def work():
        with Client(groups.stage) as client:
            while not stop.is_set():
                answer = client.get("/weighted")
                assert answer.status == 200
                done[answer.body] += 1

    def trouble():
        for _ in range(5):
            for name in "ab":
                wait_more(50)
                groups.group[name].kill()
                wait_more(50)
                groups.group[name].open()
        stop.set()

    def wait_more(count):
        more = sum(done.values()) + count
        sandbox.wait_for(lambda: sum(done.values()) >= more, SECONDS, "requests")
    thread = threading.Thread(target=trouble)
    thread.start()
    try:
        users(8, work)
    finally:
        stop.set()
        thread.join()
    print(f"{sum(done.values())} requests, 0 failed")


def test_an_unsafe_request_is_never_asked_twice(groups):
    """A server that dies with it: an honest 502, and no other server sees it."""
    for name in "abc":
        groups.group[name].answer = lambda request, peer: None
    assert groups.stage.get("/weighted", "POST", b"x").status == 502
    assert sum(groups.group.counts().values()) == 1
    # One that takes no connection has not seen it.
    groups.group.reset()
    groups.group["a"].kill()
    groups.group["b"].kill()
    for _ in range(3):
        assert groups.stage.get("/weighted", "POST", b"x").body == b"c"


def test_backup(groups):
    def bodies(count=10):
        return {groups.stage.get("/backup").body for _ in range(count)}
    assert bodies() == {b"a", b"b"}
    groups.group["a"].kill()
    assert bodies() == {b"b"}
    groups.group["b"].kill()
    assert bodies() == {b"c"}
    groups.group["a"].open()
    sandbox.wait_for(lambda: bodies(1) == {b"a"}, SECONDS, "the server that is back")
    assert bodies() == {b"a"}


def test_sticky(groups):
    with Client(groups.stage) as client:
        first = client.get("/sticky")
        cookie = re.fullmatch(r"(server=[0-9a-f]{16}); Path=/; HttpOnly; SameSite=Lax", first["Set-Cookie"])[1]
        home = first.body
        for _ in range(10):
            answer = client.get("/sticky", Cookie=f"x=y; {cookie}; server2=1")
            assert answer.body == home and answer["Set-Cookie"] is None
        assert client.get("/sticky", Cookie="server=0123456789abcdef")["Set-Cookie"] is not None, "nobody's"
        groups.group[home.decode()].kill()
        answer = client.get("/sticky", Cookie=cookie)
        assert answer.body != home and answer.status == 200 and answer["Set-Cookie"].split(";")[0] != cookie
        other, cookie = answer.body, answer["Set-Cookie"].split(";")[0]
        groups.group[home.decode()].open()
        for _ in range(10):
            assert client.get("/sticky", Cookie=cookie).body == other, "who has moved stays"


def test_least_connections(groups):
    """Two servers that are busy get nothing while a third is not."""
    release = threading.Event()

    def answer(request, peer, name):
        if request.target == "/least/hold":
            release.wait(SECONDS)
        return fine(name.encode())
    for name, origin in groups.group.origins.items():
        origin.answer = lambda request, peer, name=name: answer(request, peer, name)
    with contextlib.ExitStack() as stack:
        clients = []
        for number in (1, 2):
            clients.append(stack.enter_context(Client(groups.stage)))
            clients[-1].socket.sendall(b"GET /least/hold HTTP/1.1\r\nHost: a\r\n\r\n")
            sandbox.wait_for(lambda number=number: sum(o.active for o in groups.group.origins.values()) == number, SECONDS, "the request")
        idle = [name for name, origin in groups.group.origins.items() if not origin.active]
        assert len(idle) == 1
        with Client(groups.stage) as client:
            assert {client.get("/least").body.decode() for _ in range(20)} == set(idle)
        release.set()
        assert {client.read().body.decode() for client in clients} | set(idle) == set("abc")


def test_limits_and_the_queue(groups):
    """a takes one at a time, b two: three are served, four wait in order, the eighth is refused at once."""
    release = threading.Semaphore(0)
    order, arrived = [], []

    def answer(request, peer):
        order.append(request.target)
        release.acquire(timeout=SECONDS)
        return fine()
    for name in "ab":
        groups.group[name].answer = answer
    clients = []
    for number in range(7):
        client = Client(groups.stage)
        clients.append(client)
        client.socket.sendall(f"GET /limited/{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        arrived.append(number)
        sandbox.wait_for(lambda: len(order) + groups.state("limited")["a"]["waiting"] == len(arrived), SECONDS, "the request's arrival")
    assert groups.group["a"].active == 1 and groups.group["b"].active == 2 and len(order) == 3
    refused = groups.stage.get("/limited/8")
    assert (refused.status, refused["Retry-After"]) == (503, "1")
    # One by one, as two that are answered at the same moment may be overtaken on the way to their servers.
    for number in range(7):
        release.release()
        sandbox.wait_for(lambda number=number: len(order) == min(4 + number, 7), SECONDS, "the next in the queue")
    for client in clients:
        assert client.read().status == 200
        client.__exit__()
    assert order[3:] == [f"/limited/{number}" for number in range(3, 7)]
    assert groups.group["a"].most_active == 1 and groups.group["b"].most_active == 2


def test_a_wait_that_is_too_long(groups):
    release = threading.Event()
    for name in "ab":
        groups.group[name].answer = lambda request, peer: release.wait(SECONDS) and fine()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(groups.stage)) for _ in range(3)]
        for client in clients:
            client.socket.sendall(b"GET /limited HTTP/1.1\r\nHost: a\r\n\r\n")
        sandbox.wait_for(lambda: groups.group["a"].active + groups.group["b"].active == 3, SECONDS, "three requests")
        # One that goes while it waits leaves no trace.
        gone = Client(groups.stage)
        gone.socket.sendall(b"GET /limited HTTP/1.1\r\nHost: a\r\n\r\n")
        sandbox.wait_for(lambda: groups.state("limited")["a"]["waiting"] == 1, SECONDS, "the queue")
        gone.__exit__()
        sandbox.wait_for(lambda: groups.state("limited")["a"]["waiting"] == 0, SECONDS, "the queue to be empty")
        assert groups.stage.get("/limited").status == 503
        groups.stage.logged("none came free within queue_timeout")
        release.set()
        assert [client.read().status for client in clients] == [200, 200, 200]
    assert groups.stage.get("/limited").status == 200
    assert {row["active"] for row in groups.state("limited").values()} == {0}


def test_a_limit_for_all_servers_together(groups):
    """20 clients, never more than two requests at a time, nobody is refused."""
    def work():
        with Client(groups.stage) as client:
            for _ in range(20):
                assert client.get("/total").status == 200
    busy = []

    def answer(request, peer):
        busy.append(sum(origin.active for origin in groups.group.origins.values()))
        return fine()
    for origin in groups.group.origins.values():
        origin.answer = answer
    users(20, work)
    assert len(busy) == 400 and max(busy) <= 2


def test_drained_and_set_down(groups):
    """No request is lost; who belongs to a drained server still comes there, to one that is down nobody."""
    with Client(groups.stage) as client:
        first = client.get("/drained")
        home, cookie = first.body.decode(), first["Set-Cookie"].split(";")[0]
    stop, seen = threading.Event(), collections.Counter()

    def work():
        with Client(groups.stage) as client:
            while not stop.is_set():
                answer = client.get("/drained")
                assert answer.status == 200
                seen[answer.body.decode()] += 1

    def command():
        for words in (("--drain",), ("--up",), ("--down",), ("--up",)) * 3 + (("--drain",),):
            groups.command("drained", home, *words)
        stop.set()
    thread = threading.Thread(target=command)
    thread.start()
    users(4, work)
    thread.join()
    assert groups.state("drained")[home]["state"] == "draining"
    sandbox.wait_for(lambda: groups.state("drained")[home]["active"] == 0, SECONDS, "the last request")
    with Client(groups.stage) as client:
        before = groups.group.counts()[home]
        assert home not in {client.get("/drained").body.decode() for _ in range(12)}
        assert groups.group.counts()[home] == before
        assert client.get("/drained", Cookie=cookie).body.decode() == home
        groups.command("drained", home, "--down")
        assert client.get("/drained", Cookie=cookie).body.decode() != home
        for name in "abc":
            groups.command("drained", name, "--down")
        assert client.get("/drained").status == 503
        for name in "abc":
            groups.command("drained", name, "--up")
        assert {client.get("/drained").body.decode() for _ in range(12)} == set("abc")


def test_weights_by_command(groups):
    groups.command("sticky", "a", "--weight", "8")
    with Client(groups.stage) as client:
        counts = collections.Counter(client.get("/sticky").body for _ in range(100))
    assert counts == {b"a": 80, b"b": 10, b"c": 10}
    assert groups.state("sticky")["a"]["weight"] == 8
    # It stays over a reload that says nothing else, and other upstreams have their own.
    before = groups.stage.tandem.log_text().count("reloaded")
    groups.stage.tandem.reload({"web": {"idle_timeout": "70s"}})
    sandbox.wait_for(lambda: groups.stage.tandem.log_text().count("reloaded") > before, SECONDS, "the reload")
    assert groups.state("sticky")["a"]["weight"] == 8 and groups.state("backup")["a"]["weight"] == 1
    groups.command("sticky", "a", "--weight", "1")
    # The console has the same command.
    for words, what in ((("upstream", "nope", "--server", "x", "--up"), "no upstream nope"),
                        (("upstream", "sticky", "--server", "x", "--up"), "no server x"),
                        (("upstream", "sticky", "--server", "x"), "say what to change"),
                        (("upstream", "sticky", "--up"), "say which server"),
                        (("upstream", "sticky", "--server", "x", "--up", "--down"), "exclude"),
                        (("upstream", "sticky", "--server", groups.group["a"].address, "--weight", "0"), "1 to 256")):
        done = groups.stage.tell(*words)
        assert done.returncode != 0 and what in done.stdout + done.stderr, done


def test_slow_start(groups):
    """One that comes back begins with next to nothing."""
    groups.command("slow", "a", "--down")
    groups.command("slow", "a", "--up")
    with Client(groups.stage) as client:
        counts = collections.Counter(client.get("/slow").body for _ in range(200))
    assert counts[b"a"] <= 10 and abs(counts[b"b"] - counts[b"c"]) <= 2


def test_health_checks(groups):
    """A server that answers its check with 500 gets no requests although it would answer them; it comes back by itself."""
    groups.group["b"].health = 500
    sandbox.wait_for(lambda: groups.state("checked")["b"]["state"] == "down", SECONDS, "the check")
    assert "status 500" in groups.state("checked")["b"]["last_failure"]
    with Client(groups.stage) as client:
        assert {client.get("/checked").body for _ in range(10)} == {b"a", b"c"}
        groups.group["b"].health = 302
        sandbox.wait_for(lambda: groups.state("checked")["b"]["state"] == "up", SECONDS, "the check")
        assert {client.get("/checked").body for _ in range(10)} == {b"a", b"b", b"c"}
        groups.group["c"].kill()
        sandbox.wait_for(lambda: groups.state("checked_tcp")["c"]["state"] == "down", SECONDS, "the check")
        sandbox.wait_for(lambda: groups.state("checked")["c"]["state"] == "down", SECONDS, "the check")
        assert {client.get("/checked_tcp").body for _ in range(10)} == {b"a", b"b"}
        # All sick: better a try than nothing.
        groups.group["b"].health = 404
        groups.group["a"].kill()
        sandbox.wait_for(lambda: {row["state"] for row in groups.state("checked").values()} == {"down"}, SECONDS, "the checks")
        assert client.get("/checked").body == b"b"


def test_a_reload_keeps_what_is_under_way(groups):
    """A server that leaves the settings answers what it has; one that is new is used."""
    release = threading.Event()
    groups.group["a"].answer = lambda request, peer: release.wait(SECONDS) and fine(b"a")
    stage = groups.stage
    new = Origin(name="new")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(stage)) for _ in range(3)]
        for client in clients:
            client.socket.sendall(b"GET /weighted HTTP/1.1\r\nHost: a\r\n\r\n")
        sandbox.wait_for(lambda: groups.group["a"].active, SECONDS, "a request at the server")
        before = stage.tandem.log_text().count("reloaded")
        stage.tandem.reload({"upstream weighted": {"server": [groups.group["b"].address, new.address]}})
        sandbox.wait_for(lambda: stage.tandem.log_text().count("reloaded") > before, SECONDS, "the reload")
        sandbox.wait_for(lambda: stage.get("/weighted").body == b"new", SECONDS, "the new server")
        with Client(stage) as client:
            assert {client.get("/weighted").body for _ in range(10)} == {b"b", b"new"}
        release.set()
        assert b"a" in {client.read().body for client in clients}
    before = stage.tandem.log_text().count("reloaded")
    stage.tandem.reload({"upstream weighted": {"server": groups.group.servers(a="weight=3", b="weight=2")}})
    sandbox.wait_for(lambda: stage.tandem.log_text().count("reloaded") > before, SECONDS, "the reload")
    new.kill()
