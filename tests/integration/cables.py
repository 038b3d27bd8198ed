"""Ways between programs that can be cut: TCP relays in a process of their own, so that nothing but a cut delays them.

    with Cables({"t1-db1": port, ...}) as cables:
        cables.port("t1-db1")                # where the way begins
        cables.cut("t1-db1"); cables.join()  # everything is swallowed; what was swallowed arrives
"""
import selectors
import socket
import subprocess
import sys


class Cables:
    def __init__(self, ways):
        words = [f"{name},{port}" for name, port in ways.items()]
        self.process = subprocess.Popen([sys.executable, __file__, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ports = {name: int(self.process.stdout.readline()) for name in ways}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def __contains__(self, name):
        return name in self.ports

    def port(self, name):
        return self.ports[name]

    def address(self, name):
        return f"127.0.0.1:{self.ports[name]}"

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def cut(self, *names):
        self.say("cut " + " ".join(names))

    def join(self, *names):
        """All of them when none is named."""
        self.say(" ".join(["join", *names]))


# ---- the process --------------------------------------------------------------------------------------------------------

class Way:
    """One relay: its connections in pairs, and those accepted while it was cut, which get no further."""

    def __init__(self, relays, target):
        self.relays, self.target, self.pairs, self.waiting, self.is_cut = relays, target, {}, [], False
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        relays.register(self.listener, selectors.EVENT_READ, self.accept)

    def accept(self, listener):
        near, _ = listener.accept()
        if self.is_cut:
            self.waiting.append(near)
        else:
            self.connect(near)

    def connect(self, near):
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        self.pairs[near], self.pairs[far] = far, near
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.relays.register(end, selectors.EVENT_READ, self.pass_on)

    def pass_on(self, source):
        try:
            data = source.recv(65536)
            if data:
                self.pairs[source].sendall(data)
                return
        except OSError:
            pass
        self.close(source)

    def close(self, end):
        other = self.pairs.pop(end)
        self.pairs.pop(other)
        for one in (end, other):
            if not self.is_cut:
                self.relays.unregister(one)
            one.close()

    def cut(self):
        if not self.is_cut:
            self.is_cut = True
            for end in self.pairs:
                self.relays.unregister(end)

    def join(self):
        if not self.is_cut:
            return
        self.is_cut = False
        for end in self.pairs:
            self.relays.register(end, selectors.EVENT_READ, self.pass_on)
        for near in self.waiting:
            self.connect(near)
        self.waiting = []


def main():
    relays, ways = selectors.DefaultSelector(), {}
    for word in sys.argv[1:]:
        name, target = word.split(",")
        ways[name] = Way(relays, int(target))
        print(ways[name].listener.getsockname()[1], flush=True)

    def obey(stdin):
        words = stdin.readline().split()
        if not words:
            sys.exit(0)
        for way in [ways[name] for name in words[1:]] or ways.values():
            way.cut() if words[0] == "cut" else way.join()
        print("done", flush=True)
    relays.register(sys.stdin, selectors.EVENT_READ, obey)
    while True:
        for key, _ in relays.select():
            if key.fileobj.fileno() >= 0:  # not closed by one before it
                key.data(key.fileobj)


if __name__ == "__main__":
    main()
