"""Clients that keep running while a test does something to the servers, and what they have to say afterwards."""
import os
import threading
import time

import sandbox
from rawmysql import MysqlError, ProtocolError


def seconds(default=60):
    """How long the long tests run: TANDEM_TEST_SECONDS, or what the test wants."""
    return float(os.environ.get("TANDEM_TEST_SECONDS", default))


def is_long():
    """TANDEM_TEST_LONG: as many runs as the promise speaks of, however long they take."""
    return bool(os.environ.get("TANDEM_TEST_LONG"))


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


class Crew:
    """Threads that each call work(crew, index) until stop(). A failure of one is raised by the `with` that runs them."""

    def __init__(self, count, work, name="client"):
        self.failures, self.stopped = [], threading.Event()
        self.threads = [threading.Thread(target=self._body, args=(work, index), daemon=True, name=f"{name} {index}")
                        for index in range(count)]

    def _body(self, work, index):
        try:
            work(self, index)
        except BaseException as error:  # the test's thread must hear of it
            self.failures.append(error)
            self.stopped.set()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stop(raising=kind is None)

    @property
    def running(self):
        return not self.stopped.is_set()

    def wait(self, length):
        """Lets them work for a time; ends early when one failed."""
        self.stopped.wait(length)

    def join(self, patience):
        """Waits until their work is done of itself."""
        end = time.monotonic() + patience
        for thread in self.threads:
            thread.join(max(0, end - time.monotonic()))

    def stop(self, raising=True, patience=90):
        self.stopped.set()
        for thread in self.threads:
            thread.join(patience)
            if thread.is_alive():
                self.failures.append(TimeoutError(f"{thread.name} did not end within {patience} s"))
        if raising and self.failures:
            raise self.failures[0]


class Readers(Crew):
    """Clients that read all the time: every answer's time and server, every error."""

    def __init__(self, target, count=8, statement="SELECT @@server_id, COUNT(*) FROM load_rows", database="work",
                 reconnect=False, account=("app", "app")):
        self.account = account
        self.target, self.statement, self.database, self.reconnect = target, statement, database, reconnect
        self.errors, self.answers, self.lock = [], [], threading.Lock()
        super().__init__(count, Readers.read, "reader")

    def read(self, _):
        connection = None
        while self.running:
            begun = time.monotonic()
            try:
                if connection is None:
                    connection = self.target.connect(*self.account, database=self.database)
                    begun = time.monotonic()
                answer = connection.query(self.statement).rows[0]
                with self.lock:
                    self.answers.append((time.monotonic(), time.monotonic() - begun, answer[0]))
            except (OSError, MysqlError, ProtocolError) as error:
                with self.lock:
                    self.errors.append((time.monotonic() - begun, error))
                if not isinstance(error, MysqlError):
                    connection = None
                    if not self.reconnect:
                        return
        connection.close()

    def since(self, moment):
        with self.lock:
            return [answer for answer in self.answers if answer[0] >= moment]

    def wait_answers(self, count, moment=0.0, timeout=30, server=None):
        """Until so many reads were answered after `moment` (by `server`)."""
        def enough():
            found = self.since(moment)
            return sum(1 for answer in found if server is None or answer[2] == server) >= count
        sandbox.wait_for(enough, timeout, f"{count} reads" + (f" on server {server}" if server else ""))

    def slowest(self):
        with self.lock:
            return max((answer[1] for answer in self.answers), default=0.0)
