#!/usr/bin/python3
"""Asks a real server about the table of statements (statements.txt), in a sandbox of its own.

1. What the table sends to a replica is run with SET SESSION TRANSACTION READ ONLY, as it would be there: error 1792 means that
   it is no read.
2. Every other statement is run behind BEGIN and an INSERT: a transaction that is still open afterwards must not have the fact
   ends_trx (unless it also opens one, or only may end it), one that is gone must have it.
3. Every statement without the fact opens_trx must not open one.

Statements that fail for another reason prove nothing and are counted; -v lists them. Exit 1 when one contradicts the table.
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import rawmysql  # noqa: E402
import sandbox  # noqa: E402

TABLE = pathlib.Path(__file__).with_name("statements.txt")
COLUMNS = ("id INT AUTO_INCREMENT PRIMARY KEY, a INT, b INT, c INT, x INT, y INT, z INT, n INT, d DATETIME, s VARCHAR(20), "
           "j TEXT, `update` INT, `into` INT, `for` INT, p POINT, KEY i (a), KEY k (b)")
SCHEMA = [
    "DROP DATABASE IF EXISTS d", "CREATE DATABASE d", "USE d", "DROP USER IF EXISTS u", "DROP ROLE IF EXISTS r",
    f"CREATE TABLE t ({COLUMNS}, FULLTEXT (s))",  # one is enough: each makes seven tables of its own
    *[f"CREATE TABLE {name} ({COLUMNS})" for name in ("u", "v", "w", "a", "b", "scratch")],
    "INSERT INTO t (a, b) VALUES (1, 2), (3, 4)",
    "CREATE FUNCTION f(a INT) RETURNS INT NO SQL RETURN a", "CREATE FUNCTION g(a INT) RETURNS INT NO SQL RETURN a",
    "CREATE PROCEDURE p() SELECT 1", "CREATE VIEW vw AS SELECT 1",
]
# The schema is made hundreds of times, and no crash is looked at.
OPTIONS = {"log-bin": False, "log-slave-updates": False, "innodb-file-per-table": "OFF", "innodb-flush-method": "nosync"}
# What would end the server, or this connection, or wait.
NOT_HERE = ("SHUTDOWN", "KILL", "RESET MASTER", "RESTART", "CHANGE MASTER", "START SLAVE", "START REPLICA", "PURGE",
            "COMMIT RELEASE", "ROLLBACK AND NO CHAIN RELEASE", "INSTALL", "UNINSTALL", "SET GLOBAL", "LOAD DATA LOCAL",
            "LOAD XML LOCAL", "LOAD DATA LOW", "LOAD DATA CONC", "SET PASSWORD", "BINLOG",
            "WHILE 1", "LOOP", "REPEAT", "FOR I IN")
# They end a transaction only where something else is so as well (tables locked, autocommit off, MySQL).
MAY_END = ("UNLOCK TABLE", "SET AUTOCOMMIT", "SET SESSION AUTOCOMMIT", "LOAD INDEX")
ESCAPES = {"n": b"\n", "t": b"\t", "\\": b"\\", "0": b"\0"}


def unescape(text):
    out, at = b"", 0
    while at < len(text):
        if text[at] != "\\":
            out += text[at].encode()
            at += 1
        elif text[at + 1] == "x":
            out += bytes([int(text[at + 2:at + 4], 16)])
            at += 4
        else:
            out += ESCAPES.get(text[at + 1], ("\\" + text[at + 1]).encode())
            at += 2
    return out


class Line:
    def __init__(self, number, context, words, text):
        self.number, self.context, self.text = number, context, text
        self.verb, self.target, *self.facts = words

    def __str__(self):
        return f"{TABLE.name}:{self.number}: {self.text!r}"


def read_table():
    context = []
    for number, line in enumerate(TABLE.read_text().splitlines(), 1):
        if line.startswith("@"):
            context = line[1:].split()
        elif line and not line.startswith("#"):
            words, _, text = line.partition("|")
            yield Line(number, context, words.split(), unescape(text.removeprefix(" ")))


def is_for_this_server(line):
    return not any(word in line.context for word in ("flavour=mysql", "body"))


def modes(context):
    """SQL that brings a connection into the context of a line."""
    names = {"ansi_quotes": "ANSI_QUOTES", "no_backslash_escapes": "NO_BACKSLASH_ESCAPES", "oracle": "ORACLE"}
    wanted = ",".join(names[word] for word in context if word in names)
    charset = next((word[8:].split("_")[0] for word in context if word.startswith("charset=")), "utf8mb4")
    # gb18030 is MySQL's alone.
    return [f"SET sql_mode='{wanted}'", f"SET NAMES {'gbk' if charset == 'gb18030' else charset}"]


def run(connection, text):
    """Error number of the first failure (0 for none) and the status flags at the end (None behind an error)."""
    try:
        results = connection.query_all(text)
    except rawmysql.MysqlError as error:
        return error.number, None
    return 0, results[-1].status


class Check:
    def __init__(self, server, verbose):
        self.server, self.verbose = server, verbose
        self.wrong = self.checked = self.unproven = 0
        self.is_fresh = False

    def root(self):
        return rawmysql.Connection(unix=str(self.server.socket), user="root", password="")

    def freshen(self):
        """The schema as it was, when the last statement may have changed it."""
        if not self.is_fresh:
            with self.root() as connection:
                for text in SCHEMA:
                    connection.query(text)
        self.is_fresh = True

    def complain(self, line, text):
        print(f"{line}\n    {text}")
        self.wrong += 1

    def no_proof(self, line, number):
        self.unproven += 1
        if self.verbose:
            print(f"(error {number}) {line}")

    def connect(self, line):
        self.freshen()
        self.is_fresh = line.verb not in ("create", "drop", "alter", "rename", "truncate", "grant", "use")
        connection = self.root()
        for text in ["USE d", *modes(line.context)]:
            connection.query(text)
        return connection

    def read(self, line):
        with self.connect(line) as connection:
            connection.query("SET SESSION TRANSACTION READ ONLY")
            number, status = run(connection, line.text)
            if number == 1792:
                self.complain(line, "is refused in a READ ONLY session, so it is no read")
            elif number:
                self.no_proof(line, number)
            else:
                self.checked += 1
                if status & rawmysql.STATUS_IN_TRANS and "opens_trx" not in line.facts:
                    self.complain(line, "opens a transaction")

    def change(self, line):
        with self.connect(line) as connection:
            connection.query("START TRANSACTION")
            connection.query("INSERT INTO scratch (a) VALUES (1)")
            number, status = run(connection, line.text)
            if number:
                self.no_proof(line, number)
                return
            self.checked += 1
            self.judge(line, bool(status & rawmysql.STATUS_IN_TRANS))

    def judge(self, line, is_open):
        ends, opens = "ends_trx" in line.facts, "opens_trx" in line.facts
        if not is_open and not ends:
            self.complain(line, "ends the transaction")
        if is_open and ends and not opens and not line.text.decode("latin1").upper().startswith(MAY_END):
            self.complain(line, "does not end the transaction")


def main():
    with sandbox.Server(options=OPTIONS) as server:
        check = Check(server, "-v" in sys.argv[1:])
        for line in read_table():
            if not is_for_this_server(line):
                continue
            if line.target == "replica":
                check.read(line)
            elif not line.text.decode("latin1").upper().startswith(NOT_HERE):
                check.change(line)
    print(f"{check.checked} statements agree, {check.unproven} failed for another reason, {check.wrong} contradict")
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
