"""Rejects files with a mark that somebody meant to come back to."""

import sandhog


def check(subject):
    word = subject.params.get("word", "TODO")
    for file in subject.files:
        for line, text in enumerate(sandhog.read_text(file.path).splitlines(), 1):
            if word in text:
                yield sandhog.finding("left-over", f"`{word}` is left", file.path, line, text.index(word) + 1)


Gate = sandhog.gate(check)
