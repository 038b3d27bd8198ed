"""MariaDB's clients from 11.4 on want TLS when they have a password, and a certificate nobody signed only with a proof of the password
over it. Tandem makes its certificate itself and gives that proof; so the client needs no option.

The client looks at nothing when the address is localhost, 127.0.0.1 or ::1; these tests use another address of this machine, or they
would pass with any certificate.
"""
import select
import socket
import ssl
import subprocess
import threading

import pytest

import sandbox
from conftest import image

HOST = "127.0.0.2"


def in_front_of(cluster, settings=None):
    port = sandbox.free_port()
    listen = {"proxy": {"listen": [f"127.0.0.1:{port}", f"{HOST}:{port}"], **(settings or {}).pop("proxy", {})}}
    return sandbox.Tandem(cluster, {**listen, **(settings or {})}, port=port)


@pytest.fixture(scope="module")
def program():
    return image("trixie").program("mariadb")


@pytest.fixture(scope="module")
def cluster():
    with sandbox.Cluster(replicas=1) as started:
        yield started


@pytest.fixture(scope="module")
def tandem(cluster):
    with in_front_of(cluster) as started:
        yield started


def ask(program, port, *options, statement="SELECT CONCAT('answer ', 6 * 7)", user="app", password="app"):
    return subprocess.run([program, "--no-defaults", f"-h{HOST}", f"-P{port}", f"-u{user}", f"-p{password}", "-N", *options,
                           "-e", statement], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


def test_the_client_of_11_8_without_a_ca(program, tandem):
    done = ask(program, tandem.port)
    assert (done.returncode, done.stdout) == (0, "answer 42\n"), done.stderr
    cipher = ask(program, tandem.port, statement="\\s")
    assert "Cipher in use is TLS" in cipher.stdout


def test_the_client_of_11_8_with_a_user_of_the_file(program, cluster):
    with in_front_of(cluster, {"user app": {"password": "app"}}) as tandem:
        done = ask(program, tandem.port)
        assert (done.returncode, done.stdout) == (0, "answer 42\n"), done.stderr


def test_the_client_of_11_8_and_a_wrong_password(program, tandem):
    done = ask(program, tandem.port, password="wrong")
    assert done.returncode and "1045" in done.stderr and "answer" not in done.stdout


def test_the_client_of_11_8_wants_tls(program, cluster):
    with in_front_of(cluster, {"proxy": {"tls": "off"}}) as tandem:
        done = ask(program, tandem.port)
        assert done.returncode and "SSL is required" in done.stderr


def test_the_client_of_11_8_sees_another_certificate_in_the_middle(program, tandem, tmp_path):
    """Shows that the proof is looked at: the same login through somebody who ends TLS with a certificate of his own."""
    with Middle(tandem.port, tmp_path) as middle:
        done = ask(program, middle.port)
        assert middle.seen, "the client never came"
        assert done.returncode and "answer" not in done.stdout
        assert "ERROR 2026" in done.stderr
        # Who asks for no proof gets through, so it was the proof.
        careless = ask(program, middle.port, "--skip-ssl-verify-server-cert")
        assert (careless.returncode, careless.stdout) == (0, "answer 42\n"), careless.stderr


class Middle:
    """Ends the client's TLS, speaks TLS to Tandem itself, and passes everything on."""

    def __init__(self, port, folder):
        self.to, self.seen = port, 0
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=middle", "-keyout",
                        folder / "key.pem", "-out", folder / "cert.pem"], check=True, stderr=subprocess.DEVNULL)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    @staticmethod
    def packet(source):
        head = source.recv(4, socket.MSG_WAITALL)
        return head + source.recv(int.from_bytes(head[:3], "little"), socket.MSG_WAITALL)

    def serve(self, client):
        server = socket.create_connection(("127.0.0.1", self.to))
        try:
            client.sendall(self.packet(server))
            server.sendall(self.packet(client))  # the client's wish for TLS
            self.seen += 1
            server = ssl._create_unverified_context().wrap_socket(server)
            client = self.context.wrap_socket(client, server_side=True)
            self.pass_on(client, server)
        except OSError:
            pass
        finally:
            client.close()
            server.close()

    @staticmethod
    def pass_on(*ends):
        """Passes on what either end sends until one of them closes. One thread: a TLS connection is not for two at a time."""
        other = dict(zip(ends, reversed(ends)))
        while True:
            ready = [end for end in ends if end.pending()] or select.select(ends, [], [])[0]
            for end in ready:
                end.setblocking(False)
                try:
                    data = end.recv(65536)
                except ssl.SSLWantReadError:
                    continue  # a part of a record, or one that carries no data
                finally:
                    end.setblocking(True)
                if not data:
                    return
                other[end].sendall(data)
