"""The HTTP front end as clients see it: requests whole, cut and malformed, static files, time-outs, TLS, reload, drain."""
import gzip
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
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
            assert answer.status in (200, 204, 301, 403, 404, 405), "understood, whatever is there"
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
    context.set_alpn_protocols(["h2", "http/1.1"])
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
                        r'"http://r/" "x\\"y\\\\z\\u00c3\\u00bf" \d+\.\d{6} \*', line), line


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


def test_many_slow_clients_do_not_keep_a_normal_one_waiting(quick):
    slow = [quick.connect() for _ in range(300)]
    for s in slow:
        s.send(b"GET / HTTP/1.1\r\n")
    assert quick.get("/").status == 200
    for s in slow:
        s.close()


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
