"""Upstream servers: who gets the next request, what HTTP servers may say, and what becomes of requests when servers fail."""
import collections
import os
import pathlib
import re
import socket
import struct
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
    assert sorted(request.fields) == [
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
    assert names["set-cookie"] == 2 and names["x-other"] == 1 and names["server"] == 1 and names["date"] == 1
    assert not names["x-inside"] and not names["keep-alive"] and answer["Server"] == "Tandem"


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
