"""Where the clients connect to: Tandem over a primary and a replica, or, with
TANDEM_CLIENTS_STRAIGHT=1, the primary itself (which shows that a test is right about servers)."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
import sandbox  # noqa: E402
from last_words import pytest_runtest_makereport  # noqa: E402,F401

STRAIGHT = os.environ.get("TANDEM_CLIENTS_STRAIGHT") == "1"
PROGRAM_SECONDS = 90
ACCOUNTS = (
    "CREATE USER changed@'%' IDENTIFIED BY 'other'",
    "GRANT ALL ON *.* TO changed@'%'",
)


class Target:
    """An address to point a client at, and how to look behind it."""

    def __init__(self, cluster, tandem):
        self.cluster, self.tandem = cluster, tandem
        self.host, self.user, self.password = "127.0.0.1", "app", "app"
        self.port = tandem.port if tandem else cluster.primary.port
        self.primary = cluster.primary
        self.split = tandem is not None
        self.replica_id = cluster.replicas[0].server_id if self.split else self.primary.server_id

    def fresh_database(self, name):
        self.primary.sql("DROP DATABASE IF EXISTS " + name)
        self.primary.sql("CREATE DATABASE " + name + " CHARACTER SET utf8mb4")
        return name

    def refusal(self, user, password):
        """The primary's own error number and text for a login."""
        import pymysql
        try:
            pymysql.connect(host=self.host, port=self.primary.port, user=user, password=password)
        except pymysql.err.OperationalError as e:
            return e.args
        raise AssertionError("the login is good")

    def environment(self, database, **more):
        """What the client programs in other languages are told."""
        env = dict(os.environ, DB_HOST=self.host, DB_PORT=str(self.port), DB_USER=self.user,
                   DB_PASSWORD=self.password, DB_NAME=database,
                   PRIMARY_ID=str(self.primary.server_id), REPLICA_ID=str(self.replica_id),
                   SPLIT="1" if self.split else "0",
                   DENIED=self.refusal(self.user, "wrong")[1])
        env.update(more)
        return env

    def run(self, command, database, cwd=None, **more):
        """Run a client program; it prints a line 'ok NAME' or 'not ok NAME: WHY' per check, and
        'done' at its end."""
        self.fresh_database(database)
        done = subprocess.run([str(c) for c in command], env=self.environment(database, **more),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=PROGRAM_SECONDS,
                              cwd=cwd or HERE)
        text = done.stdout.decode("utf-8", "replace")
        bad = [line for line in text.splitlines() if line.startswith("not ok")]
        checks = len(re.findall(r"^ok ", text, re.M))
        assert not bad and done.returncode == 0 and "\ndone" in text and checks > 5, (
            "%d good, exit %d\n%s" % (checks, done.returncode, "\n".join(bad) or text[-3000:]))
        print(text)


def certificate(folder):
    """Server options for a self-made certificate; Tandem makes its own."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-keyout", folder / "key.pem",
                    "-out", folder / "cert.pem"], check=True, stderr=subprocess.DEVNULL)
    for name in ("key.pem", "cert.pem"):
        (folder / name).chmod(0o644)	# the server may run as another user
    return {"ssl-cert": folder / "cert.pem", "ssl-key": folder / "key.pem"}


@pytest.fixture(scope="session")
def target(tmp_path_factory):
    options = {"local-infile": "ON", "max-allowed-packet": "64M"}
    if STRAIGHT:
        options.update(certificate(tmp_path_factory.mktemp("tls")))
    with sandbox.Cluster(replicas=1, options=options, init_sql=ACCOUNTS) as cluster:
        if STRAIGHT:
            yield Target(cluster, None)
            return
        with sandbox.Tandem(cluster) as tandem:
            tandem.wait_reads_on(cluster.replicas)
            yield Target(cluster, tandem)


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            pytest.skip(program + " is not installed")
