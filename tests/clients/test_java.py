"""MariaDB Connector/J (package libmariadb-java) in the modes applications set in the URL."""
import contextlib
import glob
import subprocess

import pytest

import sandbox
from conftest import HERE, need

JARS = ("/usr/share/java/mariadb-java-client.jar", "/usr/share/maven-repo/**/mariadb-java-client*.jar")
MODES = {
    "default": "",
    "server prepares": "useServerPrepStmts=true",
    "no bulk": "useBulkStmts=false&useBatchMultiSend=false",
    "bulk": "useServerPrepStmts=true&useBulkStmts=true",
    "rewritten batches": "rewriteBatchedStatements=true",
    "multi": "allowMultiQueries=true&useServerPrepStmts=true&cachePrepStmts=true",
    "tls": "useSsl=true&trustServerCertificate=true",
}


@pytest.fixture(scope="module")
def classpath(tmp_path_factory):
    need("java", "javac")
    jars = [jar for pattern in JARS for jar in glob.glob(pattern, recursive=True)]
    if not jars:
        pytest.skip("libmariadb-java is not installed")
    folder = tmp_path_factory.mktemp("java")
    subprocess.run(["javac", "-encoding", "UTF-8", "-d", folder, HERE / "java" / "Check.java"],
                   check=True)
    return "%s:%s" % (folder, jars[0])


@pytest.fixture(scope="module", autouse=True)
def warm(target):
    """The driver gives the first two statements of a session half a second, whatever its time-outs are (postConnectionQueries). On a machine that
    is busy with starting servers, a connection to each of the two can take longer to make, so some are there already."""
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(sandbox.rawmysql.Connection(port=target.port)) for _ in range(5)]
        for session in sessions:
            session.query("DO 1")
            session.query("SET @warm = 1")
            session.query("SELECT 1")


@pytest.mark.parametrize("mode", MODES)
def test_connector_j(target, classpath, mode):
    target.run(["java", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", classpath, "Check"],
               "c_java", OPTIONS=MODES[mode])
