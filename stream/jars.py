"""What the development broker runs on: a Java, and Kafka's jars, brought by Maven once and kept in the user's cache."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from stream.errors import BrokerError

JAVA_MIN = 17
OTHERWISE = "or name a broker that runs with --broker HOST:PORT"
DEBIAN_JAVA = "Debian/Ubuntu: apt install openjdk-17-jre-headless"
DEBIAN_MAVEN = "Debian/Ubuntu: apt install maven"


def find_java() -> str:
    """The path of a Java of version 17 or newer: JAVA_HOME's, else the one on PATH.

    Raises:
        BrokerError: there is none; names what was found and what to install.
    """
    home = os.environ.get("JAVA_HOME")
    found = []
    for java in [shutil.which("java", path=str(Path(home) / "bin")) if home else None, shutil.which("java")]:
        if java is None:
            continue
        version = _java_version(java)
        if version is not None and version >= JAVA_MIN:
            return java
        found.append(f"{java} ({'broken' if version is None else f'version {version}'})")
    raise BrokerError(
        f"the development broker needs Java {JAVA_MIN} or newer, found {' and '.join(found) or 'none'}; "
        f"install one ({DEBIAN_JAVA}), {OTHERWISE}"
    )


def _java_version(java: str) -> int | None:
    """The major version; None where `java -version` fails, as the placeholder of macOS does."""
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(match[1]) if answer.returncode == 0 and match else None


def fetch_jars(report: Callable[[str], None]) -> Path:
    """The folder of Kafka's jars, brought by Maven unless they are there. Safe when several do so at once.

    `report` is told, in one line, that a download begins.

    Raises:
        BrokerError: Maven is absent or fails, or the cache folder cannot be written.
    """
    pom = find_pom()
    version = kafka_version(pom)
    jars = _cache_folder() / f"kafka-{version}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerError(
            f"Maven (mvn) is needed once, to bring Kafka {version}, and was not found; "
            f"install it ({DEBIAN_MAVEN}), {OTHERWISE}"
        )
    report(f"fetching Kafka {version} by Maven, once: about 44 MB")
    try:
        jars.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{jars.name}-", dir=jars.parent) as folder:
            _copy_dependencies(maven, pom, Path(folder) / "jars")
            _keep(Path(folder) / "jars", jars)
    except OSError as error:
        raise BrokerError(f"cannot keep Kafka's jars in {jars}: {error.strerror or error}") from error
    return jars


def find_pom() -> Path:
    """The pom that pins Kafka: beside the code in an installed package, under deploy/ in a checkout."""
    installed = Path(__file__).with_name("kafka-pom.xml")
    return installed if installed.exists() else Path(__file__).parent.parent / "deploy" / "kafka" / "pom.xml"


def kafka_version(pom: Path) -> str:
    """Kafka's version in the pom."""
    match = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([^<]+)</version>", pom.read_text())
    if match is None:
        raise BrokerError(f"{pom}: expected a dependency kafka_<scala version> with its version, found none")
    return match[1]


def _cache_folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "")
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "interest-stream"


def _copy_dependencies(maven: str, pom: Path, target: Path) -> None:
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    answer = subprocess.run(
        [maven, "-q", "-B", "-ntp", "-Dstyle.color=never", "-f", str(pom), *goal],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0 or not target.is_dir():
        said = [line for line in (answer.stdout + answer.stderr).splitlines() if line.strip()]
        raise BrokerError(
            f"Maven could not bring Kafka (exit code {answer.returncode}): {said[0] if said else 'it said nothing'}"
        )


def _keep(fetched: Path, jars: Path) -> None:
    """Move the finished folder to its place in one step; another process that was faster wins."""
    try:
        fetched.rename(jars)
    except OSError:
        if not jars.is_dir():
            raise
