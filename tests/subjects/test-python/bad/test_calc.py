import unittest

import pytest

from calc import add


def test_wrong():
    assert add(1, 2) == 4


def test_right():
    assert add(1, 2) == 3


def test_never_ends():
    while True:
        pass


class TestAdd(unittest.TestCase):
    def test_other(self):
        self.assertEqual(add(1, 1), 3)


@pytest.fixture
def broken():
    raise ValueError("no fixture")


def test_before(broken):
    pass
