"""What a statement can be sent through on its way to the server: nothing, the plain relay, HAProxy, Tandem."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import proc
import sandbox

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent

HAPROXY_CFG = """
global
    nbthread {threads}
    maxconn {maxconn}
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    no option tcp-smart-accept
    no option tcp-smart-connect
listen db
    bind 127.0.0.1:{port} backlog 4096
    maxconn {maxconn}
    server db1 127.0.0.1:{server_port}
"""


class Target:
    """Somewhere to connect to, and the process whose CPU time counts (none for the direct way)."""

    def __init__(self, name, port, process=None, on_stop=None):
        self.name, self.port, self.process, self.on_stop = name, port, process, on_stop
        self.pid = process.pid if process else None

    def cpu(self):
        return proc.cpu_time(proc.family(self.pid)) if self.pid else proc.CpuTime()

    def rss_kib(self):
        return sum(proc.status_kib(pid, "VmRSS") for pid in proc.family(self.pid))

    def stop(self):
        if self.on_stop:
            self.on_stop()
        elif self.process:
            self.process.end(signal.SIGKILL, 10)


def listening(port, process):
    def tried():
        if not process.running():
            raise sandbox.SandboxError(f"{process.popen.args[0]} ended at once")
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    sandbox.wait_for(tried, 10, f"port {port}")


def direct(server):
    return Target("direct", server.port)


def build_relay(folder):
    """The build tree makes it, with the flags of everything else; without one the compiler is asked directly."""
    build = pathlib.Path(os.environ.get("TANDEM_BUILD", TOP / "build"))
    if (build / "Makefile").exists():
        made = subprocess.run(["make", "-s", "-C", build, "tests/bench/relay"], stderr=subprocess.DEVNULL)
        if made.returncode == 0:
            return build / "tests/bench/relay"
    out = folder / "relay"
    subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-pthread", "-o", out, HERE / "relay.c"], check=True)
    return out


def floor(folder, server, threads):
    port = sandbox.free_port()
    process = sandbox.Process([build_relay(folder), f"127.0.0.1:{port}", server.address, threads], folder / "relay.log")
    listening(port, process)
    return Target("floor", port, process)


def haproxy(folder, server, threads, maxconn=8000):
    """None where it is not installed."""
    binary = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not binary:
        print("haproxy is not installed: left out", file=sys.stderr)
        return None
    port = sandbox.free_port()
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY_CFG.format(threads=threads, maxconn=maxconn, port=port, server_port=server.port))
    process = sandbox.Process([binary, "-f", config, "-db"], folder / "haproxy.log")
    listening(port, process)
    return Target("haproxy", port, process)


def tandem(cluster, threads, settings=None):
    """None where it is not built."""
    if not os.access(sandbox.tandem_binary(), os.X_OK):
        print(f"{sandbox.tandem_binary()} is not built: left out", file=sys.stderr)
        return None
    wanted = {"tandem": {"threads": threads}}
    wanted.update(settings or {})
    daemon = sandbox.Tandem(cluster, wanted)
    if cluster.replicas:
        daemon.wait_reads_on(cluster.replicas)
    return Target("tandem", daemon.port, daemon, daemon.close)
