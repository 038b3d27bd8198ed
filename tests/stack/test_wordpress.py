"""WordPress on php-fpm behind Tandem, with its database through Tandem's proxy port: what an editor and a reader do, by HTTP."""
import os
import pathlib
import re
import shutil
import subprocess
import time
import types
import zlib

import pytest

import programs
import sandbox

CONFIG = """<?php
define('DB_NAME', 'wp'); define('DB_USER', 'app'); define('DB_PASSWORD', 'app'); define('DB_HOST', '127.0.0.1:{port}');
define('DB_CHARSET', 'utf8mb4'); define('DB_COLLATE', '');
define('WP_HTTP_BLOCK_EXTERNAL', true); define('WP_ACCESSIBLE_HOSTS', '127.0.0.1');
define('WP_DEBUG', true); define('WP_DEBUG_DISPLAY', false); define('WP_DEBUG_LOG', false);
$table_prefix = 'wp_';
if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
"""
# WordPress believes in rewritten addresses only where it knows the server; other servers say so with this filter.
PLUGIN = "<?php add_filter('got_url_rewrite', '__return_true');\n"
PASSWORD = "correct horse 4"


def random_png(width, height):
    """A picture that does not compress: about three bytes a pixel."""
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    value, rows = 12345, bytearray()
    noise = bytearray()
    for _ in range(65521):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
        noise.append(value >> 16 & 255)
    for row in range(height):
        start = row * 7919 % 30000
        rows += b"\0" + (noise[start:] + noise)[:3 * width]
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(rows), 0)) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def site():
    """Two servers, Tandem, php-fpm and WordPress' files, not yet installed."""
    with sandbox.Cluster(replicas=1) as cluster, programs.PhpFpm() as php:
        folder = sandbox.new_folder("wordpress")
        root = folder / "root"
        shutil.copytree(programs.package_folder("/usr/share/wordpress"), root, ignore=shutil.ignore_patterns(".htaccess"))
        (root / "wp-content" / "uploads").mkdir()
        (root / "wp-content" / "mu-plugins").mkdir()
        (root / "wp-content" / "mu-plugins" / "tandem.php").write_text(PLUGIN)
        port = sandbox.free_port()
        settings = {"web": {"listen": f"127.0.0.1:{port}", "access_log": folder / "access.log"}, "site *": {"root": root, "index": "index.php"},
                    "proxy": {"causal_wait": "5s"},  # on a busy machine a replica needs more than 20 ms, and the primary would answer
                    "route */": {"to": "upstream:php", "front": "/index.php", "files": "on"},
                    "upstream php": {"server": f"unix:{php.socket}"}}
        cluster.primary.sql("CREATE DATABASE wp")
        with sandbox.Tandem(cluster, settings) as tandem:
            (root / "wp-config.php").write_text(CONFIG.format(port=tandem.port))
            yield types.SimpleNamespace(cluster=cluster, php=php, tandem=tandem, url=f"http://127.0.0.1:{port}",
                                        log=folder / "access.log")
        sandbox.remove_folder(folder)


@pytest.fixture(scope="module")
def editor(site):
    """A browser whose user has gone through the installation and logged in."""
    browser = programs.Browser(site.url)
    page = browser.open("/")
    assert page.url.endswith("/wp-admin/install.php")
    assert "Information needed" in browser.form("/wp-admin/install.php?step=1", {"language": ""}).text
    done = browser.form("/wp-admin/install.php?step=2", {
        "weblog_title": "Tandem's own", "user_name": "editor", "admin_password": PASSWORD, "admin_password2": PASSWORD, "pw_weak": "on",
        "admin_email": "editor@example.org", "blog_public": "1", "Submit": "Install WordPress", "language": ""})
    assert "Success!" in done.text, done.text[:3000]
    browser.open("/wp-login.php")
    wrong = browser.form("/wp-login.php", {"log": "editor", "pwd": "wrong", "testcookie": "1"})
    assert "is incorrect" in wrong.text
    board = browser.form("/wp-login.php", {"log": "editor", "pwd": PASSWORD, "testcookie": "1", "redirect_to": site.url + "/wp-admin/"})
    assert "<title>Dashboard" in board.text, board.url
    return browser


@pytest.fixture(scope="module")
def rest(editor):
    """Calls WordPress' REST interface as the editor."""
    nonce = editor.open("/wp-admin/admin-ajax.php?action=rest-nonce").text
    return lambda path, value: editor.json(f"/index.php?rest_route=/wp/v2{path}", value, **{"X-WP-Nonce": nonce}).json


@pytest.fixture(scope="module")
def image(editor):
    content = random_png(1400, 1250)
    assert len(content) > 5 << 20
    fields = {"_wpnonce": editor.open("/wp-admin/media-new.php").value("_wpnonce"), "post_id": "0", "html-upload": "Upload"}
    page = editor.upload("/wp-admin/media-new.php", fields, "async-upload", "noise.png", content, "image/png")
    assert page.url.endswith("/wp-admin/upload.php"), page.text[:3000]
    return content


@pytest.fixture(scope="module")
def post(editor, rest, image):
    page = editor.open("/wp-admin/options-permalink.php")
    saved = editor.form("/wp-admin/options-permalink.php", {
        "_wpnonce": page.value("_wpnonce"), "selection": "/%postname%/", "permalink_structure": "/%postname%/", "category_base": "", "tag_base": ""})
    assert "Permalink structure updated" in saved.text
    media = rest("/media/" + re.search(r"post-(\d+)", editor.open("/wp-admin/upload.php?mode=list").text)[1], {"alt_text": "noise"})
    assert media["source_url"].endswith("/noise.png")
    written = rest("/posts", {"title": "Zebras in the zoo", "status": "publish",
                              "content": f'<p>Stripes &amp; spots: žebra \N{ZEBRA FACE}</p><img src="{media["source_url"]}">'})
    return types.SimpleNamespace(id=written["id"], link=written["link"], image=media["source_url"])


def test_the_post_and_its_image(site, post, image):
    reader = programs.Browser(site.url)
    assert post.link == f"{site.url}/zebras-in-the-zoo/"
    page = reader.open(post.link)
    assert "žebra \N{ZEBRA FACE}" in page.text or "žebra &#x1f993;" in page.text
    assert reader.open(post.image).body == image
    assert reader.open("/no-such-page/", expected=404).text.count("<title>Page not found") == 1


def test_a_comment(site, editor, rest, post):
    reader = programs.Browser(site.url)
    text = "I like the stripes; '); DROP TABLE wp_posts; --"
    page = reader.form("/wp-comments-post.php", {"author": "Ann", "email": "ann@example.org", "comment": text, "comment_post_ID": post.id})
    assert "awaiting moderation" in page.text
    assert "I like the stripes" not in programs.Browser(site.url).open(post.link).text
    number = re.search(r"comment-(\d+)", editor.open("/wp-admin/edit-comments.php?comment_status=moderated").text)[1]
    assert rest(f"/comments/{number}", {"status": "approved"})["status"] == "approved"
    assert "DROP TABLE wp_posts" in programs.Browser(site.url).open(post.link).text


def test_search(site, post):
    reader = programs.Browser(site.url)
    assert "Zebras in the zoo" in reader.open("/?s=stripes").text
    assert "Zebras in the zoo" not in reader.open("/?s=elephants").text


def test_another_theme(site, editor):
    page = editor.open("/wp-admin/themes.php")
    now = re.search(r"/wp-content/themes/(\w+)/", programs.Browser(site.url).open("/").text)[1]
    other = {"twentytwentytwo": "twentytwentythree"}.get(now, "twentytwentytwo")
    link = re.search(rf'"activate":"([^"]*stylesheet={other}[^"]*)"', page.text)[1]
    done = editor.open(link.replace("\\/", "/").replace("&amp;", "&"))
    assert "New theme activated" in done.text
    assert f"/wp-content/themes/{other}/" in programs.Browser(site.url).open("/").text


def test_writes_on_the_primary_reads_on_the_replica(site, editor, post, rest):
    """Looks at what the servers ran, not at what Tandem says."""
    def counted(server, *names):
        return sum(int(server.value(f"SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Com_{name}'"))
                   for name in names)
    primary, replica = site.cluster.primary, site.cluster.replicas[0]
    site.cluster.wait_synced()
    site.tandem.wait_reads_on([replica])
    before = {server: counted(server, "select") for server in (primary, replica)}
    writes = counted(primary, "insert", "update", "delete")
    rest("/posts", {"title": "another", "status": "publish"})
    assert counted(primary, "insert", "update", "delete") > writes
    site.cluster.wait_synced()
    for _ in range(5):
        programs.Browser(site.url).open("/")
    reads = {server: counted(server, "select") - before[server] for server in before}
    print(f"\nSELECTs of one post and five pages: {reads[primary]} on the primary, {reads[replica]} on the replica")
    assert reads[replica] > 100 and reads[replica] > 3 * reads[primary]


def test_a_promotion_while_people_read(site, post):
    """wrk on the front page while the replica is promoted and the old primary afterwards: no page fails."""
    control = [pathlib.Path(sandbox.tandem_binary()).parent / "tandemctl", "-s", site.tandem.settings["admin"]["socket"]]
    with programs.Wrk(site.url + "/") as wrk:
        ends = time.monotonic() + float(os.environ.get("TANDEM_STACK_SECONDS", "8"))
        for name in ("db2", "db1"):
            done = subprocess.run([*control, "promote", name], capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stdout + done.stderr
        pages = site.log.read_text().count('"GET / ')
        sandbox.wait_for(lambda: time.monotonic() > ends and site.log.read_text().count('"GET / ') > pages + 16, 120, "pages afterwards", 0.2)
        figures = wrk.stop()
    print(f"\nwrk on the front page, two promotions meanwhile: {figures}")
    assert figures["requests"] > 8
    assert (figures["refused"], figures["errors"]) == (0, 0), wrk.output


def test_php_complained_about_nothing(site, post):
    """Last: what the tests before left in PHP's log."""
    lines = [line for line in site.php.error_text().splitlines() if re.search(r"database|mysqli|MySQL|Fatal", line)]
    assert not lines, "\n".join(lines[:20])
