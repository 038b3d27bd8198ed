#!/usr/bin/python3
"""Run MariaDB's own mysqltest cases straight against a primary, then through Tandem.

A case that passes straight is eligible; every eligible case has to pass through the proxy too.
Each worker has servers of its own, configured as the suite's driver configures them. Prints both
numbers; what a failing case said stays in the log folder.
"""
import argparse
import collections
import functools
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import pymysql

import servers

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
CASE_SECONDS = int(os.environ.get("MYSQLTEST_CASE_SECONDS", "60"))
SKIPPED = 62		# mysqltest's exit code for "this case does not apply here"
# Options that every server of ours has anyway.
HANDLED_OPTIONS = ("--loose-sequence", "--loose-enable-partition", "--log-bin")

Result = collections.namedtuple("Result", "case outcome seconds detail")


def read_cases(path):
    """Names, one a line; what follows '#' says why a case is there or not. A '!' marks a known fault of Tandem's."""
    with open(path) as f:
        lines = (line.split("#", 1)[0].strip() for line in f)
        return [line.lstrip("! ") for line in lines if line]


def read_known(path):
    with open(path) as f:
        return {line.split("#", 1)[0].strip("! \n") for line in f if line.startswith("!")}


def case_files(suite_dir, case):
    """Test file and result file of "main.select" or "suite.case"."""
    suite, _, name = case.partition(".")
    if suite == "main":
        base = os.path.join(suite_dir, "main", name)
        return base + ".test", base + ".result"
    base = os.path.join(suite_dir, "suite", suite)
    return (os.path.join(base, "t", name + ".test"), os.path.join(base, "r", name + ".result"))


def included_files(suite_dir, test_file, seen=None):
    """The case and all it sources, found by their text as the driver finds them."""
    seen = {} if seen is None else seen
    if test_file in seen or not os.path.exists(test_file):
        return seen
    seen[test_file] = True
    with open(test_file, errors="surrogateescape") as f:
        names = re.findall(r"^\s*(?:--\s*)?source\s+([^\s;]+)", f.read(), re.M | re.I)
    for name in names:
        for folder in (suite_dir, os.path.dirname(test_file)):
            included_files(suite_dir, os.path.join(folder, name), seen)
    return seen


@functools.lru_cache(None)
def case_options(suite_dir, test_file):
    """Server options: from the .opt files beside the case and beside what it includes. InnoDB is
    off unless asked for, as under the driver; some results show that."""
    options = []
    for path in included_files(suite_dir, test_file):
        for suffix in (".opt", "-master.opt"):
            opt = os.path.splitext(path)[0] + suffix
            if os.path.exists(opt):
                with open(opt, errors="surrogateescape") as f:
                    options += [w.strip("'\"") for line in f if not line.startswith("#")
                                for w in line.split()]
    if not any(o.endswith("-innodb") for o in options):
        options.append("--loose-skip-innodb")
    return tuple(sorted({o for o in options if not o.startswith(HANDLED_OPTIONS)}))


def client_command(program, pair, *extra):
    return " ".join([servers.find_program(program), "--defaults-file=" + pair.client_cnf,
                     "--protocol=tcp", "--host=127.0.0.1", "--port=%d" % pair.port,
                     "--user=root", *extra])


def environment(suite_dir, pair):
    """The names that the driver gives its cases."""
    vardir, tmp = pair.vardir, os.path.join(pair.vardir, "tmp")
    dump = client_command("mariadb-dump", pair)
    env = dict(os.environ)
    env.update({
        "LC_ALL": "C", "LC_CTYPE": "C", "LC_COLLATE": "C", "UMASK": "0660", "UMASK_DIR": "0770",
        "USE_RUNNING_SERVER": "0", "MYSQL_TEST_DIR": suite_dir, "MYSQLTEST_VARDIR": vardir,
        "MYSQLTEST_REAL_VARDIR": os.path.realpath(vardir), "MYSQL_TMP_DIR": tmp,
        "MASTER_MYPORT": str(pair.port), "MASTER_MYSOCK": pair.primary.socket,
        "DEFAULT_MASTER_PORT": "3306", "SECURE_LOAD_PATH": os.path.join(vardir, "std_data"),
        "MYSQL_BINDIR": "/usr", "MYSQL_SHAREDIR": os.path.dirname(suite_dir),
        "MYSQL_CHARSETSDIR": os.path.join(os.path.dirname(suite_dir), "charsets"),
        "MYSQL": client_command("mariadb", pair, "--default-character-set=latin1"),
        "EXE_MYSQL": servers.find_program("mariadb"),
        "MYSQL_DUMP": dump, "MYSQL_CHECK": client_command("mariadb-check", pair),
        "MYSQL_SHOW": client_command("mariadb-show", pair),
        "MYSQL_IMPORT": client_command("mariadb-import", pair),
        "MYSQL_SLAP": client_command("mariadb-slap", pair),
        "MYSQLADMIN": client_command("mariadb-admin", pair),
        "MYISAMCHK": "myisamchk", "MYISAMPACK": "myisampack", "MARIA_CHK": "aria_chk",
        "REPLACE": "replace", "VALGRIND_TEST": "0", "MTR_COMBINATION_INNODB": "1",
        "BIG_TEST": "0", "HAVE_BROKEN_DNS": "0", "MTR_VERSION": "1",
    })
    return env


def run_case(suite_dir, pair, case, log_dir, protocol=None):
    """Run one case against the pair's port; never raises for what a case does."""
    test_file, result_file = case_files(suite_dir, case)
    local_log = os.path.join(pair.vardir, "log")
    args = [servers.find_program("mariadb-test", "mysqltest"), "--no-defaults", "--silent",
            "--protocol=tcp", "--host=127.0.0.1", "--port=%d" % pair.port, "--user=root",
            "--skip-ssl", "--tmpdir=" + os.path.join(pair.vardir, "tmp"), "--logdir=" + local_log,
            "--database=test", "--timer-file=" + os.path.join(local_log, "timer"),
            "--suite-dir=" + (os.path.dirname(os.path.dirname(test_file)) + "/"),
            "--test-file=" + test_file, "--tail-lines=20", "--wait-for-pos-timeout=30"]
    if protocol:
        args.append("--%s-protocol" % protocol)
    if os.path.exists(result_file):
        args.append("--result-file=" + result_file)
    started = time.monotonic()
    try:
        done = subprocess.run(args, cwd=suite_dir, env=environment(suite_dir, pair),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=CASE_SECONDS)
        output, code = done.stdout.decode("utf-8", "replace"), done.returncode
    except subprocess.TimeoutExpired as e:
        output, code = (e.stdout or b"").decode("utf-8", "replace") + "\ntimed out\n", -1
    seconds = time.monotonic() - started
    outcome = {0: "pass", SKIPPED: "skip"}.get(code, "fail")
    if outcome == "fail":
        save_failure(log_dir, case, output, (local_log, os.path.dirname(result_file)))
    return Result(case, outcome, seconds, output)


def save_failure(log_dir, case, output, folders):
    """mysqltest puts the .reject file beside the result file when it may write there."""
    os.makedirs(log_dir, exist_ok=True)
    with open(os.path.join(log_dir, case + ".txt"), "w") as f:
        f.write(output)
    for suffix in (".reject", ".log"):
        for folder in folders:
            source = os.path.join(folder, case.partition(".")[2] + suffix)
            if os.path.exists(source):
                shutil.move(source, os.path.join(log_dir, case + suffix))


class Worker(threading.Thread):
    """Takes cases from the queue and runs them on its own servers."""

    def __init__(self, pair, cases, results, log_dir, args):
        super().__init__(daemon=True)
        self.pair, self.cases, self.results = pair, cases, results
        self.log_dir, self.verbose, self.protocol = log_dir, args.verbose, args.protocol
        self.error = None

    def run(self):
        try:
            self.work()
        except Exception as e:			# told to the main thread, which reports it
            self.error = e
        finally:
            self.pair.stop()

    def work(self):
        clean = False
        while True:
            try:
                case = self.cases.get_nowait()
            except queue.Empty:
                return
            options = case_options(self.pair.suite_dir, case_files(self.pair.suite_dir, case)[0])
            result = self.run_one(case, not clean or options != self.pair.options, options)
            self.results.append(result)
            if self.verbose or result.outcome == "fail":
                print("%-5s %6.2f s  %s" % (result.outcome, result.seconds, case), flush=True)
            clean = result.outcome != "fail" and self.pair.clean()

    def run_one(self, case, anew, options):
        try:
            if anew:
                self.pair.fresh(options)
        except (RuntimeError, OSError, pymysql.err.MySQLError) as e:
            save_failure(self.log_dir, case, "servers did not start: %s\n" % e, ())
            return Result(case, "fail", 0.0, str(e))
        return run_case(self.pair.suite_dir, self.pair, case, self.log_dir, self.protocol)


def run_all(suite_dir, cases, base, template, binary, args, log_dir):
    """All cases once, over as many pairs as asked for. Results and what the pairs counted."""
    todo, results = queue.Queue(), []
    # Cases with the same options follow each other, so that servers are restarted less.
    for case in sorted(cases, key=lambda c: case_options(suite_dir, case_files(suite_dir, c)[0])):
        todo.put(case)
    kind = "tandem" if binary else "straight"
    workers = []
    for i in range(args.jobs):
        vardir = os.path.join(base, "%s%d" % (kind, i))
        pair = servers.Pair(suite_dir, vardir, template, binary)
        workers.append(Worker(pair, todo, results, log_dir, args))
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    for w in workers:
        if w.error:
            raise w.error
    return results, [w.pair for w in workers]


def names(results, outcome):
    return sorted(r.case for r in results if r.outcome == outcome)


def summary(title, results, seconds, pairs):
    print("%s: %d passed, %d failed, %d skipped in %.0f s (%d server starts)" % (
        title, len(names(results, "pass")), len(names(results, "fail")),
        len(names(results, "skip")), seconds, sum(p.starts for p in pairs)), flush=True)


def write_record(path, results):
    with open(path, "w") as f:
        for r in sorted(results):
            f.write("%s\t%s\t%.2f\n" % (r.case, r.outcome, r.seconds))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="*", help="cases; all of cases.txt by default")
    parser.add_argument("--cases", default=os.path.join(HERE, "cases.txt"))
    parser.add_argument("--tandem", default=os.environ.get(
        "TANDEM_BIN", os.path.join(TOP, "build", "tandem")), help="the daemon's binary")
    parser.add_argument("--straight-only", action="store_true")
    parser.add_argument("--tandem-only", action="store_true",
                        help="take for granted that the cases pass straight")
    parser.add_argument("--protocol", choices=("ps", "cursor", "sp", "view"),
                        help="send SELECTs as prepared statements, with a cursor, ...")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--log", default=os.environ.get("MYSQLTEST_LOG"), help="log folder")
    parser.add_argument("--record", help="write case, outcome and seconds of the straight run")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


def main():
    args = parse_args()
    suite_dir = servers.find_suite_dir()
    cases = [c if "." in c else "main." + c for c in args.case] or read_cases(args.cases)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    log_dir = args.log or tempfile.mkdtemp(prefix="tandem-mysqltest-log-")
    # A short name: socket paths below it have to fit into 107 bytes.
    base = tempfile.mkdtemp(prefix="tm-", dir=memory)
    try:
        template = servers.make_template(suite_dir, os.path.join(base, "template"))
        return both_runs(suite_dir, cases, base, template, args, log_dir)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def straight_run(suite_dir, cases, base, template, args, log_dir):
    started = time.monotonic()
    results, pairs = run_all(suite_dir, cases, base, template, None, args,
                             os.path.join(log_dir, "straight"))
    summary("straight", results, time.monotonic() - started, pairs)
    if args.record:
        write_record(args.record, results)
    return names(results, "pass")


def look_again(suite_dir, cases, base, template, args, log_dir):
    """Cases that differ in some runs only, by which server answered: named, and counted neither as passed nor as failed."""
    if not cases:
        return []
    results, _ = run_all(suite_dir, cases, os.path.join(base, "again"), template, args.tandem, args, os.path.join(log_dir, "again"))
    unsteady = names(results, "pass")
    for case in unsteady:
        print("unsteady, passed the second time: %s" % case)
    return unsteady


def both_runs(suite_dir, cases, base, template, args, log_dir):
    eligible = cases if args.tandem_only else straight_run(suite_dir, cases, base, template, args,
                                                           log_dir)
    if args.straight_only:
        return 0
    if not os.access(args.tandem, os.X_OK):
        print("mysqltest: %s is not there; build it first" % args.tandem)
        return 1
    started = time.monotonic()
    results, pairs = run_all(suite_dir, eligible, base, template, args.tandem, args,
                             os.path.join(log_dir, "tandem"))
    summary("through Tandem", results, time.monotonic() - started, pairs)
    known = read_known(args.cases)
    missed = names(results, "fail") + names(results, "skip")
    faults = [case for case in missed if case in known]
    unsteady = look_again(suite_dir, [case for case in missed if case not in known], base, template, args, log_dir)
    missed = [case for case in missed if case not in unsteady]
    for case in missed:
        print("%s: %s" % ("known fault" if case in known else "not passed through Tandem", case))
    for case in sorted(known & set(names(results, "pass"))):
        print("passes again, take it off the list of known faults: %s" % case)
    print("SELECTs answered by replicas: %d" % sum(p.replica_selects for p in pairs))
    print("logs: %s" % log_dir)
    good = len(names(results, "pass"))
    print("eligible %d, through Tandem %d, known faults %d, unsteady %d" % (len(eligible), good, len(faults), len(unsteady)))
    print("%d passed, %d failed, %d skipped" % (good, len(missed) - len(faults), len(faults) + len(unsteady)))
    return 0 if len(missed) == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
