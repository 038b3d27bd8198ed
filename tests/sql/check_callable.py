#!/usr/bin/python3
"""Asks a real server which of the words the classifier knows a stored function may be called by, unqualified.

Each word gets a function of that name, which is then called with and without a blank in front of the bracket. What answers and
is marked as grammar, or as a built-in that only computes, would be taken for harmless: exit 1. Such words belong in CALLABLE of
sql/make_words.py.
"""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import rawmysql  # noqa: E402
import sandbox  # noqa: E402

WORDS = pathlib.Path(__file__).resolve().parents[2] / "sql" / "words.inc"
MARK = "777001"


def read_words():
    return re.findall(r'"(\w+)", W_\w+, ((?:WORD_\w+(?: \| )?)+|0), SQL_TO', WORDS.read_text())


def answers(connection, call):
    try:
        return MARK in str(connection.query("SELECT " + call).rows)
    except rawmysql.MysqlError:
        return False


def main():
    wrong = 0
    words = read_words()
    with sandbox.Server(options={"log-bin": False, "log-slave-updates": False}) as server:
        with rawmysql.Connection(unix=str(server.socket), user="root", password="") as connection:
            connection.query("CREATE DATABASE d")
            connection.query("USE d")
            for word, flags in words:
                connection.query(f"CREATE FUNCTION `{word}`() RETURNS INT NO SQL RETURN {MARK}")
                adjacent, apart = answers(connection, word + "()"), answers(connection, word + " ()")
                if ("GRAMMAR" in flags and (adjacent or apart)) or ("PURE" in flags and adjacent):
                    print(f"{word} ({flags}) may be a stored function")
                    wrong += 1
    print(f"{len(words)} words asked, {wrong} wrong")
    return 1 if wrong or not words else 0


if __name__ == "__main__":
    sys.exit(main())
