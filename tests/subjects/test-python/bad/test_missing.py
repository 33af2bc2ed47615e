import no_such_package


def test_a():
    pass
