"""Trainings whose process dies: no finished epoch lost, and the end is that of an unbroken one.

The lives and deaths are in ``kill_driver.py``, which checks the folder after each and fails when it is wrong.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="forks and signals")
def test_a_training_killed_at_any_moment_goes_on_to_what_an_unbroken_one_gives(
    colours: Path, tmp_path: Path
) -> None:
    driver = Path(__file__).with_name("kill_driver.py")
    done = subprocess.run(
        [sys.executable, str(driver), str(colours), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    finished = json.loads(done.stdout)["finished"]
    assert {0, 1, 2} <= set(finished)
