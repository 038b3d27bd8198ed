"""HTTP/2 as clients see it: frames that the RFC allows and forbids, bodies both ways, windows, floods, drain; curl and h2load."""
import contextlib
import os
import signal
import socket
import ssl
import struct
import subprocess

import hpack
import pytest
from hyperframe.frame import (DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame,
                              SettingsFrame, WindowUpdateFrame)

import sandbox
from test_web import Responder, Site, behind, said

pytestmark = pytest.mark.core

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NO_ERROR, PROTOCOL, INTERNAL, FLOW, SETTINGS_TIMEOUT, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION, CONNECT, CALM = range(12)
GET = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")]
POST = [(":method", "POST"), *GET[1:]]


def get(path="/", method="GET", **fields):
    return [(":method", method), *GET[1:3], (":path", path), *((n.replace("_", "-"), v) for n, v in fields.items())]


def raw(kind, flags, stream, payload=b""):
    """A frame of any kind, right or wrong."""
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


class Answer:
    def __init__(self):
        self.status, self.fields, self.body, self.reset, self.ended, self.interim = None, {}, b"", None, False, []

    def __getitem__(self, name):
        return self.fields.get(name)


class Client:
    """One connection, frame by frame. What comes is noted by stream; windows are given only when asked to."""

    def __init__(self, site, greet=True, settings=None, windows=True, receive_buffer=None):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        plain = socket.socket()
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(30)
        plain.connect(("127.0.0.1", site.tls_port))
        self.socket = context.wrap_socket(plain, server_hostname="www.foobar.com")
        assert self.socket.selected_alpn_protocol() == "h2"
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.buffer, self.answers, self.goaways, self.pings, self.settings, self.acks = b"", {}, [], [], {}, 0
        self.credit = {}  # by stream: what WINDOW_UPDATEs have given
        self.over, self.windows = False, windows
        if greet:
            self.send(PREFACE, SettingsFrame(0, settings=settings or {}))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()

    def send(self, *frames):
        data = b"".join(f if isinstance(f, bytes) else f.serialize() for f in frames)
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # it has hung up: what it said before is looked at

    def head(self, stream, fields, end=True, flags=()):
        frame = HeadersFrame(stream, self.encoder.encode(fields, huffman=False), flags=["END_HEADERS", *flags])
        if end:
            frame.flags.add("END_STREAM")
        return frame

    def read_frame(self):
        """One frame noted; False at the end of the connection."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            try:
                data = self.socket.recv(65536)
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                self.over = True
                return False
            self.buffer += data
        frame, length = Frame.parse_frame_header(memoryview(self.buffer[:9]))
        frame.parse_body(memoryview(self.buffer[9:9 + length]))
        self.buffer = self.buffer[9 + length:]
        self.note(frame)
        return True

    def note(self, frame):
        answer = self.answers.setdefault(frame.stream_id, Answer())
        if isinstance(frame, HeadersFrame):
            assert "END_HEADERS" in frame.flags
            fields = self.decoder.decode(frame.data)
            assert len({n for n, v in fields if n != "set-cookie"}) == len([n for n, v in fields if n != "set-cookie"]), "a field twice"
            assert all(n == n.lower() and n not in ("connection", "transfer-encoding") for n, v in fields)
            status = int(dict(fields)[":status"])
            if status < 200:
                answer.interim.append(status)
            else:
                assert answer.status is None
                answer.status, answer.fields = status, dict(fields)
        elif isinstance(frame, DataFrame):
            assert answer.status and not answer.ended
            answer.body += frame.data
            if self.windows and frame.flow_controlled_length:
                self.send(WindowUpdateFrame(0, window_increment=frame.flow_controlled_length),
                          WindowUpdateFrame(frame.stream_id, window_increment=frame.flow_controlled_length))
        elif isinstance(frame, RstStreamFrame):
            answer.reset = frame.error_code
        elif isinstance(frame, GoAwayFrame):
            self.goaways.append((frame.last_stream_id, frame.error_code))
        elif isinstance(frame, SettingsFrame):
            self.acks += "ACK" in frame.flags
            self.settings.update(frame.settings)
            if "ACK" not in frame.flags:
                self.send(SettingsFrame(0, flags=["ACK"]))
        elif isinstance(frame, PingFrame):
            self.pings.append(("ACK" in frame.flags, frame.opaque_data))
        elif isinstance(frame, WindowUpdateFrame):
            self.credit[frame.stream_id] = self.credit.get(frame.stream_id, 0) + frame.window_increment
        answer.ended |= "END_STREAM" in frame.flags

    def read_until(self, condition, what):
        while not condition():
            assert self.read_frame(), f"the connection ended before {what}: {self.goaways}"

    def answer(self, stream):
        answer = self.answers.setdefault(stream, Answer())
        self.read_until(lambda: answer.ended or answer.reset is not None, f"the answer on stream {stream}")
        return answer

    def ask(self, stream, fields, body=None):
        self.send(self.head(stream, fields, end=body is None))
        if body is not None:
            self.send(DataFrame(stream, body, flags=["END_STREAM"]))
        return self.answer(stream)

    def read_to_end(self):
        while self.read_frame():
            pass

    def lives(self):
        """A PING is answered, so all that was sent before has been seen."""
        mark = os.urandom(8)
        self.send(PingFrame(0, opaque_data=mark))
        while (True, mark) not in self.pings:
            if not self.read_frame():
                return False
        return True


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("http2"))
    yield site
    site.tandem.close()


# ---- The rules of RFC 9113 ---------------------------------------------------------------------------------------------------

def encoded(*fields):
    return hpack.Encoder().encode(list(fields) or GET, huffman=False)


def request(stream=1, end=True, fields=GET):
    return raw(1, 4 | end, stream, encoded(*fields))


def pieces(count, fields=GET, stream=1):
    """A head in HEADERS and `count` CONTINUATIONs."""
    block = encoded(*fields)
    cut = [block[i * len(block) // (count + 1):(i + 1) * len(block) // (count + 1)] for i in range(count + 1)]
    return raw(1, 1, stream, cut[0]) + b"".join(raw(9, 4 * (i == count), stream, cut[i]) for i in range(1, count + 1))


def setting(number, value):
    return raw(4, 0, 0, struct.pack("!HI", number, value))


def window(stream, more):
    return raw(8, 0, stream, struct.pack("!I", more))


# What is sent behind a proper preface and SETTINGS, and what comes of it: "goaway CODES" (and the connection's end), "reset CODES" of stream 1,
# "status N" on stream 1, or "ignored"; but for goaway the connection goes on. Section numbers are those of RFC 9113.
RULES = {
    "4.1 an unknown kind of frame is ignored": (raw(0xbe, 0xff, 1, b"x" * 8) + request(), "status 200"),
    "4.1 unknown flags are ignored": (raw(6, 0x16, 0, b"12345678") + request(), "status 200"),
    "4.1 the reserved bit is ignored": (raw(6, 0, 0x80000000, b"12345678") + request(), "status 200"),
    "4.2 a DATA beyond SETTINGS_MAX_FRAME_SIZE": (request(end=False, fields=POST) + raw(0, 1, 1, b"x" * 16385), f"goaway {SIZE}"),
    "4.2 a HEADERS beyond SETTINGS_MAX_FRAME_SIZE": (raw(1, 5, 1, encoded() + b"x" * 16384), f"goaway {SIZE}"),
    "4.2 a SETTINGS beyond SETTINGS_MAX_FRAME_SIZE": (raw(4, 0, 0, bytes(6) * 2731), f"goaway {SIZE}"),
    "4.3 a header block that cannot be decoded": (raw(1, 5, 1, b"\xff\xff\xff\xff\xff\xff"), f"goaway {COMPRESSION}"),
    "4.3 an index beyond the table": (raw(1, 5, 1, b"\xfe"), f"goaway {COMPRESSION}"),
    "4.3 another frame within a header block": (raw(1, 1, 1, encoded()) + raw(6, 0, 0, bytes(8)), f"goaway {PROTOCOL}"),
    "4.3 another stream within a header block": (raw(1, 1, 1, encoded()) + request(3), f"goaway {PROTOCOL}"),
    "5.1 idle: DATA": (raw(0, 1, 1, b"x"), f"goaway {PROTOCOL}"),
    "5.1 idle: RST_STREAM": (raw(3, 0, 1, bytes(4)), f"goaway {PROTOCOL}"),
    "5.1 idle: WINDOW_UPDATE": (window(1, 1), f"goaway {PROTOCOL}"),
    "5.1 idle: CONTINUATION": (raw(9, 4, 1, encoded()), f"goaway {PROTOCOL}"),
    "5.1 half-closed: DATA": (request() + raw(0, 1, 1, b"x"), f"goaway {CLOSED} or reset {CLOSED}"),
    "5.1 half-closed: HEADERS": (request() + request(), f"goaway {CLOSED} or reset {CLOSED}"),
    "5.1 closed: HEADERS": (request(fields=get("/big.bin")) + raw(3, 0, 1, bytes(4)) + request(), "ignored"),
    "5.1.1 an even stream": (request(2), f"goaway {PROTOCOL}"),
    "5.1.1 a lower stream than before": (request(5) + request(3), "ignored"),
    "5.5 an unknown frame within a header block": (raw(1, 1, 1, encoded()) + raw(0xbe, 0, 1, b""), f"goaway {PROTOCOL}"),
    "6.1 DATA on stream 0": (raw(0, 1, 0, b"x"), f"goaway {PROTOCOL}"),
    "6.1 DATA with more padding than payload": (request(end=False, fields=POST) + raw(0, 9, 1, b"\x06hello"), f"goaway {PROTOCOL}"),
    "6.1 DATA with padding": (request(end=False, fields=POST) + raw(0, 9, 1, b"\x03hellopad"), "status 405"),
    "6.2 HEADERS on stream 0": (request(0), f"goaway {PROTOCOL}"),
    "6.2 HEADERS with more padding than payload": (raw(1, 13, 1, b"\xf0" + encoded()), f"goaway {PROTOCOL}"),
    "6.2 HEADERS with padding and priority": (raw(1, 0x2d, 1, b"\x02" + struct.pack("!IB", 3, 7) + encoded() + b"pp"), "status 200"),
    "6.3 PRIORITY on stream 0": (raw(2, 0, 0, bytes(5)), f"goaway {PROTOCOL} or ignored"),
    "6.3 PRIORITY of a wrong size": (request(end=False, fields=POST) + raw(2, 0, 1, bytes(4)), f"goaway {SIZE} or reset {SIZE}"),
    "6.3 PRIORITY on an idle stream": (raw(2, 0, 9, struct.pack("!IB", 0, 7)) + request(), "status 200"),
    "6.4 RST_STREAM on stream 0": (raw(3, 0, 0, bytes(4)), f"goaway {PROTOCOL}"),
    "6.4 RST_STREAM of a wrong size": (request(end=False, fields=POST) + raw(3, 0, 1, bytes(3)), f"goaway {SIZE}"),
    "6.5 SETTINGS that acknowledge and say something": (raw(4, 1, 0, bytes(6)), f"goaway {SIZE}"),
    "6.5 SETTINGS on a stream": (raw(4, 0, 1, bytes(6)), f"goaway {PROTOCOL}"),
    "6.5 SETTINGS of a wrong size": (raw(4, 0, 0, bytes(5)), f"goaway {SIZE}"),
    "6.5.2 ENABLE_PUSH other than 0 and 1": (setting(2, 2), f"goaway {PROTOCOL}"),
    "6.5.2 INITIAL_WINDOW_SIZE beyond 2^31-1": (setting(4, 1 << 31), f"goaway {FLOW}"),
    "6.5.2 MAX_FRAME_SIZE below 2^14": (setting(5, 16383), f"goaway {PROTOCOL}"),
    "6.5.2 MAX_FRAME_SIZE beyond 2^24-1": (setting(5, 1 << 24), f"goaway {PROTOCOL}"),
    "6.5.2 an unknown setting is ignored": (setting(0xff, 1) + request(), "status 200"),
    "6.6 PUSH_PROMISE from a client": (raw(5, 4, 1, struct.pack("!I", 2) + encoded()), f"goaway {PROTOCOL}"),
    "6.7 PING on a stream": (raw(6, 0, 1, bytes(8)), f"goaway {PROTOCOL}"),
    "6.7 PING of a wrong size": (raw(6, 0, 0, bytes(7)), f"goaway {SIZE}"),
    "6.8 GOAWAY on a stream": (raw(7, 0, 1, bytes(8)), f"goaway {PROTOCOL}"),
    "6.9 a window update of 0 on the connection": (window(0, 0), f"goaway {PROTOCOL}"),
    "6.9 a window update of 0 on a stream": (request(end=False, fields=get("/big.bin")) + window(1, 0), f"goaway {PROTOCOL} or reset {PROTOCOL}"),
    "6.9 a window update of a wrong size": (raw(8, 0, 0, bytes(3)), f"goaway {SIZE}"),
    "6.9.1 a window beyond 2^31-1": (window(0, 0x7fffffff) + window(0, 0x7fffffff), f"goaway {FLOW}"),
    "6.9.1 a stream's window beyond 2^31-1": (request(fields=get("/big.bin")) + window(1, 0x7fffffff), f"reset {FLOW}"),
    "6.9.2 a setting that takes a window beyond 2^31-1": (request(end=False, fields=get("/big.bin")) + window(1, 0x7fff0000) +
                                                          setting(4, 0x7fffffff), f"goaway {FLOW} or reset {FLOW}"),
    "6.10 a head in four frames": (pieces(3), "status 200"),
    "6.10 CONTINUATION on stream 0": (raw(1, 1, 1, encoded()[:3]) + raw(9, 4, 0, encoded()[3:]), f"goaway {PROTOCOL}"),
    "6.10 CONTINUATION behind the end of a head": (request(end=False, fields=POST) + raw(9, 4, 1, encoded()), f"goaway {PROTOCOL}"),
    "8.1 a second HEADERS that does not end the stream": (request(end=False, fields=POST) + raw(1, 4, 1, encoded(("x", "y"))),
                                                          f"reset {PROTOCOL} or goaway {PROTOCOL}"),
    "8.1 trailers": (request(end=False, fields=POST) + raw(0, 0, 1, b"x") + raw(1, 5, 1, encoded(("x", "y"))), "status 405"),
    "8.1 a pseudo-field in trailers": (request(end=False, fields=POST) + raw(1, 5, 1, encoded((":method", "GET"))), f"reset {PROTOCOL}"),
    "8.1.1 a body longer than its Content-Length": (request(end=False, fields=[*POST, ("content-length", "1")]) + raw(0, 1, 1, b"xy"),
                                                    f"reset {PROTOCOL}"),
    "8.1.1 a body shorter than its Content-Length": (request(end=False, fields=[*POST, ("content-length", "3")]) + raw(0, 1, 1, b"xy"),
                                                     f"reset {PROTOCOL}"),
    "8.1.1 a Content-Length and no body": (request(fields=[*POST, ("content-length", "3")]), f"reset {PROTOCOL}"),
    "8.1.1 two Content-Lengths": (request(fields=[*POST, ("content-length", "0"), ("content-length", "0")]), f"reset {PROTOCOL}"),
    "8.1.1 a Content-Length with a sign": (request(fields=[*POST, ("content-length", "+0")]), f"reset {PROTOCOL}"),
    "8.2.1 a name in upper case": (request(fields=[*GET, ("X-Test", "y")]), f"reset {PROTOCOL}"),
    "8.2.1 a line end in a value": (request(fields=[*GET, ("x", "y\r\nz: 1")]), f"reset {PROTOCOL}"),
    "8.2.1 a NUL in a value": (request(fields=[*GET, ("x", "y\0")]), f"reset {PROTOCOL}"),
    "8.2.1 a blank in a name": (request(fields=[*GET, ("x y", "z")]), f"reset {PROTOCOL}"),
    "8.2.2 Connection": (request(fields=[*GET, ("connection", "close")]), f"reset {PROTOCOL}"),
    "8.2.2 Transfer-Encoding": (request(end=False, fields=[*POST, ("transfer-encoding", "chunked")]), f"reset {PROTOCOL}"),
    "8.2.2 Upgrade": (request(fields=[*GET, ("upgrade", "h2c")]), f"reset {PROTOCOL}"),
    "8.2.2 TE other than trailers": (request(fields=[*GET, ("te", "gzip")]), f"reset {PROTOCOL}"),
    "8.2.2 TE trailers": (request(fields=[*GET, ("te", "trailers")]), "status 200"),
    "8.3 a pseudo-field of answers": (request(fields=[*GET, (":status", "200")]), f"reset {PROTOCOL}"),
    "8.3 an unknown pseudo-field": (request(fields=[*GET, (":x", "y")]), f"reset {PROTOCOL}"),
    "8.3 a pseudo-field behind another field": (request(fields=[GET[0], ("x", "y"), *GET[1:]]), f"reset {PROTOCOL}"),
    "8.3 :method twice": (request(fields=[GET[0], *GET]), f"reset {PROTOCOL}"),
    "8.3 :path twice": (request(fields=[GET[3], *GET]), f"reset {PROTOCOL}"),
    "8.3 :authority twice": (request(fields=[GET[2], *GET]), f"reset {PROTOCOL}"),
    "8.3.1 no :method": (request(fields=GET[1:]), f"reset {PROTOCOL}"),
    "8.3.1 no :scheme": (request(fields=[GET[0], *GET[2:]]), f"reset {PROTOCOL}"),
    "8.3.1 no :path": (request(fields=GET[:3]), f"reset {PROTOCOL}"),
    "8.3.1 an empty :path": (request(fields=[*GET[:3], (":path", "")]), f"reset {PROTOCOL}"),
    "8.3.1 a :path without a slash": (request(fields=[*GET[:3], (":path", "x")]), f"reset {PROTOCOL}"),
    "8.3.1 a URL as :path": (request(fields=[*GET[:3], (":path", "http://b/")]), f"reset {PROTOCOL}"),
    "8.3.1 a blank in :path": (request(fields=[*GET[:3], (":path", "/ HTTP/1.1")]), f"reset {PROTOCOL} or status 400"),
    "8.3.1 a line end in :authority": (request(fields=[*GET[:2], (":authority", "a\r\nx: y"), GET[3]]), f"reset {PROTOCOL}"),
    "8.3.1 Host and no :authority": (request(fields=[GET[0], GET[1], GET[3], ("host", "a")]), "status 200"),
    "8.3.1 neither Host nor :authority": (request(fields=[GET[0], GET[1], GET[3]]), f"reset {PROTOCOL} or status 400"),
    "8.3.1 a Host that is the :authority": (request(fields=[*GET, ("host", "A")]), "status 200"),
    "8.3.1 a Host that is not the :authority": (request(fields=[*GET, ("host", "b")]), "status 400"),
    "8.3.1 an :authority that is none": (request(fields=[*GET[:2], (":authority", "a/b"), GET[3]]), f"reset {PROTOCOL} or status 400"),
    "8.5 CONNECT": (request(fields=[(":method", "CONNECT"), (":authority", "a:1")]), "status 501"),
    "an unknown method": (request(fields=[(":method", "BREW"), *GET[1:]]), "status 501"),
    "OPTIONS *": (request(fields=[(":method", "OPTIONS"), *GET[1:3], (":path", "*")]), "status 204"),
    "an expectation that is unknown": (request(end=False, fields=[*POST, ("expect", "more")]), "status 417"),
    "a path out of the root": (request(fields=get("/../x")), "status 400"),
    "too many fields": (request(fields=[*GET, *((f"x{i}", "y") for i in range(150))]), "status 431"),
    "a head that is too long": (pieces(2, [*GET, ("x", "y" * 40000)]), "status 431"),
}


def outcome(client):
    """What came of it, in the table's words."""
    alive = client.lives() and client.lives()  # a PING is answered before a request: the second one's answer comes behind
    if not alive:
        assert client.goaways, "hung up without a word"
        return f"goaway {client.goaways[-1][1]}"
    assert not client.goaways
    answer = client.answers.get(1, Answer())
    if not answer.status and answer.reset is None:
        return "ignored"
    client.answer(1)
    return f"reset {answer.reset}" if answer.reset else f"status {answer.status}"


@pytest.mark.parametrize("rule", RULES)
def test_rules(site, rule):
    sent, expected = RULES[rule]
    with Client(site) as client:
        client.send(sent)
        kinds = [case.split() for case in expected.split(" or ")]
        got = outcome(client)
        assert any(got.split()[0] == kind and set(got.split()[1:]) <= set(codes) for kind, *codes in kinds), f"{got}, not {expected}"
        if not client.over:
            assert client.ask(101, GET).status == 200, "other streams go on"


def test_a_preface_that_is_none(site):
    with Client(site, greet=False) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read_to_end()
        assert not client.answers.get(1)


def test_a_preface_without_settings(site):
    with Client(site, greet=False) as client:
        client.send(PREFACE, request())
        client.read_to_end()
        assert client.goaways[-1][1] == PROTOCOL and not client.answers[0].status


def test_settings_are_acknowledged_and_pings_answered(site):
    with Client(site) as client:
        assert client.lives() and client.acks == 1
        client.send(raw(6, 1, 0, b"12345678"))
        assert client.lives() and (True, b"12345678") not in client.pings, "an answer is not answered"
        assert client.settings[SettingsFrame.MAX_CONCURRENT_STREAMS] == 100
        assert client.settings[SettingsFrame.MAX_HEADER_LIST_SIZE] == 32768


def test_no_more_streams_than_promised(site):
    """With no window none of them ends. Who was told and opens one more has lost the thread."""
    with Client(site, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as client:
        client.read_until(lambda: client.acks, "its SETTINGS")
        client.send(*(client.head(1 + 2 * i, get("/big.bin")) for i in range(100)))
        assert client.lives() and client.lives()
        assert all(client.answers[1 + 2 * i].status == 200 for i in range(100))
        client.send(client.head(201, GET))
        client.read_to_end()
        assert client.goaways == [(199, PROTOCOL)]


def test_windows_are_kept(site):
    """Not a byte more than was allowed, in whichever way."""
    with Client(site, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1}, windows=False) as client:
        assert client.lives()
        client.send(client.head(1, get("/big.bin")))
        answer = client.answers.setdefault(1, Answer())
        client.read_until(lambda: len(answer.body) == 1, "the first byte")
        client.send(window(1, 5))
        assert client.lives() and client.lives() and len(answer.body) == 6
        client.send(setting(4, 11))
        assert client.lives() and client.lives() and len(answer.body) == 16
        client.send(setting(4, 0), window(1, 11))  # 11 less than nothing, and back
        assert client.lives() and client.lives() and len(answer.body) == 16
        client.send(setting(4, 1 << 20))
        client.read_until(lambda: len(answer.body) == 65535, "the window of the connection to be used up")
        assert client.lives() and client.lives() and len(answer.body) == 65535
        client.windows = True
        client.send(window(0, 65535))
        assert client.answer(1).body == (site.root / "big.bin").read_bytes()


# ---- What HTTP means is the same ---------------------------------------------------------------------------------------------

def test_files(site):
    with Client(site) as client:
        answer = client.ask(1, GET)
        assert (answer.status, answer.body, answer["content-type"]) == (200, b"hello\n", "text/html; charset=utf-8")
        assert answer["content-length"] == "6" and answer["date"]
        head = client.ask(3, get("/big.bin", "HEAD"))
        assert (head.status, head["content-length"], head.body) == (200, "3000000", b"")
        assert client.ask(5, get("/big.bin")).body == (site.root / "big.bin").read_bytes()
        part = client.ask(7, get("/big.bin", range="bytes=100000-299999"))
        assert (part.status, part.body) == (206, (site.root / "big.bin").read_bytes()[100000:300000])
        assert client.ask(9, get("/", if_none_match=answer["etag"])).status == 304
        assert client.ask(11, get("/nope")).status == 404
        assert client.ask(13, get("/sub"))["location"] == "/sub/"
        assert client.ask(15, get("/out")).status == 403
        other = [(":method", "GET"), (":scheme", "https"), (":authority", "www.foobar.com"), (":path", "/old")]
        assert client.ask(17, other)["location"] == "https://new.example/x"
    sandbox.wait_for(lambda: '"GET /nope HTTP/2.0" 404 ' in site.log.read_text(), 30, "the access log")


def test_streams_share_a_connection(site):
    with Client(site) as client:
        client.send(*(client.head(1 + 2 * i, get("/big.bin" if i % 8 == 0 else "/sub/")) for i in range(20)))
        for i in range(20):
            assert client.answer(1 + 2 * i).body == (site.root / ("big.bin" if i % 8 == 0 else "sub/index.html")).read_bytes()


def test_a_request_byte_by_byte(site):
    with Client(site, greet=False) as client:
        for byte in PREFACE + SettingsFrame(0).serialize() + request():
            client.send(bytes([byte]))
        assert client.answer(1).body == b"hello\n"


def test_a_body_nobody_wants(site):
    """The answer comes at once and whole; then the client is told to stop."""
    with Client(site) as client:
        client.send(client.head(1, POST, end=False), DataFrame(1, b"x" * 1000))
        answer = client.answer(1)
        assert answer.status == 405 and answer.ended
        client.read_until(lambda: answer.reset is not None, "the reset")
        assert answer.reset == NO_ERROR
        client.send(*(DataFrame(1, b"x" * 16000) for _ in range(4)))
        assert client.ask(3, GET).status == 200
        client.read_until(lambda: client.credit.get(0, 0) > 900_000, "the connection's window")


def test_a_reset_ends_an_answer(site):
    with Client(site, windows=False) as client:
        client.send(client.head(1, get("/big.bin")))
        client.read_until(lambda: client.answers.get(1) and client.answers[1].body, "its beginning")
        client.send(RstStreamFrame(1, error_code=CANCEL))
        assert client.lives()
        client.windows = True
        client.send(window(0, 1 << 20))
        assert client.ask(3, GET).status == 200


def test_curl(site):
    def curl(*words):
        done = subprocess.run(["curl", "-sS", "--insecure", "--http2", *words], stdout=subprocess.PIPE, check=True, timeout=60)
        return done.stdout.decode()
    url = f"https://127.0.0.1:{site.tls_port}"
    assert curl("-o", os.devnull, "-w", "%{http_version} %{http_code} %{size_download}", url + "/big.bin") == "2 200 3000000"
    assert curl("-I", "-o", os.devnull, "-w", "%{http_code}", url + "/big.bin") == "200"
    assert curl("--resolve", f"www.foobar.com:{site.tls_port}:127.0.0.1", "-o", os.devnull, "-w", "%{http_version} %{redirect_url}",
                f"https://www.foobar.com:{site.tls_port}/old") == "2 https://new.example/x"


def test_h2load(site):
    done = subprocess.run(["h2load", "-n", "3000", "-c", "6", "-m", "50", f"https://127.0.0.1:{site.tls_port}/a.css",
                           f"https://127.0.0.1:{site.tls_port}/sub/"], stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    assert "3000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout
    assert "3000 2xx" in done.stdout


# ---- Floods ------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("what", ["resets", "pings", "settings", "priorities", "empty data", "continuations", "own resets"])
def test_floods_end_a_connection_and_nobody_elses(site, what):
    with Client(site) as other, Client(site) as client:
        assert other.ask(1, GET).status == 200
        sent = {
            "resets": lambda: b"".join(request(1 + 2 * i, fields=get("/big.bin")) + raw(3, 0, 1 + 2 * i, bytes(4)) for i in range(1000)),
            "pings": lambda: raw(6, 0, 0, bytes(8)) * 20000,
            "settings": lambda: setting(4, 65535) * 20000,
            "priorities": lambda: raw(2, 0, 1, bytes(4) + b"\x10") * 20000,
            "empty data": lambda: request(1, end=False, fields=POST) + raw(0, 0, 1) * 20000,
            "continuations": lambda: raw(1, 1, 1, encoded()) + raw(9, 0, 1, encoded(("x", "y"))) * 20000,
            # The client breaks a rule on each, so that the server resets it: the work was done all the same.
            "own resets": lambda: b"".join(request(1 + 2 * i, fields=get("/big.bin")) + window(1 + 2 * i, 0) for i in range(1000)),
        }[what]()
        client.send(sent)
        client.read_to_end()
        assert not client.goaways or client.goaways[-1][1] in (CALM, PROTOCOL, INTERNAL), client.goaways
        assert sum(a.status is not None for a in client.answers.values()) < 600
        assert other.ask(3, GET).status == 200
    sandbox.wait_for(lambda: "HTTP/2 connection ended: " in site.tandem.log_text(), 30, "the log")


def test_ordinary_resets_are_no_flood(site):
    """Somebody who closes a page with a hundred pictures."""
    with Client(site, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as client:
        assert client.lives()
        client.send(*(client.head(1 + 2 * i, get("/big.bin")) for i in range(100)))
        client.send(*(RstStreamFrame(1 + 2 * i, error_code=CANCEL) for i in range(100)))
        assert client.lives() and client.ask(201, get("/", "HEAD")).status == 200


# ---- Time, drain, reload -----------------------------------------------------------------------------------------------------

@pytest.fixture
def quick(tmp_path):
    site = Site(tmp_path, header_timeout="4s", body_timeout="4s", idle_timeout="4s", send_timeout="4s")
    yield site
    site.tandem.close()


def test_slow_clients_are_let_go(quick):
    def client(*sent, **options):
        client = stack.enter_context(Client(quick, **options))
        client.send(*sent)
        return client
    with contextlib.ExitStack() as stack:
        nothing, idle = client(greet=False), client()
        half_a_head = client(raw(1, 1, 1, encoded()))
        no_window = client(setting(4, 0), request(fields=get("/big.bin")))
        nothing.read_to_end()
        idle.read_to_end()
        assert idle.goaways == [(0, NO_ERROR)]
        half_a_head.read_to_end()
        assert not half_a_head.answers.get(1)
        assert no_window.answer(1).reset == CANCEL


def test_reload_reaches_open_connections(quick, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_bytes(b"other\n")
    quick.tandem.reload({"web": {**quick.sections["web"], "idle_timeout": "1min"}})
    sandbox.wait_for(lambda: "reloaded" in quick.tandem.log_text(), 30, "the reload")
    with Client(quick) as client:
        assert client.ask(1, GET).body == b"hello\n"
        quick.tandem.reload({"site *": {"root": str(other)}})
        numbers = iter(range(3, 20000, 2))
        sandbox.wait_for(lambda: client.ask(next(numbers), GET).body == b"other\n", 30, "the reload to be adopted")


def test_http2_can_be_turned_off(tmp_path):
    site = Site(tmp_path, http2="off")
    try:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(("127.0.0.1", site.tls_port), timeout=30) as plain, context.wrap_socket(plain) as s:
            assert s.selected_alpn_protocol() == "http/1.1"
    finally:
        site.tandem.close()


def test_a_stop_lets_answers_finish(tmp_path):
    """First a warning, then the last stream's number, and what was begun is answered; idle connections end at once."""
    site = Site(tmp_path)
    with Client(site, windows=False) as busy, Client(site) as idle:
        assert idle.ask(1, GET).status == 200
        busy.send(busy.head(1, get("/big.bin")))
        answer = busy.answers.setdefault(1, Answer())
        busy.read_until(lambda: len(answer.body) == 65535, "its beginning")
        site.tandem.process.signal(signal.SIGTERM)
        busy.read_until(lambda: busy.goaways, "the warning")
        assert busy.goaways == [(0x7fffffff, NO_ERROR)]
        late = busy.head(3, GET)
        busy.send(late)
        busy.read_until(lambda: any(not ack for ack, data in busy.pings), "its PING")
        busy.send(*(raw(6, 1, 0, data) for ack, data in busy.pings if not ack))
        busy.read_until(lambda: len(busy.goaways) == 2, "the last stream's number")
        assert busy.goaways[1] == (3, NO_ERROR), "a request that crossed the warning is served"
        busy.windows = True
        busy.send(window(0, 1 << 20), window(1, 1 << 20))
        assert busy.answer(1).body == (site.root / "big.bin").read_bytes()
        assert busy.answer(3).body == b"hello\n"
        busy.read_to_end()
        idle.read_to_end()
        assert idle.goaways[-1] == (1, NO_ERROR)
    sandbox.wait_for(lambda: not site.tandem.process.running(), 30, "the end of the daemon")
    site.tandem.close()


# ---- FastCGI -----------------------------------------------------------------------------------------------------------------

class Hand:
    """A FastCGI program by hand: one connection at a time, read and answered when the test says so."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.listener.settimeout(30)
        self.port = self.listener.getsockname()[1]

    def accept(self):
        peer = self.listener.accept()[0]
        peer.settimeout(30)
        return peer

    def close(self):
        self.listener.close()


def answer_records(output, end=True):
    records = b"".join(raw_record(6, output[at:at + 60000]) for at in range(0, len(output), 60000))
    return records + (raw_record(3, bytes(8)) if end else b"")


def raw_record(kind, content):
    return struct.pack("!BBHHBx", 1, kind, 1, len(content), 0) + content


def read_body(stream):
    """Records of a request from a program's side: pieces of the body, until its end."""
    while True:
        version, kind, number, length, padding = struct.unpack("!BBHHBx", stream.read(8))
        content = stream.read(length)
        stream.read(padding)
        if kind == 5 and not length:
            return
        if kind == 5:
            yield content


def test_fastcgi_sees_the_request(tmp_path):
    program = Responder(lambda params, body: said(body.decode(), head="Content-Type: text/plain\r\nConnection: close\r\nX-Mixed: Case\r\n"))
    with behind(tmp_path, [f"127.0.0.1:{program.port}"]) as site, Client(site) as client:
        fields = [*get("/app/x.php?a=b", "POST", content_type="text/x", content_length="5", cookie="a=1"), ("cookie", "b=2"), ("x-y", "z")]
        answer = client.ask(1, fields, b"hello")
        assert (answer.status, answer.body, answer["x-mixed"]) == (200, b"hello", "Case")
        params, body = program.requests[0]
        expected = {"REQUEST_METHOD": "POST", "SCRIPT_NAME": "/app/x.php", "QUERY_STRING": "a=b", "CONTENT_LENGTH": "5",
                    "CONTENT_TYPE": "text/x", "HTTP_X_Y": "z", "HTTP_COOKIE": "a=1; b=2", "HTTP_HOST": "a", "SERVER_PROTOCOL": "HTTP/2.0",
                    "HTTPS": "on", "REQUEST_SCHEME": "https"}
        assert body == b"hello" and {name: params.get(name) for name in expected} == expected
    program.close()


@pytest.mark.parametrize("output, status", [(b"Status: 204\n\n", 204), (b"Content-Type: a/b\n\nx", 200), (b"Status: 404 No\n\n", 404), (b"", 502),
                                            (b"Content-Length: 9\n\nshort", None)])
def test_fastcgi_answers(tmp_path, output, status):
    program = Responder(lambda params, body: output)
    with behind(tmp_path, [f"127.0.0.1:{program.port}"]) as site, Client(site) as client:
        answer = client.ask(1, get("/app"))
        if status:
            assert answer.status == status and answer.ended
        else:
            assert answer.reset == INTERNAL and not answer.ended, "a cut answer is not taken for a whole one"
        assert client.lives()
    program.close()


def test_who_waits_for_100_gets_it(tmp_path):
    program = Responder(lambda params, body: said(body.decode()))
    with behind(tmp_path, [f"127.0.0.1:{program.port}"]) as site, Client(site) as client:
        client.send(client.head(1, get("/app", "PUT", expect="100-continue", content_length="5"), end=False))
        client.read_until(lambda: client.answers.get(1) and client.answers[1].interim == [100], "100")
        client.send(DataFrame(1, b"hello", flags=["END_STREAM"]))
        assert client.answer(1).body == b"hello"
    program.close()


class Upload:
    """A body of zeros on stream 1, sent as the windows allow."""

    def __init__(self, client, size):
        self.client, self.size, self.sent = client, size, 0
        client.send(client.head(1, get("/app", "PUT", content_length=str(size)), end=False))

    def room(self):
        stream = self.client.settings[SettingsFrame.INITIAL_WINDOW_SIZE] + self.client.credit.get(1, 0)
        return min(stream, 65535 + self.client.credit.get(0, 0), self.size) - self.sent

    def send(self):
        """What there is room for."""
        while self.room() > 0:
            piece = min(self.room(), 16384)
            self.sent += piece
            self.client.send(DataFrame(1, bytes(piece), flags=["END_STREAM"] if self.sent == self.size else []))


def test_a_program_that_does_not_read_holds_the_client_up(tmp_path):
    """The window of its stream stays shut, so that no memory is needed; other streams go on; when it reads, the window opens."""
    program = Hand()
    with behind(tmp_path, [f"127.0.0.1:{program.port}"], upstream_timeout="60s", body_timeout="60s") as site, Client(site) as client:
        assert client.lives()
        upload = Upload(client, 24 * 1024 * 1024)
        with program.accept() as peer:
            before = -1
            while before != upload.sent:  # the kernel takes some
                before = upload.sent
                upload.send()
                assert client.lives() and client.lives()
            assert upload.sent < 16 * 1024 * 1024, "somebody has swallowed it"
            assert client.ask(3, GET).status == 200
            assert client.ask(5, get("/sub/", "POST"), b"x" * 1000).status == 405
            got = 0
            for content in read_body(peer.makefile("rb")):
                got += len(content)
                while got == upload.sent < upload.size:
                    client.read_until(lambda: upload.room() > 0, "its window")
                    upload.send()
            assert got == upload.size
            peer.sendall(answer_records(said("done")))
            assert client.answer(1).body == b"done"
    program.close()


def test_a_client_that_does_not_read_holds_the_program_up(tmp_path):
    """Of forty answers of 8 MiB each that nobody takes, what is kept is a small part."""
    filler = raw_record(6, bytes(60000)) * 140
    program = Hand()
    with behind(tmp_path, [f"127.0.0.1:{program.port}"], upstream_timeout="60s", send_timeout="60s") as site:
        with Client(site, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as client, contextlib.ExitStack() as stack:
            assert client.lives()
            client.send(*(client.head(1 + 2 * i, get("/app")) for i in range(40)))
            before = site.tandem.memory()["RssAnon"]
            peers = []
            for _ in range(40):
                peer = stack.enter_context(program.accept())
                list(read_body(peer.makefile("rb")))
                peer.sendall(raw_record(6, b"Content-Type: a/b\n\n"))
                peer.setblocking(False)
                peers.append([peer, filler])
            moved = True
            while moved:
                moved = False
                for pair in peers:
                    with contextlib.suppress(BlockingIOError):
                        taken = pair[0].send(pair[1])
                        pair[1] = pair[1][taken:]
                        moved = moved or taken > 0
                assert client.lives()
            assert all(client.answers[1 + 2 * i].status == 200 for i in range(40))
            assert site.tandem.memory()["RssAnon"] - before < 24 * 1024 * 1024
            assert client.ask(101, get("/", "HEAD")).status == 200
    program.close()


def test_a_reset_reaches_the_program(tmp_path):
    program = Hand()
    with behind(tmp_path, [f"127.0.0.1:{program.port}"]) as site, Client(site) as client:
        client.send(client.head(1, get("/app")))
        with program.accept() as peer:
            list(read_body(peer.makefile("rb")))
            client.send(RstStreamFrame(1, error_code=CANCEL))
            assert peer.recv(1) == b"", "it is hung up on"
        assert client.lives()
    program.close()


def test_an_upload_of_unknown_length(tmp_path):
    body = os.urandom(1_000_000)
    program = Responder(lambda params, got: said(f"{params['CONTENT_LENGTH']} {got == body}"))
    with behind(tmp_path, [f"127.0.0.1:{program.port}"]) as site:
        (tmp_path / "body").write_bytes(body)
        done = subprocess.run(["curl", "-sS", "--insecure", "--http2", "-T", "-", f"https://127.0.0.1:{site.tls_port}/app"],
                              stdin=(tmp_path / "body").open("rb"), stdout=subprocess.PIPE, text=True, check=True, timeout=60)
        assert done.stdout == "1000000 True"
    program.close()
