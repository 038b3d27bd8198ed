#!/usr/bin/python3
"""Makes the daemon of a training build (./dev build --tuned) do what it is there for, so that the compiler learns which code runs.

    train.py FOLDER         the build folder; its tandem is run, and writes what it saw there when it ends

Half a minute of sysbench, text and prepared, and logins. How fast the machine is does not matter: what counts is what runs how often
compared to what else.
"""
import argparse
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import bench  # noqa: E402
import sandbox  # noqa: E402

SECONDS = {"oltp_point_select": 5, "oltp_read_only": 4, "oltp_read_write": 6, "oltp_update_index": 4}
THREADS = 8
LOGINS = 500


def teach(port):
    for mode in bench.MODES:
        for workload, seconds in SECONDS.items():
            done = bench.sysbench(port, workload, mode, THREADS, "run", f"--time={seconds}")
            if done.returncode:
                sys.exit(f"train: sysbench {workload} {mode} failed\n{done.stdout[-2000:]}")
    for _ in range(LOGINS):
        client = sandbox.rawmysql.Connection(port=port, timeout=60)
        client.query("select 1")
        client.close()


def teach_parsers(folder):
    """A little of what the daemon meets rarely, since it remembers what it has judged: all kinds of statements and of replies."""
    for name in ("sql_bench", "walker_bench"):
        subprocess.run([folder / "tests/bench" / name, "0.01"], check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description="Runs a training build under load.")
    parser.add_argument("folder", type=pathlib.Path, help="the build folder")
    options = parser.parse_args()
    os.environ["TANDEM_BIN"] = str(options.folder / "tandem")
    bench.TABLES, bench.ROWS = 1, 2000
    try:
        with sandbox.Cluster(replicas=1, options=bench.SERVER_OPTIONS) as cluster:
            bench.prepare(cluster)
            with sandbox.Tandem(cluster, {"tandem": {"threads": 2}}) as daemon:
                daemon.wait_reads_on(cluster.replicas)
                teach(daemon.port)
    except sandbox.SandboxError as error:
        sys.exit(f"train: {error}")
    teach_parsers(options.folder)


if __name__ == "__main__":
    main()
