"""Two Tandems on the same servers that have no [peer] sections for each other: both say so, with what to add, at start and in the status."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import sandbox  # noqa: E402
from test_failover import ctl, said  # noqa: E402
from test_promotion import promote  # noqa: E402

PATIENCE = 60
LINE = "[peer NAME] section with address = the other's [tandem] peer_listen"


@pytest.fixture(scope="module")
def cluster():
    with sandbox.Cluster(replicas=1) as cluster:
        yield cluster


def test_they_share_a_witness(cluster):
    with sandbox.Server("w1", 99) as witness:
        settings = {"witness w1": {"address": witness.address}}
        with sandbox.Tandem(cluster, settings) as one, sandbox.Tandem(cluster, {"tandem": {"name": "two"}, **settings}) as two:
            for tandem in (one, two):
                said(tandem, "votes in this cluster and is no [peer] here", PATIENCE)
                assert LINE in tandem.log_text() and "127.0.0.1:" in tandem.log_text()
                assert LINE in ctl(tandem, "status")[1]
                assert tandem.log_text().count("is no [peer] here") == 1


def test_they_share_the_row(cluster):
    with sandbox.Tandem(cluster) as one, sandbox.Tandem(cluster) as two:
        for tandem in (one, two):
            tandem.wait_reads_on(cluster.replicas)
        assert promote(one, cluster.replicas[0]).result == "done"
        said(two, "tandem.cluster was changed by another Tandem", PATIENCE)
        assert LINE in two.log_text() and LINE in ctl(two, "status")[1]
        assert LINE not in one.log_text()
        two.stop()
        two.start()
        said(two, "tandem.cluster was written by another Tandem than this one, or with another state_dir", PATIENCE)
