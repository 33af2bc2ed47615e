import pytest


class TestOuter:
    class TestInner:
        @pytest.mark.parametrize("number", [1, 2])
        def test_number(self, number):
            assert number == 1


def load_tests(loader, tests, pattern):
    return tests


def test_parts(subtests):
    for part in (1, 2):
        with subtests.test(part=part):
            assert part == 1
