"""What every refusal is like."""

import pytest


def one_line(caught: pytest.ExceptionInfo[Exception]) -> str:
    """Return an error's text: one short line with what was found, what was expected, and the mend."""
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert len(line) < 500
    assert "found " in line
    assert "expected " in line.partition("found ")[2]
    assert "; " in line.partition("expected ")[2]
    return line
