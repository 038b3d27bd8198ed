"""What FastCGI programs may do: records cut anywhere, errors beside the answer, ends that come early, nonsense; and php-fpm itself."""
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading

import pytest

import sandbox
from test_upstreams import SECONDS, Client, Stage

pytestmark = pytest.mark.core

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, UNKNOWN = 1, 2, 3, 4, 5, 6, 7, 11
ANSWER = b"Content-Type: text/x\r\n\r\nhello"


def record(kind, content=b"", number=1, padding=0):
    return struct.pack("!BBHHBx", 1, kind, number, len(content), padding) + content + b"p" * padding


def end(status=0, number=1):
    return record(END, struct.pack("!IBxxx", 0, status), number)


class Program:
    """`script(peer, request)` sends what it likes; the connection is closed behind it unless it says "keep"."""

    def __init__(self):
        self.script, self.requests, self.links = None, 0, 0
        self.flags, self.bodies = [], []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                peer = self.listener.accept()[0]
            except OSError:
                return
            self.links += 1
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        try:
            with peer, peer.makefile("rb") as stream:
                while self.read(stream):
                    self.requests += 1
                    if self.script(peer) != "keep":
                        return
        except OSError:
            pass

    def read(self, stream):
        body = b""
        while True:
            header = stream.read(8)
            if len(header) < 8:
                return False
            kind, length, padding = struct.unpack("!xBxxHBx", header)
            content = stream.read(length)
            stream.read(padding)
            if kind == BEGIN:
                self.flags.append(content[2])
            body += content if kind == STDIN else b""
            if kind == STDIN and not length:
                self.bodies.append(body)
                return True

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Programs:
    def __init__(self):
        self.program, self.other = Program(), Program()
        self.stage = Stage({"app": {"server": self.program.address}, "two": {"server": [self.program.address, self.other.address],
                                                                             "fail_timeout": "100ms"},
                            "kept": {"server": self.program.address, "keepalive": 2}}, upstream_timeout="1s")


@pytest.fixture(scope="module")
def shared():
    shared = Programs()
    yield shared
    shared.stage.close()
    shared.program.close()
    shared.other.close()


@pytest.fixture
def programs(shared):
    for program in (shared.program, shared.other):
        program.requests = program.links = 0
        program.flags, program.bodies = [], []
        program.script = lambda peer: peer.sendall(record(STDOUT, ANSWER) + record(STDOUT) + end())
    return shared


def says(*pieces):
    """Each piece in a packet of its own."""
    def script(peer):
        for piece in pieces:
            peer.sendall(piece)
            threading.Event().wait(0.002)
    return script


WHOLE = record(STDOUT, ANSWER[:7], padding=5) + record(STDERR, b"a warning\n", padding=1) + record(STDOUT, ANSWER[7:], padding=255) + \
    record(STDOUT) + record(STDERR) + end()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 100, 1000])
def test_records_cut_anywhere(programs, size):
    programs.program.script = says(*[WHOLE[i:i + size] for i in range(0, len(WHOLE), size)])
    answer = programs.stage.get("/app")
    assert (answer.status, answer.body, answer["Content-Type"]) == (200, b"hello", "text/x")
    programs.stage.logged("upstream app .* says: a warning")


@pytest.mark.parametrize("what, said", {
    "a record of another request": record(STDOUT, ANSWER, number=2) + end(number=2),
    "a record of no request": record(STDOUT, ANSWER, number=0) + end(),
    "another version": b"\2" + record(STDOUT, ANSWER)[1:],
    "HTTP": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "only an end": end(),
    "only errors": record(STDERR, b"out of luck") + end(),
    "half a record": record(STDOUT, ANSWER)[:20],
    "half a head": record(STDOUT, b"Content-Type: text/x\r\n") + end(),
    "nothing": b"",
}.items())
def test_what_is_no_answer(programs, what, said):
    programs.program.script = lambda peer: peer.sendall(said)
    assert programs.stage.get("/app").status == 502, what
    programs.program.script = lambda peer: peer.sendall(WHOLE)
    assert programs.stage.get("/app").status == 200


def test_records_of_no_request_are_passed_over(programs):
    programs.program.script = lambda peer: peer.sendall(record(UNKNOWN, bytes(8), number=0) + WHOLE)
    assert programs.stage.get("/app").body == b"hello"


def test_silence(programs):
    release = threading.Event()
    programs.program.script = lambda peer: release.wait(SECONDS) and None
    assert programs.stage.get("/app").status == 504
    release.set()
    programs.stage.logged("said nothing for upstream_timeout")


@pytest.mark.parametrize("said", [record(STDOUT, b"Content-Type: text/x\r\n\r\nhel"), record(STDOUT, b"Content-Length: 10\r\n\r\nhello") + end(),
                                  record(STDOUT, ANSWER) + b"\2" * 8])
def test_an_end_within_the_answer(programs, said):
    programs.program.script = lambda peer: peer.sendall(said)
    received = programs.stage.raw(b"GET /app HTTP/1.1\r\nHost: a\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200") and b"hel" in received and not received.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("status", [1, 2, 3])
def test_overloaded(programs, status):
    """The server says that it did nothing: another one is asked, whatever the request."""
    programs.program.script = lambda peer: peer.sendall(end(status))
    for _ in range(4):
        assert programs.stage.get("/two", "POST").body == b"hello"
    assert programs.stage.get("/app", "POST").status == 503


def test_a_safe_request_goes_to_another_server(programs):
    programs.program.script = lambda peer: None
    for _ in range(6):
        assert programs.stage.get("/two").status == 200
    assert {programs.stage.get("/app", "POST", b"x").status for _ in range(2)} == {502}


def test_keeping_connections(programs):
    """Off by default; where it is on, never more idle ones than allowed, over both workers."""
    with Client(programs.stage) as client:
        for _ in range(5):
            client.get("/app")
    assert programs.program.links == 5 and set(programs.program.flags) == {0}
    programs.program.links, programs.program.flags = 0, []

    def script(peer):
        peer.sendall(record(STDOUT, ANSWER) + end())
        return "keep"
    programs.program.script = script
    with Client(programs.stage) as client:
        for _ in range(10):
            assert client.get("/kept").body == b"hello"
    assert programs.program.links == 1 and set(programs.program.flags) == {1}


def test_an_early_answer_to_a_body(programs):
    """The program answers without having read the body: the client gets the answer."""
    def serve(stream_peer):
        stream_peer.recv(100)
        stream_peer.sendall(record(STDOUT, b"Status: 413 Too Large\r\nContent-Length: 3\r\n\r\nbig") + end())
        done.wait(SECONDS)
    done = threading.Event()
    program = Program()
    program.serve = serve
    stage = Stage({"app": {"server": program.address}})
    with Client(stage) as client:
        client.socket.sendall(b"POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n" + bytes(5000))
        assert client.read().body == b"big"
    done.set()
    stage.close()
    program.close()


# ---- php-fpm ---------------------------------------------------------------------------------------------------------------

def fpm_binary():
    found = shutil.which("php-fpm") or next((path for name in sorted(os.listdir("/usr/sbin")) if re.fullmatch(r"php-fpm[\d.]+", name)
                                             for path in [f"/usr/sbin/{name}"]), None)
    return found


@pytest.mark.skipif(not fpm_binary(), reason="no php-fpm here")
def test_php_fpm(tmp_path):
    """A pool of two processes behind a Unix socket: forms, large bodies both ways, warnings to the log, a crash, the ping page as its check."""
    tmp_path.chmod(0o755)
    root = tmp_path / "root"
    root.mkdir()
    (root / "echo.php").write_text("<?php header('X-Length: ' . $_SERVER['CONTENT_LENGTH']); echo file_get_contents('php://input');")
    (root / "large.php").write_text("<?php for ($i = 0; $i < 500; $i++) echo str_repeat('x', 10000);")
    (root / "warn.php").write_text("<?php error_log('line one'); echo 'warned';")
    (root / "crash.php").write_text("<?php shell_exec('kill -9 ' . getmypid()); sleep(30);")
    (root / "post.php").write_text("<?php echo json_encode($_POST);")
    config = tmp_path / "fpm.conf"
    config.write_text(f"[global]\nerror_log = {tmp_path}/fpm.log\ndaemonize = no\n[www]\nlisten = {tmp_path}/fpm.sock\nlisten.mode = 0666\n"
                      "pm = static\npm.max_children = 2\nping.path = /ping\nphp_admin_value[log_errors] = on\ncatch_workers_output = no\n"
                      + ("user = root\ngroup = root\n" if os.getuid() == 0 else ""))
    fpm = subprocess.Popen([fpm_binary(), "-n", "-y", str(config), "-F", "-R"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stage = None
    try:
        sandbox.wait_for(lambda: (tmp_path / "fpm.sock").exists(), SECONDS, "php-fpm")
        stage = Stage({"php": {"server": f"unix:{tmp_path}/fpm.sock", "check": "request", "check_path": "/ping", "check_interval": "100ms",
                               "check_rise": 1, "check_fall": 2}})
        stage.tandem.settings["site *"] = {"root": str(root)}
        before = stage.tandem.log_text().count("reloaded")
        stage.tandem.reload({"route */php": None, "route */": {"to": "upstream:php"}})
        sandbox.wait_for(lambda: stage.tandem.log_text().count("reloaded") > before, SECONDS, "the reload")
        body = os.urandom(3_000_000)
        answer = stage.get("/echo.php", "POST", body)
        assert answer.body == body and answer["X-Length"] == "3000000"
        assert stage.get("/large.php").body == b"x" * 5_000_000
        assert stage.get("/post.php", "POST", b"a=1&b=%20", Content_Type="application/x-www-form-urlencoded").body == b'{"a":"1","b":" "}'
        assert stage.get("/warn.php").body == b"warned"
        stage.logged("upstream php .* says: .*line one")
        assert stage.get("/absent.php").status == 404
        # A process that dies takes nobody with it.
        assert stage.get("/crash.php", "POST", b"").status == 502
        assert stage.get("/warn.php").status == 200
        assert "is left out" not in stage.tandem.log_text()
        # Both processes stopped: the check finds nobody, and finds them again.
        children = [int(pid) for pid in subprocess.run(["pgrep", "-P", str(fpm.pid)], capture_output=True, text=True, check=True).stdout.split()]
        fpm.send_signal(signal.SIGTERM)
        fpm.wait(SECONDS)
        assert children
        stage.logged("is left out: health check")
        fpm = subprocess.Popen([fpm_binary(), "-n", "-y", str(config), "-F", "-R"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stage.logged("answers again")
        assert stage.get("/warn.php").status == 200
    finally:
        if stage:
            stage.close()
        fpm.terminate()
        fpm.wait(SECONDS)
