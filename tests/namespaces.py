"""Network namespaces on one bridge, made by a test and removed by it: hosts that can be cut off."""
import os
import shutil
import subprocess
import sys

import sandbox

RELAY = """
import socket, sys, threading
def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
while True:
    client = listener.accept()[0]
    try:
        server = socket.socket(socket.AF_UNIX); server.connect(sys.argv[2])
    except OSError:
        client.close(); continue
    for pair in ((client, server), (server, client)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


def available():
    """Whether this process may make namespaces."""
    if os.geteuid() or not shutil.which("ip"):
        return False
    name = f"tdm{os.getpid()}t"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True)
    if done.returncode == 0:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return done.returncode == 0


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Network:
    """A bridge in a namespace of its own, and hosts at it: 10.77.0.N, interface eth0. Nothing outside of it is reached."""

    def __init__(self):
        self.prefix, self.hosts = f"tdm{os.getpid()}", {}
        self.switch = self.prefix + "sw"
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self.switch, "link", "set", "br0", "up")

    def host(self, number):
        name, port = f"{self.prefix}h{number}", f"port{number}"
        ip("netns", "add", name)
        self.hosts[number] = name
        ip("-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", self.switch, "link", "set", port, "master", "br0", "up")
        ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        return Host(self, number, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in [*self.hosts.values(), self.switch]:
            subprocess.run(["ip", "netns", "del", name])


class Host:
    def __init__(self, network, number, name):
        self.network, self.number, self.name = network, number, name
        self.enter = ["ip", "netns", "exec", name]

    def run(self, *command, **more):
        return subprocess.run([*self.enter, *map(str, command)], capture_output=True, text=True, timeout=60, **more)

    def start(self, log, *command):
        return sandbox.Process([*self.enter, *command], log)

    def link(self, up):
        """Cuts the host off at the switch, or joins it again."""
        ip("-n", self.network.switch, "link", "set", f"port{self.number}", "up" if up else "down")

    def addresses(self):
        return self.run("ip", "-4", "-o", "addr", "show", "dev", "eth0").stdout

    def relay(self, log, port, path):
        """Brings a server's Unix socket, which namespaces do not part, to 127.0.0.1:port in here."""
        return self.start(log, sys.executable, "-c", RELAY, str(port), str(path))

