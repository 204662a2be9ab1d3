"""All tests, in two processes: those on a real broker, which mostly wait, and beside them all others.

    python -m tests [options of pytest]

With files or folders among the options, one process runs these.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile

TESTS = Path(__file__).parent
ON_THE_BROKER = TESTS / "integration"
NOTHING_COLLECTED = 5


def main(options: list[str]) -> int:
    """The worst exit code of both."""
    pytest = [sys.executable, "-m", "pytest", *options]
    if any(Path(option.partition("::")[0]).exists() for option in options):
        return subprocess.run(pytest, check=False).returncode
    with TemporaryFile() as output:
        beside = subprocess.Popen(
            [*pytest, "-p", "no:cacheprovider", f"--ignore={ON_THE_BROKER}"], stdout=output, stderr=output
        )
        try:
            sys.stdout.write("the tests without a broker run beside these; what they print comes at the end\n")
            sys.stdout.flush()
            codes = [subprocess.run([*pytest, str(ON_THE_BROKER)], check=False).returncode]
            codes.append(beside.wait())
        finally:
            beside.kill()
        output.seek(0)
        sys.stdout.buffer.write(output.read())
    # Of a choice (-k, -m) one of both may have nothing.
    return 0 if set(codes) == {0, NOTHING_COLLECTED} else max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
