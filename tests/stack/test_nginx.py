"""nginx in front of Tandem, with the example's settings: as an HTTP server, and as a FastCGI program for its applications."""
import contextlib
import os
import pathlib
import re
import signal
import urllib.request

import pytest

import sandbox

EXAMPLE = pathlib.Path(__file__).resolve().parent.parent.parent / "dist" / "examples" / "nginx.conf"
FRAME = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4;
    scgi_temp_path {folder}/t5;
{example}
}}
"""


def example(ports, app):
    """The example as it is, with this run's ports and another application than the sample site, which wants tables."""
    text = EXAMPLE.read_text()
    for old, new in ports.items():
        text = re.sub(rf"127\.0\.0\.1:{old}(?=;)", f"127.0.0.1:{new}", text)
    assert text.count("TANDEM_APP people") == 1
    return text.replace("TANDEM_APP people", f"TANDEM_APP {app}")


@pytest.fixture(scope="module")
def nginx():
    """(address of nginx, Tandem's access log)"""
    ports = {8000: sandbox.free_port(), 8080: sandbox.free_port(), 9001: sandbox.free_port()}
    folder = sandbox.new_folder("nginx")
    (folder / "root").mkdir()
    (folder / "root" / "page").write_text("a page\n")
    with contextlib.ExitStack() as stack:
        stack.callback(sandbox.remove_folder, folder)
        tandem = sandbox.Tandem(None, {
            "server db1": {"address": f"127.0.0.1:{sandbox.free_port()}"},
            "web": {"listen": f"127.0.0.1:{ports[8080]}", "trusted_proxies": "127.0.0.1", "access_log": folder / "access.log"},
            "site *": {"root": folder / "root"}, "app": {"fastcgi": f"127.0.0.1:{ports[9001]}"}}, wait=False)
        stack.callback(tandem.close)
        sandbox.wait_for(lambda: "ready:" in tandem.log_text(), 30, "the daemon")
        (folder / "nginx.conf").write_text(FRAME.format(folder=folder, example=example(ports, "hello")))
        user = ["-g", "user root;"] if os.geteuid() == 0 else []
        process = sandbox.Process([sandbox.find_program("nginx"), "-p", folder, "-c", folder / "nginx.conf", *user], folder / "out")
        stack.callback(process.end, signal.SIGTERM, 10)
        url = f"http://127.0.0.1:{ports[8000]}"
        sandbox.wait_for(lambda: get(url + "/page") == "a page\n", 30, "nginx")
        yield url, folder / "access.log"


def get(url, **fields):
    with urllib.request.urlopen(urllib.request.Request(url, headers=fields), timeout=20) as answer:
        return answer.read().decode()


def test_as_an_http_server(nginx):
    url, log = nginx
    assert [get(url + "/page") for _ in range(50)] == ["a page\n"] * 50
    assert get(url + "/page?mark=1", **{"X-Forwarded-For": "203.0.113.9"}) == "a page\n"
    sandbox.wait_for(lambda: "mark=1" in log.read_text(), 10, "the line of the log")
    # nginx and its client both have this machine's address, which is trusted: the client is whom that one spoke for.
    assert next(line for line in log.read_text().splitlines() if "mark=1" in line).startswith("203.0.113.9 ")


def test_as_a_fastcgi_program(nginx):
    url, _ = nginx
    assert "Hello, world!" in get(url + "/app/")
    assert "Hello, &lt;b&gt;!" in get(url + "/app/?name=%3Cb%3E")
    for _ in range(50):
        assert "Hello, you!" in get(url + "/app/?name=you")
