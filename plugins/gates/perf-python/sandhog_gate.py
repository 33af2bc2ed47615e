"""Runs benchmarks in Python: functions named `bench_*` at the top of `bench_*.py` and `*_bench.py` files, without arguments.

What is measured is the fuel of one call, after one that is not counted: exact, and the same on every machine for the same
interpreter. What figures may be is said as for the other gates of the set.
"""

import ast  # noqa: I001 (`sandhog_engine` comes ahead of the rest: it brings the whole standard library)
import gc
import importlib.util
import json
import os
import traceback

from sandhog_engine import SUBJECT, answer, finding, path_list, prepare, settle

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import host, types

PLUGIN = "perf-python"
# What fuel may grow by where nobody says, as for the other gates of the set.
REGRESSION = 0.02
KINDS = ("fuel", "memory", "time")
UNITS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "": 1.0}


def refuse(text):
    return Err(types.Failure_InvalidInput(text))


def percent(value):
    """A part such as "2%"."""
    try:
        assert isinstance(value, str) and value.strip().endswith("%")
        part = float(value.strip()[:-1])
        assert 0 <= part < float("inf")
        return part / 100
    except (AssertionError, ValueError):
        raise refuse('`max_regression` must be a part such as "2%"') from None


def amount(value):
    """Fuel such as 1000 or "2G"."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        number = value.strip().rstrip("kMGT")
        return float(number) * UNITS[value.strip()[len(number):]]
    except (AttributeError, KeyError, ValueError):
        raise refuse("`maximum.fuel` must be a number with one of the units k, M, G, T") from None


class Limits:
    """What fuel may be, and what it was."""

    def __init__(self, text):
        params = json.loads(text)
        unknown = sorted(set(params) - {"paths", "max_regression", "maximum", "require_baseline"})
        if unknown:
            raise refuse(f"unknown field `{unknown[0]}`, expected one of `paths`, `max_regression`, `maximum`, `require_baseline`")
        self.paths = path_list(params)
        regression, maximum = params.get("max_regression"), params.get("maximum", {})
        if not isinstance(maximum, dict):
            raise refuse("`maximum` must be a table such as { fuel = \"50M\" }")
        for word in [*(regression if isinstance(regression, dict) else ()), *maximum]:
            if word not in KINDS:
                raise refuse(f"`{word}` is none of {', '.join(KINDS)}")
        if isinstance(regression, dict):
            self.regression = percent(regression["fuel"]) if "fuel" in regression else None
        else:
            self.regression = REGRESSION if regression is None else percent(regression)
        self.is_default = regression is None
        self.maximum = amount(maximum["fuel"]) if "fuel" in maximum else None
        self.require_baseline = bool(params.get("require_baseline", False))
        self.baseline = self.read_baseline()

    @staticmethod
    def read_baseline():
        try:
            names = os.listdir("/data/baseline")
        except OSError:
            return None
        for name in names:
            try:
                with open(f"/data/baseline/{name}") as file:
                    entries = json.load(file).get("metrics", [])
                return {entry["name"]: entry["value"] for entry in entries if entry["plugin"] == PLUGIN}
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise Err(types.Failure_Permanent(f"the baseline does not read: {error}")) from None
        return None

    def judge(self, name, fuel, path, line):
        """What there is to say about a figure. Rounds and baselines compare messages: what changes stands in the suggestion."""
        found = []

        def say(rule, severity, text, suggestion=None):
            found.append(finding(rule, severity, f"{name}: {text}", path, line, suggestion))

        if self.maximum is not None and fuel > self.maximum:
            say("fuel-maximum", types.Severity.HIGH, f"fuel is above the maximum of {self.maximum:.0f}", f"it is {fuel}")
        if self.regression is None:
            return found
        if self.baseline is None and self.is_default and not self.require_baseline:
            return found
        before = (self.baseline or {}).get(f"{name} fuel")
        if before is None:
            severity = types.Severity.HIGH if self.require_baseline else types.Severity.INFO
            say("no-baseline", severity, "fuel has no baseline", f"it is {fuel}: record it: sandhog baseline update")
            return found
        change = (fuel - before) / before if before else float("inf")
        if change > self.regression:
            text = f"fuel grew by more than {self.regression * 100:.2f}% over {before:.0f}"
            mend = f"it is {fuel}, {change * 100:.2f}% more: make it cheaper, or accept it: sandhog baseline update"
            say("fuel-regression", types.Severity.HIGH, text, mend)
        elif -change > self.regression:
            text = f"fuel fell by more than {self.regression * 100:.2f}% below {before:.0f}"
            say("fuel-improved", types.Severity.INFO, text, f"it is {fuel}: keep it: sandhog baseline update")
        return found


def benchmarks(source, path):
    """The names of the benchmarks of a file, with their lines; the file itself where it does not read."""
    try:
        module = ast.parse(source, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {"": 1}
    return {node.name: node.lineno for node in module.body if isinstance(node, ast.FunctionDef) and node.name.startswith("bench_")}


def run(path, name, line, limits):
    """Measures one benchmark."""
    unit = f"{path}::{name}" if name else path
    try:
        prepare(limits.paths)
        spec = importlib.util.spec_from_file_location("benchmarks", f"{SUBJECT}/{path}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        body = getattr(module, name)
        body()
        # What the collector does between is not the code's own.
        gc.collect()
        gc.disable()
        before = host.fuel_used()
        body()
        fuel = host.fuel_used() - before
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001
        places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(f"{SUBJECT}/")]
        at, line = (places[-1].filename[len(SUBJECT) + 1 :], places[-1].lineno) if places else (path, getattr(error, "lineno", None) or line)
        said = [finding("benchmark-failed", types.Severity.HIGH, f"{unit}: {type(error).__name__}: {error}", at, line)]
        return types.Verdict(types.Decision.FAIL, said, [], "failed")
    found = limits.judge(unit, fuel, path, line)
    fails = any(one.severity.value >= types.Severity.MEDIUM.value for one in found)
    decision = types.Decision.FAIL if fails else types.Decision.PASS
    return types.Verdict(decision, found, [types.Metric(f"{unit} fuel", float(fuel), "")], f"fuel {fuel}")


class Units(exports.Units):
    def units(self, subject):
        def work():
            units = []
            for file in subject.files:
                with open(f"{SUBJECT}/{file.path}", "rb") as source:
                    units.extend(f"{file.path}::{name}" if name else file.path for name in benchmarks(source.read(), file.path))
            return units

        return answer(work)


class Gate(exports.Gate):
    def check(self, subject):
        if subject.unit is None:
            raise refuse("this gate judges unit by unit, and no unit was named")

        def work():
            path, _, name = subject.unit.partition("::")
            with open(f"{SUBJECT}/{path}", "rb") as source:
                line = benchmarks(source.read(), path).get(name, 1)
            return run(path, name, line, Limits(subject.params))

        return answer(work)


settle()
