"""TLS to the servers: traffic, monitor and watcher alike, in clear and encrypted, with and without verification."""
import subprocess

import pytest

import sandbox
from rawmysql import MysqlError, ProtocolError

pytestmark = [pytest.mark.proxy_only]

# What a server shows, and whether each setting of `tls` may use it.
USABLE = {
    # our CA, and the name under which Tandem reaches it
    "known": {"off": True, "preferred": True, "required": True, "verify_ca": True, "verify_full": True},
    # our CA, another name
    "renamed": {"off": True, "preferred": True, "required": True, "verify_ca": True, "verify_full": False},
    # a CA that Tandem was not told of
    "stranger": {"off": True, "preferred": True, "required": True, "verify_ca": False, "verify_full": False},
    # no TLS at all
    "clear": {"off": True, "preferred": True, "required": False, "verify_ca": False, "verify_full": False},
}


def openssl(*words, **more):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, **more)


def make_ca(folder, name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2, "-subj", f"/CN={name}",
            "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem")
    return name


def make_certificate(folder, ca, name, subject):
    """A certificate and its key, readable for the account of the servers."""
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={subject}",
            "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr")
    (folder / f"{name}.ext").write_text("subjectAltName=" + (f"IP:{subject}" if subject[0].isdigit() else f"DNS:{subject}"))
    openssl("x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / f"{ca}.pem", "-CAkey", folder / f"{ca}.key",
            "-CAcreateserial", "-days", 2, "-extfile", folder / f"{name}.ext", "-out", folder / f"{name}.pem")
    (folder / f"{name}.key").chmod(0o644)
    return {"ssl-cert": folder / f"{name}.pem", "ssl-key": folder / f"{name}.key"}


@pytest.fixture(scope="module")
def papers():
    """Certificates by the kind of server that shows them; under "ca" the file that Tandem is told of."""
    folder = sandbox.new_folder("papers")
    folder.chmod(0o755)
    ours, theirs = make_ca(folder, "ours"), make_ca(folder, "theirs")
    yield {"ca": folder / f"{ours}.pem", "clear": {"skip-ssl": None},
           "known": make_certificate(folder, ours, "known", "127.0.0.1"),
           "renamed": make_certificate(folder, ours, "renamed", "db.example.com"),
           "stranger": make_certificate(folder, theirs, "stranger", "127.0.0.1")}
    sandbox.remove_folder(folder)


@pytest.fixture(scope="module", params=list(USABLE))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def servers(kind, papers):
    with sandbox.Cluster(replicas=1, options=papers[kind],
                         init_sql=["CREATE DATABASE work", "CREATE TABLE work.t (i INT PRIMARY KEY)"]) as started:
        yield started


def demand(servers, what):
    """The accounts of client, monitor and watcher may log in with TLS only (SSL), or also in clear (NONE)."""
    for account in ("app@'%'", "monitor@'%'"):
        servers.primary.sql(f"ALTER USER {account} REQUIRE {what}")
    servers.wait_synced()


def in_front_of(servers, tls, ca, **more):
    settings = {f"server {s.name}": {"tls": tls, "tls_ca": ca if tls.startswith("verify") else None} for s in servers.servers}
    # With the password in the settings, what the account demands is between Tandem and the servers alone.
    return sandbox.Tandem(servers, {"proxy": {"primary_wait": "300ms", "causal_wait": "10s"}, "user app": {"password": "app"},
                                    **settings}, **more)


def works(tandem, servers):
    """A write on the primary, and reads on the replica that must have applied it: for that its watcher is logged in, too."""
    tandem.wait_reads_on(servers.replicas)
    sandbox.wait_for(lambda: "primary is db1" in tandem.log_text(), 30, "the primary to be known")
    with tandem.connect(database="work") as client:
        client.query("DELETE FROM t")
        for number in range(5):
            client.query(f"INSERT INTO t VALUES ({number})")
            assert client.query("SELECT COUNT(*), @@server_id FROM t").rows == [(number + 1, 2)]


@pytest.mark.parametrize("tls", ["off", "preferred", "required", "verify_ca", "verify_full"])
def test_setting_and_server(servers, kind, papers, tls):
    encrypted = kind != "clear" and tls != "off"
    if not USABLE[kind][tls]:
        with in_front_of(servers, tls, papers["ca"], wait=False) as tandem:
            for server in servers.servers:
                sandbox.wait_for(lambda name=server.name: f"server {name}: down: " in tandem.log_text(), 20, "the refusal")
            assert "takes reads" not in tandem.log_text() and "primary is" not in tandem.log_text()
            with pytest.raises((MysqlError, ProtocolError, OSError)), tandem.connect(timeout=15) as client:
                client.query("SELECT 1")
        return
    demand(servers, "SSL" if encrypted else "NONE")
    try:
        with in_front_of(servers, tls, papers["ca"]) as tandem:
            works(tandem, servers)
    finally:
        demand(servers, "NONE")


def test_off_is_in_clear(servers, papers):
    """The opposite of the above: what demands TLS refuses a Tandem that was told to use none, and the log says so."""
    demand(servers, "SSL")
    try:
        with in_front_of(servers, "off", papers["ca"], wait=False) as tandem:
            sandbox.wait_for(lambda: "server db1: down: " in tandem.log_text(), 20, "the refusal")
    finally:
        demand(servers, "NONE")
