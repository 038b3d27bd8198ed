"""PHP's mysqli and PDO, with TLS and without."""
import pytest

from conftest import need


def php(target, program, database, **more):
    need("php")
    target.run(["php", "-d", "display_errors=stderr", "-d", "mysqli.allow_local_infile=1",
                program], database, **more)


@pytest.mark.parametrize("tls", ["0", "1"])
def test_mysqli(target, tls):
    php(target, "mysqli.php", "c_mysqli", TLS=tls)


@pytest.mark.parametrize("tls", ["0", "1"])
@pytest.mark.parametrize("emulate", ["0", "1"])
def test_pdo(target, emulate, tls):
    php(target, "pdo.php", "c_pdo", EMULATE=emulate, TLS=tls)
