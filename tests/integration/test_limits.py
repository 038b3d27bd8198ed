"""Limits: connections per server across workers, many clients at once, the file limit of the daemon."""
import contextlib
import os
import pathlib
import resource
import threading
import time

import pytest

import sandbox
from conftest import in_threads
from load import Crew, seconds
from rawmysql import MysqlError, ProtocolError

pytestmark = [pytest.mark.proxy_only]
LIMIT, WORKERS = 4, 8


@pytest.fixture(scope="module")
def pair():
    with sandbox.Cluster(replicas=1, init_sql=["CREATE DATABASE work", "CREATE TABLE work.limits (id INT PRIMARY KEY, n INT)",
                                               "INSERT INTO work.limits VALUES (1, 0)"]) as started:
        yield started


def limited(cluster, limit, **settings):
    more = {f"server {server.name}": {"max_connections": limit} for server in cluster.servers}
    more["tandem"] = {"threads": WORKERS}
    more.update(settings)
    return sandbox.Tandem(cluster, more)


class Census(Crew):
    """Counts the connections of an account on each server while the `with` runs."""

    def __init__(self, cluster, account="app"):
        self.cluster, self.most = cluster, {server.name: 0 for server in cluster.servers}
        self.question = f"SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{account}'"
        super().__init__(1, Census.count, "census")

    def count(self, _):
        with contextlib.ExitStack() as stack:
            admins = {server.name: stack.enter_context(server.connect(user="root", password=""))
                      for server in self.cluster.servers}
            while self.running:
                for name, admin in admins.items():
                    self.most[name] = max(self.most[name], admin.value(self.question))
                self.stopped.wait(0.002)


def mixed_work(client, index, turn):
    """Reads, writes and transactions, as everybody does; raises when anything is wrong."""
    kind = (index + turn) % 4
    if kind == 0:
        assert client.query("SELECT COUNT(*) FROM limits").value == 1
    elif kind == 1:
        client.query("UPDATE limits SET n = n + 1 WHERE id = 1")
    elif kind == 2:
        client.query("BEGIN")
        assert client.query("SELECT id FROM limits").value == 1
        client.query("COMMIT")
    else:
        client.query(f"SET @mine = {index * 100000 + turn}")
        assert client.query("SELECT @mine").value == index * 100000 + turn


def on_two_workers(front, stack, count):
    """Clients of two of the workers only. Each new client goes to the worker with the fewest, so that clients opened one after
    another land on the workers in turn; all of them work once, so that every worker has had connections; then six of eight
    leave."""
    clients = [stack.enter_context(front.connect(database="work", timeout=60)) for _ in range(count // 2 * WORKERS)]
    for index, client in enumerate(clients):
        mixed_work(client, index, index // WORKERS)
    staying = []
    for index, client in enumerate(clients):
        if index % WORKERS < 2:
            staying.append(client)
        else:
            client.close()
    return staying


def test_everybody_is_served_within_four_connections(pair):
    length = min(15, seconds(60) / 4)
    with limited(pair, LIMIT) as front, Census(pair) as census, contextlib.ExitStack() as stack:
        before = {server.name: server.status("Connections") for server in pair.servers}
        clients = on_two_workers(front, stack, 16)
        served = [0] * len(clients)

        def work(crew, index):
            while crew.running:
                mixed_work(clients[index], index, served[index])
                served[index] += 1

        with Crew(len(clients), work) as crew:
            crew.wait(length)
        opened = {server.name: server.status("Connections") - before[server.name] for server in pair.servers}
    print(f"\n{len(clients)} clients, {sum(served)} statements in {length:.0f} s, fewest {min(served)}, most {max(served)}; "
          f"most connections at once {census.most}, opened in all {opened}")
    assert min(served) > 0
    assert all(0 < count <= LIMIT for count in census.most.values()), census.most


def test_a_hundred_clients_share_four_connections(pair):
    """All workers, each client a transaction at a time: more transactions want a connection than there are."""
    with limited(pair, LIMIT, proxy={"pool_wait": "60s"}) as front, Census(pair) as census:
        def work(index):
            with front.connect(database="work", timeout=60) as client:
                for turn in range(12):
                    mixed_work(client, index, turn)
        in_threads(100, work)
    assert all(0 < count <= LIMIT for count in census.most.values()), census.most


def test_waiting_at_the_limit_ends_in_a_clear_error(pair):
    """Transactions hold every connection of the primary; one more write waits its time and is told why."""
    with limited(pair, 2, proxy={"pool_wait": "1s"}) as front, contextlib.ExitStack() as stack:
        holders = [stack.enter_context(front.connect(database="work")) for _ in range(2)]
        for holder in holders:
            holder.query("BEGIN")
            holder.query("SELECT id FROM limits")
        late = stack.enter_context(front.connect(database="work"))
        begun = time.monotonic()
        with pytest.raises(MysqlError) as error:
            late.query("DELETE FROM limits WHERE id = 77")
        assert 0.9 <= time.monotonic() - begun < 5
        assert "tandem:" in error.value.text
        for holder in holders:
            holder.query("COMMIT")
        assert late.query("DELETE FROM limits WHERE id = 77").affected == 0


def test_a_waiting_write_goes_on_when_a_connection_is_free(pair):
    with limited(pair, 1) as front, front.connect(database="work") as holder, front.connect(database="work") as late:
        holder.query("BEGIN")
        holder.query("SELECT id FROM limits")
        late.send_query("UPDATE limits SET n = n + 1 WHERE id = 1")
        holder.query("SELECT id FROM limits")
        holder.query("COMMIT")
        assert late.read_result().affected == 1


def test_the_server_says_too_many_connections(pair):
    """1040 means "at the limit", not "down": everybody is served with what there is."""
    server = pair.primary
    before = server.value("SELECT @@global.max_connections")
    with limited(pair, 100) as front:
        in_use = server.status("Threads_connected")
        server.sql(f"SET GLOBAL max_connections = {max(10, in_use + 3)}")
        try:
            def work(index):
                with front.connect(database="work", timeout=60) as client:
                    for turn in range(10):
                        mixed_work(client, index, turn)
            in_threads(40, work)
        finally:
            server.sql(f"SET GLOBAL max_connections = {before}")


# ---- many at once -----------------------------------------------------------------------------------------------------

def allow_files(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"the hard limit for open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


def test_two_thousand_connects_at_once(pair):
    """All of them are connected before the first says a word; all are logged in before the first asks anything."""
    allow_files(6000)
    count, threads = 2000, 20
    clients = [None] * count

    with limited(pair, 20, proxy={"login_timeout": "60s"}) as front:
        steps = threading.Barrier(threads)

        def work(index):
            mine = range(index, count, threads)
            for number in mine:
                clients[number] = front.connect(login=False, database="work", timeout=60)
            steps.wait(60)
            for number in mine:
                clients[number].greet()
                clients[number].login()
            steps.wait(60)
            for number in mine:
                assert clients[number].query("SELECT COUNT(*) FROM limits").value == 1
        begun = time.monotonic()
        try:
            in_threads(threads, work)
            took = time.monotonic() - begun
            assert len({client.thread_id for client in clients}) == count
        finally:
            for client in clients:
                if client:
                    client.close()
        print(f"\n{count} clients connected, logged in and asked within {took:.1f} s")


# ---- files ------------------------------------------------------------------------------------------------------------

def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def connect_until_refused(front, most):
    """Clients until one gets no login; returns them and what the refused one saw."""
    clients = []
    for _ in range(most):
        try:
            clients.append(front.connect(database="work", timeout=3))
            clients[-1].query("SELECT 1")
        except (OSError, MysqlError, ProtocolError) as refusal:
            return clients, refusal
    return clients, None


def test_the_file_limit_is_reached(pair):
    with limited(pair, 4, tandem={"threads": 2}) as front:
        with front.connect(database="work") as old:
            mixed_work(old, 0, 0)
            mixed_work(old, 0, 1)
            limit = open_files(front.pid) + 30
            resource.prlimit(front.pid, resource.RLIMIT_NOFILE, (limit, limit))
            clients, refusal = connect_until_refused(front, 100)
            assert refusal is not None and len(clients) < 40
            # The refused one learns it, or waits to be accepted; the old ones notice nothing, and nothing spins.
            before = sum(front.cpu())
            end = time.monotonic() + 1
            while time.monotonic() < end:
                for turn in range(4):
                    mixed_work(old, 0, turn)
                time.sleep(0.05)
            used = sum(front.cpu()) - before
            for client in clients:
                client.close()
            sandbox.wait_for(lambda: open_files(front.pid) < limit - 10, 20, "files to be closed")

            def served_again():
                with front.connect(database="work", timeout=5) as client:
                    return client.query("SELECT 1").value == 1
            sandbox.wait_for(served_again, 20, "new clients to be served again")
            print(f"\n{len(clients)} clients below the limit of {limit} files, then {refusal!r}; "
                  f"{used:.2f} s of CPU in the second at the limit")
            assert used < 0.5


def test_the_file_limit_is_reached_before_the_first_statement(pair):
    """Clients fit, but a backend connection does not any more: an error or a wait, then service again."""
    with limited(pair, 4, tandem={"threads": 2}) as front:
        waiting = [front.connect(database="work", timeout=15) for _ in range(10)]
        limit = open_files(front.pid)
        resource.prlimit(front.pid, resource.RLIMIT_NOFILE, (limit, limit))
        with contextlib.suppress(MysqlError, ProtocolError, OSError):
            waiting[0].query("UPDATE limits SET n = n + 1 WHERE id = 1")
        for client in waiting[1:6]:
            client.close()

        def works():
            with front.connect(database="work", timeout=5) as client:
                return client.query("UPDATE limits SET n = n + 1 WHERE id = 1").affected == 1
        sandbox.wait_for(works, 20, "writes after files were freed")
        for client in waiting[6:]:
            assert client.query("SELECT COUNT(*) FROM limits").value == 1
            client.close()
        waiting[0].socket.close()
        assert pathlib.Path(f"/proc/{front.pid}").exists()
