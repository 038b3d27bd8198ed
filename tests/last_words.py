"""For a part's conftest.py, which imports the hook: beside a failure stands what the daemons that still run have said."""
import pytest

import sandbox


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    """One that ended with the test has printed it."""
    report = (yield).get_result()
    if report.failed:
        for one in sandbox.OPEN:
            if isinstance(one, sandbox.Tandem):
                report.sections.append((f"{one.folder.name}", one.last_words()))
