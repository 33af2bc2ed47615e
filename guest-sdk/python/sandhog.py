"""Write sandhog plugins in Python: one function, and one line that makes it a worker or a gate.

    import sandhog

    def copy(task):
        return [sandhog.artifact("copy.txt", sandhog.input(task).content)]

    Worker = sandhog.worker(copy)

Build with componentize-py; README.md has the line. Modules of the standard library are imported at the top of a file: what is imported when
a function runs is not there any more. `InvalidInput`, `Transient` and `Permanent` are raised for failures of that kind; any other
exception is permanent, with its message, and its trace in the log.
"""

import json
import traceback
from dataclasses import replace

from componentize_py_types import Err
from wit_world.imports import host
from wit_world.imports.types import (
    Artifact,
    Decision,
    Failure_Cancelled,
    Failure_InvalidInput,
    Failure_Permanent,
    Failure_Transient,
    Finding,
    Location,
    Metric,
    Severity,
    Span,
    Verdict,
)

__all__ = [
    "Artifact", "Cancelled", "Decision", "Finding", "InvalidInput", "Location", "Metric", "Permanent", "Severity", "Span", "Transient", "Verdict",
    "artifact", "cancelled", "finding", "fuel_used", "gate", "input", "log", "progress", "read", "read_text", "verdict", "worker",
]  # fmt: skip


class InvalidInput(Exception):
    """The params or inputs are wrong. Never retried."""


class Transient(Exception):
    """It may work the next time."""


class Permanent(Exception):
    """It will not work the next time either."""


class Cancelled(Exception):
    """The host asked for it, see `cancelled`."""


FAILURES = {InvalidInput: Failure_InvalidInput, Transient: Failure_Transient, Permanent: Failure_Permanent}


def log(text, level="info"):
    """A line for the log of this attempt; the level is error, warn, info, debug or trace."""
    host.log(host.Level[level.upper()], str(text))


progress = host.progress
fuel_used = host.fuel_used
cancelled = host.cancelled


def _answering(function, argument):
    try:
        return function(replace(argument, params=json.loads(argument.params)))
    except Cancelled:
        raise Err(Failure_Cancelled()) from None
    except tuple(FAILURES) as error:
        raise Err(FAILURES[type(error)](str(error))) from None
    except Exception as error:  # noqa: BLE001
        log(traceback.format_exc(), "error")
        raise Err(Failure_Permanent(f"{type(error).__name__}: {error}")) from None


def worker(run):
    """Makes a function from a task to artifacts a worker. The params are a dict."""

    class Worker:
        def run(self, task):
            return _answering(run, task)

    return Worker


def gate(check):
    """Makes a function from a subject to findings, or to a verdict, a gate. The params are a dict."""

    def judge(subject):
        answer = check(subject)
        return answer if isinstance(answer, Verdict) else verdict(list(answer))

    class Gate:
        def check(self, subject):
            return _answering(judge, subject)

    return Gate


def input(task):
    """The one input of a task that has exactly one."""
    if len(task.inputs) != 1:
        raise InvalidInput(f"expected one input, found {len(task.inputs)}")
    return task.inputs[0]


def artifact(name, content, media_type=None):
    """An artifact of bytes or text."""
    if isinstance(content, str):
        return Artifact(name, media_type or "text/plain", content.encode())
    return Artifact(name, media_type or "application/octet-stream", content)


def read(path):
    """The bytes of one file of the subject."""
    with open(f"/subject/{path}", "rb") as file:
        return file.read()


def read_text(path):
    """The text of one file of the subject."""
    return read(path).decode()


def finding(rule, message, path=None, line=None, column=1, severity="medium", suggestion=None, help_url=None):
    """A finding of a gate; without a line the whole file is meant. The severity is info, low, medium, high or critical."""
    span = None if line is None else Span(line, column, line, column)
    location = None if path is None else Location(path, span)
    return Finding(rule, Severity[severity.upper()], message, location, suggestion, help_url, None)


def verdict(findings, summary=None, metrics=()):
    """A verdict that fails where a finding is of medium severity or more."""
    fails = any(finding.severity.value >= Severity.MEDIUM.value for finding in findings)
    decision = Decision.FAIL if fails else Decision.PASS
    return Verdict(decision, findings, list(metrics), summary or f"{len(findings)} findings")
