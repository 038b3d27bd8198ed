#!/usr/bin/python3
"""What a statement costs on its way through Tandem, as ratios to going direct and to a relay that parses nothing.

    bench.py [--time SECONDS] [--rounds N] [--only WORKLOAD,...] [--mode text|prepared] [--targets NAME,...] [--json FILE]
    bench.py memory [--clients N]

The ways take turns within a round, so that a machine that slows down slows all of them. Nothing here fails because it was slow.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import proc  # noqa: E402
import sandbox  # noqa: E402
import targets  # noqa: E402

WORKLOADS = ("oltp_point_select", "oltp_read_only", "oltp_read_write", "oltp_update_index")
MODES = {"text": "disable", "prepared": "auto"}
WAYS = ("direct", "floor", "haproxy", "tandem")
TABLES, ROWS = 4, 25000
# The disk is not what is measured: nothing waits for it.
SERVER_OPTIONS = {"innodb-flush-log-at-trx-commit": "0", "sync-binlog": "0", "innodb-buffer-pool-size": "256M",
                  "max-prepared-stmt-count": "100000"}


# ---- one run ----------------------------------------------------------------------------------------------------------

def sysbench(port, workload, mode, threads, command, *more):
    return subprocess.run(
        ["sysbench", workload, "--db-driver=mysql", "--mysql-host=127.0.0.1", f"--mysql-port={port}",
         "--mysql-user=app", "--mysql-password=app", "--mysql-db=sbtest", f"--db-ps-mode={MODES[mode]}",
         f"--tables={TABLES}", f"--table-size={ROWS}", f"--threads={threads}", "--rand-type=uniform",
         "--mysql-ignore-errors=1213,1020,1205", "--percentile=95", *more, command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


FIGURES = {
    "queries": re.compile(r"^\s+queries:\s+(\d+)", re.M),
    "rate": re.compile(r"^\s+queries:\s+\d+\s+\(([\d.]+) per sec", re.M),
    "p95_ms": re.compile(r"95th percentile:\s+([\d.]+)"),
    "errors": re.compile(r"ignored errors:\s+(\d+)"),
}


def run(target, workload, mode, options):
    """One sysbench run through one way, with what its process used meanwhile."""
    before = target.cpu()
    done = sysbench(target.port, workload, mode, options.threads, "run", f"--time={options.time}")
    used = target.cpu() - before
    found = {name: pattern.search(done.stdout) for name, pattern in FIGURES.items()}
    if done.returncode or not all(found.values()):
        print(f"{target.name} {workload} {mode}: sysbench failed\n{done.stdout[-2000:]}", file=sys.stderr)
        return None
    figures = {name: float(match[1]) for name, match in found.items()}
    user, system = used.split()
    return dict(figures, target=target.name, workload=workload, mode=mode, user_s=user, system_s=system,
                tick_user_s=used.user, tick_system_s=used.system)


# ---- many runs --------------------------------------------------------------------------------------------------------

def prepare(cluster):
    cluster.primary.sql("CREATE DATABASE sbtest")
    done = sysbench(cluster.primary.port, "oltp_read_write", "text", 1, "prepare")
    if done.returncode:
        sys.exit(f"sysbench prepare failed:\n{done.stdout[-2000:]}")
    cluster.wait_synced(120)


def start_targets(folder, cluster, options):
    makers = {
        "direct": lambda: targets.direct(cluster.primary),
        "floor": lambda: targets.floor(folder, cluster.primary, options.proxy_threads),
        "haproxy": lambda: targets.haproxy(folder, cluster.primary, options.proxy_threads),
        "tandem": lambda: targets.tandem(cluster, options.proxy_threads),
    }
    return [target for target in (makers[name]() for name in options.targets) if target]


def measure(cluster, ways, options):
    runs = []
    for workload in options.only:
        for mode in options.mode:
            for number in range(options.rounds):
                # Each round begins with another way: being first is no advantage.
                turn = ways[number % len(ways):] + ways[:number % len(ways)]
                for target in turn:
                    progress(f"{workload} {mode} round {number + 1}/{options.rounds} {target.name}")
                    figures = run(target, workload, mode, options)
                    cluster.wait_synced(120)
                    if figures:
                        runs.append(dict(figures, round=number + 1))
            progress("")
            table([r for r in runs if (r["workload"], r["mode"]) == (workload, mode)], f"{workload}, {mode}")
    return runs


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def summary(runs):
    """{way: figures}: medians of what is a rate, sums of CPU time over all rounds (ticks are coarse)."""
    result = {}
    for name in WAYS:
        mine = [r for r in runs if r["target"] == name]
        if not mine:
            continue
        queries = sum(r["queries"] for r in mine)
        result[name] = {
            "rate": statistics.median(r["rate"] for r in mine),
            "p95_ms": statistics.median(r["p95_ms"] for r in mine),
            "errors": sum(r["errors"] for r in mine),
            "user_us": sum(r["user_s"] for r in mine) / queries * 1e6,
            "system_us": sum(r["system_s"] for r in mine) / queries * 1e6,
        }
        result[name]["cpu_us"] = result[name]["user_us"] + result[name]["system_us"]
    return result


def ratio(value, base):
    return f"{value / base:.2f}" if base else "-"


def table(runs, title):
    result = summary(runs)
    if not result:
        return
    direct_rate = result.get("direct", {}).get("rate", 0)
    floor_cpu = result.get("floor", {}).get("cpu_us", 0)
    print(f"\n{title}")
    print("             queries/s  of direct   p95 ms   CPU us/query    user  system   to floor  errors")
    for name, r in result.items():
        cpu = f"{r['cpu_us']:12.2f} {r['user_us']:9.2f} {r['system_us']:7.2f} {ratio(r['cpu_us'], floor_cpu):>10}" \
            if name != "direct" else " " * 41
        print(f"  {name:10} {r['rate']:9.0f} {ratio(r['rate'], direct_rate):>10} {r['p95_ms']:8.2f} {cpu}   {r['errors']:6.0f}",
              flush=True)


def do_run(options):
    with sandbox.Cluster(replicas=1, options=SERVER_OPTIONS) as cluster:
        folder = sandbox.new_folder("bench")
        prepare(cluster)
        ways = start_targets(folder, cluster, options)
        try:
            runs = measure(cluster, ways, options)
        finally:
            for target in ways:
                target.stop()
            sandbox.remove_folder(folder)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1) + "\n")


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "unknown")
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": os.uname().release}


# ---- memory -----------------------------------------------------------------------------------------------------------

def idle_growth(target, count):
    """KiB of resident memory per client that has logged in, run one statement and stays. A few warm up the buffers first."""
    with idle_clients(target.port, 50):
        pass
    before = target.rss_kib()
    with idle_clients(target.port, count):
        return (target.rss_kib() - before) / count


class idle_clients:
    def __init__(self, port, count, statement="select 1"):
        self.clients = []
        for _ in range(count):
            self.clients.append(sandbox.rawmysql.Connection(port=port, timeout=60,
                                                            capabilities=sandbox.rawmysql.CLASSIC))
            self.clients[-1].query(statement)

    def __enter__(self):
        return self.clients

    def __exit__(self, *_):
        for client in self.clients:
            client.close()


def do_memory(options):
    proc.raise_file_limit()
    server_options = dict(SERVER_OPTIONS, **{"max-connections": str(options.clients + 200),
                                             "thread-handling": "pool-of-threads", "open-files-limit": "20000"})
    with sandbox.Cluster(replicas=1, options=server_options) as cluster:
        folder = sandbox.new_folder("bench")
        print(f"resident memory per idle client, {options.clients} clients")
        settings = {f"server {s.name}": {"max_connections": 100} for s in cluster.servers}
        makers = (lambda: targets.haproxy(folder, cluster.primary, options.proxy_threads, options.clients + 100),
                  lambda: targets.tandem(cluster, options.proxy_threads, settings))
        for make in makers:
            target = make()
            if target:
                print(f"  {target.name:10} {idle_growth(target, options.clients):6.2f} KiB", flush=True)
                target.stop()
        sandbox.remove_folder(folder)


# ---- command line -----------------------------------------------------------------------------------------------------

def words(choices):
    def parse(text):
        chosen = text.split(",")
        for word in chosen:
            if word not in choices:
                raise argparse.ArgumentTypeError(f"{word} is none of {', '.join(choices)}")
        return chosen
    return parse


def main():
    parser = argparse.ArgumentParser(description="What a statement costs on its way through Tandem.")
    parser.add_argument("what", nargs="?", choices=("run", "memory"), default="run")
    parser.add_argument("--time", type=int, default=10, help="seconds per run (10)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, in turn (3)")
    parser.add_argument("--threads", type=int, default=16, help="client threads (16)")
    parser.add_argument("--proxy-threads", type=int, default=2, help="threads of each proxy (2)")
    parser.add_argument("--only", type=words(WORKLOADS), default=list(WORKLOADS), metavar="NAME,...",
                        help=" ".join(WORKLOADS))
    parser.add_argument("--mode", type=words(MODES), default=list(MODES), metavar="NAME,...", help=" ".join(MODES))
    parser.add_argument("--targets", type=words(WAYS), default=list(WAYS), metavar="NAME,...", help=" ".join(WAYS))
    parser.add_argument("--clients", type=int, default=5000, help="memory: idle clients (5000)")
    parser.add_argument("--json", metavar="FILE", help="write every run there")
    options = parser.parse_args()
    try:
        {"run": do_run, "memory": do_memory}[options.what](options)
    except sandbox.SandboxError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
