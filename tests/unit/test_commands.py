"""The command line itself: help that is quick and whole, one plain line for every error, the right exit code."""

import os
import signal
import subprocess
import sys
from importlib import import_module

import click
import pytest

import stream.commands
from stream.commands import COMMANDS, run
from stream.errors import BrokerError, UsageError


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The help has each command with its line."""
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, line in COMMANDS.items():
        assert f"  {name} " in shown
        assert line in shown


def test_help_imports_no_command() -> None:
    """Help is quick because nothing is imported for it."""
    script = (
        "import sys; from stream.commands import run; run(['--help']);"
        "print(sorted({'kafka', 'numpy', 'pydantic', 'faust', 'onnxruntime'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is the package's."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("interest, version 0.")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nothing"], "error: No such command 'nothing'; see `interest --help`"),
        (["broker", "--prt", "1"], "error: No such option: --prt Did you mean --port?; see `interest broker --help`"),
        (["topics", "create", "--broker", "x"], "error: wrong broker 'x': expected HOST:PORT, comma between several"),
    ],
)
def test_wrong_call(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong call is one line and exit code 2."""
    assert run(arguments) == 2
    assert capsys.readouterr().err == line + "\n"


def test_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the help is shown; it is still a wrong call."""
    assert run([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_wrong_settings_are_told_at_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Options and environment are checked together, before anything is done."""
    monkeypatch.setenv("INTEREST_BROKR", "x")
    monkeypatch.setenv("INTEREST_STORE", "disk")
    assert run(["topics", "create", "--app-id", "a b"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    for part in ("INTEREST_BROKR: no such setting, did you mean INTEREST_BROKER?", "INTEREST_STORE", "INTEREST_APP_ID"):
        assert part in told


def test_an_option_goes_before_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker of the option is the one that is tried."""
    monkeypatch.setenv("INTEREST_BROKER", "127.0.0.1:2")
    assert run(["topics", "create", "--broker", "127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.startswith("error: no broker answers at 127.0.0.1:1; ")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BrokerError("gone"), 1, "error: gone\n"),
        (UsageError("wrong"), 2, "error: wrong\n"),
        (click.FileError("x.csv", "no such file"), 1, "error: Could not open file 'x.csv': no such file\n"),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failure ends with 1, a wrong call with 2, Ctrl-C quietly with 130."""

    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(stream.commands.interest, "get_command", lambda _context, _name: failing)
    assert run(["broker"]) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command's module exports `command`, and its help ends well."""
    assert isinstance(import_module(f"stream.commands.{name}").command, click.Command)
    assert run([name, "--help"]) == 0
    assert f"Usage: interest {name}" in capsys.readouterr().out


@pytest.mark.parametrize("pid", [1, 2])
def test_stop_of_a_container(pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Process 1 ends at SIGTERM, with the code that shells give; any other leaves that to the system."""

    def stopped(_arguments: object) -> int:
        handler = signal.getsignal(signal.SIGTERM)
        if handler is not signal.SIG_DFL:
            signal.raise_signal(signal.SIGTERM)
        return 0

    monkeypatch.setattr(os, "getpid", lambda: pid)
    monkeypatch.setattr(stream.commands, "run", stopped)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            stream.commands.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (143 if pid == 1 else 0) == ended.value.code
