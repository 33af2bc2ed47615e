"""What gates in Python share: the standard library, imported ahead, and answers that never trap.

The interpreter is frozen after its start, with what it has imported: there is no library to import from afterwards.
"""

import asyncio
import asyncio.unix_events
import gc
import importlib.abc
import importlib.machinery
import os
import pkgutil
import selectors
import sys
import time

from componentize_py_types import Err
from wit_world.imports import types

SUBJECT = "/subject"
LEFT_OUT = {"antigravity", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "this", "tkinter", "turtle", "turtledemo", "venv"}


def import_all(name):
    """Imports a module and every one below it that there is on this platform."""
    try:
        module = importlib.import_module(name)
    except BaseException:  # noqa: BLE001 (not on this platform)
        return
    for inner in pkgutil.iter_modules(getattr(module, "__path__", [])):
        if inner.name not in ("__main__", "tests", "test", "idle_test") and name != "test":
            import_all(f"{name}.{inner.name}")


for _name in sorted(sys.stdlib_module_names - LEFT_OUT):
    import_all(_name)


class Mask:
    """The mask of permissions that new files get, of which there are none: what is set is told again, and does nothing."""

    mask = 0o022

    @classmethod
    def set(cls, mask):
        cls.mask, before = mask, cls.mask
        return before


os.umask = Mask.set


class Frozen(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Packages that were imported ahead, for whoever finds no others: those of the subject itself come first."""

    def __init__(self, *packages):
        self.modules = {}
        for name in [name for name in sys.modules if name.split(".")[0] in packages]:
            self.modules[name] = sys.modules.pop(name)
        sys.meta_path.append(self)

    def find_spec(self, name, path=None, target=None):
        parent = name.rpartition(".")[0]
        ours = not parent or sys.modules.get(parent) is self.modules.get(parent)
        return importlib.machinery.ModuleSpec(name, self) if name in self.modules and ours else None

    def create_module(self, spec):
        module = self.modules[spec.name]
        self.spec = module.__spec__
        return module

    def exec_module(self, module):
        module.__spec__ = self.spec  # its own: it knows where the package was


def settle():
    """The last thing that a gate does when it is built: what there is then stays, and no collection has to look through it."""
    gc.collect()
    gc.freeze()


def prepare(paths):
    """Makes the subject's own modules, and the packages that the operator gives, importable."""
    os.chdir(SUBJECT)
    for path in ["", "src", *paths]:
        folder = os.path.normpath(os.path.join(SUBJECT, path))
        if os.path.isdir(folder) and folder not in sys.path:
            sys.path.insert(0, folder)
    if os.path.isdir("/data/python"):
        sys.path.append("/data/python")
    sys.dont_write_bytecode = True


class Waiting(selectors.BaseSelector):
    """Waits for time alone: there is nothing else to wait for."""

    def __init__(self):
        self.keys = {}

    def register(self, fileobj, events, data=None):
        self.keys[fileobj] = selectors.SelectorKey(fileobj, -1, events, data)
        return self.keys[fileobj]

    def unregister(self, fileobj):
        return self.keys.pop(fileobj)

    def get_map(self):
        return self.keys

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("it waits for something that never comes: nothing is left to do")
        if timeout > 0:
            time.sleep(timeout)
        return []


class Loop(asyncio.SelectorEventLoop):
    """An event loop without sockets, which there are none of."""

    def __init__(self, selector=None):
        super().__init__(selector or Waiting())

    def _make_self_pipe(self):
        self._internal_fds += 1

    def _close_self_pipe(self):
        self._internal_fds -= 1

    def _write_to_self(self):
        pass


asyncio.events.new_event_loop = asyncio.new_event_loop = Loop
for _module in (asyncio.events, asyncio.unix_events):
    for _name in ("_UnixDefaultEventLoopPolicy", "DefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
        if hasattr(_module, _name):
            getattr(_module, _name)._loop_factory = Loop


def finding(rule, severity, text, path, line, suggestion=None):
    """A finding at a line of a file."""
    span = types.Span(line, 1, line, 1) if line else None
    return types.Finding(rule, severity, text, types.Location(path, span) if path else None, suggestion, None, None)


def answer(work):
    """What a function returns; what goes wrong in it is a failure that says so, never a trap."""
    try:
        return work()
    except Err:
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001
        raise Err(types.Failure_Permanent(f"{type(error).__name__}: {error}")) from None


def path_list(params):
    """The folders of the subject from which modules are imported."""
    paths = params.get("paths", [])
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise Err(types.Failure_InvalidInput('`paths` must be a list of folders of the subject, such as ["src"]'))
    return paths
