"""Every session variable that an ordinary user may set, and another value for each: what a proxy has to carry from one connection
to another. The lists of names are the servers' own; a value is found by trying.
"""
import rawmysql

# Set by the session, but not its state: each with the reason why it is not carried over.
NOT_CARRIED = {
    "character_set_database": "follows the current schema",
    "collation_database": "follows the current schema",
    "debug_sync": "of test builds only",
    "default_master_connection": "names a replication link of one server",
    "identity": "another name of last_insert_id",
    "insert_id": "for the next INSERT only; holds the session on its connection",
    "last_insert_id": "the last statement's, not set to stay",
    "pseudo_slave_mode": "for replaying binary logs; holds the session on its connection",
    "pseudo_replica_mode": "for replaying binary logs; holds the session on its connection",
    "pseudo_thread_id": "for replaying binary logs; holds the session on its connection",
    "rand_seed1": "for the next RAND() only; holds the session on its connection",
    "rand_seed2": "for the next RAND() only; holds the session on its connection",
    "require_row_format": "for replaying binary logs; holds the session on its connection",
    "session_track_gtids": "Tandem's own",
    "session_track_schema": "Tandem's own",
    "session_track_state_change": "Tandem's own",
    "session_track_system_variables": "Tandem's own",
    "session_track_transaction_info": "Tandem's own",
    "timestamp": "the clock; holds the session on its connection",
    "use_secondary_engine": "of a service that other servers do not have",
    "wait_timeout": "Tandem's to enforce; connections show it only to who asks",
    "interactive_timeout": "does nothing once a session has begun",
}
# The session stays on its connection: there is nothing to be carried.
STAYS = {"autocommit": "a transaction is open from the first read on", "profiling": "its records are the connection's",
         "profiling_history_size": "as profiling"}
# Written with @@ and no scope they are for the next transaction only.
NEXT_ONLY = ["tx_isolation", "transaction_isolation", "tx_read_only", "transaction_read_only"]
# With these nothing else could be seen: where reads go, and how they are answered.
ALONE = ["tx_isolation", "transaction_isolation", "tx_read_only", "transaction_read_only", "sql_auto_is_null", "optimizer_trace",
         "max_statement_time", "max_execution_time", "max_session_mem_used", "character_set_results", "sql_select_limit", "wsrep_sync_wait", "wsrep_causal_reads", "max_join_size", "sql_big_selects"]
PRIMARY = "/* tandem: primary */ "
# Where trying generic values finds none.
SPECIAL = {
    "alter_algorithm": ["'COPY'"],
    "max_session_mem_used": ["1073741824"],
    "innodb_ft_user_stopword_table": ["'ver/stop'"],
    "optimizer_switch": ["'mrr=on'", "'mrr=off'"],
    "optimizer_trace": ["'enabled=on'"],
    "query_cache_type": ["'DEMAND'"],
    "system_versioning_asof": ["'2020-01-01 00:00:00'"],
    "tx_read_only": ["1"],
    "transaction_read_only": ["1"],
    "autocommit": ["0"],
}
MARIADB = """SELECT LOWER(variable_name), session_value, enum_value_list FROM information_schema.system_variables
    WHERE variable_scope IN ('SESSION', 'SESSION ONLY') AND read_only = 'NO' ORDER BY 1"""
MYSQL = "SELECT LOWER(variable_name), variable_value, NULL FROM performance_schema.session_variables ORDER BY 1"


def guesses(name, value, choices):
    if name in SPECIAL:
        return SPECIAL[name]
    found = [f"'{choice}'" for choice in choices.split(",") if choice.upper() != str(value).upper()] if choices else []
    if value in ("ON", "OFF"):
        found.append("0" if value == "ON" else "1")
    try:
        number = float(value)
        found += [str(int(number) + 1), str(int(number) + 4096), str(int(number) * 2), str(int(number) // 2), "1", "0", "1024", "100.5"]
    except (TypeError, ValueError):
        pass
    return found + ["0", "1", "'utf8mb4'", "'latin1'", "'latin1_swedish_ci'", "'+03:00'", "'de_DE'", "'ANSI_QUOTES'", "'x'", "''", "'InnoDB'",
                    "'MyISAM'", "'MEMORY'", "'READ-COMMITTED'", "'CHAIN'", "'TREE'", "'aes-256-cbc'", "'utf8mb4_general_ci'", "'FULL'", "'COPY'"]


def attempt(connection, name, guess, before):
    """The new value, or None when the guess is none."""
    try:
        connection.query(f"SET SESSION {name} = {guess}")
        after = connection.value(f"SELECT @@session.{name}")
    except rawmysql.MysqlError:
        return None
    return after if after != before else None


def settable(connect, mysql):
    """{name: (how to write another value, what it then is)} of all that the user of connect() may set, and the names of the rest."""
    with connect() as connection:
        rows = connection.query(MYSQL if mysql else MARIADB).rows
    found, rest = {}, []
    for name, value, choices in rows:
        if name in NOT_CARRIED:
            continue
        with connect() as connection:
            try:
                before = connection.value(f"SELECT @@session.{name}")
            except rawmysql.MysqlError:  # MySQL lists global ones, too
                continue
            for guess in guesses(name, value, choices):
                after = attempt(connection, name, guess, before)
                if after is not None:
                    found[name] = (guess, after)
                    break
            else:
                rest.append(name)
    return found, rest


SPELLINGS = ["SET SESSION {} = {}", "SET {} = {}", "SET @@{} := {}", "SET @@session.{} = {}", "SET @x = 1, {} = {}"]


def seen(client, name):
    """What the session has on the primary and where reads go, each time on a connection that another session had."""
    return tuple(client.value(f"{where}SELECT @@session.{name} FROM one LIMIT 1") for where in (PRIMARY, ""))


def take_connections(other):
    other.query(PRIMARY + "SELECT a FROM one LIMIT 1")
    other.query("SELECT a FROM one LIMIT 1")


def differences(connect, found, spelling):
    """Sets each in a session of its own; what another connection then shows differently."""
    wrong = []
    with connect() as other:
        for name, (guess, wanted) in found.items():
            if "@@{}" in spelling and name in NEXT_ONLY:
                continue
            with connect() as client:
                try:
                    client.query(spelling.format(name, guess))
                except rawmysql.MysqlError as error:
                    wrong.append((name, guess, error))
                    continue
                client.query(PRIMARY + "SELECT a FROM one LIMIT 1")  # warnings that could be asked for would hold the connection
                if name not in STAYS:
                    try:
                        take_connections(other)
                    except rawmysql.MysqlError as error:
                        wrong.append((name, guess, error))
                        continue
                there = seen(client, name)
                if there != (wanted, wanted):
                    wrong.append((name, guess, wanted, *there))
                client.query("ROLLBACK")
    return wrong


def differences_of_all(connect, found):
    """All of them in one session."""
    with connect() as client, connect() as other:
        for name, (guess, _) in found.items():
            if name not in STAYS and name not in ALONE:
                client.query(f"SET {name} = {guess}")
        client.query(PRIMARY + "SELECT a FROM one LIMIT 1")
        wanted = {name: client.value(f"{PRIMARY}SELECT @@session.{name} LIMIT 1") for name in found if name not in STAYS}
        client.query(PRIMARY + "SELECT a FROM one LIMIT 1")
        wrong = []
        for name in wanted:
            take_connections(other)
            if seen(client, name) != (wanted[name], wanted[name]):
                wrong.append((name, wanted[name], *seen(client, name)))
            for where in (PRIMARY, ""):  # MySQL warns of old variables
                client.query(where + "SELECT a FROM one LIMIT 1")
        return wrong
