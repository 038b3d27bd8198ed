"""The sample site in Chromium, as on a desktop and as on a phone."""
import pytest

from test_browser import complaints, driver, fill, picture, press  # noqa: F401

import sandbox

pytest.importorskip("selenium.webdriver", reason="python3-selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def people():
    port = sandbox.free_port()
    with sandbox.Cluster(replicas=1) as cluster:
        sandbox.install_people(cluster.primary)
        cluster.wait_synced()
        with sandbox.Tandem(cluster, sandbox.people_site(port)) as tandem:
            tandem.wait_reads_on(cluster.replicas)
            yield f"http://127.0.0.1:{port}"


def text(driver, selector):  # noqa: F811
    return driver.find_element(By.CSS_SELECTOR, selector).text


def trace(driver):  # noqa: F811
    """(what for, server, statement's first word) of the footer."""
    rows = driver.find_elements(By.CSS_SELECTOR, "#trace tbody tr")
    return [(row.get_attribute("data-step"), row.find_element(By.CSS_SELECTOR, ".server").text,
             row.find_element(By.TAG_NAME, "code").text.split()[0]) for row in rows]


def fits(driver):  # noqa: F811
    """Nothing is wider than the window."""
    return driver.execute_script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("size", SIZES)
def test_people(driver, people, size):  # noqa: F811
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": SIZES[size][0], "height": SIZES[size][1], "deviceScaleFactor": 1,
                                                                  "mobile": size == "phone"})
    driver.delete_all_cookies()
    driver.get(people + "/")
    assert text(driver, "#total").startswith("40 people") and fits(driver)
    assert trace(driver) == [("this page", "db2", "SELECT")] * 2
    picture(driver, f"people-{size}-1-list")

    driver.get(people + "/login")
    fill(driver, name="demo", password="wrong")
    press(driver, "main button")
    assert text(driver, ".problem").startswith("That name and password")
    picture(driver, f"people-{size}-2-wrong-password")
    fill(driver, name="demo", password="tandem-demo")
    press(driver, "main button")
    assert text(driver, ".flash") == "Welcome, demo."

    driver.get(people + "/people/new")
    fill(driver, name="Ünal & Söhne", email="nobody", phone="call me", city="Köln")
    press(driver, "main button")
    assert [p.text[:12] for p in driver.find_elements(By.CSS_SELECTOR, ".problem")] == ["That is no e", "A phone numb"]
    assert fits(driver)
    picture(driver, f"people-{size}-3-wrong-input")
    fill(driver, email="uenal@example.org", phone="0221 1234")
    press(driver, "main button")
    assert text(driver, ".flash") == "Ünal & Söhne was added."
    assert trace(driver)[0] == ("saved", "db1", "INSERT") and trace(driver)[1] == ("this page", "db2", "SELECT")
    picture(driver, f"people-{size}-4-added")
    driver.execute_script("scrollTo(0, document.body.scrollHeight)")
    picture(driver, f"people-{size}-4-footer")

    fill_search(driver, "uenal")
    assert text(driver, "#total") == "1 person found for uenal"
    press(driver, ".act a")
    fill(driver, city="Bonn", note="moved")
    picture(driver, f"people-{size}-5-edit")
    press(driver, "main button")
    assert text(driver, ".flash") == "Ünal & Söhne was changed." and trace(driver)[0] == ("saved", "db1", "UPDATE")

    fill_search(driver, "uenal")
    assert "Bonn" in text(driver, ".what")
    press(driver, ".act a")
    press(driver, "main form a[href$=remove]")
    picture(driver, f"people-{size}-6-remove")
    press(driver, "button.bad")
    assert text(driver, ".flash") == "Ünal & Söhne was removed." and ("saved", "db1", "DELETE") in trace(driver)
    assert text(driver, "#total").startswith("40 people")

    press(driver, "header button")
    assert text(driver, ".flash") == "You are logged out."
    driver.get(people + "/people/new")
    assert text(driver, ".flash") == "Please log in first."
    assert not [line for line in complaints(driver, people) if "favicon" not in line and "403" not in line and "422" not in line]


def fill_search(driver, words):  # noqa: F811
    field = driver.find_element(By.NAME, "q")
    field.clear()
    field.send_keys(words)
    press(driver, "form[role=search] button")
