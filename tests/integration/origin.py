"""A scripted HTTP server for tests of upstreams: counts what it gets, answers what it is told."""
import socket
import threading


class Request:
    def __init__(self, line, fields, body, link):
        self.line, self.fields, self.body, self.link = line, fields, body, link
        self.method, self.target = line.split(" ")[:2]

    def __getitem__(self, name):
        """The values of a field, joined."""
        found = [value for key, value in self.fields if key.lower() == name.lower()]
        return ", ".join(found) if found else None


def fine(body=b"fine", more=""):
    return f"HTTP/1.1 200 OK\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Origin:
    """`answer(request, peer)` gives the bytes to send; None: hang up. It may use the socket itself and give b""."""

    def __init__(self, answer=None, name="origin", port=0):
        self.name = name
        self.answer = answer or (lambda request, peer: fine(name.encode()))
        self.lock = threading.Lock()
        self.requests, self.links, self.peers = [], 0, set()
        self.health = 200
        self.serial = 0  # of links, ever
        self.active = self.most_active = 0
        self.listener = None
        self.open(port)

    def open(self, port=None):
        self.listener = socket.create_server(("127.0.0.1", self.port if port is None else port), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, args=(self.listener,), daemon=True).start()
        return self

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def run(self, listener):
        while True:
            try:
                peer = listener.accept()[0]
            except OSError:
                return
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.links += 1
                self.serial += 1
                self.peers.add(peer)
            threading.Thread(target=self.serve, args=(peer, self.serial), daemon=True).start()

    def serve(self, peer, link):
        try:
            with peer, peer.makefile("rb") as stream:
                while (request := self.read(stream, link)) is not None:
                    if not self.serve_one(request, peer):
                        return
        except OSError:
            pass
        finally:
            with self.lock:
                self.peers.discard(peer)

    def serve_one(self, request, peer):
        if request.target == "/health":
            # Checks are not counted.
            peer.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.health)
            return False
        with self.lock:
            self.requests.append(request)
            self.active += 1
            self.most_active = max(self.active, self.most_active)
        try:
            said = self.answer(request, peer)
        finally:
            with self.lock:
                self.active -= 1
        if said is None:
            return False
        peer.sendall(said)
        head = said.partition(b"\r\n\r\n")[0].lower()
        return b"connection: close" not in head

    def read(self, stream, link):
        line = stream.readline()
        if not line:
            return None
        fields = []
        while (field := stream.readline()) not in (b"\r\n", b""):
            name, _, value = field.decode("latin-1").rstrip("\r\n").partition(": ")
            fields.append((name, value))
        request = Request(line.decode("latin-1").rstrip("\r\n"), fields, b"", link)
        if request["Transfer-Encoding"] == "chunked":
            while (size := int(stream.readline(), 16)):
                request.body += stream.read(size)
                assert stream.readline() == b"\r\n"
            assert stream.readline() == b"\r\n"
        elif request["Content-Length"]:
            request.body = stream.read(int(request["Content-Length"]))
        return request

    def kill(self):
        """As a process that is killed: its port refuses, its connections are reset."""
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
        self.listener = None
        with self.lock:
            peers, self.peers = self.peers, set()
        for peer in peers:
            try:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def forget(self):
        with self.lock:
            self.requests, self.links, self.most_active = [], 0, 0
