"""Shouts: the input in capitals, with as many marks as the params say."""

import sandhog


def shout(task):
    marks = task.params.get("marks", 1)
    if not isinstance(marks, int) or not 0 <= marks <= 1000:
        raise sandhog.InvalidInput("`marks` must be from 0 to 1000")
    content = sandhog.input(task).content
    sandhog.log(f"{len(content)} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise sandhog.InvalidInput(f"the input is not UTF-8: {error}") from None
    return [sandhog.artifact("shouted.txt", text.rstrip().upper() + "!" * marks + "\n")]


Worker = sandhog.worker(shout)
