"""Fixtures: a primary and a replica of each server version with Tandem in front, one version at a time.

By default only MariaDB 11.8 is used, as server and as client; TANDEM_ALL_VERSIONS=1 uses all. What cannot be made is skipped by name.
"""
import itertools
import os

import pytest
import versions

import rawmysql
import sandbox

CHOSEN = list(versions.ALL) if os.environ.get("TANDEM_ALL_VERSIONS") else ["trixie"]
NUMBERS = itertools.count(1)
MADE = {}

os.environ.setdefault("TANDEM_IMAGE_SECONDS", "240")


def image(suite):
    """The tree of a release, or the test is skipped. Asked once: what could not be made is not tried again for each test."""
    if suite not in MADE:
        try:
            MADE[suite] = versions.Image(suite)
        except versions.NoImage as reason:
            MADE[suite] = reason
    if isinstance(MADE[suite], versions.NoImage):
        pytest.skip(str(MADE[suite]))
    return MADE[suite]


class Stack:
    """One version's servers and Tandem in front of them."""

    def __init__(self, made, cluster, tandem):
        self.image, self.cluster, self.tandem = made, cluster, tandem
        self.mysql = made.mysql
        self.primary, self.replica = cluster.primary, cluster.replicas[0]

    def connect(self, user="app", password="app", **more):
        return self.tandem.connect(user, password, **more)

    def straight(self, **more):
        return self.primary.connect(**more)


def settings_for(made, cluster, **more):
    """MySQL's accounts hold no proof that a client without TLS could give, so there the password is in the file."""
    settings = {f"server {server.name}": {"address": server.address, **more} for server in cluster.servers}
    if made.mysql:
        settings["user app"] = {"password": "app"}
    return settings


@pytest.fixture(scope="module", params=CHOSEN, ids=[versions.ALL[suite].replace(" ", "-") for suite in CHOSEN])
def stack(request):
    made = image(request.param)
    with made.cluster() as cluster:
        with cluster.primary.connect() as admin:
            prepare(admin)
        cluster.wait_synced()
        with sandbox.Tandem(cluster, {"proxy": {"causal_wait": "2s"}, **settings_for(made, cluster)}) as tandem:
            tandem.wait_reads_on(cluster.replicas)
            yield Stack(made, cluster, tandem)


def prepare(admin):
    for statement in (
            "CREATE DATABASE ver", "CREATE DATABASE other", "USE ver",
            "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100))",
            "CREATE TABLE one (a INT)", "INSERT INTO one VALUES (1)", "CREATE TABLE other.one (a INT)",
            "INSERT INTO other.one VALUES (2)",
            "CREATE FUNCTION liar(x VARCHAR(100)) RETURNS INT READS SQL DATA "
            "BEGIN INSERT INTO t (v) VALUES (x); RETURN 1; END",
            "CREATE PROCEDURE two() BEGIN SELECT 1; SELECT 2; END"):
        admin.query(statement)


@pytest.fixture
def client(stack):
    with stack.connect(database="ver") as connection:
        yield connection


@pytest.fixture
def text():
    return f"row{next(NUMBERS)}"


@pytest.fixture
def behind(stack):
    """The replica applies nothing during the test."""
    stack.cluster.stop_applying()
    yield
    stack.cluster.start_applying()
    stack.tandem.wait_reads_on([stack.replica])
