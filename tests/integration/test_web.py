"""The HTTP front end as clients see it: requests whole, cut and malformed, static files, time-outs, TLS, reload, drain."""
import contextlib
import gzip
import os
import pathlib
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

import sandbox

TABLE = pathlib.Path(__file__).resolve().parent.parent / "web" / "requests.txt"
pytestmark = pytest.mark.core


class Site:
    """A daemon that serves two sites; its database side has nobody to talk to, which the web must not mind."""

    def __init__(self, folder, **web):
        self.root = folder / "root"
        (self.root / "sub").mkdir(parents=True)
        self.write("index.html", b"hello\n")
        self.write("sub/index.html", b"sub\n")
        self.write("big.bin", os.urandom(3_000_000))
        self.write("a.css", b"body{color:red}" * 40)
        self.write(".secret", b"no")
        (self.root / ".well-known").mkdir()
        self.write(".well-known/x", b"yes")
        (folder / "outside").write_bytes(b"outside")
        (self.root / "out").symlink_to(folder / "outside")
        (self.root / "in").symlink_to("index.html")
        self.log = folder / "access.log"
        self.sections = {
            "monitor": {"user": "nobody", "password": "nothing"},
            "server db1": {"address": f"127.0.0.1:{sandbox.free_port()}"},
            "web": {"listen": f"127.0.0.1:{sandbox.free_port()}", "listen_tls": f"127.0.0.1:{sandbox.free_port()}",
                    "access_log": str(self.log), **web},
            "site www.foobar.com": {"root": str(self.root)},
            "route www.foobar.com/old": {"to": "redirect:https://new.example/x"},
            "site *": {"root": str(self.root)},
        }
        self.port = int(self.sections["web"]["listen"].rpartition(":")[2])
        self.tls_port = int(self.sections["web"]["listen_tls"].rpartition(":")[2])
        self.tandem = sandbox.Tandem(None, self.sections, wait=False)
        sandbox.wait_for(lambda: "ready:" in self.tandem.log_text() or not self.tandem.process.running(), 20, "the daemon")

    def write(self, name, content):
        (self.root / name).write_bytes(content)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def ask(self, request):
        with self.connect() as s:
            s.sendall(request)
            return Answer.read(s.makefile("rb"), head_only=request.startswith(b"HEAD"))

    def get(self, path, method="GET", **fields):
        lines = [f"{method} {path} HTTP/1.1", "Host: a", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        return self.ask("\r\n".join(lines).encode() + b"\r\n\r\n")


class Answer:
    def __init__(self, status, fields, body):
        self.status, self.fields, self.body = status, fields, body

    def __getitem__(self, name):
        return self.fields.get(name.lower())

    @classmethod
    def read(cls, stream, head_only=False):
        """One answer off a stream; None at its end."""
        line = stream.readline()
        if not line:
            return None
        match = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [A-Za-z -]+\r\n", line)
        assert match, line
        fields = {}
        while (line := stream.readline()) != b"\r\n":
            name, colon, value = line.decode("latin-1").partition(": ")
            assert colon and value.endswith("\r\n"), line
            assert name.lower() not in fields, "a field twice"
            fields[name.lower()] = value[:-2]
        status = int(match[1])
        bare = head_only or status in (204, 304)
        length = 0 if bare else int(fields["content-length"])
        body = stream.read(length)
        assert len(body) == length
        return cls(status, fields, body)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("web"))
    yield site
    site.tandem.close()


def unescape(text):
    pieces = {"n": b"\r\n", "l": b"\n", "c": b"\r", "t": b"\t", "0": b"\0", "\\": b"\\"}

    def piece(match):
        return chr(int(match[1][1:], 16)) if match[1][0] == "x" else pieces[match[1]].decode("latin-1")
    return re.sub(r"\\(x..|.)", piece, text).encode("latin-1")


def rows():
    for number, line in enumerate(TABLE.read_text().splitlines(), 1):
        if line and not line.startswith("#"):
            facts, _, head = line.partition(" |")
            yield pytest.param(int(facts.split()[0]), facts.split()[1:], unescape(head[1:]), id=f"line{number}")


@pytest.mark.parametrize("status, facts, head", rows())
def test_request(site, status, facts, head):
    """What the table says, from outside; a refused request is also the connection's last."""
    length = next((int(f[7:]) for f in facts if f.startswith("length=")), 0)
    body = b"0\r\n\r\n" if "chunked" in facts else b"x" * min(length, 1000)
    with site.connect() as s:
        s.sendall(head + b"\r\n\r\n" + ("" if status else body.decode()).encode())
        answer = Answer.read(s.makefile("rb"), head_only=head.startswith(b"HEAD"))
        if status:
            assert answer.status == status
            assert answer["connection"] == "close"
            assert s.recv(100) == b"", "nothing follows a refusal"
        else:
            assert answer.status in (200, 204, 301, 403, 404, 405, 413), "understood, whatever is there"
            assert answer["connection"] == ("close" if "close" in facts else answer["connection"])


def test_a_request_byte_by_byte(site):
    with site.connect() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /sub/ HTTP/1.1\r\nHost: a\r\n\r\n":
            s.send(bytes([byte]))
        assert Answer.read(s.makefile("rb")).body == b"sub\n"


def test_pipelined_requests_are_answered_in_order(site):
    paths = ["/", "/sub/", "/big.bin", "/nope", "/a.css"] * 20
    with site.connect() as s:
        stream = s.makefile("rb")
        s.sendall(b"".join(f"GET {p} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for p in paths))
        for path in paths:
            answer = Answer.read(stream)
            assert answer.status == (404 if path == "/nope" else 200)
            if answer.status == 200:
                name = path[1:] + ("index.html" if path.endswith("/") else "")
                assert answer.body == (site.root / name).read_bytes()


def test_bodies_nobody_wants_do_not_become_requests(site):
    smuggled = b"GET /sub/ HTTP/1.1\r\nHost: a\r\n\r\n"
    with site.connect() as s:
        stream = s.makefile("rb")
        s.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(smuggled), smuggled))
        assert Answer.read(stream).status == 405
        s.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(smuggled), smuggled))
        s.sendall(b"GET /a.css HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answers = []
        while (answer := Answer.read(stream)):
            answers.append(answer.status)
    # After a body in chunks the connection may end instead of reading an unknown amount: never a smuggled request.
    assert answers in ([405], [405, 200])


def test_a_body_announced_but_not_awaited(site):
    """Who waits for 100 gets the final answer instead, and the connection ends: the body may or may not follow."""
    with site.connect() as s:
        s.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        answer = Answer.read(s.makefile("rb"))
        assert answer.status == 405 and answer["connection"] is None or answer["connection"] == "close"
        assert s.recv(10) == b""


def test_files(site):
    answer = site.get("/")
    assert (answer.status, answer.body, answer["content-type"]) == (200, b"hello\n", "text/html; charset=utf-8")
    assert answer["x-content-type-options"] == "nosniff"
    assert site.get("/big.bin").body == (site.root / "big.bin").read_bytes()
    assert site.get("/in").body == b"hello\n", "a link within the root"
    head = site.get("/big.bin", method="HEAD")
    assert (head.status, head["content-length"]) == (200, "3000000")
    assert site.get("/sub")["location"] == "/sub/"
    assert site.get("/sub?a=b")["location"] == "/sub/?a=b"
    assert site.get("//sub")["location"] == "/sub/", "not another site"
    assert site.get("/.well-known/x").body == b"yes"


@pytest.mark.parametrize("path, status", [
    ("/out", 403), ("/.secret", 404), ("/../outside", 400), ("/%2e%2e/outside", 400), ("/sub/../../outside", 400),
    ("/..%2foutside", 400), ("/sub%00.html", 400), ("/" + "a" * 5000, 404), ("/index.html/", 404), ("/.git/config", 404),
    ("/%2esecret", 404), ("/sub/%2e%2e/.secret", 404), ("/%252e%252e/outside", 404),
])
def test_nothing_outside_the_root(site, path, status):
    answer = site.get(path)
    assert answer.status == status and b"outside" not in answer.body


@pytest.mark.parametrize("field, status, content_range", [
    ("bytes=0-9", 206, "bytes 0-9/3000000"), ("bytes=2999990-", 206, "bytes 2999990-2999999/3000000"),
    ("bytes=-5", 206, "bytes 2999995-2999999/3000000"), ("bytes=0-99999999", 206, "bytes 0-2999999/3000000"),
    ("bytes=-99999999", 206, "bytes 0-2999999/3000000"), ("bytes=3000000-", 416, "bytes */3000000"), ("bytes=-0", 416, "bytes */3000000"),
    ("bytes=9-0", 200, None), ("bytes=a-b", 200, None), ("bytes=0-1,5-6", 200, None), ("lines=0-1", 200, None), ("bytes=", 200, None),
    ("bytes=-", 200, None), ("bytes=99999999999999999999999-", 200, None), ("bytes= 0-9", 200, None),
])
def test_ranges(site, field, status, content_range):
    answer = site.get("/big.bin", Range=field)
    assert (answer.status, answer["content-range"]) == (status, content_range)
    whole = (site.root / "big.bin").read_bytes()
    if status == 206:
        first, last = map(int, content_range[6:].split("/")[0].split("-"))
        assert answer.body == whole[first:last + 1]
    elif status == 200:
        assert answer.body == whole


def test_conditions(site):
    first = site.get("/a.css")
    etag, modified = first["etag"], first["last-modified"]
    assert site.get("/a.css", If_None_Match=etag).status == 304
    assert site.get("/a.css", If_None_Match=f'"x", W/{etag}').status == 304
    assert site.get("/a.css", If_None_Match="*").status == 304
    assert site.get("/a.css", If_None_Match='"x"').status == 200
    assert site.get("/a.css", If_Modified_Since=modified).status == 304
    assert site.get("/a.css", If_Modified_Since="Sun, 06 Nov 1994 08:49:37 GMT").status == 200
    assert site.get("/a.css", If_Modified_Since="Sunday, 06-Nov-94 08:49:37 GMT").status == 200
    assert site.get("/a.css", If_Modified_Since="Sun Nov  6 08:49:37 1994").status == 200
    assert site.get("/a.css", If_Modified_Since="yesterday").status == 200
    assert site.get("/a.css", If_Match=etag).status == 200
    assert site.get("/a.css", If_Match='"x"').status == 412
    assert site.get("/a.css", If_Match=f"W/{etag}").status == 412, "If-Match compares strongly"
    assert site.get("/a.css", If_Unmodified_Since="Sun, 06 Nov 1994 08:49:37 GMT").status == 412
    assert site.get("/a.css", Range="bytes=0-3", If_Range=etag).status == 206
    assert site.get("/a.css", Range="bytes=0-3", If_Range='"x"').status == 200
    assert site.get("/a.css", Range="bytes=0-3", If_Range=modified).status == 206
    before = etag
    site.write("a.css", b"body{color:blue}")
    assert site.get("/a.css", If_None_Match=before).status == 200, "a changed file has another tag"


def test_precompressed_siblings(site):
    site.write("z.css", b"p{margin:0}" * 50)
    site.write("z.css.gz", gzip.compress((site.root / "z.css").read_bytes()))
    answer = site.get("/z.css", Accept_Encoding="gzip, br")
    assert answer["content-encoding"] == "gzip" and gzip.decompress(answer.body) == (site.root / "z.css").read_bytes()
    assert answer["content-type"].startswith("text/css") and answer["vary"] == "Accept-Encoding"
    assert site.get("/z.css")["content-encoding"] is None
    assert site.get("/z.css", Accept_Encoding="gzip;q=0")["content-encoding"] is None
    assert site.get("/z.css", Accept_Encoding="identity")["content-encoding"] is None
    old = os.stat(site.root / "z.css").st_mtime - 100
    os.utime(site.root / "z.css.gz", (old, old))
    assert site.get("/z.css", Accept_Encoding="gzip")["content-encoding"] is None, "older than its original"


def test_sites_and_routes(site):
    def ask(host, path):
        return site.ask(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert ask("www.foobar.com", "/old/x")["location"] == "https://new.example/x"
    assert ask("WWW.FooBar.com:8080", "/old")["location"] == "https://new.example/x"
    assert ask("www.foobar.com", "/older").status == 404, "a prefix ends at a slash"
    assert ask("other", "/old/x").status == 404


def test_tls(site):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_connection(("127.0.0.1", site.tls_port), timeout=10) as raw:
        with context.wrap_socket(raw, server_hostname="www.foobar.com") as s:
            assert s.version() in ("TLSv1.2", "TLSv1.3") and s.selected_alpn_protocol() == "http/1.1"
            stream = s.makefile("rb")
            s.sendall(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert Answer.read(stream).body == (site.root / "big.bin").read_bytes()
            assert Answer.read(stream).body == b"hello\n"


def test_curl(site):
    done = subprocess.run(["curl", "-sS", "--insecure", "-w", "%{http_code} %{size_download}", "-o", os.devnull,
                           f"https://127.0.0.1:{site.tls_port}/big.bin", "--next", "-sS", "-w", " %{http_code}", "-o", os.devnull,
                           f"http://127.0.0.1:{site.port}/nope"], stdout=subprocess.PIPE, text=True, check=True, timeout=30)
    assert done.stdout == "200 3000000 404"


def test_a_slow_reader_gets_everything_and_holds_nobody_up(site):
    with site.connect() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        slow.sendall(b"GET /big.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        for _ in range(50):
            assert site.get("/").status == 200
        assert Answer.read(slow.makefile("rb")).body == (site.root / "big.bin").read_bytes()


def test_a_file_cut_short_ends_the_connection(site):
    """The length was promised: bytes that are not there are not made up."""
    site.write("shrinks.bin", b"x" * 60_000_000)
    with site.connect() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        s.sendall(b"GET /shrinks.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        assert s.recv(1000)
        os.truncate(site.root / "shrinks.bin", 1000)
        got = 0
        while (piece := s.recv(1 << 20)):
            got += len(piece)
    assert got < 60_000_000


def test_access_log(site):
    site.ask(b'GET /log"me?a=b HTTP/1.1\r\nHost: a\r\n\r\n')
    site.get("/logged", User_Agent='x"y\\z\xff', Referer="http://r/")
    sandbox.wait_for(lambda: "/logged" in site.log.read_text(), 10, "the line in the access log")
    line = next(line for line in site.log.read_text().splitlines() if "/logged" in line)
    assert re.fullmatch(r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /logged HTTP/1\.1" 404 \d+ '
                        r'"http://r/" "x\\"y\\\\z\\u00c3\\u00bf" \d+\.\d{6} \* - - [0-9a-f]{16}', line), line


# ---- a daemon of its own ---------------------------------------------------------------------------------------------------

@pytest.fixture
def quick(tmp_path):
    site = Site(tmp_path, header_timeout="300ms", body_timeout="300ms", send_timeout="1s", idle_timeout="600ms", max_header="2048")
    yield site
    site.tandem.close()


def test_slow_clients_are_let_go(quick):
    with quick.connect() as half_a_head, quick.connect() as nothing, quick.connect() as idle, quick.connect() as half_a_body:
        half_a_head.sendall(b"GET / HTTP/1.1\r\nHost:")
        idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        half_a_body.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert Answer.read(half_a_head.makefile("rb")).status == 408
        assert half_a_head.recv(10) == b""
        assert nothing.recv(10) == b""
        stream = idle.makefile("rb")
        assert Answer.read(stream).status == 200 and stream.read() == b""
        stream = half_a_body.makefile("rb")
        assert Answer.read(stream).status == 405 and stream.read() == b""


def test_a_head_that_never_ends(quick):
    with quick.connect() as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 1000)
        assert Answer.read(s.makefile("rb")).status == 431


CONNECTIONS = int(os.environ.get("TANDEM_TEST_CONNECTIONS", "9000"))


def many_files(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 500:
        pytest.skip(f"the hard limit of files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 500), hard))


@contextlib.contextmanager
def many(count, connect):
    connections = []
    try:
        for _ in range(count):
            connections.append(connect())
        yield connections
    finally:
        for s in connections:
            s.close()


@pytest.fixture
def patient(tmp_path):
    """It waits for everybody, however slow the machine is. New for each test: memory that another gave back would hide what is taken."""
    many_files(max(5000, CONNECTIONS))
    site = Site(tmp_path, header_timeout="10min", idle_timeout="10min")
    yield site
    site.tandem.close()


def test_slow_loris(patient):
    """Thousands of half heads do not keep a normal client from his answer; how long he waits is printed, not judged."""
    with many(5000, patient.connect) as slow:
        for s in slow:
            s.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        took = []
        for _ in range(20):
            started = time.monotonic()
            assert patient.get("/").status == 200
            took.append(time.monotonic() - started)
        for s in slow[::100]:
            s.send(b"y\r\n\r\n")
            assert Answer.read(s.makefile("rb")).status == 200, "nor are they thrown out"
    print(f"beside 5000 half heads an answer took {sorted(took)[10] * 1000:.1f} ms (median), {max(took) * 1000:.1f} ms (most)")


def idle_cost(site, count, connect):
    """Bytes of the daemon's memory for each connection that has had an answer and is kept."""
    def answered():
        s = connect()
        s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert Answer.read(s.makefile("rb")).status == 200
        return s
    with many(20, answered):
        before = site.tandem.memory()["RssAnon"]
        with many(count, answered):
            return (site.tandem.memory()["RssAnon"] - before) / count


@pytest.mark.memory
def test_idle_connections_cost_little(patient):
    cost = idle_cost(patient, CONNECTIONS, patient.connect)
    print(f"{CONNECTIONS} idle connections in clear cost {cost:.0f} bytes each")
    assert cost < 4096


@pytest.mark.memory
def test_idle_tls_connections_cost_little(patient):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def connect():
        return context.wrap_socket(socket.create_connection(("127.0.0.1", patient.tls_port), timeout=30))
    cost = idle_cost(patient, CONNECTIONS // 8, connect)
    print(f"{CONNECTIONS // 8} idle connections with TLS cost {cost:.0f} bytes each")
    assert cost < 20 * 1024


def test_addresses(tmp_path):
    """Several at once, IPv6, a Unix socket, and one that the machine does not have yet, as of a virtual router."""
    ports = [sandbox.free_port() for _ in range(2)]
    unix = tmp_path / "web.sock"
    (tmp_path / "site").mkdir()
    site = Site(tmp_path / "site")
    site.tandem.close()
    site.sections["web"]["listen"] = [f"127.0.0.1:{site.port}", f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}", f"unix:{unix}",
                                      f"192.0.2.7:{ports[0]}"]
    with sandbox.Tandem(None, site.sections, wait=False) as tandem:
        sandbox.wait_for(lambda: "ready:" in tandem.log_text() or not tandem.process.running(), 30, "the daemon")
        places = [("127.0.0.1", site.port), ("127.0.0.1", ports[0]), str(unix)]
        places += [("::1", ports[1])] if os.path.exists("/proc/net/if_inet6") else []
        for place in places:
            family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET6 if ":" in place[0] else socket.AF_INET
            with socket.socket(family) as s:
                s.settimeout(30)
                s.connect(place)
                s.sendall(b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n")
                assert Answer.read(s.makefile("rb")).body == b"hello\n", place


def test_reload_changes_sites_without_dropping_a_client(quick, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_bytes(b"other\n")
    with quick.connect() as s:
        stream = s.makefile("rb")
        s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert Answer.read(stream).body == b"hello\n"
        quick.tandem.reload({"site *": {"root": str(other)}})
        sandbox.wait_for(lambda: "reloaded" in quick.tandem.log_text(), 10, "the reload")
        s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert Answer.read(stream).body == b"other\n"


def test_a_deployment_swaps_the_link_to_the_root(quick, tmp_path):
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "index.html").write_text(release)
    (tmp_path / "current").symlink_to("one")
    quick.tandem.reload({"site *": {"root": str(tmp_path / "current")}})
    sandbox.wait_for(lambda: quick.get("/").body == b"one", 10, "the reload")
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "current")
    sandbox.wait_for(lambda: quick.get("/").body == b"two", 10, "the new release")
    (tmp_path / "current").unlink()
    sandbox.wait_for(lambda: quick.get("/").status == 503, 10, "the missing root to be seen")


def test_a_stop_lets_answers_finish(quick):
    with quick.connect() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        s.sendall(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        stream = s.makefile("rb")
        line = stream.readline()
        quick.tandem.process.signal(signal.SIGTERM)
        while (field := stream.readline()) != b"\r\n":
            assert field
        assert line.startswith(b"HTTP/1.1 200") and stream.read(3_000_000) == (quick.root / "big.bin").read_bytes()
        assert stream.read() == b""
    sandbox.wait_for(lambda: not quick.tandem.process.running(), 10, "the end of the daemon")


# ---- FastCGI ---------------------------------------------------------------------------------------------------------------

class Responder(threading.Thread):
    """A scripted FastCGI program: `answer(params, body)` gives the bytes of its standard output, or None to hang up without a word."""

    def __init__(self, answer, piece=65535):
        super().__init__(daemon=True)
        self.answer, self.piece, self.requests = answer, piece, []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                peer = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        with peer, peer.makefile("rb") as stream:
            params, body, ended = b"", b"", 0
            while ended < 2:
                header = stream.read(8)
                if len(header) < 8:
                    return
                version, kind, number, length, padding = struct.unpack("!BBHHBx", header)
                assert version == 1 and number == (1 if kind != 9 else 0)
                content = stream.read(length)
                stream.read(padding)
                ended += length == 0 and kind in (4, 5)
                params += content if kind == 4 else b""
                body += content if kind == 5 else b""
            self.requests.append((pairs(params), body))
            said = self.answer(*self.requests[-1])
            if said is None:
                return
            for at in range(0, len(said), self.piece):
                part = said[at:at + self.piece]
                peer.sendall(struct.pack("!BBHHBx", 1, 6, 1, len(part), 3) + part + b"pad")
            peer.sendall(struct.pack("!BBHHBx", 1, 3, 1, 8, 0) + bytes(8))

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def pairs(stream):
    """The name-value pairs of a PARAMS stream."""
    found, at = {}, 0

    def length():
        nonlocal at
        if stream[at] < 128:
            at += 1
            return stream[at - 1]
        at += 4
        return int.from_bytes(stream[at - 4:at], "big") & 0x7fffffff
    while at < len(stream):
        name, value = length(), length()
        found[stream[at:at + name].decode()] = stream[at + name:at + name + value].decode("latin-1")
        at += name + value
    return found


@contextlib.contextmanager
def behind(folder, servers, **web):
    site = Site(folder, **{"upstream_timeout": "2s", **web}, **{})
    site.tandem.close()
    site.sections["route */app"] = {"to": "upstream:app", "front": "/index.php", "files": "on"}
    site.sections["upstream app"] = {"server": servers}
    site.tandem = sandbox.Tandem(None, site.sections, wait=False)
    sandbox.wait_for(lambda: "ready:" in site.tandem.log_text() or not site.tandem.process.running(), 20, "the daemon")
    try:
        yield site
    finally:
        site.tandem.close(check=True)


def said(text="fine", head="Content-Type: text/plain\r\n"):
    return f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode()


def test_fastcgi_sees_the_request(tmp_path):
    program = Responder(lambda params, body: said(body.decode()))
    with behind(tmp_path, [f"127.0.0.1:{program.port}"]) as site:
        answer = site.ask(b"POST /app/x.php/info?a=b HTTP/1.1\r\nHost: h:81\r\nContent-Type: text/x\r\nContent-Length: 5\r\n"
                          b"X-Y: z\r\nX_Y: no\r\nProxy: no\r\n\r\nhello")
        assert (answer.status, answer.body, answer["content-type"]) == (200, b"hello", "text/plain")
        params, body = program.requests[0]
        assert body == b"hello"
        expected = {"REQUEST_METHOD": "POST", "SCRIPT_NAME": "/app/x.php", "PATH_INFO": "/info", "QUERY_STRING": "a=b",
                    "REQUEST_URI": "/app/x.php/info?a=b", "CONTENT_LENGTH": "5", "CONTENT_TYPE": "text/x", "HTTP_X_Y": "z",
                    "SERVER_NAME": "h", "SERVER_PORT": "81", "REMOTE_ADDR": "127.0.0.1", "SERVER_PROTOCOL": "HTTP/1.1",
                    "SCRIPT_FILENAME": f"{site.root}/app/x.php", "DOCUMENT_ROOT": str(site.root), "HTTP_HOST": "h:81"}
        assert {name: params.get(name) for name in expected} == expected
        assert "HTTP_PROXY" not in params and "HTTPS" not in params
    program.close()


def test_fastcgi_streams_both_ways(tmp_path):
    body = os.urandom(3_000_000)
    program = Responder(lambda params, got: b"Content-Type: x/y\n\n" + got, piece=1000)
    with behind(tmp_path, [f"127.0.0.1:{program.port}"]) as site, site.connect() as s:
        s.sendall(b"PUT /app HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body))
        s.sendall(body)
        received = b"".join(iter(lambda: s.recv(1 << 20), b""))
        assert received.partition(b"\r\n\r\n")[2] == body, "of unknown length, so until the connection ends"
    program.close()


def in_chunks(body, size):
    cut = [body[at:at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in cut) + b"0\r\n\r\n"


@pytest.mark.parametrize("length", [0, 1, 65536, 65537, 3_000_000])
def test_fastcgi_gets_the_length_of_a_body_in_chunks(tmp_path, length):
    """Programs must know it before: the body is kept until it is whole, small ones in memory. What follows is the next request."""
    body = os.urandom(length)
    program = Responder(lambda params, got: said(f"{params['CONTENT_LENGTH']} {got == body}"))
    with behind(tmp_path, [f"127.0.0.1:{program.port}"]) as site, site.connect() as s:
        stream = s.makefile("rb")
        head = b"PUT /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        s.sendall(head + in_chunks(body, 50_000) + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert Answer.read(stream).body == b"%d True" % length
        assert Answer.read(stream).body == b"hello\n"
    program.close()


def test_a_body_in_chunks_has_a_limit(tmp_path):
    program = Responder(lambda params, got: said("no"))
    with behind(tmp_path, [f"127.0.0.1:{program.port}"], max_spool="100000") as site, site.connect() as s:
        s.sendall(b"PUT /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + in_chunks(bytes(100_001), 1000))
        assert Answer.read(s.makefile("rb")).status == 413
        assert not program.requests
        sandbox.wait_for(lambda: "longer than [web] max_spool" in site.tandem.log_text(), 10, "the log")
    program.close()


class Counter(threading.Thread):
    """A FastCGI program that counts what it is sent and keeps none of it."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        peer = self.listener.accept()[0]
        with peer, peer.makefile("rb") as stream:
            length = kind = 1
            count = 0
            while length or kind != 5:
                version, kind, number, length, padding = struct.unpack("!BBHHBx", stream.read(8))
                stream.read(length + padding)
                count += length if kind == 5 else 0
            text = said(str(count))
            peer.sendall(struct.pack("!BBHHBx", 1, 6, 1, len(text), 0) + text + struct.pack("!BBHHBx", 1, 3, 1, 8, 0) + bytes(8))


@pytest.mark.memory
@pytest.mark.parametrize("version, mib", [("--http1.1", 256), ("--http2", 64)])
def test_a_large_upload_needs_no_memory(tmp_path, version, mib):
    size = mib * 1024 * 1024
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(size)
    program = Counter()
    with behind(tmp_path, [f"127.0.0.1:{program.port}"], upstream_timeout="60s", body_timeout="60s") as site:
        before = site.tandem.memory()["VmHWM"]
        done = subprocess.run(["curl", "-sS", "--insecure", version, "-T", tmp_path / "sparse", f"https://127.0.0.1:{site.tls_port}/app"],
                              stdout=subprocess.PIPE, text=True, check=True, timeout=240)
        assert done.stdout == str(size)
        assert site.tandem.memory()["VmHWM"] - before < 16 * 1024 * 1024


@pytest.mark.parametrize("output, status", [
    (b"Status: 404 Not Here\r\nX: y\r\n\r\nno", 404), (b"Location: /elsewhere\n\n", 302), (b"Content-Type: a/b\n\nx", 200),
    (b"Status: 204\n\n", 204), (None, 502), (b"", 502), (b"no head at all", 502), (b"Bad Name: x\n\n", 502), (b"X: y\x01\n\n", 502),
    (b"Status: 99\n\n", 502), (b"Status: abc\n\n", 502), (b"Content-Length: -1\n\n", 502),
    (b"Content-Length: 1\nContent-Length: 2\n\nx", 502), (b"X: " + b"y" * 70000 + b"\n\n", 502), (b": x\n\n", 502),
])
@pytest.mark.parametrize("piece", [1, 65535])
def test_fastcgi_answers(tmp_path, output, status, piece):
    program = Responder(lambda params, body: output, piece=piece if output is None or len(output) < 1000 else 65535)
    with behind(tmp_path, [f"127.0.0.1:{program.port}"]) as site, site.connect() as s:
        s.sendall(b"GET /app HTTP/1.0\r\n\r\n")
        received = b"".join(iter(lambda: s.recv(65536), b""))
        assert received.startswith(b"HTTP/1.1 %d " % status)
        assert b"Transfer-Encoding" not in received and b"Bad Name" not in received
    program.close()


def test_a_program_that_says_nothing(tmp_path):
    hold = threading.Event()
    program = Responder(lambda params, body: hold.wait(20) and None)
    with behind(tmp_path, [f"127.0.0.1:{program.port}"], upstream_timeout="300ms") as site:
        assert site.get("/app").status == 504
        hold.set()
    program.close()


def test_weights_and_a_dead_server(tmp_path):
    """3:2:1 exactly, and evenly; one that is gone is left out without a failed request; the backup only when nobody else is there."""
    programs = [Responder(lambda params, body, name=name: said(name)) for name in "abcd"]
    servers = [f"127.0.0.1:{p.port}{more}" for p, more in zip(programs, (" weight=3", " weight=2", "", " backup"))]
    with behind(tmp_path, servers) as site:
        answers = "".join(site.get("/app").body.decode() for _ in range(60))
        assert (answers.count("a"), answers.count("b"), answers.count("c"), answers.count("d")) == (30, 20, 10, 0)
        assert "aaa" not in answers
        programs[0].close()
        answers = "".join(site.get("/app").body.decode() for _ in range(30))
        assert len(answers) == 30 and set(answers) == {"b", "c"}
        programs[1].close()
        programs[2].close()
        assert {site.get("/app").body for _ in range(10)} == {b"d"}
        programs[3].close()
        assert site.get("/app").status == 502


def test_files_beside_an_application(tmp_path):
    program = Responder(lambda params, body: said("app"))
    with behind(tmp_path, [f"127.0.0.1:{program.port}"]) as site:
        (site.root / "app").mkdir()
        site.write("app/logo.txt", b"logo")
        site.write("app/secret.php", b"<?php $password = 1;")
        assert site.get("/app/logo.txt").body == b"logo"
        for path in ("/app/secret.php", "/app/secret.php/x", "/app/", "/app/nothing", "/app/secret.pHp"):
            assert site.get(path).body == b"app", path
    program.close()


def test_php(tmp_path):
    """A real program: PHP's own FastCGI."""
    port = sandbox.free_port()
    php = subprocess.Popen(["php-cgi", "-b", f"127.0.0.1:{port}"], env={**os.environ, "PHP_FCGI_CHILDREN": "2"},
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        with behind(tmp_path, [f"127.0.0.1:{port}"]) as site:
            site.write("index.php", b"<?php header('Content-Length: 11'); printf('%s %05d %s', $_POST['a'] ?? '-',"
                                    b" strlen(file_get_contents('php://input')), $_SERVER['REQUEST_METHOD']);")
            sandbox.wait_for(lambda: site.get("/app").status == 200, 20, "PHP")
            for _ in range(20):
                answer = site.ask(b"POST /app/any HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                                  b"Content-Length: 3\r\n\r\na=b")
                assert answer.body[:11] == b"b 00003 POS"
    finally:
        os.killpg(php.pid, signal.SIGKILL)
        php.wait()
