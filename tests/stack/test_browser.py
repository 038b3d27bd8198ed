"""WordPress in Chromium: the installation wizard, the editor's pages and a reader's, with their scripts and styles."""
import os
import pathlib
import shutil

import pytest
from test_wordpress import PASSWORD, random_png, site  # noqa: F401

import sandbox

webdriver = pytest.importorskip("selenium.webdriver", reason="python3-selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402


@pytest.fixture(scope="module")
def driver():
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("chromium and chromedriver are not installed")
    folder = sandbox.new_folder("chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1280,900",
                 "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(service=Service(chromedriver), options=options)
    browser.set_page_load_timeout(120)
    browser.implicitly_wait(60)
    yield browser
    browser.quit()
    sandbox.remove_folder(folder)


def picture(driver, name):
    """Kept where TANDEM_PICTURES names a folder, for somebody to look at."""
    if folder := os.environ.get("TANDEM_PICTURES"):
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(pathlib.Path(folder) / f"{name}.png"))


def fill(driver, **fields):
    for name, value in fields.items():
        field = driver.find_element(By.ID, name)
        field.clear()
        field.send_keys(value)


def press(driver, selector):
    """By script: what lies over a button of a busy page is no matter of ours."""
    driver.execute_script("arguments[0].click()", driver.find_element(By.CSS_SELECTOR, selector))


def complaints(driver, url):
    """Things of this site that the browser could not get."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE" and url in entry["message"]]


def test_wizard_post_image_comment_search_theme(driver, site, tmp_path):  # noqa: F811
    driver.get(site.url + "/")
    driver.find_element(By.ID, "weblog_title").send_keys("Tandem's own")
    fill(driver, user_login="editor", admin_email="editor@example.org")
    driver.execute_script("document.getElementById('pass1').value = arguments[0]; document.getElementById('pass2').value = arguments[0];"
                          "document.querySelector('.pw-checkbox').checked = true", PASSWORD)
    picture(driver, "1-wizard")
    press(driver, "#submit")
    assert "Success!" in driver.find_element(By.TAG_NAME, "h1").text
    driver.get(site.url + "/wp-login.php")
    fill(driver, user_login="editor", user_pass=PASSWORD)
    press(driver, "#wp-submit")
    driver.find_element(By.ID, "dashboard-widgets")
    picture(driver, "2-dashboard")

    (tmp_path / "noise.png").write_bytes(random_png(1400, 1250))
    driver.get(site.url + "/wp-admin/media-new.php?browser-uploader")
    driver.find_element(By.ID, "async-upload").send_keys(str(tmp_path / "noise.png"))
    press(driver, "#html-upload")
    driver.find_element(By.CSS_SELECTOR, "li.attachment")
    picture(driver, "3-media")

    # The block editor is a program of several megabytes of script; its interface is used as scripts do.
    driver.get(site.url + "/wp-admin/post-new.php")
    driver.find_element(By.CSS_SELECTOR, ".edit-post-layout, #editor")
    link = driver.execute_async_script("""
        const done = arguments[arguments.length - 1], data = wp.data;
        (async () => {
            const media = await wp.apiFetch({path: '/wp/v2/media'});
            const picture = wp.blocks.createBlock('core/image', {id: media[0].id, url: media[0].source_url});
            data.dispatch('core/editor').editPost({title: 'Zebras in the zoo', status: 'publish'});
            data.dispatch('core/block-editor').resetBlocks([wp.blocks.createBlock('core/paragraph', {content: 'Stripes and spots'}), picture]);
            await data.dispatch('core/editor').savePost();
            return data.select('core/editor').getPermalink();
        })().then(done, error => done('failed: ' + error.message));""")
    picture(driver, "4-editor")
    assert link.startswith(site.url), link
    driver.get(link)
    width = driver.execute_script("const i = document.querySelector('.wp-block-image img'); return i.complete && i.naturalWidth")
    sandbox.wait_for(lambda: driver.execute_script(
        "const i = document.querySelector('.wp-block-image img'); return i.complete && i.naturalWidth > 0"), 60, f"the image ({width})", 0.1)
    driver.find_element(By.ID, "comment").send_keys("I like the stripes")
    press(driver, "#commentform [type=submit]")
    assert "I like the stripes" in driver.find_element(By.CSS_SELECTOR, ".commentlist, .wp-block-comment-template").text
    picture(driver, "5-post")

    driver.get(site.url + "/?s=spots")
    assert "Zebras in the zoo" in driver.find_element(By.TAG_NAME, "main").text
    picture(driver, "6-search")
    driver.get(site.url + "/wp-admin/themes.php")
    press(driver, ".theme:not(.active) .button.activate")
    assert "New theme activated" in driver.find_element(By.ID, "message2").text
    driver.get(site.url + "/")
    driver.find_element(By.TAG_NAME, "main")
    picture(driver, "7-theme")
    assert not complaints(driver, site.url)
