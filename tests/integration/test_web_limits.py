"""Who may ask, how much, and as whom: addresses behind load balancers and proxies, lists, limits, careful fields, TLS, the access log."""
import json
import re
import socket
import ssl
import struct
import subprocess
import time

import pytest

import sandbox
from test_web import Answer, Responder

pytestmark = pytest.mark.core

BALANCER, PROXY, DENIED, PLAIN = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1"
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def echo(params, _body):
    """What the application is told of the client, and an answer with fields of its own where it is asked for."""
    told = {name: params.get(name, "") for name in ("REMOTE_ADDR", "HTTPS", "REQUEST_SCHEME", "REQUEST_ID")}
    fields = "Server: secret/1.2\r\nX-Powered-By: PHP/8.2\r\n"
    if "own" in params["QUERY_STRING"]:
        fields += "x-frame-options: ALLOWALL\r\nREFERRER-POLICY: no-referrer\r\nX-Content-Type-Options: nosniff\r\n"
    if "csp" in params["QUERY_STRING"]:
        fields += "Content-Security-Policy: default-src 'self'; frame-ancestors https://a.example\r\n"
    return f"Content-Type: application/json\r\n{fields}\r\n{json.dumps(told)}".encode()


class Daemon:
    def __init__(self, folder, **web):
        self.folder, self.root, self.log = folder, folder / "root", folder / "access.log"
        self.root.mkdir()
        (self.root / "index.html").write_bytes(b"hello\n")
        self.program = Responder(echo)
        self.port, self.tls_port = sandbox.free_port(), sandbox.free_port()
        self.sections = {
            "monitor": {"user": "nobody", "password": "nothing"},
            "server db1": {"address": f"127.0.0.1:{sandbox.free_port()}"},
            "web": {"listen": f"0.0.0.0:{self.port}", "listen_tls": f"127.0.0.1:{self.tls_port}",
                    "access_log": self.log, "access_log_format": "json", "header_timeout": "1min",
                    "proxy_protocol_from": BALANCER, "trusted_proxies": [PROXY, "10.0.0.0/8"],
                    "deny": [f"{DENIED}, 192.0.2.0/24", "2001:db8:bad::/48"], "allow": ["192.0.2.7", "0.0.0.0/0", "::/0"], **web},
            "site *": {"root": self.root},
            "site closed.example": {"root": self.root, "allow": "203.0.113.0/24", "deny": "203.0.113.128/25"},
            "site small.example": {"max_body": 1000},
            "site bare.example": {"root": self.root, "content_sniffing": "on", "frame_options": "off", "referrer_policy": "off"},
            "site strict.example": {"root": self.root, "hsts": 31536000, "hsts_subdomains": "on", "frame_options": "deny"},
            "site moved.example": {"root": self.root, "redirect_https": "on"},
            "site open.example": {"tell_software": "on"},
            "upstream app": {"server": f"127.0.0.1:{self.program.port}"},
        }
        for host in ("*", "small.example", "open.example"):
            self.sections[f"route {host}/app"] = {"to": "upstream:app"}
        self.tandem = sandbox.Tandem(None, self.sections, wait=False)
        sandbox.wait_for(lambda: "ready:" in self.tandem.log_text() or not self.tandem.process.running(), 60, "the daemon")
        self.reloads = 0

    def connect(self, source=PLAIN, tls=False):
        s = socket.create_connection((PLAIN, self.tls_port if tls else self.port), timeout=60, source_address=(source, 0))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def ask(self, fields="", source=PLAIN, path="/", host="a", before=b"", method="GET", body=b"", tls=False):
        with self.connect(source, tls) as s:
            if tls:
                s.sendall(before)
                s = insecure().wrap_socket(s, server_hostname=host)
                before = b""
            s.sendall(before + f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n".encode("latin-1") + body)
            return read(s)

    def told(self, *args, **more):
        answer = self.ask(*args, path="/app", **more)
        assert answer.status == 200
        return json.loads(answer.body)

    def reload(self, settings):
        self.tandem.reload(settings)
        self.reloads += 1
        sandbox.wait_for(lambda: self.tandem.log_text().count("reloaded:") == self.reloads, 60, "the reload")

    def logged(self, text):
        sandbox.wait_for(lambda: text in self.tandem.log_text(), 30, f"{text!r} in the log")

    def entry(self, path):
        """Its line of the access log, read as JSON."""
        def found():
            lines = self.log.read_text().splitlines() if self.log.exists() else []
            return next((line for line in lines if json.loads(line)["target"] == path), None)
        return json.loads(sandbox.wait_for(found, 30, f"{path} in the access log"))

    def close(self):
        self.tandem.close(check=True)
        self.program.close()


def read(s):
    """An answer of known length, or in one run of chunks up to its end."""
    data = b""
    while True:
        try:
            piece = s.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            piece = b""
        if not piece:
            break
        data += piece
    if not data:
        return None
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines[1:]:
        name, _, value = line.partition(": ")
        assert name.lower() not in fields, f"{name} is there twice"
        fields[name.lower()] = value
    if fields.get("transfer-encoding") == "chunked":
        whole = b""
        while not body.startswith(b"0\r\n"):
            size, _, body = body.partition(b"\r\n")
            whole, body = whole + body[:int(size, 16)], body[int(size, 16) + 2:]
        body = whole
    return Answer(int(lines[0].split()[1]), fields, body)


def insecure():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("limits"))
    yield daemon
    daemon.close()


# ---- whose connection: the PROXY header ------------------------------------------------------------------------------------

def v2(address, port=4711, command=0x21, more=b""):
    v6 = ":" in address
    family = socket.AF_INET6 if v6 else socket.AF_INET
    block = socket.inet_pton(family, address) + socket.inet_pton(family, "::1" if v6 else "127.0.0.1") + struct.pack("!HH", port, 80) + more
    return V2 + struct.pack("!BBH", command, 0x21 if v6 else 0x11, len(block)) + block


@pytest.mark.parametrize("header, client", [
    (b"PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\n", "198.51.100.7"),
    (b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n", "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", BALANCER),
    (v2("198.51.100.7"), "198.51.100.7"),
    (v2("2001:db8::7"), "2001:db8::7"),
    (v2("::ffff:198.51.100.7"), "198.51.100.7"),
    (v2("198.51.100.7", command=0x20), BALANCER),
    (v2("198.51.100.7", more=b"\x05\0\x03abc"), "198.51.100.7"),
])
def test_the_balancer_tells_the_client(daemon, header, client):
    for tls in False, True:
        assert daemon.told(source=BALANCER, before=header, tls=tls)["REMOTE_ADDR"] == client


def test_the_header_byte_by_byte_and_with_the_request(daemon):
    with daemon.connect(BALANCER) as s:
        for byte in v2("198.51.100.7") + b"GET /app HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":
            s.send(bytes([byte]))
        assert json.loads(read(s).body)["REMOTE_ADDR"] == "198.51.100.7"


def test_tls_between_client_and_balancer_counts(daemon):
    tls = b"\x20\0\x05\x01\0\0\0\0"
    assert daemon.told(source=BALANCER, before=v2("198.51.100.7", more=tls))["HTTPS"] == "on"
    assert daemon.told(source=BALANCER, before=v2("198.51.100.7"))["HTTPS"] == ""
    assert daemon.ask(source=BALANCER, before=v2("198.51.100.7", more=tls), host="moved.example").status == 200
    assert daemon.ask(source=BALANCER, before=v2("198.51.100.7"), host="moved.example").status == 308


@pytest.mark.parametrize("bytes_, why", [
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "it sent no PROXY header"),
    (b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "malformed port"),
    (b"PROXY TCP4 1.2.3.x 5.6.7.8 1 2\r\n", "malformed address"),
    (b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", "neither TCP4, TCP6 nor UNKNOWN"),
    (b"PROXY " + b"x" * 200, "has no end"),
    (V2 + b"\x11\x11\0\x0c" + bytes(12), "unknown version or command"),
    (V2 + b"\x21\x77\0\x0c" + bytes(12), "unknown address family"),
    (V2 + b"\x21\x11\0\x04" + bytes(4), "too short"),
    (V2 + b"\x21\x11\xff\xff", "longer than 4096 bytes"),
])
def test_a_header_that_is_none(daemon, bytes_, why):
    with daemon.connect(BALANCER) as s:
        s.sendall(bytes_)
        assert read(s) is None, "nothing is answered"
    daemon.logged(why)


def test_a_header_that_never_comes(daemon):
    daemon.reload({"web": {"header_timeout": "1s"}})
    with daemon.connect(BALANCER) as s:
        assert read(s) is None
    daemon.logged("no PROXY header came, and its address is one of proxy_protocol_from")
    daemon.reload({"web": {"header_timeout": "1min"}})


def test_a_header_from_elsewhere_is_a_malformed_request(daemon):
    assert daemon.ask(before=b"PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\n").status == 400
    assert daemon.ask(before=v2("198.51.100.7")).status == 400


# ---- whose request: X-Forwarded-For ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("source, fields, client, https", [
    (PLAIN, "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\n", PLAIN, ""),
    (PROXY, "", PROXY, ""),
    (PROXY, "X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7", ""),
    (PROXY, "X-Forwarded-For: 1.1.1.1, 198.51.100.7, 10.1.2.3\r\n", "198.51.100.7", ""),
    (PROXY, "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7", ""),
    (PROXY, "X-Forwarded-For: [2001:db8::7]:99\r\n", "2001:db8::7", ""),
    (PROXY, "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\n", "198.51.100.7", "on"),
    (PROXY, "X-Forwarded-For: <script>\r\n", PROXY, ""),
    (PROXY, "Forwarded: for=198.51.100.7;proto=https\r\n", PROXY, ""),
])
def test_a_proxy_tells_the_client(daemon, source, fields, client, https):
    told = daemon.told(fields, source=source)
    assert (told["REMOTE_ADDR"], told["HTTPS"]) == (client, https)
    assert told["REQUEST_SCHEME"] == ("https" if https else "http")


def test_a_proxy_behind_a_balancer(daemon):
    fields = "X-Forwarded-For: 198.51.100.7\r\n"
    assert daemon.told(fields, source=BALANCER, before=v2("10.0.0.9"))["REMOTE_ADDR"] == "198.51.100.7"
    assert daemon.told(fields, source=BALANCER, before=v2("203.0.113.1"))["REMOTE_ADDR"] == "203.0.113.1"


def test_the_name_of_a_request(daemon):
    """A trusted proxy may give it, in characters that harm nobody; else Tandem does."""
    assert daemon.told("X-Request-Id: Ab-1.2_3\r\n", source=PROXY)["REQUEST_ID"] == "Ab-1.2_3"
    for fields, source in (("X-Request-Id: Ab-1\r\n", PLAIN), ('X-Request-Id: a"b\r\n', PROXY), (f"X-Request-Id: {'x' * 65}\r\n", PROXY)):
        assert re.fullmatch("[0-9a-f]{16}", daemon.told(fields, source=source)["REQUEST_ID"])


# ---- lists -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("client, status", [
    ("198.51.100.7", 200), ("192.0.2.1", 403), ("192.0.2.7", 200), (DENIED, 403), ("2001:db8:bad::1", 403), ("2001:db8::1", 200),
])
def test_lists_of_all_sites(daemon, client, status):
    v6 = ":" in client
    header = f"PROXY TCP{6 if v6 else 4} {client} {'::1' if v6 else PLAIN} 1 2\r\n".encode()
    assert daemon.ask(source=BALANCER, before=header).status == status
    assert daemon.ask(f"X-Forwarded-For: {client}\r\n", source=PROXY).status == status


def test_a_denied_peer(daemon):
    answer = daemon.ask(source=DENIED)
    assert answer.status == 403
    daemon.logged(f"web client {DENIED} request ")
    daemon.logged("refused with 403: the lists of [web] do not let its address in")


@pytest.mark.parametrize("client, status", [(PLAIN, 403), ("203.0.113.1", 200), ("203.0.113.127", 200), ("203.0.113.128", 403), ("192.0.2.1", 403)])
def test_lists_of_one_site(daemon, client, status):
    assert daemon.ask(f"X-Forwarded-For: {client}\r\n", source=PROXY, host="closed.example").status == status


def test_who_is_denied_can_ask_again_for_another_site(daemon):
    """403 is about a request; the connection lives on."""
    with daemon.connect() as s:
        stream = s.makefile("rb")
        for host, status in ("closed.example", 403), ("a", 200), ("closed.example", 403):
            s.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert Answer.read(stream).status == status


# ---- sizes and times -------------------------------------------------------------------------------------------------------

def test_a_body_that_is_too_long(daemon):
    assert daemon.ask("Content-Length: 1000\r\n", host="small.example", path="/app", method="POST", body=b"x" * 1000).status == 200
    asked = len(daemon.program.requests)
    assert daemon.ask("Content-Length: 1001\r\n", host="small.example", path="/app", method="POST").status == 413
    daemon.logged("refused with 413: its body is longer than max_body")
    assert len(daemon.program.requests) == asked, "the application was not bothered"


def test_a_body_that_drips(daemon):
    """Each byte is in time for body_timeout; all of them are not."""
    daemon.reload({"web": {"body_timeout": "5s"}})
    with daemon.connect() as s:
        s.sendall(b"POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        s.settimeout(0.2)
        answer, ends = b"", time.monotonic() + 60
        while b"\r\n\r\n" not in answer and time.monotonic() < ends:
            try:
                s.send(b"x")
                answer += s.recv(65536)
            except TimeoutError:
                pass
        assert answer.startswith(b"HTTP/1.1 408 ")
    daemon.logged("its body comes slower than min_body_rate")
    daemon.reload({"web": {"body_timeout": None}})


# ---- careful fields --------------------------------------------------------------------------------------------------------

USUAL = {"x-content-type-options": "nosniff", "x-frame-options": "SAMEORIGIN", "referrer-policy": "strict-origin-when-cross-origin",
         "strict-transport-security": None, "server": None, "x-powered-by": None}


@pytest.mark.parametrize("path, host, tls, differs", [
    ("/", "a", False, {}),
    ("/", "a", True, {}),
    ("/nothing", "a", False, {}),
    ("/app", "a", False, {}),
    ("/app?own", "a", False, {"x-frame-options": "ALLOWALL", "referrer-policy": "no-referrer"}),
    ("/app?csp", "a", False, {"x-frame-options": None}),
    ("/app", "open.example", False, {"server": "secret/1.2", "x-powered-by": "PHP/8.2"}),
    ("/", "bare.example", False, {"x-content-type-options": None, "x-frame-options": None, "referrer-policy": None}),
    ("/", "strict.example", False, {"x-frame-options": "DENY"}),
    ("/", "strict.example", True, {"x-frame-options": "DENY", "strict-transport-security": "max-age=31536000; includeSubDomains"}),
    ("/", "moved.example", False, {}),
])
def test_careful_fields(daemon, path, host, tls, differs):
    """read() complains of a field that is there twice."""
    answer = daemon.ask(path=path, host=host, tls=tls)
    assert {name: answer[name] for name in USUAL} == {**USUAL, **differs}


def test_https_is_believed_of_proxies_only(daemon):
    secure = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\n"
    assert daemon.ask(secure, source=PROXY, host="moved.example").status == 200
    assert daemon.ask(secure, host="moved.example").status == 308
    assert daemon.ask(secure, source=PROXY, host="strict.example")["strict-transport-security"]
    assert not daemon.ask(secure, host="strict.example")["strict-transport-security"]


# ---- the access log --------------------------------------------------------------------------------------------------------

def test_the_access_log_in_json(daemon):
    daemon.ask("X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\nX-Request-Id: abc\r\n", source=PROXY, path="/app?1")
    entry = daemon.entry("/app?1")
    assert (entry["client"], entry["tls"], entry["request"], entry["status"]) == ("198.51.100.7", True, "abc", 200)
    assert 0 < entry["upstream_seconds"] <= entry["seconds"] and entry["sql_seconds"] == 0
    daemon.ask(path="/?static")
    assert daemon.entry("/?static")["upstream_seconds"] == 0


@pytest.mark.parametrize("agent", ["\"}", "\\", "\\n", "\x1b[31m", "\u00e9\u20ac".encode().decode("latin-1"), "\xff\xfe", "\t", "\x7f"])
def test_nothing_of_a_client_is_raw_in_the_log(daemon, agent):
    path = f"/agent-{agent.encode('latin-1').hex()}"
    answer = daemon.ask(f"User-Agent: a{agent}z\r\n", path=path)
    sandbox.wait_for(lambda: answer.status != 404 or path in daemon.log.read_text(), 30, "the line")
    text = daemon.log.read_bytes()
    assert not re.search(rb"[^\n -~]", text)
    if answer.status == 404:
        assert daemon.entry(path)["agent"] == f"a{agent}z"
    else:
        assert answer.status == 400 and agent.encode("latin-1") not in answer.body


def test_long_texts_leave_the_line_whole(daemon):
    many = "\xe9" * 5000
    daemon.ask(f"User-Agent: {many}\r\nReferer: {many}\r\n", path="/long")
    entry = daemon.entry("/long")
    assert entry["agent"] and set(entry["agent"]) == {"\xe9"} == set(entry["referer"])


def test_nothing_of_a_client_is_raw_on_standard_error(daemon):
    for path in ("/%1b%5b31m%0afaked: line", "/\x1b[31m", "/../x\r\nfaked"):
        with daemon.connect() as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"))
            s.shutdown(socket.SHUT_WR)
            read(s)
    assert not re.search(r"[^\n -~]", daemon.tandem.log_text())
    assert not re.search(r"^faked", daemon.tandem.log_text(), re.M)


def test_the_log_is_rotated(daemon):
    daemon.ask(path="/before")
    daemon.entry("/before")
    daemon.log.rename(daemon.folder / "access.log.1")
    daemon.reload({})
    daemon.ask(path="/after")
    daemon.entry("/after")
    assert "/after" not in (daemon.folder / "access.log.1").read_text()
    daemon.reload({"web": {"access_log": None}})
    daemon.ask(path="/unlogged")
    daemon.reload({"web": {"access_log": daemon.log}})
    daemon.ask(path="/logged-again")
    daemon.entry("/logged-again")
    assert "/unlogged" not in daemon.log.read_text()
    (daemon.folder / "nowhere").write_text("")
    daemon.tandem.reload({"web": {"access_log": daemon.folder / "nowhere" / "log"}})
    daemon.logged("reload refused, nothing was changed: [web] access_log")
    daemon.reload({"web": {"access_log": daemon.log}})


# ---- how much: rates and connections ---------------------------------------------------------------------------------------

@pytest.fixture
def limited(daemon):
    """A burst of 3 and then one request in a minute or so: the test is over before the next token."""
    def limit(**web):
        daemon.reload({"web": web})
        names.update(web)
    names = {}
    yield limit
    daemon.reload({"web": dict.fromkeys(names)})


def statuses(daemon, count, fields="", source=PROXY):
    return [daemon.ask(fields, source=source).status for _ in range(count)]


def test_requests_in_a_time(daemon, limited):
    """More than the burst is refused for as long as they keep coming; another address, and a proxy's own requests, are not."""
    limited(request_rate=1, request_burst=3)
    with daemon.connect(PROXY) as s:
        # All in one piece: however slow the machine, they are looked at together.
        s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n" * 12)
        stream = s.makefile("rb")
        answers = [Answer.read(stream) for _ in range(12)]
    passed = [a for a in answers if a.status == 200]
    refused = [a for a in answers if a.status == 429]
    assert len(passed) >= 3 and len(refused) >= 1 and len(passed) + len(refused) == 12
    assert [a.status for a in answers[:3]] == [200] * 3
    assert all(re.fullmatch(r"[1-4]", a["retry-after"]) for a in refused)
    daemon.logged("refused with 429: its address sends more than request_rate and request_burst allow")
    assert statuses(daemon, 3, "X-Forwarded-For: 198.51.100.2\r\n") == [200] * 3
    assert statuses(daemon, 10) == [200] * 10
    sandbox.wait_for(lambda: daemon.ask("X-Forwarded-For: 198.51.100.1\r\n", source=PROXY).status == 200, 60, "the next token")


def test_one_ipv6_customer_is_one(daemon, limited):
    limited(request_rate=1, request_burst=1)
    with daemon.connect(PROXY) as s:
        s.sendall(b"".join(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 2001:db8:0:1::%x\r\n\r\n" % n for n in range(12)))
        stream = s.makefile("rb")
        assert 429 in {Answer.read(stream).status for _ in range(12)}
    with daemon.connect(PROXY) as s:
        s.sendall(b"".join(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 2001:db8:1:%x::1\r\n\r\n" % n for n in range(12)))
        stream = s.makefile("rb")
        assert {Answer.read(stream).status for _ in range(12)} == {200}


def answers(s):
    try:
        s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        return Answer.read(s.makefile("rb")) is not None
    except ConnectionError:
        return False


def test_connections_of_one_address(daemon, limited):
    limited(max_clients_per_address=3)
    held = []
    # What earlier tests have closed may be counted for a moment.
    sandbox.wait_for(lambda: hold_three(daemon, held), 60, "three connections")
    with daemon.connect("127.0.0.5") as fourth:
        assert not answers(fourth)
    daemon.logged("refused: its address has max_clients_per_address connections already")
    with daemon.connect("127.0.0.6") as other:
        assert answers(other)
    assert all(answers(s) for s in held), "those that are there stay"
    many = [daemon.connect(PROXY) for _ in range(6)]
    assert all(answers(s) for s in many), "a proxy stands for many"
    held.pop().close()
    sandbox.wait_for(lambda: one_more(daemon), 60, "the place of the one that went")
    for s in held + many:
        s.close()


def hold_three(daemon, held):
    while len(held) < 3:
        s = daemon.connect("127.0.0.5")
        if not answers(s):
            s.close()
            return False
        held.append(s)
    return True


def one_more(daemon):
    with daemon.connect("127.0.0.5") as s:
        return answers(s)


def test_a_balancers_clients_are_counted_apart(daemon, limited):
    limited(max_clients_per_address=2)
    clients = []
    for client, count in ("198.51.100.10", 2), ("198.51.100.11", 2):
        for _ in range(count):
            s = daemon.connect(BALANCER)
            s.sendall(v2(client))
            clients.append(s)
    assert all(answers(s) for s in clients)
    with daemon.connect(BALANCER) as s:
        s.sendall(v2("198.51.100.10"))
        assert not answers(s)
    for s in clients:
        s.close()


# ---- TLS -------------------------------------------------------------------------------------------------------------------

def openssl(*arguments, **more):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, **more)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority with one certificate for each of two names, and its word on them."""
    folder = tmp_path_factory.mktemp("ca")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "ca.key", "-out", folder / "ca.pem", "-subj", "/CN=authority",
            "-days", "30")
    lines = []
    for number, name in enumerate(("one", "two"), 0x1001):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-set_serial", number,
                "-days", "20", "-out", folder / f"{name}.pem")
        lines.append(f"V\t{time.strftime('%y%m%d%H%M%SZ', time.gmtime(time.time() + 1e6))}\t\t{number:X}\tunknown\t/CN={name}\n")
    (folder / "index.txt").write_text("".join(lines))
    for name in ("one", "two"):
        openssl("ocsp", "-index", folder / "index.txt", "-CA", folder / "ca.pem", "-rsigner", folder / "ca.pem", "-rkey", folder / "ca.key",
                "-issuer", folder / "ca.pem", "-cert", folder / f"{name}.pem", "-ndays", "5", "-respout", folder / f"{name}.der", "-noverify")
    return folder


def shake(daemon, name, *more):
    """What openssl's client sees."""
    return subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{daemon.tls_port}", "-servername", name, *more],
                          input=b"", capture_output=True, timeout=60).stdout.decode(errors="replace")


@pytest.fixture
def certified(daemon, authority):
    daemon.reload({"site one": {"root": daemon.root, "certificate": authority / "one.pem", "key": authority / "one.key"}})
    yield daemon
    daemon.reload({"site one": None})


def test_the_authoritys_word_is_stapled(certified, authority):
    assert "OCSP response: no response sent" in shake(certified, "one", "-status")
    certified.reload({"site one": {"ocsp": authority / "one.der"}})
    for version in "-tls1_2", "-tls1_3":
        assert "OCSP Response Status: successful" in shake(certified, "one", "-status", version)
    assert "no response sent" in shake(certified, "other", "-status")
    (authority / "rubbish.der").write_bytes(b"rubbish")
    (authority / "empty.der").write_bytes(b"")
    for file, why in (("two.der", "is about another certificate"), ("rubbish.der", "is no OCSP response in DER form"),
                      ("empty.der", "is empty or too long")):
        certified.tandem.reload({"site one": {"ocsp": authority / file}})
        certified.logged(f"reload refused, nothing was changed: [site one] ocsp {authority / file}: {why}")
    certified.tandem.change({"site one": {"ocsp": None}})
    assert "OCSP Response Status: successful" in shake(certified, "one", "-status")


def test_a_word_that_is_too_old_is_not_given(certified, authority):
    fresh = (authority / "one.der").read_bytes()
    until = max(re.findall(rb"\x18\x0f(\d{14}Z)", fresh))
    (authority / "old.der").write_bytes(fresh.replace(until, b"20200101000000Z"))
    certified.reload({"site one": {"ocsp": authority / "old.der"}})
    certified.logged("its time is over, browsers do not get it: fetch a new one and reload")
    assert "no response sent" in shake(certified, "one", "-status")


def test_a_certificate_is_changed_under_open_connections(certified, authority):
    context = insecure()

    def number(s):
        der = s.getpeercert(binary_form=True)
        return subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-serial"], input=der, capture_output=True,
                              check=True).stdout.decode().strip()
    with context.wrap_socket(certified.connect(tls=True), server_hostname="one") as old:
        assert number(old) == "serial=1001" and answers(old)
        certified.reload({"site one": {"certificate": authority / "two.pem", "key": authority / "two.key"}})
        assert answers(old), "the connection lives on"
        with context.wrap_socket(certified.connect(tls=True), server_hostname="one") as new:
            assert number(new) == "serial=1002" and answers(new)
        certified.tandem.reload({"site one": {"key": authority / "one.key"}})
        certified.logged("reload refused, nothing was changed: [site one]")
        assert answers(old)
        with context.wrap_socket(certified.connect(tls=True), server_hostname="one") as new:
            assert number(new) == "serial=1002"
    certified.tandem.change({"site one": {"key": authority / "two.key"}})


@pytest.mark.parametrize("version, works", [("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
def test_versions_of_tls(daemon, version, works):
    seen = shake(daemon, "a", version, "-cipher", "ALL:@SECLEVEL=0")
    assert ("Verify return code" in seen and "Cipher is (NONE)" not in seen) == works


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_clients_come_back_to_any_worker_and_after_a_reload(certified, version):
    """With the ticket of one connection, without a whole handshake."""
    context = insecure()
    context.minimum_version = context.maximum_version = version
    with context.wrap_socket(certified.connect(tls=True), server_hostname="one") as s:
        assert answers(s)
        session = s.session
    for reloads in False, True:
        if reloads:
            certified.reload({})
        for _ in range(6):
            with context.wrap_socket(certified.connect(tls=True), server_hostname="one", session=session) as s:
                assert s.session_reused and answers(s)


# ---- settings --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("section, name, value, why", [
    ("web", "deny", "10.0.0.1/8", "has bits beyond the number behind the slash"),
    ("web", "allow", "somewhere", "is no address"),
    ("web", "trusted_proxies", "10.0.0.0/33", "from 0 to 32"),
    ("web", "proxy_protocol_from", ",", "is empty"),
    ("web", "request_rate", "fast", "not a whole number"),
    ("web", "forwarded_by", "via", "must be one of x-forwarded-for, forwarded"),
    ("site *", "ocsp", "/nowhere", "cannot be read"),
    ("site *", "hsts", "1 year", "not a whole number"),
    ("site *", "frame_options", "none", "must be one of sameorigin, deny, off"),
])
def test_a_wrong_setting_says_what_to_write(daemon, tmp_path, section, name, value, why):
    changed = {key: dict(names) for key, names in daemon.tandem.settings.items()}
    changed[section][name] = value
    file = tmp_path / "tandem.ini"
    file.write_text("".join(f"[{key}]\n" + "".join(f"{n} = {v}\n" for n, vs in names.items() for v in (vs if isinstance(vs, list) else [vs]))
                            for key, names in changed.items()))
    file.chmod(0o600)
    checked = subprocess.run([sandbox.tandem_binary(), "-t", "-c", str(file)], capture_output=True, text=True, timeout=60)
    said = [line for line in (checked.stdout + checked.stderr).splitlines() if f"{name} = " in line]
    assert checked.returncode == 2 and len(said) == 1 and why in said[0], checked.stdout + checked.stderr
    assert re.search(r"tandem\.ini:\d+", said[0])
