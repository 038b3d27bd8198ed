"""A relay in front of a server that does on request what no server does: cut an answer short, hold it, send garbage.

    with Mangler(server.port) as relay:           # relay.port is where Tandem finds the server
        relay.on("cut_me", "close", after=5000)   # the answer to a statement with this text ends after 5000 bytes
        relay.hits("cut_me")                      # how often that happened

Only a statement's first packet is looked at, so the text must stand near its beginning. Everything else passes untouched.
"""
import socket
import struct
import threading

PIECE = 65536


class Rule:
    def __init__(self, action, after, times, garbage):
        self.action, self.after, self.times, self.garbage, self.hits = action, after, times, garbage, 0


class Mangler:
    def __init__(self, server_port):
        self.server_port, self.rules, self.lock = server_port, {}, threading.Lock()
        self.sockets, self.closed = set(), False
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True
        self.listener.close()
        with self.lock:
            for one in self.sockets:
                drop(one)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def on(self, text, action, after=0, times=1 << 30, garbage=b""):
        """action: "close" (end the connection), "reset", "hold" (say nothing more, keep it open), "garbage" (then close).
        It happens `after` so many bytes of the answer."""
        with self.lock:
            self.rules[text.encode()] = Rule(action, after, times, garbage)

    def off(self, text):
        with self.lock:
            self.rules.pop(text.encode(), None)

    def hits(self, text):
        with self.lock:
            return self.rules[text.encode()].hits

    def _accept(self):
        while not self.closed:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.server_port), 10)
            except OSError:
                continue
            server.settimeout(None)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.sockets.update((client, server))
            pair = Pair(self, client, server)
            for body in (pair.requests, pair.answers):
                threading.Thread(target=body, daemon=True).start()

    def take_rule(self, data):
        with self.lock:
            for text, rule in self.rules.items():
                if text in data and rule.times > 0:
                    rule.times -= 1
                    rule.hits += 1
                    return rule
        return None


class Pair:
    """The two directions of one connection. A rule is armed before its statement reaches the server."""

    def __init__(self, mangler, client, server):
        self.mangler, self.client, self.server = mangler, client, server
        self.rule, self.left = None, 0

    def requests(self):
        try:
            while data := self.client.recv(PIECE):
                rule = self.mangler.take_rule(data)
                if rule:
                    self.left, self.rule = rule.after, rule
                self.server.sendall(data)
        except OSError:
            pass
        drop(self.server)

    def answers(self):
        try:
            while data := self.server.recv(PIECE):
                if self.rule is None:
                    self.client.sendall(data)
                elif not self.mangle(data):
                    return
        except OSError:
            pass
        drop(self.client)

    def mangle(self, data):
        """Passes on what the rule still allows; False when it has happened."""
        self.client.sendall(data[:self.left])
        if len(data) < self.left:
            self.left -= len(data)
            return True
        if self.rule.action == "hold":
            return False
        if self.rule.action == "garbage":
            self.client.sendall(self.rule.garbage)
        if self.rule.action == "reset":
            # The thread that reads this socket holds it open: it must wake up before close() can send the reset.
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.client.shutdown(socket.SHUT_RD)
            self.client.close()
        else:
            drop(self.client)
        drop(self.server)
        return False


def drop(one):
    """Ends both directions; the thread that reads it wakes up, which close() alone would not bring about."""
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
