"""The sample site as a visitor and as a program see it, and which server answered each statement."""
import base64
import html
import http.client
import http.cookies
import json
import re
import urllib.parse

import pytest

import sandbox

LONG = 60


class Page:
    def __init__(self, answer, content):
        self.status, self.headers, self.text = answer.status, answer.headers, content.decode()

    @property
    def token(self):
        return re.search(r'name=csrf value="([\w-]+)"', self.text)[1]

    def value(self, name):
        return html.unescape(re.search(rf'name="?{name}"? [^>]*value="([^"]*)"', self.text)[1])

    def names(self):
        return [html.unescape(name) for name in re.findall(r"<span class=who>(.*?)</span>", self.text)]

    def problems(self):
        return [html.unescape(text) for text in re.findall(r"<p class=problem>(.*?)</p>", self.text)]

    def flash(self):
        match = re.search(r"<p class=flash role=status>(.*?)</p>", self.text)
        return match and html.unescape(match[1])

    def trace(self):
        """(what for, server, statement's first word) of each row of the footer."""
        rows = re.findall(r'<tr data-step="([^"]*)"><td class=server>(.*?)<td class=num>([\d.]+) ms<td>.*?<td><code>(\w+)', self.text)
        return [(step, server, word) for step, server, _, word in rows]


class Browser:
    """Keeps cookies, follows redirects, sends forms with the token of the page."""

    def __init__(self, port):
        self.port, self.cookies = port, {}

    def ask(self, method, path, body=None, fields=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)
        fields = dict(fields or {})
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection.request(method, path, body, fields)
        answer = connection.getresponse()
        page = Page(answer, answer.read())
        connection.close()
        for field in answer.headers.get_all("Set-Cookie") or []:
            for name, morsel in http.cookies.SimpleCookie(field).items():
                self.cookies[name] = morsel.value
        return page

    def get(self, path):
        return self.follow(self.ask("GET", path))

    def follow(self, page):
        while page.status in (302, 303):
            page = self.ask("GET", page.headers["Location"])
        return page

    def send(self, path, token, **values):
        body = urllib.parse.urlencode({"csrf": token, **values})
        return self.ask("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"})

    def submit(self, path, **values):
        """Loads the page, fills its form in, sends it and follows."""
        return self.follow(self.send(path, self.get(path).token, **values))

    def login(self, name="demo", password="tandem-demo"):
        return self.submit("/login", name=name, password=password)


PERSON = {"name": "Zora <b>Ünlü</b> & \"Söhne\"", "email": "zora@example.org", "phone": "+49 (30) 1-2", "city": "Köln", "note": "a\nb"}


@pytest.fixture(scope="module")
def servers():
    with sandbox.Cluster(replicas=1) as cluster:
        sandbox.install_people(cluster.primary)
        cluster.wait_synced()
        yield cluster


@pytest.fixture(scope="module")
def tandem(servers):
    port = sandbox.free_port()
    with sandbox.Tandem(servers, sandbox.people_site(port)) as tandem:
        tandem.web = port
        tandem.wait_reads_on(servers.replicas)
        yield tandem


@pytest.fixture
def visitor(tandem):
    return Browser(tandem.web)


@pytest.fixture
def member(visitor):
    assert visitor.login().flash() == "Welcome, demo."
    return visitor


@pytest.fixture
def zora(member, servers):
    """Somebody who was added by the form; gone afterwards."""
    page = member.submit("/people/new", **PERSON)
    assert page.status == 200 and page.flash() == PERSON["name"] + " was added."
    yield re.search(r'href="/people/(\d+)"', member.get("/?q=zora").text)[1]
    servers.primary.sql("DELETE FROM people.people_person WHERE email LIKE 'zora%'")
    servers.wait_synced()


# ---- Looking ----

def test_the_list_has_pages(visitor):
    page = visitor.get("/")
    assert page.status == 200 and "40 people" in page.text and "Page 1 of 4" in page.text
    seen = page.names()
    for number in (2, 3, 4):
        seen += visitor.get(f"/?page={number}").names()
    assert len(seen) == 40 and sorted(seen) == sorted(set(seen))
    for odd in ("0", "-1", "99", "x", "9" * 30):
        assert visitor.get(f"/?page={odd}").names(), odd
    assert "Set-Cookie" not in page.headers, "who only looks gets no cookie"


def test_search(visitor, servers):
    name, email = servers.primary.sql("SELECT name, email FROM people.people_person ORDER BY id LIMIT 1")[0]
    assert name in visitor.get("/?q=" + urllib.parse.quote(name[:6])).names()
    assert visitor.get("/?q=" + email.upper()).names() == [name]
    assert visitor.get("/?q=example.com&page=2").names()
    for nothing in ("%", "_", "|", "' OR 1=1 --", "\\"):
        page = visitor.get("/?q=" + urllib.parse.quote(nothing))
        assert page.status == 200 and not page.names(), "what the words hold is no pattern"
    assert "<script>" not in visitor.get("/?q=%3Cscript%3E").text


def test_reads_are_the_replicas(visitor):
    assert visitor.get("/").trace() == [("this page", "db2", "SELECT"), ("this page", "db2", "SELECT")]


def test_no_such_page(visitor):
    for path in ("/nowhere", "/people/", "/people/0", "/people/1/x", "/people/-1", "/people/99999999999999999999", "/index.php"):
        assert visitor.get(path).status == 404, path


def test_head_and_caches(visitor):
    page = visitor.ask("HEAD", "/")
    assert page.status == 200 and page.text == ""
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


# ---- Logging in ----

def test_wrong_passwords(visitor):
    for name, password in (("demo", "wrong"), ("nobody", "tandem-demo"), ("demo", ""), ("", ""), ("demo", "x" * 600), ("' OR 1=1 #", "x")):
        page = visitor.login(name, password)
        assert page.status == 403 and page.problems() == ["That name and password do not belong together."]
        assert "Log in" in visitor.get("/").text
    assert visitor.login("demo' -- ", "x").value("name") == "demo' -- "


def test_login_and_logout(visitor):
    before = dict(visitor.cookies)
    page = visitor.login()
    assert page.flash() == "Welcome, demo." and ">demo</span>" in page.text
    assert visitor.cookies != before, "another session than the one in which the form was asked for"
    assert visitor.get("/").flash() is None, "a message is told once"
    assert visitor.ask("GET", "/logout").status == 303 and ">demo</span>" in visitor.get("/").text, "a link logs nobody out"
    page = visitor.follow(visitor.send("/logout", visitor.get("/").token))
    assert page.flash() == "You are logged out." and ">demo</span>" not in page.text
    assert visitor.get("/people/new").flash() == "Please log in first."


def test_register(visitor, servers):
    name = "Jürgen <i>"
    for bad in ({"name": "", "password": "long enough"}, {"name": "x" * 41, "password": "long enough"}, {"name": "a", "password": "short"},
                {"name": "demo", "password": "long enough"}, {"name": "DEMO", "password": "long enough"}, {"name": "a", "password": "x" * 513}):
        page = visitor.submit("/register", **bad)
        assert page.status == 422 and len(page.problems()) == 1, bad
    page = visitor.submit("/register", name=name, password="long enough")
    assert page.flash() == f"Welcome, {name}. Your account is there." and name not in page.text
    assert page.trace()[0] == ("saved", "db1", "INSERT")
    stored = servers.primary.value(f"SELECT password FROM people.people_account WHERE name = '{name}'")
    assert stored.startswith("$y$") and "long enough" not in stored
    assert Browser(visitor.port).login(name, "long enough").flash() == f"Welcome, {name}."


# ---- Changing ----

def test_add(member, zora, servers):
    stored = servers.primary.sql("SELECT name, email, phone, city, note, changed_by FROM people.people_person WHERE id = " + zora)[0]
    assert stored == (PERSON["name"], PERSON["email"], PERSON["phone"], PERSON["city"], PERSON["note"], "demo")
    page = member.get("/?q=zora")
    assert page.names() == [PERSON["name"]] and "<b>Ünlü" not in page.text


def test_writes_are_the_primarys(member, servers):
    page = member.submit("/people/new", **{**PERSON, "email": "zora2@example.org"})
    assert page.trace() == [("saved", "db1", "INSERT"), ("this page", "db2", "SELECT"), ("this page", "db2", "SELECT")]
    assert [step for step, *_ in member.get("/").trace()] == ["this page"] * 2, "shown once"
    servers.primary.sql("DELETE FROM people.people_person WHERE email = 'zora2@example.org'")


def test_edit(member, zora, servers):
    page = member.get(f"/people/{zora}")
    assert page.value("name") == PERSON["name"] and page.value("email") == PERSON["email"] and ">a\nb</textarea>" in page.text
    other = Browser(member.port)
    other.cookies = dict(member.cookies)
    old = other.get(f"/people/{zora}")
    page = member.follow(member.send(f"/people/{zora}", page.token, version=page.value("version"), **{**PERSON, "city": "Bonn"}))
    assert page.flash().endswith("was changed.") and page.trace()[0] == ("saved", "db1", "UPDATE")
    assert servers.primary.value("SELECT city FROM people.people_person WHERE id = " + zora) == "Bonn"
    page = other.send(f"/people/{zora}", old.token, version=old.value("version"), **{**PERSON, "city": "Ulm"})
    assert page.status == 422 and "Somebody else has changed" in page.problems()[0] and page.value("city") == "Ulm"
    assert servers.primary.value("SELECT city FROM people.people_person WHERE id = " + zora) == "Bonn"


def test_remove(member, zora):
    page = member.get(f"/people/{zora}/remove")
    assert "Remove Zora &lt;b&gt;" in page.text
    page = member.submit(f"/people/{zora}/remove")
    assert page.flash().endswith("was removed.") and ("saved", "db1", "DELETE") in page.trace()
    assert not member.get("/?q=zora").names()
    assert member.get(f"/people/{zora}").status == 404 and member.send(f"/people/{zora}/remove", page.token).status == 404


@pytest.mark.parametrize("change, words", [
    ({"name": ""}, "Please give a name."),
    ({"name": " \t "}, "Please give a name."),
    ({"name": "x" * 81}, "A name has at most 80"),
    ({"name": "a\x07b"}, "A name has at most 80"),
    ({"email": ""}, "Please give an e-mail"),
    ({"email": "nobody"}, "That is no e-mail"),
    ({"email": "a@b"}, "That is no e-mail"),
    ({"email": "a@@b.c"}, "That is no e-mail"),
    ({"email": "a b@c.de"}, "That is no e-mail"),
    ({"email": "<x>@c.de"}, "That is no e-mail"),
    ({"phone": "call me"}, "A phone number has digits, blanks"),
    ({"phone": "+-"}, "A phone number has digits."),
    ({"city": "x" * 61}, "A city has at most 60"),
    ({"note": "x" * 1001}, "A note has at most 1000"),
])
def test_wrong_input(member, change, words):
    values = {**PERSON, "email": "zora9@example.org", **change}
    page = member.submit("/people/new", **values)
    assert page.status == 422 and len(page.problems()) == 1 and page.problems()[0].startswith(words)
    assert page.value("city") == values["city"], "what was typed is still there"
    assert not member.get("/?q=zora9").names()


def test_an_address_belongs_to_one(member, zora):
    page = member.submit("/people/new", **{**PERSON, "name": "Another"})
    assert page.status == 422 and page.problems() == ["Somebody has this e-mail address already."]
    assert page.value("name") == "Another"


def test_bytes_that_are_no_text(member):
    page = member.get("/people/new")
    body = f"csrf={page.token}&email=zora8@example.org&name=".encode() + b"%ff%fe"
    page = member.ask("POST", "/people/new", body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert page.status == 422 and page.value("name") == "\ufffd\ufffd"


def test_forged_forms(member, zora):
    token = member.get("/people/new").token
    for token in ("", "x", token[:-1] + ("E" if token[-1] == "A" else "A"), "y" * 43):
        for path in ("/people/new", f"/people/{zora}", f"/people/{zora}/remove", "/logout"):
            assert member.send(path, token, **PERSON).status == 403, (path, token)
    assert member.get("/?q=zora").names()
    stranger = Browser(member.port)
    token = stranger.get("/login").token
    assert stranger.send("/people/new", token, **PERSON).headers["Location"] == "/login"
    assert member.send(f"/people/{zora}/remove", token).status == 403, "a token of another session"
    stranger.cookies["tandem_session"] = member.cookies["tandem_session"].replace(".", "A.", 1)
    assert stranger.send("/people/new", token, **PERSON).headers["Location"] == "/login"


# ---- JSON ----

def api(browser, method, path="", value=None, user="demo:tandem-demo", **fields):
    fields = {name.replace("_", "-"): text for name, text in fields.items()}
    if user:
        fields["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    body = None if value is None else value if isinstance(value, bytes) else json.dumps(value).encode()
    page = browser.ask(method, "/api/people" + path, body, {"Content-Type": "application/json", **fields})
    return page.status, json.loads(page.text) if page.text else None


def test_api(visitor, servers):
    status, answer = api(visitor, "GET", "?size=5&page=2", user=None)
    assert status == 200 and answer["total"] == 40 and answer["page"] == 2 and answer["pages"] == 8 and len(answer["people"]) == 5
    status, made = api(visitor, "POST", "", {"name": " Zora ", "email": "zora@example.org"})
    assert status == 201 and made["name"] == "Zora" and made["version"] == 1 and made["city"] == ""
    path = f"/{made['id']}"
    assert api(visitor, "GET", path, user=None) == (200, made)
    assert api(visitor, "GET", "?q=zora", user=None)[1]["people"] == [made]
    status, changed = api(visitor, "PUT", path, {**made, "city": "Rom"})
    assert status == 200 and changed == {**made, "city": "Rom", "version": 2}
    assert api(visitor, "PUT", path, {**made, "city": "Bari"})[0] == 409, "of an older version"
    assert api(visitor, "POST", "", {"name": "Z", "email": "zora@example.org"})[0] == 409
    assert api(visitor, "DELETE", path) == (204, None)
    assert api(visitor, "GET", path)[0] == api(visitor, "DELETE", path)[0] == api(visitor, "PUT", path, made)[0] == 404


@pytest.mark.parametrize("method, path, value, status", [
    ("POST", "", {"name": "", "email": "x"}, 422), ("POST", "", [], 400), ("POST", "", b"{", 400), ("POST", "", {"name": 1}, 400),
    ("POST", "", b'{"name":"a\\u0000b"}', 400), ("PATCH", "", {}, 405), ("DELETE", "", None, 405), ("POST", "/1", {}, 405),
    ("GET", "/x", None, 404), ("GET", "/1x", None, 404), ("GET", "/0", None, 404), ("POST", "", b"[" * 300_000, 413),
])
def test_api_refuses(visitor, method, path, value, status):
    got, answer = api(visitor, method, path, value)
    assert got == status and "error" in answer


def test_api_wants_a_login(visitor, member):
    for user in (None, "demo:wrong", "demo", ":", "x" * 5000):
        assert api(Browser(visitor.port), "POST", "", {"name": "Z", "email": "zora@example.org"}, user=user)[0] == 401
    token = member.get("/").token
    value = {"name": "Z", "email": "zora@example.org"}
    assert api(member, "POST", "", value, user=None)[0] == 401, "a cookie alone may be sent by any site"
    assert api(member, "POST", "", value, user=None, X_CSRF_Token=token, Content_Type="text/plain")[0] == 415
    status, made = api(member, "POST", "", value, user=None, X_CSRF_Token=token)
    assert status == 201 and api(member, "DELETE", f"/{made['id']}", user=None, X_CSRF_Token=token)[0] == 204


# ---- When the primary changes ----

def test_a_promotion_is_not_noticed(member, tandem, servers):
    """Writes go on, on the other server, and the footer says so."""
    with tandem.connect() as client:
        assert client.value("SELECT 1") == 1
    ctl = str(sandbox.tandem_binary()) + "ctl"
    promote = lambda name: sandbox.subprocess.run([ctl, "-s", tandem.folder / "state" / "tandem.sock", "promote", name], check=True,
                                                  capture_output=True, timeout=LONG)
    promote("db2")
    try:
        page = member.submit("/people/new", **{**PERSON, "email": "zora3@example.org"})
        assert page.flash().endswith("was added.") and page.trace()[0] == ("saved", "db2", "INSERT")
        sandbox.wait_for(lambda: {server for _, server, _ in member.get("/").trace()} == {"db1"}, LONG, "reads on the other server")
    finally:
        promote("db1")
        servers.primary.sql("DELETE FROM people.people_person WHERE email LIKE 'zora%'")
