"""The PROXY header in front of a MySQL session: the client's own address decides about its account and is shown."""
import socket
import struct
import time

import pytest

import rawmysql
import sandbox

pytestmark = [pytest.mark.core, pytest.mark.proxy_only]

BALANCER = "127.0.0.2"
V2 = b"\r\n\r\n\0\r\nQUIT\n"
HOSTS = ("198.51.100.%", "2001:db8::7", "127.0.0.1", BALANCER, "localhost")


def v1(address, port=4711):
    return f"PROXY TCP{6 if ':' in address else 4} {address} {'::1' if ':' in address else '127.0.0.1'} {port} 3306\r\n".encode()


def v2(address, port=4711, command=0x21):
    v6 = ":" in address
    family = socket.AF_INET6 if v6 else socket.AF_INET
    block = socket.inet_pton(family, address) + socket.inet_pton(family, "::1" if v6 else "127.0.0.1") + struct.pack("!HH", port, 3306)
    return V2 + struct.pack("!BBH", command, 0x21 if v6 else 0x11, len(block)) + block


@pytest.fixture(scope="module")
def behind(cluster):
    """Tandem behind a balancer, and an account for clients of one network (and for Tandem itself, from where it comes)."""
    for host in HOSTS:
        cluster.primary.sql(f"CREATE USER picky@'{host}' IDENTIFIED BY 'picky'")
        cluster.primary.sql(f"GRANT SELECT ON *.* TO picky@'{host}'")
    console = sandbox.free_port()
    settings = {"proxy": {"proxy_protocol_from": BALANCER, "login_timeout": "3s"},
                "admin": {"console": f"127.0.0.1:{console}", "user": "admin", "password": "admin"}}
    with sandbox.Tandem(cluster, settings) as tandem:
        tandem.console = console
        yield tandem
    for host in HOSTS:
        cluster.primary.sql(f"DROP USER picky@'{host}'")


def client(tandem, header, user="picky", **more):
    return rawmysql.Connection(port=tandem.port, user=user, password=user, source=BALANCER, before=header, **more)


@pytest.mark.parametrize("header", [v1("198.51.100.7"), v2("198.51.100.7"), v2("::ffff:198.51.100.7"), v1("2001:db8::7"), v2("2001:db8::7")])
def test_the_account_is_that_of_the_clients_address(behind, header):
    with client(behind, header) as c:
        assert c.value("SELECT 1") == 1
        assert c.value("SELECT USER()").startswith("picky@")


@pytest.mark.parametrize("header, seen", [(v1("203.0.113.9"), "203.0.113.9"), (v2("2001:db8::8"), "2001:db8::8")])
def test_another_address_has_no_account(behind, header, seen):
    with pytest.raises(rawmysql.MysqlError) as error:
        client(behind, header)
    assert error.value.number == 1045 and f"'picky'@'{seen}'" in error.value.text


@pytest.mark.parametrize("header", [v2("203.0.113.9", command=0x20), b"PROXY UNKNOWN\r\n"])
def test_a_balancer_that_speaks_for_itself(behind, header):
    """A health check has the balancer's address, which is of this machine."""
    with client(behind, header) as c:
        assert c.value("SELECT 1") == 1


def test_by_tls_too(behind):
    with client(behind, v2("198.51.100.7"), tls=True) as c:
        assert c.value("SELECT 1") == 1


def test_a_header_in_pieces(behind):
    c = client(behind, b"", login=False)
    c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in v2("198.51.100.7"):
        c.socket.send(bytes([byte]))
    c.greet()
    c.login()
    assert c.value("SELECT 1") == 1
    c.close()


def test_the_session_is_shown_with_the_clients_address(behind):
    with client(behind, v1("198.51.100.7", 4711)) as c, client(behind, v2("2001:db8::7", 4712)) as d:
        assert c.value("SELECT 1") == d.value("SELECT 1") == 1
        with rawmysql.Connection(port=behind.console, user="admin", password="admin") as console:
            shown = str(console.query("SHOW SESSIONS").rows)
        assert "198.51.100.7:4711" in shown and "[2001:db8::7]:4712" in shown


@pytest.mark.parametrize("said, why", [
    (b"\x01\0\0\x01\x0e", "it sent no PROXY header"),
    (b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "malformed port"),
    (V2 + b"\x21\x77\0\x0c" + bytes(12), "unknown address family"),
])
def test_what_is_no_header(behind, said, why):
    c = client(behind, said, login=False)
    assert ended(c.socket), "nothing is told"
    sandbox.wait_for(lambda: why in behind.log_text(), 30, "the reason in the log")


def test_a_header_that_does_not_come(behind):
    c = client(behind, b"PROXY TCP4", login=False)
    assert ended(c.socket)
    sandbox.wait_for(lambda: "no PROXY header came, and its address is one of proxy_protocol_from" in behind.log_text(), 30, "the reason")


def test_nothing_is_sent_before_the_header(behind):
    """By the specification the balancer speaks first; a greeting would tell it nothing."""
    c = client(behind, b"", login=False)
    c.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        c.socket.recv(1)
    c.close()


def test_others_begin_as_ever(behind):
    """A header where none is expected is a login packet that makes no sense."""
    with rawmysql.Connection(port=behind.port, user="app", password="app") as c:
        assert c.value("SELECT 1") == 1
    c = rawmysql.Connection(port=behind.port, before=v1("198.51.100.7"), login=False)
    data = b""
    ends = time.monotonic() + 30
    while time.monotonic() < ends and (piece := c.socket.recv(65536)):
        data += piece
    assert b"Bad handshake" in data
    c.socket.close()


def ended(s):
    s.settimeout(30)
    try:
        return s.recv(1000) == b""
    except ConnectionResetError:
        return True
    finally:
        s.close()
