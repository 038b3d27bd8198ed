"""Two Tandems and one address: keepalived moves it to the other when one is killed, drained, or cut off. All in network namespaces."""
import contextlib
import pathlib
import re
import signal

import pytest

import namespaces
import sandbox

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent.parent / "dist" / "examples"
ADDRESS = "10.77.0.100"


class Node:
    """A host with a Tandem on the virtual address and a keepalived beside it. Its servers are reached by relays."""

    def __init__(self, network, number, cluster, stack):
        self.host, self.number, self.cluster = network.host(number), number, cluster
        self.folder = sandbox.new_folder("node")
        stack.callback(sandbox.remove_folder, self.folder)
        (self.folder / "who").write_text(f"t{number}")
        for server in cluster.servers:
            relay = self.host.relay(self.folder / "relay.log", server.port, server.socket)
            stack.callback(relay.end, signal.SIGKILL, 10)
        self.tandem = sandbox.Tandem(cluster, {"web": {"listen": [f"{ADDRESS}:8080", "127.0.0.1:8080"]},
                                               "site *": {"root": self.folder}, "route */readyz": {"to": "ready"}}, start=False)
        stack.callback(self.close)
        self.start()
        config = self.folder / "keepalived.conf"
        config.write_text(self.example())
        config.chmod(0o600)
        self.keepalived = self.host.start(self.folder / "keepalived.log", sandbox.find_program("keepalived"), "--dont-fork", "--log-console",
                                          "--vrrp", "--use-file", config, "--pid", self.folder / "k.pid", "--vrrp_pid", self.folder / "v.pid")
        stack.callback(self.keepalived.end, signal.SIGTERM, 10)

    def start(self):
        self.process = self.host.start(self.tandem.log, sandbox.tandem_binary(), "-c", self.tandem.config)
        sandbox.wait_for(self.ready, 30, f"t{self.number} to be ready", 0.1)

    def ready(self):
        return self.host.run("curl", "-fs", "-m", "5", "http://127.0.0.1:8080/readyz").stdout == "ready\n"

    def example(self):
        """The example as it is; on the second node with its words exchanged as its comment says."""
        text = (EXAMPLES / "keepalived.conf").read_text()
        if self.number == 2:
            for old, new in (("state MASTER", "state BACKUP"), ("priority 110", "priority 100"), ("unicast_src_ip 10.77.0.1", "unicast_src_ip 10.77.0.2"),
                             ("        10.77.0.2\n", "        10.77.0.1\n"), ("router_id t1", "router_id t2")):
                assert text.count(old) == 1
                text = text.replace(old, new)
        return text

    def has_address(self):
        return re.search(rf"\b{ADDRESS}/", self.host.addresses()) is not None

    def end(self, number):
        self.process.end(number, 60)

    def close(self):
        self.process.end(signal.SIGINT, 20)
        self.tandem.close()


@pytest.fixture(scope="module")
def net():
    """(client's host, node 1, node 2)"""
    if not namespaces.available():
        pytest.skip("network namespaces need root")
    with sandbox.Cluster(replicas=1) as cluster, contextlib.ExitStack() as stack:
        network = stack.enter_context(namespaces.Network())
        client = network.host(9)
        yield client, Node(network, 1, cluster, stack), Node(network, 2, cluster, stack)


def served_by(net, node):
    """Waits until a client sees that node, and that alone, at the address."""
    client, *nodes = net

    def seen():
        answer = client.run("curl", "-fs", "-m", "2", f"http://{ADDRESS}:8080/who").stdout
        return answer == f"t{node.number}" and [n.has_address() for n in nodes] == [n is node for n in nodes]
    try:
        sandbox.wait_for(seen, 60, f"t{node.number} at the address", 0.1)
    except sandbox.SandboxError as error:
        raise sandbox.SandboxError(f"{error}\n" + "\n".join(sandbox.tail(n.folder / "keepalived.log") for n in nodes)) from None


def test_the_first_has_the_address(net):
    served_by(net, net[1])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "drained"])
def test_the_other_takes_over_and_gives_back(net, number):
    _, one, two = net
    served_by(net, one)
    one.end(number)
    served_by(net, two)
    one.start()
    served_by(net, one)


def test_a_link_is_cut(net):
    """The first still has the address, on an island; the client reaches the second."""
    client, one, two = net
    served_by(net, one)
    one.host.link(False)
    sandbox.wait_for(lambda: client.run("curl", "-fs", "-m", "2", f"http://{ADDRESS}:8080/who").stdout == "t2", 60, "t2 at the address", 0.1)
    one.host.link(True)
    served_by(net, one)


def test_the_listener_waits_for_its_address(net):
    """Tandem on the node without the address listens on it already: that is what IP_FREEBIND is for."""
    _, _, two = net
    served_by(net, net[1])
    assert not two.has_address()
    assert f"{ADDRESS}:8080" in two.host.run("ss", "-ltn").stdout
