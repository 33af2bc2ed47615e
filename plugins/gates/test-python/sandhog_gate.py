"""Runs Python tests with pytest, in CPython compiled to WebAssembly: one test, one instance.

The tests of a file are found by reading it, never by running it, so that a module that loops for ever while it is
imported fails alone. Where reading cannot tell (tests that are inherited), the class or the file is one unit; and each file is a
unit too, for the tests that only pytest finds, since they are made while the file runs. pytest runs each of them: it knows `unittest`, its own functions, fixtures and `conftest.py`.
"""

import ast  # noqa: I001 (`sandhog_engine` comes ahead of pytest: it brings the whole standard library)
import contextlib
import io
import json
import os
import pathlib
import re
import sys
import types as types_of_python

from sandhog_engine import SUBJECT, Frozen, answer, finding, import_all, path_list, prepare, settle
import pytest
import _pytest.config
import _pytest.fixtures
import _pytest.logging
import _pytest.tmpdir

# What pytest itself imports only when it is needed, too.
for _name in ("_pytest", "packaging", "pluggy", "iniconfig", "pygments.lexers.python", "pygments.formatters.terminal"):
    import_all(_name)
Frozen("packaging", "pluggy", "iniconfig", "pygments")

# There is no /dev/null, where pytest writes the log that nobody asked for, and there are no users.
_pytest.logging._FileHandler._open = lambda self: io.StringIO()
_pytest.tmpdir.get_user_id = lambda: None

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import types

MESSAGE_MAX = 2_000
# Plugins of pytest's own that need what is not in the sandbox.
NOT_HERE = ["-p", "no:faulthandler"]


def read_params(text):
    """The params of this gate, checked."""
    params = json.loads(text)
    unknown = sorted(set(params) - {"paths"})
    if unknown:
        raise Err(types.Failure_InvalidInput(f"unknown field `{unknown[0]}`, expected `paths`"))
    return path_list(params)


# What is in a file


def is_test_base(base, bases):
    """Whether a class that is derived from `base` has no tests but those that are written in it."""
    name = base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else None
    return name in ("object", "TestCase", "IsolatedAsyncioTestCase") and name not in bases


def tests_of_class(node, known):
    """The units of a class: its tests where they can be told, else the class; none where it has none."""
    bases = [base for base in node.bases]
    unittest_like = any(getattr(base, "attr", getattr(base, "id", "")).endswith("TestCase") for base in bases)
    if not (node.name.startswith("Test") or bases):
        return []
    methods = [item for item in node.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))]
    tests = [method.name for method in methods if method.name.startswith("test")]
    certain = all(is_test_base(base, known) for base in bases) and not node.decorator_list
    made = any(not isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Assign, ast.AnnAssign, ast.Expr, ast.Pass)) for item in node.body)
    if certain and not made:
        if not (unittest_like or node.name.startswith("Test")):
            return []
        return [f"{node.name}::{name}" for name in dict.fromkeys(tests)]
    # Inherited from elsewhere: pytest finds out what there is, where there may be something.
    return [node.name] if tests or unittest_like or node.name.startswith("Test") else []


def statements(body):
    """The statements of a module, with those that stand under a condition."""
    for node in body:
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if isinstance(node, (ast.If, ast.Try, ast.With)):
                yield from statements(getattr(node, inner, []))
        for handler in getattr(node, "handlers", []):
            yield from statements(handler.body)


def tests_of_file(source, path):
    """The units of a file, as pytest names them; the file itself where reading cannot tell."""
    try:
        module = ast.parse(source, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [path]  # pytest says what is wrong
    nodes = list(statements(module.body))
    known = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    units = []
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.name.startswith("test"):
                units.append(node.name)
        elif isinstance(node, ast.ClassDef):
            units.extend(tests_of_class(node, known))
    return [f"{path}::{unit}" for unit in dict.fromkeys(units)]


# Running


class Sandbox:
    """What pytest has elsewhere and not here."""

    def pytest_addoption(self, parser):
        for name in ("faulthandler_timeout", "faulthandler_exit_on_timeout"):
            parser.addini(name, "of no use here", default=None)

    # All that is written goes through Python: there is nothing below that could be captured.
    @pytest.fixture
    def capfd(self, capsys):
        return capsys

    @pytest.fixture
    def capfdbinary(self, capsysbinary):
        return capsysbinary


class Results:
    """What pytest says of each test of a file; with `known`, only of tests that reading the file did not find."""

    def __init__(self, file, known=()):
        self.file, self.known = file, set(known)
        self.failed, self.skipped, self.passed, self.collected = [], [], 0, 0
        self.was_read = False

    def pytest_collection_modifyitems(self, session, items):
        def is_known(item):
            parts = item.nodeid.split("[", 1)[0].split("::")
            return any("::".join(parts[:end]) in self.known for end in range(2, len(parts) + 1))

        def is_left_out(item):
            hook = session.gethookproxy(item.path.parent)
            return hook.pytest_ignore_collect(collection_path=item.path, config=session.config)

        items[:] = [item for item in items if not is_known(item)]
        if items and is_left_out(items[0]):
            self.skipped.append("its conftest.py leaves the file out")
            items[:] = []
        self.collected = len(items)

    def pytest_runtest_logreport(self, report):
        self.add(report, report.when)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        report = yield
        self.was_read |= report.passed and collector.nodeid == self.file
        return report

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed.append((report, "collect"))
        elif report.skipped:
            self.add(report, "collect")

    def add(self, report, when):
        if report.failed:
            self.failed.append((report, when))
        elif report.skipped:
            reason = getattr(report, "wasxfail", None) or (report.longrepr[2] if isinstance(report.longrepr, tuple) else "")
            self.skipped.append(reason)
        elif when == "call":
            self.passed += 1


def place(report, file):
    """Where a test failed: the last line of the subject's own that was on the way."""
    longrepr = report.longrepr
    entries = [entry.reprfileloc for entry in getattr(getattr(longrepr, "reprtraceback", None), "reprentries", []) if getattr(entry, "reprfileloc", None)]
    crash = getattr(longrepr, "reprcrash", None)
    for at in [*reversed(entries), *([crash] if crash else [])]:
        path = os.path.relpath(os.path.join(SUBJECT, at.path), SUBJECT)
        if not path.startswith("..") and os.path.isfile(os.path.join(SUBJECT, path)):
            return path, at.lineno
    line = (report.location[1] or 0) + 1 if getattr(report, "location", None) else 1
    return file, line


def message(report, when):
    """One or two lines for a person: what was expected, and what was found."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr or "it failed without a word")
    if crash is None and "\nE  " in text:  # the lines that say what, without pytest's own frames
        text = "\n".join(line[1:].strip() for line in text.splitlines() if line.startswith("E  "))
    text = "\n".join(line.rstrip() for line in text.strip().splitlines()[:12])[:MESSAGE_MAX]
    before = {"setup": "before the test: ", "teardown": "after the test: ", "collect": "the file cannot be loaded: "}.get(when, "")
    return before + text


def title(report, unit):
    """The test that a report is about: of a file's or a parametrised one's, which."""
    name = report.nodeid if report.nodeid.startswith(unit) else unit
    context = getattr(report, "context", None)
    parts = [str(context.msg)] if getattr(context, "msg", None) else []
    parts += [f"{key}={value!r}" for key, value in (getattr(context, "kwargs", None) or {}).items()]
    return f"{name} ({', '.join(parts)})"[:MESSAGE_MAX] if parts else name


class Tee(io.TextIOBase):
    """Writes what is written, and keeps a part of it."""

    def __init__(self, to):
        self.to, self.kept = to, ""

    def write(self, text):
        if len(self.kept) < 100_000:
            self.kept += text
        return self.to.write(text)

    def flush(self):
        self.to.flush()


def complaint(said):
    """What pytest gave as its reason to end."""
    lines = [line.strip() for line in said.splitlines()]
    told = [line for line in lines if line.startswith(("ERROR:", "E ", "INTERNALERROR> "))] or [line for line in lines if line][-1:]
    told = told[:3] if told[:1] and told[0].startswith("ERROR:") else told[-3:]
    return "\n".join(line.removeprefix("E ").removeprefix("INTERNALERROR> ").strip() for line in told)[:MESSAGE_MAX] or "it did not say why"


def run_unit(unit, paths):
    """Has pytest run one unit; of a file, what reading it did not find."""
    file, _, name = unit.partition("::")
    prepare(paths)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    known = []
    if not name:
        with open(f"{SUBJECT}/{file}", "rb") as source:
            known = tests_of_file(source.read(), file)
    results = Results(file, [found for found in known if found != file])
    settings = ["addopts=", "cache_dir=/tmp/pytest-cache", "tmp_path_retention_policy=all"]
    arguments = [*NOT_HERE, "--capture=sys", "--color=no", "-q", "--no-header", "--rootdir", SUBJECT]
    arguments += [word for setting in settings for word in ("-o", setting)]
    tee = Tee(sys.stdout), Tee(sys.stderr)
    with contextlib.redirect_stdout(tee[0]), contextlib.redirect_stderr(tee[1]):
        code = pytest.main([*arguments, f"{SUBJECT}/{unit}"], plugins=[Sandbox(), results])
    findings = []
    if name and not results.was_read and not results.skipped:
        # The file's own unit says why, once for all of its tests.
        return types.Verdict(types.Decision.PASS, [], [], "skipped: the file cannot be loaded, as its own unit tells")
    for report, when in results.failed:
        path, line = place(report, file)
        findings.append(finding("test-failed" if when == "call" else "test-error", types.Severity.HIGH, f"{title(report, unit)}: {message(report, when)}", path, line, hint(str(report.longrepr))))
    ran = results.passed + len(results.failed)
    passed = types.Decision.PASS
    if findings:
        return types.Verdict(types.Decision.FAIL, findings, [], f"{ran} ran, {len(results.failed)} failed, {len(results.skipped)} skipped")
    if ran and code == pytest.ExitCode.OK:
        return types.Verdict(passed, [], [], f"{ran} ran, {len(results.skipped)} skipped")
    if not ran and results.skipped:
        return types.Verdict(passed, [], [], f"skipped: {results.skipped[0]}"[:MESSAGE_MAX])
    if not ran and results.collected == 0 and results.was_read and code in (pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.USAGE_ERROR):
        # pytest read the file and knows nothing of it, for reasons of the file's own; of a whole file, all of it is known.
        return types.Verdict(passed, [], [], "skipped: pytest collects no such test" if name else "skipped: nothing beside the tests that were found")
    reason = complaint(tee[1].kept or tee[0].kept)
    what = "no test ran" if not ran else "not by the tests that ran"
    text = f"{unit}: pytest ended with {int(code)}, and {what}: {reason}"
    said = finding("test-error", types.Severity.HIGH, text, file, None, hint(reason))
    return types.Verdict(types.Decision.FAIL, [said], [], "nothing ran" if not ran else f"{ran} ran")


def hint(text):
    """What to do where the sandbox is the reason."""
    missing = re.search(r"ModuleNotFoundError: No module named '([^'.]+)", text)
    if missing and missing[1] in sys.stdlib_module_names:
        return f"{missing[1]} needs what the sandbox has not: a terminal, code of the machine's, processes or sockets"
    if "ModuleNotFoundError" in text:
        return "the sandbox has the standard library and pytest; --data python=FOLDER gives the tests a folder of pure Python packages"
    if "No space left on device" in text or "Errno 29" in text or "No usable temporary directory" in text:
        return "what the tests write below /tmp is bounded by the limit `scratch`"
    return None


class Units(exports.Units):
    def units(self, subject):
        def work():
            read_params(subject.params)
            units = []
            for file in subject.files:
                with open(f"{SUBJECT}/{file.path}", "rb") as source:
                    units.extend(tests_of_file(source.read(), file.path))
                # What reading does not find, pytest does: tests that are made while the file runs.
                if file.path not in units:
                    units.append(file.path)
            return units

        return answer(work)


class Gate(exports.Gate):
    def check(self, subject):
        if subject.unit is None:
            raise Err(types.Failure_InvalidInput("this gate judges unit by unit, and no unit was named"))
        return answer(lambda: run_unit(subject.unit, read_params(subject.params)))


# What each test begins with


class Made:
    """pytest's configuration with its own plugins in it, made when the gate is built: for the first run of an instance."""

    def __init__(self):
        self.get_config = _pytest.config.get_config
        self.config = self.get_config(NOT_HERE)

    def __call__(self, args=None, plugins=None, **others):
        config, self.config = self.config, None
        if config is None:
            return self.get_config(args, plugins, **others)
        config.invocation_params = config.InvocationParams(args=args or (), plugins=plugins, dir=pathlib.Path.cwd())
        return config


class Names:
    """`dir` where pytest looks for fixtures: of its own modules, only the names that are one, as they were when the gate was built."""

    def __init__(self, plugins):
        fixtures = _pytest.fixtures.FixtureFunctionDefinition
        self.known = {plugin: [name for name in dir(plugin) if type(getattr(plugin, name, None)) is fixtures] for plugin in plugins}

    def __call__(self, holder):
        known = self.known.get(holder) if isinstance(holder, types_of_python.ModuleType) else None
        return dir(holder) if known is None else known


_pytest.config.get_config = made = Made()
modules = [plugin for plugin in made.config.pluginmanager.get_plugins() if isinstance(plugin, types_of_python.ModuleType)]
_pytest.fixtures.dir = Names(modules)
settle()
