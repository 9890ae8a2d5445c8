"""What the tests of the models share: one thread, a fixed seed."""

import pytest
import torch


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """Small models are slower on many threads, and sums in a fixed order make equality meaningful."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)
