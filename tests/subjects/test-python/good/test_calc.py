import unittest

import pytest

from calc import add


@pytest.mark.parametrize(("a", "b", "expected"), [(1, 2, 3), (0, 0, 0)])
def test_add(a, b, expected):
    assert add(a, b) == expected


def test_prints(capsys):
    print("heard")
    assert capsys.readouterr().out == "heard\n"


@pytest.mark.skip(reason="another day")
def test_later():
    raise AssertionError


class TestAdd(unittest.TestCase):
    def setUp(self):
        self.two = 2

    def test_twice(self):
        self.assertEqual(add(self.two, self.two), 4)

    def test_without(self):
        with self.assertRaises(TypeError):
            add(1, None)
