"""Each reported case of the kinds that this project answers for is held by a test that names it."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

#: decode, identity, time, window, recovery, delivery, inference, reload, deployment, training: situations from public
#: reports of people who run such systems.
CASES = re.findall(
    r"\w+",
    """
    D01 D02 D03 D05 D07 D08 D09 D12 D13 D15 D19 K01 K02 K03 K05 K06 K09 K10 K12 T01 T02 T03 T06 T07 T08 T09 T12
    W01 W04 W06 W07 W08 W09 R01 R04 R06 R07 R08 R09 R10 R11 R12 R16 R19 R20 R23 R24 R26 L01 L03 L07 L09 L10
    I01 I03 I04 I05 I06 I09 I10 I11 I12 I15 M01 M05 M07 O01 O02 O04 O05 E01 E02 E05 E07 E10 E11
    """,
)


def docstrings() -> list[str]:
    """Those of all test functions."""
    return [
        ast.get_docstring(node) or ""
        for path in sorted(TESTS.glob("**/test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


@pytest.fixture(scope="module")
def named() -> set[str]:
    """All ids that tests name."""
    return {case for text in docstrings() for case in re.findall(r"\b[A-Z]\d\d\b", text)}


@pytest.mark.parametrize("case", CASES)
def test_case_is_held(case: str, named: set[str]) -> None:
    """A test names the case in its docstring."""
    assert case in named


def test_every_test_says_what_it_holds() -> None:
    """Each test has a docstring."""
    assert all(docstrings())
