"""Perl's DBI: DBD::MariaDB and, where it is installed, DBD::mysql."""
import subprocess

import pytest

from conftest import need


@pytest.mark.parametrize("tls", ["", "1"])
@pytest.mark.parametrize("server_prepare", ["", "1"])
@pytest.mark.parametrize("driver", ["MariaDB", "mysql"])
def test_dbi(target, driver, server_prepare, tls):
    need("perl")
    if subprocess.run(["perl", "-MDBD::" + driver, "-e", "1"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("DBD::%s is not installed" % driver)
    target.run(["perl", "dbi.pl"], "c_dbi_" + driver.lower(), DRIVER=driver,
               SERVER_PREPARE=server_prepare, TLS=tls)
