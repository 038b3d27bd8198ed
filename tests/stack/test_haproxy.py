"""HAProxy round-robin in front of two Tandems: both at work, one killed, one drained, one back."""
import contextlib
import pathlib
import re
import signal
import urllib.error
import urllib.request

import pytest

import programs
import sandbox

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent.parent / "dist" / "examples"


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


class Node:
    """A Tandem whose site tells which one it is."""

    def __init__(self, name, cluster):
        self.name, self.web = name, sandbox.free_port()
        self.root = sandbox.new_folder("root")
        (self.root / "who").write_text(name)
        (self.root / "page").write_bytes(b"x" * 1000)  # sent whole or not at all
        self.tandem = sandbox.Tandem(cluster, {"web": {"listen": f"127.0.0.1:{self.web}"}, "site *": {"root": self.root},
                                               "route */readyz": {"to": "ready"}}, wait=False)

    def readyz(self):
        try:
            return 200, get(f"http://127.0.0.1:{self.web}/readyz")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def close(self):
        self.tandem.close()
        sandbox.remove_folder(self.root)


def example(port, nodes):
    """The example as it is, with this run's ports."""
    text = (EXAMPLES / "haproxy.cfg").read_text()
    for old, new in ((8000, port), (8081, nodes[0].web), (8082, nodes[1].web)):
        text, count = re.subn(rf"127\.0\.0\.1:{old}\b", f"127.0.0.1:{new}", text)
        assert count == 1
    return text


@pytest.fixture(scope="module")
def cluster():
    with sandbox.Cluster(replicas=1) as started:
        yield started


@pytest.fixture
def front(cluster):
    """(address of HAProxy, the two nodes behind it)."""
    with contextlib.ExitStack() as stack:
        nodes = [Node(name, cluster) for name in ("t1", "t2")]
        for node in nodes:
            stack.callback(node.close)
        for node in nodes:
            sandbox.wait_for(lambda: node.readyz() == (200, "ready\n"), 30, f"{node.name} to be ready")
        folder = sandbox.new_folder("haproxy")
        stack.callback(sandbox.remove_folder, folder)
        port = sandbox.free_port()
        (folder / "haproxy.cfg").write_text(example(port, nodes))
        process = sandbox.Process([sandbox.find_program("haproxy"), "-db", "-f", folder / "haproxy.cfg"], folder / "log")
        stack.callback(process.end, signal.SIGKILL, 10)
        url = f"http://127.0.0.1:{port}"
        sandbox.wait_for(lambda: {get(url + "/who") for _ in range(8)} == {"t1", "t2"}, 30, "both to answer", 0.1)
        yield url, nodes


def who(url, times=10):
    return {get(url + "/who") for _ in range(times)}


def test_both_take_their_turn(front):
    url, _ = front
    answers = [get(url + "/who") for _ in range(20)]
    assert answers.count("t1") == answers.count("t2") == 10


def test_one_is_killed_and_comes_back(front):
    url, (one, two) = front
    with programs.Wrk(url + "/page") as wrk:
        one.tandem.process.end(signal.SIGKILL, 10)
        sandbox.wait_for(lambda: who(url) == {"t2"}, 30, "all to go to the other")
        figures = wrk.stop()
    assert (figures["refused"], figures["errors"]) == (0, 0) and figures["requests"] > 20, wrk.output
    one.tandem.start(wait=False)
    sandbox.wait_for(lambda: who(url) == {"t1", "t2"}, 30, "both to answer again", 0.1)


def test_one_is_drained(front):
    """SIGTERM under load: /readyz says so, and no request is lost."""
    url, (one, two) = front
    with programs.Wrk(url + "/page") as wrk:
        sandbox.wait_for(lambda: who(url) == {"t1", "t2"}, 30, "load on both")
        one.tandem.process.signal(signal.SIGTERM)
        sandbox.wait_for(lambda: not one.tandem.process.running(), 60, "the drained one to end")
        assert who(url) == {"t2"}
        figures = wrk.stop()
    assert (figures["refused"], figures["errors"]) == (0, 0) and figures["requests"] > 20, wrk.output


def test_without_a_primary_nobody_is_sent(front, cluster):
    """The site could still serve files, but whoever asks /readyz hears why it should not be sent work."""
    url, (one, two) = front
    cluster.primary.stop()
    try:
        sandbox.wait_for(lambda: one.readyz()[0] == two.readyz()[0] == 503, 30, "both to say so")
        assert one.readyz()[1] == "no primary is known\n"
    finally:
        cluster.primary.start()
    sandbox.wait_for(lambda: one.readyz()[0] == two.readyz()[0] == 200, 30, "both to be ready")
