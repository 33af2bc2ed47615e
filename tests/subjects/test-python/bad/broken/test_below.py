def test_never_run():
    assert False
