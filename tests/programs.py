"""Programs of others that stand around Tandem, started with settings of the test's own, and a browser without a screen."""
import html
import http.cookiejar
import json
import pathlib
import re
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
import uuid

import sandbox


class PhpFpm:
    """php-fpm with a pool of its own on a Unix socket."""

    def __init__(self, children=6, **ini):
        self.folder = sandbox.new_folder("php")
        self.socket, self.log, self.errors = self.folder / "fpm.sock", self.folder / "fpm.log", self.folder / "php.log"
        program = sandbox.find_program("php-fpm", *(f"php-fpm8.{minor}" for minor in range(9, -1, -1)))
        settings = {"error_log": self.errors, "log_errors": "1", "upload_max_filesize": "16M", "post_max_size": "20M",
                    "memory_limit": "256M", "upload_tmp_dir": self.folder, "session.save_path": self.folder, **ini}
        lines = ["[global]", "daemonize = no", f"error_log = {self.log}", "[www]", f"listen = {self.socket}", "pm = static",
                 f"pm.max_children = {children}", "catch_workers_output = yes", "user = root", "group = root"]
        lines += [f"php_admin_value[{name}] = {value}" for name, value in settings.items()]
        (self.folder / "fpm.conf").write_text("\n".join(lines) + "\n")
        self.process = sandbox.Process([program, "-F", "-R", "-y", self.folder / "fpm.conf"], self.log)
        sandbox.wait_for(self.listens, 20, "php-fpm to listen")

    def listens(self):
        if not self.process.running():
            raise sandbox.SandboxError("php-fpm ended at once:\n" + sandbox.tail(self.log))
        return self.socket.exists()

    def error_text(self):
        return self.errors.read_text(errors="replace") if self.errors.exists() else ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.end(signal.SIGTERM, 20)
        sandbox.remove_folder(self.folder)


class Page:
    def __init__(self, answer, body):
        self.status, self.url, self.fields, self.body = answer.status, answer.url, answer.headers, body

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    @property
    def json(self):
        return json.loads(self.body)

    def value(self, name):
        """The value of a form's hidden field."""
        for tag in re.findall(r"<input\b[^>]*>", self.text):
            if re.search(rf"""\bname=["']{re.escape(name)}["']""", tag):
                return html.unescape(re.search(r"""\bvalue=["']([^"']*)""", tag)[1])
        raise AssertionError(f"no field {name} in {self.url}")


class Browser:
    """Follows redirects and keeps cookies. Every page must come with a status below 400 unless another is `expected`."""

    def __init__(self, base):
        self.base = base
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def open(self, path, data=None, kind=None, expected=None, **fields):
        request = urllib.request.Request(urllib.parse.urljoin(self.base, path), data, fields)
        if kind:
            request.add_header("Content-Type", kind)
        try:
            with self.opener.open(request, timeout=60) as answer:
                page = Page(answer, answer.read())
        except urllib.error.HTTPError as answer:
            page = Page(answer, answer.read())
        wrong = page.status != expected if expected else page.status >= 400
        assert not wrong, f"{path}: {page.status}\n{page.text[:2000]}"
        return page

    def form(self, path, fields, **more):
        return self.open(path, urllib.parse.urlencode(fields).encode(), "application/x-www-form-urlencoded", **more)

    def json(self, path, value, **more):
        return self.open(path, json.dumps(value).encode(), "application/json", **more)

    def upload(self, path, fields, name, filename, content, kind):
        mark = uuid.uuid4().hex
        parts = [f'--{mark}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
                 for field, value in fields.items()]
        parts += [f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
                  f"Content-Type: {kind}\r\n\r\n".encode(), content, f"\r\n--{mark}--\r\n".encode()]
        return self.open(path, b"".join(parts), f"multipart/form-data; boundary={mark}")


class Wrk:
    """A run of wrk in the background."""

    FIGURE = {"requests": r"(\d+) requests in", "refused": r"Non-2xx or 3xx responses: (\d+)",
              "rate": r"Requests/sec:\s+([\d.]+)", "p99": r"99%\s+([\d.]+\w+)"}
    ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")

    def __init__(self, url, seconds=600, connections=8, threads=1):
        command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}", "--timeout", "30", "--latency", url]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Ends it and returns its figures."""
        self.process.send_signal(signal.SIGINT)
        self.output = self.process.communicate(timeout=60)[0]
        assert self.process.returncode == 0, self.output
        found = {name: re.search(pattern, self.output) for name, pattern in self.FIGURE.items()}
        errors = self.ERRORS.search(self.output)
        figures = {name: match[1] if match else "0" for name, match in found.items()}
        return {"requests": int(figures["requests"]), "refused": int(figures["refused"]), "rate": float(figures["rate"]),
                "p99": figures["p99"], "errors": sum(map(int, errors.groups())) if errors else 0}


def package_folder(path):
    folder = pathlib.Path(path)
    assert folder.is_dir(), f"{folder} is missing"
    return folder
