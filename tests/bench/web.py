#!/usr/bin/python3
"""What a request costs the front server: Tandem beside nginx, on the same machine, in the same run, in turn.

    web.py [--time SECONDS] [--rounds N] [--connections N] [--only CASE,...] [--json FILE]

Both serve the same files and reach the same FastCGI programs. What counts is the CPU time of the front server alone, per request. The
applications are in Tandem's own process: there it counts with them, and nginx, which asks them over FastCGI, with that process.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import proc  # noqa: E402
import programs  # noqa: E402
import sandbox  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
CASES = {"static-1k": "/1k.bin", "static-1m": "/1m.bin", "php-hello": "/hello.php", "app-hello": "/app/hello", "app-select": "/app/select"}
NGINX = """
worker_processes {threads};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
daemon off;
events {{ worker_connections 4096; }}
http {{
    types {{ application/octet-stream bin; }}
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        location ~ \\.php$ {{
            fastcgi_pass unix:{php};
            {parameters}
            fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
        }}
        {apps}
    }}
}}
"""
# As Debian's own fastcgi_params has them.
PARAMETERS = "".join(f"fastcgi_param {name} {value};\n" for name, value in (
    ("QUERY_STRING", "$query_string"), ("REQUEST_METHOD", "$request_method"), ("CONTENT_TYPE", "$content_type"),
    ("CONTENT_LENGTH", "$content_length"), ("SCRIPT_NAME", "$fastcgi_script_name"), ("REQUEST_URI", "$request_uri"),
    ("DOCUMENT_URI", "$document_uri"), ("DOCUMENT_ROOT", "$document_root"), ("SERVER_PROTOCOL", "$server_protocol"),
    ("REQUEST_SCHEME", "$scheme"), ("GATEWAY_INTERFACE", "CGI/1.1"), ("SERVER_SOFTWARE", "nginx/$nginx_version"),
    ("REMOTE_ADDR", "$remote_addr"), ("REMOTE_PORT", "$remote_port"), ("SERVER_ADDR", "$server_addr"),
    ("SERVER_PORT", "$server_port"), ("SERVER_NAME", "$server_name"), ("REDIRECT_STATUS", "200")))


class Front:
    """A front server: where it listens and whose CPU time counts."""

    def __init__(self, name, port, process, apps=None):
        self.name, self.process, self.apps = name, process, apps
        self.url = f"http://127.0.0.1:{port}"
        sandbox.wait_for(self.answers, 30, f"{name} to answer")

    def answers(self):
        if not self.process.running():
            raise sandbox.SandboxError(f"{self.name} ended at once")
        return subprocess.run(["curl", "-sf", "-o", os.devnull, self.url + "/1k.bin"]).returncode == 0

    def cpu(self, case):
        pids = proc.family(self.process.pid)
        if self.apps and case.startswith("app-"):
            pids = [*pids, *proc.family(self.apps.pid)]
        return proc.cpu_time(pids)


def make_root(folder):
    root = folder / "root"
    root.mkdir(mode=0o755)
    (root / "1k.bin").write_bytes(os.urandom(1 << 10))
    (root / "1m.bin").write_bytes(os.urandom(1 << 20))
    (root / "hello.php").write_text("<?php echo 'hello';")
    folder.chmod(0o755)
    return root


def app_locations(socket):
    """Each application by the path it has in Tandem's own site."""
    return "".join(f"location /app/{name} {{ fastcgi_pass unix:{socket}; {PARAMETERS} fastcgi_param TANDEM_APP {name}; "
                   f"fastcgi_param TANDEM_PREFIX /app/{name}; }}\n" for name in ("hello", "select"))


def build_app(folder):
    out = folder / "select_app.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", f"-I{HERE.parent.parent}", "-o", out, HERE / "select_app.c"], check=True)
    return out


def start_nginx(folder, root, php, apps, options):
    port = sandbox.free_port()
    home = folder / "nginx"
    home.mkdir()
    (home / "nginx.conf").write_text(NGINX.format(threads=options.front_threads, folder=home, port=port, root=root, php=php.socket,
                                                  parameters=PARAMETERS, apps=app_locations(folder / "apps.sock")))
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    process = sandbox.Process([sandbox.find_program("nginx"), "-p", home, "-c", home / "nginx.conf", *user], home / "out.log")
    return Front("nginx", port, process, apps)


def tandem_settings(port, folder, root, php, options):
    return {"app": {"fastcgi": f"unix:{folder / 'apps.sock'}", "user": "app", "password": "app"},
            "app select": {"module": build_app(folder)}, "route */app/hello": {"to": "app:hello"}, "route */app/select": {"to": "app:select"},
            "tandem": {"threads": options.front_threads}, "web": {"listen": f"127.0.0.1:{port}"}, "site *": {"root": root},
            "route */hello.php": {"to": "upstream:php"}, "upstream php": {"server": f"unix:{php.socket}"}}


# ---- measuring --------------------------------------------------------------------------------------------------------

def run(front, case, options):
    """One run of wrk; its requests all have to succeed."""
    before = front.cpu(case)
    done = subprocess.run(["wrk", "-t1", f"-c{options.connections}", f"-d{options.time}", "--latency", front.url + CASES[case]],
                          capture_output=True, text=True)
    user, system = (front.cpu(case) - before).split()
    requests = re.search(r"(\d+) requests in", done.stdout)
    if done.returncode or not requests or not int(requests[1]) or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        print(f"{front.name} {case}: requests failed\n{done.stdout}{done.stderr}", file=sys.stderr)
        return None
    count = int(requests[1])
    unit = {"us": 1e-3, "ms": 1, "s": 1e3}
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    return {"front": front.name, "case": case, "requests": count, "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1]),
            "p99_ms": float(p99[1]) * unit[p99[2]], "user_us": user / count * 1e6, "system_us": system / count * 1e6}


def table(case, runs, names):
    print(f"\n{case}\n              requests/s   p99 ms   CPU us/request     user   system   to nginx")
    base = None
    for name in names:
        mine = [r for r in runs if r["front"] == name]
        if not mine:
            continue
        middle = {key: statistics.median(r[key] for r in mine) for key in ("rate", "p99_ms", "user_us", "system_us")}
        cpu = middle["user_us"] + middle["system_us"]
        base = base or cpu
        print(f"  {name:10} {middle['rate']:12.0f} {middle['p99_ms']:8.2f} {cpu:16.2f} {middle['user_us']:8.2f} {middle['system_us']:8.2f} "
              f"{cpu / base:10.2f}", flush=True)


def measure(fronts, options):
    runs = []
    for case in options.only:
        mine = []
        for number in range(options.rounds):
            turn = fronts[number % len(fronts):] + fronts[:number % len(fronts)]
            mine += filter(None, (run(front, case, options) for front in turn))
        table(case, mine, [front.name for front in fronts])
        runs += mine
    return runs


def do_run(options):
    folder = sandbox.new_folder("bench-web")
    root = make_root(folder)
    with sandbox.Cluster(replicas=1) as cluster, programs.PhpFpm(children=4) as php:
        cluster.primary.sql("CREATE DATABASE bench")
        cluster.primary.sql("CREATE TABLE bench.t (id INT PRIMARY KEY, v VARCHAR(40))")
        cluster.primary.sql("INSERT INTO bench.t VALUES (7, 'seven')")
        cluster.wait_synced()
        port = sandbox.free_port()
        with sandbox.Tandem(cluster, tandem_settings(port, folder, root, php, options)) as tandem:
            nginx = start_nginx(folder, root, php, tandem.process, options)
            try:
                runs = measure([nginx, Front("tandem", port, tandem.process)], options)
            finally:
                nginx.process.end(signal.SIGTERM, 10)
    sandbox.remove_folder(folder)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(runs, indent=1) + "\n")


def main():
    def cases(text):
        chosen = text.split(",")
        if set(chosen) - set(CASES):
            raise argparse.ArgumentTypeError(f"cases are {', '.join(CASES)}")
        return chosen
    parser = argparse.ArgumentParser(description="What a request costs the front server.")
    parser.add_argument("--time", type=int, default=6, help="seconds per run (6)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, in turn (3)")
    parser.add_argument("--connections", type=int, default=64, help="connections of wrk (64)")
    parser.add_argument("--front-threads", type=int, default=2, help="workers of each front server (2)")
    parser.add_argument("--only", type=cases, default=list(CASES), metavar="CASE,...", help=" ".join(CASES))
    parser.add_argument("--json", metavar="FILE", help="write every run there")
    try:
        do_run(parser.parse_args())
    except sandbox.SandboxError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
