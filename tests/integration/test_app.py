"""Applications in the process: requests, answers, modules that are replaced, SQL, and the same by FastCGI."""
import base64
import http.client
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading

import pytest

import sandbox

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
LONG = 60


def build(path, *defines):
    """tests/apps/probe.c as a module; replaces what is there as a whole."""
    fresh = path.with_suffix(".new")
    subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-shared", "-fPIC", "-Wall", "-Werror", f"-I{TOP}", *defines, "-o", fresh,
                    TOP / "tests" / "apps" / "probe.c"], check=True)
    fresh.rename(path)


class Site:
    """A daemon with the probe, in front of a cluster of two."""

    def __init__(self, cluster, folder):
        self.folder, self.module = folder, folder / "probe.so"
        build(self.module)
        self.port, self.fastcgi_port = sandbox.free_port(), sandbox.free_port()
        self.unix = folder / "fcgi.sock"
        self.log = folder / "access.log"
        cluster.primary.sql("CREATE TABLE IF NOT EXISTS test.probe (id INT AUTO_INCREMENT PRIMARY KEY, word VARCHAR(20)) ENGINE=InnoDB")
        cluster.wait_synced()
        self.tandem = sandbox.Tandem(cluster, {
            "web": {"listen": f"127.0.0.1:{self.port}", "access_log": str(self.log), "access_log_format": "json"},
            "app": {"user": "app", "password": "app", "database": "test", "threads": "6", "queue": "4",
                    "fastcgi": [f"127.0.0.1:{self.fastcgi_port}", f"unix:{self.unix}"]},
            "app probe": {"module": str(self.module)},
            "site *": {},
            "route */": {"to": "app:probe"},
            "route */sub/dir": {"to": "app:probe"},
            "route */hello": {"to": "app:hello"},
        })
        self.tandem.wait_reads_on(cluster.replicas)

    def ask(self, method, path, body=None, fields=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)
        connection.request(method, path, body, fields or {})
        answer = connection.getresponse()
        answer.content = answer.read()
        connection.close()
        return answer

    def get(self, path, **fields):
        answer = self.ask("GET", path, None, {name.replace("_", "-"): value for name, value in fields.items()})
        assert answer.status == 200, (answer.status, answer.content)
        return answer.content.decode()

    def wait_log(self, words, count=1):
        sandbox.wait_for(lambda: self.tandem.log_text().count(words) >= count, LONG, f"{words!r} in the log")

    def reload(self, word="reloaded"):
        """True when it was taken."""
        before = {w: self.tandem.log_text().count(w) for w in ("reloaded:", "reload refused")}
        self.tandem.reload()
        changed = sandbox.wait_for(lambda: [w for w in before if self.tandem.log_text().count(w) > before[w]], LONG, "the reload")
        return changed == ["reloaded:"]


@pytest.fixture(scope="module")
def servers():
    with sandbox.Cluster(replicas=1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def site(servers, tmp_path_factory):
    site = Site(servers, tmp_path_factory.mktemp("app"))
    yield site
    site.tandem.close(check=True)


# ---- Requests and answers ----

def test_hello(site):
    answer = site.ask("GET", "/hello?name=%3Cb%3E+%26")
    assert answer.status == 200 and b"Hello, &lt;b&gt; &amp;!" in answer.content
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert int(answer.headers["Content-Length"]) == len(answer.content), "a short answer states its length"
    head = site.ask("HEAD", "/hello")
    assert head.status == 200 and head.content == b"" and int(head.headers["Content-Length"]) > 50
    assert site.ask("POST", "/hello", b"x").status == 405


def test_hello_is_short():
    assert len((TOP / "app" / "hello.c").read_text().splitlines()) < 40


def test_params_are_those_of_cgi(site):
    lines = dict(line.split("=", 1) for line in site.get("/sub/dir/params?a=1&b=%20", X_Some_Thing="value").splitlines())
    assert lines["REQUEST_METHOD"] == "GET" and lines["QUERY_STRING"] == "a=1&b=%20"
    assert lines["SCRIPT_NAME"] == "/sub/dir" and lines["PATH_INFO"] == "/params" == lines["path"]
    assert lines["link"] == "/sub/dir/x"
    assert lines["HTTP_X_SOME_THING"] == "value" and lines["REMOTE_ADDR"] == "127.0.0.1"
    assert lines["REQUEST_URI"] == "/sub/dir/params?a=1&b=%20" and lines["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert dict(line.split("=", 1) for line in site.get("/params").splitlines())["link"] == "/x"


@pytest.mark.parametrize("size", [0, 1, 70_000, 400_000])
def test_a_body_comes_back(site, size):
    body = os.urandom(size)
    assert site.ask("POST", "/echo", body).content == body
    pieces = [body[at:at + 50_000] for at in range(0, size, 50_000)]
    assert site.ask("POST", "/echo", iter(pieces)).content == body, "chunked"


def test_a_large_upload_needs_constant_memory(site):
    site.ask("POST", "/count", b"x")
    before, size, block = site.tandem.memory()["VmHWM"], 64 << 20, bytes(1 << 20)
    answer = site.ask("POST", "/count", iter([block] * 64), {"Content-Length": str(size)})
    assert answer.content == str(size).encode()
    if not sandbox.sanitized():
        assert site.tandem.memory()["VmHWM"] - before < 16 << 20


def test_a_slow_reader_holds_the_app_back(site):
    with socket.create_connection(("127.0.0.1", site.port), timeout=LONG) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        before = site.tandem.memory()["RssAnon"]
        s.sendall(b"GET /flood?n=2000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert s.recv(17) == b"HTTP/1.1 200 OK\r\n"
        assert site.get("/html"), "others are served meanwhile"
        assert site.tandem.memory()["RssAnon"] - before < 32 << 20
        total = 0
        while piece := s.recv(1 << 20):
            total += len(piece)
        assert total > 2000 * 65536


def test_a_client_that_leaves_ends_the_handler(site):
    count = site.tandem.log_text().count("the client went after")
    with socket.create_connection(("127.0.0.1", site.port), timeout=LONG) as s:
        s.sendall(b"GET /flood?n=1000000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        s.recv(100)
    site.wait_log("the client went after", count + 1)


def test_a_body_that_is_cut_is_told(site):
    count = site.tandem.log_text().count("the body was cut")
    with socket.create_connection(("127.0.0.1", site.port), timeout=LONG) as s:
        # More than is kept for an app that has no thread yet, so that it has one when the end comes.
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + bytes(400_000))
        s.recv(1000)
    site.wait_log("the body was cut", count + 1)


def test_a_slow_body_occupies_no_thread(site):
    """Six threads, twenty clients that have sent half of a short body."""
    clients = []
    for _ in range(20):
        s = socket.create_connection(("127.0.0.1", site.port), timeout=LONG)
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
        clients.append(s)
    assert site.get("/html")
    for s in clients:
        s.sendall(b"67890")
        assert s.recv(1000).startswith(b"HTTP/1.1 200")
        s.close()


def test_fields_that_would_split_the_answer_are_refused(site):
    answer = site.ask("GET", "/fields")
    assert answer.content == b"11100000011" + b"0"
    assert answer.headers["X-Good"] == "yes" and answer.headers.get_all("X-Twice") == ["b"]
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert not {"x-evil", "x-split", "x-late"} & {name.lower() for name in answer.headers}


def test_html_is_escaped(site):
    assert site.get("/html") == ("&lt;a href=&#39;x&#39;&gt;&amp;&quot;|&lt;&lt;&gt;|-5|7|1234567890123| 3.14|&lt;|%||9|a%20b%2F%C3%BC%26%3D%2B")


def test_too_many_requests_get_503(site):
    """Six threads and four places to wait; one more is told to come back. Six at a blow are not too many, though no thread has woken
    when the sixth comes."""
    file = site.folder / "go"
    clients = [socket.create_connection(("127.0.0.1", site.port), timeout=LONG) for _ in range(6)]
    site.tandem.process.signal(signal.SIGSTOP)
    for s in clients:
        s.sendall(f"GET /wait?file={file} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    site.tandem.process.signal(signal.SIGCONT)
    for s in clients:
        assert s.recv(4096)[9:12] == b"200", "each has its thread"
    waiting = [socket.create_connection(("127.0.0.1", site.port), timeout=LONG) for _ in range(12)]
    for s in waiting:
        s.sendall(b"GET /html HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    # Those that are refused are answered at once; which they are nobody can tell.
    refused = set()
    while len(refused) < 8:
        refused |= set(select.select(waiting, [], [], LONG)[0])
        assert refused, "nobody was refused"
    file.touch()
    assert {s.makefile("rb").read()[9:12] for s in refused} == {b"503"}
    assert [s.makefile("rb").read()[9:12] for s in waiting if s not in refused] == [b"200"] * 4
    site.wait_log("too many requests wait")
    for s in clients:
        s.close()


# ---- What browsers send ----

def read_until(s, words):
    got = b""
    while words not in got:
        piece = s.recv(4096)
        assert piece, got
        got += piece
    return got


FORM = "application/x-www-form-urlencoded"


def multipart(*parts, boundary="xyz"):
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    return body + b"--" + boundary.encode() + b"--\r\n", {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def disposition(name, file=None):
    return f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{file}"\r\nContent-Type: image/png' if file is not None else "")


@pytest.mark.parametrize("body, kind, status, text", [
    (b"a=1&b=%C3%BC+x&c", FORM, 200, "a=1\nb=ü x\nc=\n"),
    (b"", FORM, 200, ""),
    (b"a=%zz", FORM, 400, ""),
    (b"a=%00", FORM, 400, ""),
    (b"a=" + b"x" * 2000, FORM, 413, ""),
    (b"&".join(b"a%d=1" % i for i in range(11)), FORM, 400, ""),
    (b"a=1", "text/plain", 415, ""),
    (b"a=1", FORM + "x", 415, ""),
    (b"x", "multipart/form-data", 400, ""),
    (b"x", "multipart/form-data; boundary=", 400, ""),
])
def test_forms(site, body, kind, status, text):
    answer = site.ask("POST", "/form", body, {"Content-Type": kind})
    assert (answer.status, answer.content.decode()) == (status, text)


def test_multipart_forms(site):
    content = b"\x89PNG\r\n--xy\r\n--xyy\r\n--x" + bytes(5000)
    body, fields = multipart((disposition("a"), "grüße\r\n".encode()), (disposition("file", 'a "b".png'.replace('"', "%22")), content),
                             (disposition("empty"), b""), (disposition("none", ""), b""))
    answer = site.ask("POST", "/form", body, fields)
    assert answer.status == 200
    assert answer.content.startswith("a=grüße\r\n\nempty=\nnone=\nfile a %22b%22.png image/png ".encode() + str(len(content)).encode())
    for cut in (1, len(body) // 2, len(body) - 5):
        assert site.ask("POST", "/form", body[:cut], fields).status == 400, "a form that is not whole"
    large, fields = multipart((disposition("file", "x"), bytes(2 << 20)))
    assert site.ask("POST", "/form", large, fields).status == 413
    for bad in ('Content-Disposition: form-data; name="a', "Content-Disposition: form-data", "X: y", 'Content-Disposition: attachment; name="a"'):
        body, fields = multipart((bad, b"1"))
        assert site.ask("POST", "/form", body, fields).status == 400, bad


def cookie_of(answer):
    field = answer.headers["Set-Cookie"]
    assert re.fullmatch(r"tandem_session=[\w-]+\.[\w-]+; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax", field), field
    return field.split(";")[0]


def test_sessions_are_signed(site):
    assert "Set-Cookie" not in site.ask("GET", "/session").headers, "nobody gets a session unasked"
    cookie = cookie_of(site.ask("GET", "/session?set=h%26=llo"))
    assert site.get("/session", Cookie="a=b; " + cookie) == "h&=llo"
    assert site.get("/sub/dir/session", Cookie=cookie) == "h&=llo"
    text, signature = cookie.split("=", 1)[1].split(".")
    plain = base64.urlsafe_b64decode(text + "==").replace(b"llo", b"lla")
    forged = base64.urlsafe_b64encode(plain).rstrip(b"=").decode()
    for bad in (f"{forged}.{signature}", f"{text}.{signature[:-2]}AA", text, f"{text}.", ".", "", "x" * 3000, f"{text}.{signature}.{signature}"):
        assert site.get("/session", Cookie="tandem_session=" + bad) == "(none)", bad
    cleared = cookie_of(site.ask("GET", "/session?clear=1", None, {"Cookie": cookie}))
    assert site.get("/session", Cookie=cleared) == "(none)"
    key = pathlib.Path(site.tandem.folder / "state" / "app-session.key")
    assert key.stat().st_mode & 0o777 == 0o600


def test_json(site):
    kind = {"Content-Type": "application/json"}
    answer = site.ask("POST", "/json", '{"a":[1,"ü"]}'.encode(), kind)
    assert answer.status == 200 and json.loads(answer.content) == {"a": [1, "ü"]} and answer.headers["Content-Type"] == "application/json"
    for body, fields, status in ((b"{", kind, 400), (b"", kind, 400), (b'{"a":1,"a":2}', kind, 400), (b"[" * 900, kind, 400),
                                 (b'"' + b"x" * 2000 + b'"', kind, 413), (b"{}", {"Content-Type": "text/plain"}, 415)):
        answer = site.ask("POST", "/json", body, fields)
        assert answer.status == status and "error" in json.loads(answer.content), body


# ---- SQL ----

def test_values_go_and_come(site):
    assert site.get("/values") == "-7|it's \"ü\" \\|1.5|a.b|(100000)|12345678901234|1|1|"
    assert site.get("/quote") == "a'b\\\"c NULL"
    assert site.get("/wrong-count").startswith("0 ") and site.get("/wrong-count") != "0 0"
    assert site.get("/many") == str(sum(range(500)) + 500)


def test_who_answered_is_true(site, servers):
    """A write on the primary, a read on the replica, a locking read and an error on the primary; as the servers' own logs say."""
    with servers.primary.logged() as primary, servers.replicas[0].logged() as replica:
        lines = site.get("/trace").splitlines()
    words = [line.split(" ", 3) for line in lines]
    assert [(server, code) for server, _, code, _ in words] == [("db1", "0"), ("db2", "0"), ("db1", "0"), ("db1", "1054")]
    assert [sql.split()[0] for *_, sql in words] == ["INSERT", "SELECT", "SELECT", "SELECT"]
    assert primary.has("FOR UPDATE") == 1 and replica.has("FOR UPDATE") == 0
    assert primary.has("INSERT INTO test.probe") == 1 and replica.has("SELECT COUNT(*) FROM test.probe") == 1


def test_a_read_sees_what_was_written(site, servers):
    """Each request adds a row and counts them, on different connections: never fewer than before."""
    last = servers.primary.value("SELECT COUNT(*) FROM test.probe")
    for _ in range(50):
        rows = int(site.get("/trace").splitlines()[2].split()[1])
        assert rows == last + 1
        last = rows
    assert servers.replicas[0].row("SHOW SLAVE STATUS")["Slave_SQL_Running"] == "Yes"


def test_transactions_are_run_again(site, servers):
    count = lambda: servers.primary.value("SELECT COUNT(*) FROM test.probe WHERE word = 'once'")
    before = count()
    assert site.get("/transaction?tries=3") == "1 after 3, code 0"
    assert count() == before + 1
    assert site.get("/transaction?tries=99").startswith("0 after 5, code 1644")
    assert count() == before + 1


def test_an_open_transaction_is_rolled_back(site, servers):
    for _ in range(8):
        assert site.get("/open") == "left"
    assert servers.primary.value("SELECT COUNT(*) FROM test.probe WHERE word = 'open'") == 0
    assert servers.primary.value("SELECT COUNT(*) FROM information_schema.innodb_trx") == 0


def test_sql_time_is_in_the_access_log(site):
    site.get("/many?mark=sqltime")
    sandbox.wait_for(lambda: "mark=sqltime" in site.log.read_text(), LONG, "the line")
    line = next(json.loads(line) for line in site.log.read_text().splitlines() if "mark=sqltime" in line)
    times = [value for name, value in line.items() if "sql" in name]
    assert times and times[0] > 0, line


# ---- Modules ----

def test_a_module_is_replaced_and_no_request_lost(site):
    file = site.folder / "end"
    with socket.create_connection(("127.0.0.1", site.port), timeout=LONG) as s:
        s.sendall(f"GET /wait?file={file} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        read_until(s, b"version 1 begins")
        build(site.module, "-DPROBE_VERSION=2")
        assert site.reload()
        assert site.get("/v") == "version 2\n", "new requests get the new one"
        file.touch()
        assert b"version 1 ends" in s.makefile("rb").read(), "the old one ends what it began"
    stop, failed = threading.Event(), []

    def load():
        while not stop.is_set():
            answer = site.ask("GET", "/v")
            if answer.status != 200 or not answer.content.startswith(b"version "):
                failed.append((answer.status, answer.content))
    kinds = {}
    for version in (3, 4):
        kinds[version] = site.folder / f"probe{version}.so"
        build(kinds[version], f"-DPROBE_VERSION={version}")
    thread = threading.Thread(target=load)
    thread.start()
    for version in [3, 4] * 3:
        shutil.copy(kinds[version], site.folder / "fresh.so")
        (site.folder / "fresh.so").rename(site.module)
        assert site.reload()
        assert site.get("/v") == f"version {version}\n"
    stop.set()
    thread.join()
    assert not failed


def test_overwriting_a_module_in_place_harms_nobody(site):
    content = site.module.read_bytes()
    with open(site.module, "r+b") as file:
        file.write(b"\0" * len(content))
    assert site.get("/v").startswith("version "), "what runs is a copy"
    assert not site.reload()
    site.module.write_bytes(content)
    assert site.reload()


@pytest.mark.parametrize("defines, words", [
    (["-DABI=999"], "it was built for version 999 of app/app.h"),
    (["-DREFUSES"], "it does not start: its licence has run out"),
    (["-Dtandem_app=other"], "it defines no"),
])
def test_a_bad_module_is_refused(site, defines, words):
    good = site.module.read_bytes()
    version = site.get("/v")
    build(site.module, *defines)
    assert not site.reload()
    assert words in site.tandem.log_text().splitlines()[-1]
    assert site.get("/v") == version, "nothing was changed"
    site.module.unlink()
    assert not site.reload()
    assert "cannot be read" in site.tandem.log_text().splitlines()[-1]
    site.module.write_bytes(good)
    assert site.reload()


@pytest.mark.parametrize("settings, words", [
    ({"route */x": {"to": "app:nobody"}}, "there is no such app; one that is loaded needs an [app nobody]"),
    ({"app x": {"module": "relative.so"}}, "[app x] module = relative.so: needs a full path"),
    ({"app x": {}}, "[app x]: module is missing"),
    ({"app": {"threads": "0"}}, "[app] threads"),
])
def test_bad_settings(tmp_path, settings, words):
    tandem = sandbox.Tandem(None, {"monitor": {"user": "x", "password": "x"}, "server db1": {"address": "127.0.0.1:1"},
                                   "web": {"listen": "127.0.0.1:1"}, "site *": {}, **settings}, start=False)
    result = subprocess.run([sandbox.tandem_binary(), "-t", "-c", tandem.config], capture_output=True, text=True)
    tandem.close()
    assert result.returncode == 2 and words in result.stderr


# ---- FastCGI ----

def record(kind, content=b"", number=1, padding=0):
    return struct.pack(">BBHHBx", 1, kind, number, len(content), padding) + content + bytes(padding)


def pairs(**values):
    out = b""
    for name, value in values.items():
        for text in (name, value):
            out += struct.pack(">B", len(text)) if len(text) < 128 else struct.pack(">I", len(text) | 1 << 31)
        out += name.encode() + value.encode()
    return out


def request(body=b"", keep=0, padding=0, number=1, **values):
    values = {"REQUEST_METHOD": "GET", "TANDEM_APP": "probe", **values}
    out = record(1, struct.pack(">HB5x", 1, keep), number) + record(4, pairs(**values), number, padding) + record(4, b"", number)
    for at in range(0, len(body), 60_000):
        out += record(5, body[at:at + 60_000], number, padding)
    return out + record(5, b"", number)


def read_records(stream, until=3):
    """(standard output, content of the last record) up to the first record of that kind; None at the end of the stream."""
    out = b""
    while head := stream.read(8):
        _, kind, _, length, padding = struct.unpack(">BBHHBx", head)
        content = stream.read(length)
        stream.read(padding)
        if kind == 6:
            out += content
        if kind == until:
            return out, content
    return None


def by_fastcgi(site, data, pieces=None):
    with socket.create_connection(("127.0.0.1", site.fastcgi_port), timeout=LONG) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), pieces or len(data)):
            s.sendall(data[at:at + (pieces or len(data))])
        stream = s.makefile("rb")
        answer = read_records(stream)
        assert stream.read() == b"", "and the connection ends"
        return answer


@pytest.mark.parametrize("pieces", [None, 1, 7])
def test_fastcgi(site, pieces):
    out, end = by_fastcgi(site, request(b"body " * 10, padding=3, PATH_INFO="/echo", REQUEST_METHOD="POST"), pieces)
    assert out == b"Status: 200\r\nContent-Type: text/plain\r\n\r\n" + b"body " * 10
    assert end[:5] == bytes(5)


def test_fastcgi_paths(site):
    out, _ = by_fastcgi(site, request(SCRIPT_NAME="/pre/fix/params", TANDEM_PREFIX="/pre/fix"))
    assert b"\npath=/params\nlink=/pre/fix/x\n" in out
    out, _ = by_fastcgi(site, request(DOCUMENT_URI="/params", SCRIPT_NAME="/other"))
    assert b"\npath=/params\nlink=/x\n" in out


def test_fastcgi_refusals(site):
    assert by_fastcgi(site, request(TANDEM_APP="nobody"))[0].startswith(b"Status: 404\r\n")
    assert b"fastcgi_param TANDEM_APP" in by_fastcgi(site, request(TANDEM_APP=""))[0]
    assert by_fastcgi(site, request(TANDEM_APP="x" * 100))[0].startswith(b"Status: 400\r\n")
    with socket.create_connection(("127.0.0.1", site.fastcgi_port), timeout=LONG) as s:
        s.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert s.recv(100) == b"", "what is not FastCGI ends"
    with socket.create_connection(("127.0.0.1", site.fastcgi_port), timeout=LONG) as s:
        s.sendall(record(1, struct.pack(">HB5x", 2, 1)))
        assert read_records(s.makefile("rb"))[1][4] == 3, "no authorizer"
    with socket.create_connection(("127.0.0.1", site.fastcgi_port), timeout=LONG) as s:
        s.sendall(record(9, pairs(FCGI_MPXS_CONNS="", FCGI_OTHER=""), 0) + record(77, b"", 0))
        stream = s.makefile("rb")
        assert read_records(stream, 10)[1] == pairs(FCGI_MPXS_CONNS="0")
        assert read_records(stream, 11)[1][0] == 77
    with socket.create_connection(("127.0.0.1", site.fastcgi_port), timeout=LONG) as s:
        for _ in range(40):
            s.sendall(record(4, bytes(65535)))
        s.sendall(record(1, struct.pack(">HB5x", 1, 1)))
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                s.sendall(record(4, bytes(65535)))


def test_fastcgi_keeps_connections_and_takes_one_request_at_a_time(site):
    with socket.create_connection(("127.0.0.1", site.fastcgi_port), timeout=LONG) as s:
        stream = s.makefile("rb")
        for number in range(1, 20):
            s.sendall(request(b"x" * number, keep=1, number=number, PATH_INFO="/echo"))
            assert read_records(stream)[0].endswith(b"\r\n\r\n" + b"x" * number)
        s.sendall(record(1, struct.pack(">HB5x", 1, 1), 5) + record(1, struct.pack(">HB5x", 1, 1), 6))
        assert read_records(stream)[1][4] == 1, "it cannot multiplex"
        s.sendall(record(2, b"", 5))
        assert read_records(stream)[1][4] == 0, "aborted"


def test_fastcgi_streams(site):
    size = 8 << 20
    before = site.tandem.memory()["RssAnon"]
    out, _ = by_fastcgi(site, request(bytes(size), PATH_INFO="/count", REQUEST_METHOD="POST"))
    assert out.endswith(str(size).encode())
    out, _ = by_fastcgi(site, request(PATH_INFO="/flood", QUERY_STRING="n=64"))
    assert len(out) > 64 * 65536
    if not sandbox.sanitized():
        assert site.tandem.memory()["RssAnon"] - before < 16 << 20


@pytest.mark.skipif(not shutil.which("cgi-fcgi"), reason="cgi-fcgi is not here (libfcgi-bin)")
def test_cgi_fcgi(site):
    env = dict(os.environ, REQUEST_METHOD="GET", TANDEM_APP="hello", QUERY_STRING="name=you", SCRIPT_NAME="/hello")
    for address in (f"127.0.0.1:{site.fastcgi_port}", site.unix):
        out = subprocess.run(["cgi-fcgi", "-bind", "-connect", address], env=env, capture_output=True, timeout=LONG, stdin=subprocess.DEVNULL)
        assert b"Hello, you!" in out.stdout, out


def test_a_crashing_app_in_another_process_takes_down_no_other(site, tmp_path):
    """An app that is not trusted runs in a Tandem of its own: when it dies its requests get 502, nobody else's."""
    other = sandbox.Tandem(None, {"monitor": {"user": "x", "password": "x"}, "server db1": {"address": "127.0.0.1:1"},
                                  "app": {"fastcgi": f"unix:{tmp_path}/app.sock", "fastcgi_app": "probe"},
                                  "app probe": {"module": str(site.module)}}, wait=False)
    sandbox.wait_for(lambda: "ready:" in other.log_text(), LONG, "the other process")
    apart = {"upstream apart": {"server": f"unix:{tmp_path}/app.sock"}, "route */crash": {"to": "upstream:apart"},
             "route */echo": {"to": "upstream:apart"}}
    site.tandem.change(apart)
    assert site.reload()
    stop, bad = threading.Event(), []

    def load():
        while not stop.is_set():
            if site.ask("GET", "/v").status != 200:
                bad.append(1)
    thread = threading.Thread(target=load)
    thread.start()
    try:
        assert site.ask("POST", "/echo", b"from afar").content == b"from afar"
        assert site.ask("GET", "/crash").status == 502
        sandbox.wait_for(lambda: not other.process.running(), LONG, "its end")
        assert site.ask("POST", "/echo", b"x").status == 502
    finally:
        stop.set()
        thread.join()
        other.close()
        site.tandem.change({section: None for section in apart})
        assert site.reload()
    assert not bad


def test_drain_lets_requests_end(servers, tmp_path):
    site = Site(servers, tmp_path)
    file = tmp_path / "end"
    with socket.create_connection(("127.0.0.1", site.port), timeout=LONG) as s:
        s.sendall(f"GET /wait?file={file} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert s.recv(4096)
        site.tandem.process.signal(15)
        site.wait_log("draining")
        file.touch()
        assert b"ends" in s.makefile("rb").read()
    sandbox.wait_for(lambda: not site.tandem.process.running(), LONG, "its end")
    site.tandem.close(check=True)
