"""A history checker for runs in which servers die: append-only lists, one row per key.

Clients append tokens to lists, alone or to three lists in one transaction, and read lists, all through Tandem. A row's lock orders the
appends to it, so the list itself is the history. Checked while it runs, on each read:

- it holds every append that was acknowledged to anybody before the read began (one account: a read sees its account's writes);
- it begins with what this client read there before: no read goes back in time.

And at the end, on every server:

- an acknowledged append is there exactly once; one whose answer was lost, once or not at all; no other is there;
- the appends of one client to one list are in the order in which it made them;
- those of one transaction are in all of its lists or in none.

Every violation is a line in `wrong`. Errors are kept apart: `read_errors`, and `write_errors` as (time, text) - which of them are to be
expected is for the test to say.
"""
import random
import threading
import time

SQL = "INSERT INTO lists VALUES ({key}, '{token}') ON DUPLICATE KEY UPDATE v = CONCAT(v, ',', '{token}')"
LISTS, PER_LIST = 6, 150  # lists in use at a time, and appends after which others are used: short lists are read fast


class Checker:
    def __init__(self, tandem, clients=8, seed=None):
        self.tandem, self.clients = tandem, clients
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.acknowledged, self.unknown = {}, {}  # token -> (keys, client, number in the client's order)
        self.by_key = {}  # key -> set of acknowledged tokens
        self.wrong, self.read_errors, self.write_errors = [], [], []
        self.acks, self.count, self.reads = [], 0, 0  # times of acknowledgements; appends begun; reads done
        self.threads = [threading.Thread(target=self.run, args=(number, random.Random(self.random.random())), daemon=True)
                        for number in range(clients)]

    @staticmethod
    def prepare(cluster):
        cluster.primary.sql("CREATE DATABASE IF NOT EXISTS checked")
        cluster.primary.sql("CREATE OR REPLACE TABLE checked.lists (k INT PRIMARY KEY, v MEDIUMTEXT NOT NULL)")
        cluster.wait_synced()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a client of the checker hangs"

    # ---- clients

    def run(self, client, dice):
        self_read, link, number = {}, None, 0
        while not self.stopping.is_set():
            reading = dice.random() < 0.5
            try:
                if link is None:
                    link = self.tandem.connect(database="checked", timeout=40)
                if reading:
                    self.read(link, client, self.pick(dice, 1)[0], self_read)
                else:
                    number += 1
                    self.append(link, client, number, self.pick(dice, 3 if dice.random() < 0.3 else 1))
            except (OSError, Exception) as error:  # whatever a driver may raise
                (self.read_errors if reading else self.write_errors).append((time.monotonic(), f"client {client}: {error!r}"))
                link = self.leave(link)
                self_read = {}  # the next session is held to what was acknowledged, not to what this one has seen
        self.leave(link)

    @staticmethod
    def leave(link):
        if link is not None:
            link.socket.close()

    def pick(self, dice, count):
        base = self.count // PER_LIST * LISTS
        return sorted(dice.sample(range(base, base + LISTS), count))

    def append(self, link, client, number, keys):
        token = f"{client}-{number}"
        with self.lock:
            self.count += 1
            self.unknown[token] = (keys, client, number)
        if len(keys) > 1:
            link.query("BEGIN")
        for key in keys:
            link.query(SQL.format(key=key, token=token))
        if len(keys) > 1:
            link.query("COMMIT")
        with self.lock:
            self.acknowledged[token] = self.unknown.pop(token)
            for key in keys:
                self.by_key.setdefault(key, set()).add(token)
            self.acks.append(time.monotonic())

    def read(self, link, client, key, self_read):
        with self.lock:
            before = set(self.by_key.get(key, ()))
        rows = link.query(f"SELECT v, @@server_id FROM lists WHERE k = {key}").rows
        text, server = (rows[0][0], rows[0][1]) if rows else ("", "?")
        seen = text.split(",")
        self.reads += 1
        if missing := before.difference(seen):
            self.wrong.append(f"client {client} read list {key} on server {server} without {sorted(missing)[:3]}, acknowledged before")
        last = self_read.get(key, "")
        if not (text + ",").startswith(last + "," if last else ""):
            self.wrong.append(f"client {client} read list {key} on server {server}, and it went back: {last[-60:]!r}, then {text[-60:]!r}")
        self_read[key] = text

    # ---- afterwards

    def first_ack_after(self, moment):
        return min((at for at in self.acks if at > moment), default=None)

    def check_server(self, server):
        lists = {int(key): text.split(",") for key, text in server.sql("SELECT k, v FROM checked.lists")}
        wrong, name = [], server.name
        known = {**self.unknown, **self.acknowledged}
        for token, (keys, _, _) in known.items():
            found = [lists.get(key, []).count(token) for key in keys]
            if token in self.acknowledged and found != [1] * len(keys):
                wrong.append(f"{name}: {token}, acknowledged, is {found} times in lists {keys}")
            elif found not in ([1] * len(keys), [0] * len(keys)):
                wrong.append(f"{name}: {token}, not acknowledged, is {found} times in lists {keys}")
        for key, tokens in lists.items():
            last = {}
            for token in tokens:
                if token not in known or key not in known[token][0]:
                    wrong.append(f"{name}: list {key} has {token}, which nobody appended there")
                    continue
                _, client, number = known[token]
                if last.get(client, 0) >= number:
                    wrong.append(f"{name}: list {key} has {client}-{last[client]} before {token}")
                last[client] = number
        return wrong

    def verify(self, servers):
        """All that must hold on these servers, which have caught up. Gives figures for people."""
        wrong = list(self.wrong)
        for server in servers:
            wrong += self.check_server(server)
        assert not wrong, f"{len(wrong)} violations:\n" + "\n".join(wrong[:20])
        return f"{len(self.acknowledged)} appends acknowledged, {len(self.unknown)} unanswered, {self.reads} reads"
