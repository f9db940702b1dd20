import pytest
import torch

from whycam.testbeds.workshop import Effort, Workshop


@pytest.fixture(scope="session")
def shop() -> Workshop:
    """Give a workshop whose trainings are of one to three steps."""
    return Workshop.open(0, torch.device("cpu"), Effort(share=0.005, tested=40, shown=8), lambda *steps: None)
