"""Draws what scripts/report and scripts/soak measured: docs/benchmarks/README.md and its plots. Needs matplotlib, which pip brings into the build folder."""

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
INTO = ROOT / "docs" / "benchmarks"
PLOTS = TARGET / "natives" / "plots"
VERSION = "3.11.2"
INK, PAPER = "#1f2933", "#ffffff"
COLOURS = ["#2563eb", "#d97706", "#059669", "#7c3aed", "#dc2626"]


def plots():
    if not (PLOTS / "matplotlib").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action", "ignore"]
        subprocess.run([*pip, "--target", PLOTS, f"matplotlib=={VERSION}"], check=True, stderr=subprocess.DEVNULL)
    sys.path.insert(0, str(PLOTS))
    import matplotlib as mpl

    mpl.use("svg")
    # The same figures give the same file.
    mpl.rcParams.update({"svg.hashsalt": "sandhog", "svg.fonttype": "none", "font.family": "sans-serif", "axes.prop_cycle": mpl.cycler(color=COLOURS)})
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": INK, "text.color": INK, "figure.facecolor": PAPER})
    import matplotlib.pyplot as plt

    return plt


def save(plt, figure, name):
    figure.tight_layout()
    figure.savefig(INTO / f"{name}.svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    path = INTO / f"{name}.svg"
    path.write_text("".join(line.rstrip() + "\n" for line in path.read_text().splitlines()))


def table(head, rows):
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(['---', *['---:'] * (len(head) - 1)])}|"]
    return "\n".join(lines + [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows])


def number(value):
    """Three digits that count, and thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def around(spread, unit=""):
    return f"{number(spread['median'])}{unit} ({number(spread['least'])} to {number(spread['most'])})"


def where(result):
    machine = result["machine"]
    commit = f" at `{machine['versions']['commit']}`" if "commit" in machine["versions"] else ""
    return f"{result['on']}{commit}, {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}, {machine['versions']['rustc'].split(' (')[0]}"


def task(plt, result):
    measured = result["measured"]
    rows, names = [], {"wasmtime": "bare wasmtime", "library": "through the library", "library_across_threads": "the same, by a caller on threads of its own", "library_reused": "the same, one instance kept (`reuse`)", "run": "in a workflow run, journal in memory"}
    bars = []
    for threads in measured["threads"]:
        base = threads["wasmtime"]["cpu_us_per_task"]
        for key, name in names.items():
            cost = threads[key]
            ratio = threads["ratios"].get({"library": "library_over_wasmtime", "run": "run_over_wasmtime"}.get(key, ""), cost["cpu_us_per_task"] / base)
            spread = f"{number(cost['cpu_us_per_task'])} us ({number(cost['cpu_us_per_task_least'])} to {number(cost['cpu_us_per_task_most'])})"
            rows.append([name, threads["threads"], spread, f"{ratio:.2f} x", f"{cost['tasks_per_second']:,.0f}"])
            if threads["threads"] == 1:
                bars.append((name.replace("`", ""), cost["cpu_us_per_task"]))
    figure, axes = plt.subplots(figsize=(7, 2.4))
    axes.barh([name for name, _ in reversed(bars)], [cost for _, cost in reversed(bars)], color=COLOURS[0])
    axes.set_xlabel("processor time of a task, microseconds")
    save(plt, figure, "task")
    delay = measured["timer_delay_under_spinning_guests_ms"]
    return f"""## A task

Fresh store, fresh instance, call, receipt: 100 bytes in and out of `echo` (Rust), every limit on. Bare wasmtime is the same engine, pool and component with WASI, fuel, epoch and a memory limit, and nothing of sandhog's.

![processor time of a task](task.svg)

{table(["", "threads", "processor time", "against bare wasmtime", "tasks a second"], rows)}

While guests spin on every core, a timer of one millisecond is at most {delay} ms late.

Measured {where(result)}; `scripts/report --only task`.
"""


def peers(plt, result):
    measured = result["measured"]
    us, ratios = measured["cpu_us_per_task"], measured["over_library"]
    names = sorted(us, key=lambda name: us[name]["median"])
    figure, axes = plt.subplots(figsize=(7, 0.32 * len(names) + 0.9))
    colours = [COLOURS[0] if name.startswith("sandhog") else COLOURS[1] for name in reversed(names)]
    axes.barh(list(reversed(names)), [us[name]["median"] for name in reversed(names)], color=colours)
    axes.set_xscale("log")
    axes.set_xlabel("microseconds for one task")
    save(plt, figure, "peers")
    told = "\n".join(f"- *{name}* {said['version']}: {said['what']}" for name, said in measured["peers"].items())
    return f"""## What you would use instead

The same 100 bytes in and out, by a process for each task, and by other hosts of WebAssembly, in turns with sandhog within one run of {measured["rounds"]} rounds. Processor time of the host and all it starts, unless it says *wall*: then it is
the time that passes for one task of a thousand, on both cores. Ratios are taken in each round, and their median is shown: they are not the quotients of the two columns. A process for each task includes starting it, which is what it takes to have one at all.

![time of one task](peers.svg)

{table(["", "microseconds for one task", "against the library"], [[name, around(us[name]), around(ratios[name], " x")] for name in names])}

A process has no fuel and no memory limit, and whatever its user may touch it touches. The other hosts run a guest of their own kind that gives back what it is given, in Rust; those guests and what drives them are not part of
this repository:

{told}

Measured {where(result)}; `scripts/report --only peers --peer NAME=COMMAND`.
"""


def over_alone(row):
    """A durable run's throughput against SQLite alone, with the spread where there were several rounds."""
    ratio = f"{row['throughput_over_sqlite_alone']:.2f}"
    if row["rounds"] > 1:
        ratio += f" ({row['throughput_over_sqlite_alone_least']:.2f} to {row['throughput_over_sqlite_alone_most']:.2f})"
    return ratio


def durable(plt, result, concurrent, sizes, plain):
    rows, by = [], {"disk": [], "memory": [], "SQLite alone, the same rows": []}
    for row in result["measured"]:
        disk, memory, alone = row["durable"], row["memory"], row["sqlite_alone"]
        rows.append([f"{row['tasks']:,}", f"{disk['tasks_per_second']:,.0f}", f"{memory['tasks_per_second']:,.0f}", f"{alone['tasks_per_second']:,.0f}", over_alone(row), f"{disk['dispatch_ms']['p50']} / {disk['dispatch_ms']['p99']}", disk["journal_bytes_per_task"], f"{row['recovery']['seconds']} s, {row['recovery']['events_per_second']:,.0f} a second"])
        for name, value in zip(by, (disk, memory, alone)):
            by[name].append((row["tasks"], value["tasks_per_second"]))
    figure, axes = plt.subplots(figsize=(7, 3.2))
    for name, points in by.items():
        axes.plot(*zip(*points), marker="o", label=name)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tasks in the run")
    axes.set_ylabel("tasks a second")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    save(plt, figure, "durable")
    sync = statistics.median(row["sync_ms"] for row in result["measured"])
    chain = statistics.median(row["chain"]["steps_per_second"] for row in result["measured"])
    text = f"""## Durable runs

A run with a task for each of its inputs, the sandbox included, each record synced to the disk before anything follows from it. SQLite alone writes the same rows into the same tables in as many transactions, each synced, and does nothing else.
A sync of this disk takes {sync:.2f} ms.

![tasks a second by the number of tasks](durable.svg)

{table(["tasks", "tasks a second", "journal in memory", "SQLite alone", "throughput against SQLite alone", "dispatch p50 / p99, ms", "bytes of journal a task", "recovery"], rows)}

Dispatch is the time from when a call is due and a slot is free to when the slot makes it. Steps that need each other cannot share a sync: a chain of a thousand does {number(chain)} steps a second. Recovery opens the journal and folds every
record, as a start after a crash does. Measured {where(result)}; `sandhog bench --durable --tasks N`.
"""
    if concurrent:
        rows = [[f"{row['runs']:,}", f"{row['durable']['tasks_per_second']:,.0f}", f"{row['memory']['tasks_per_second']:,.0f}", over_alone(row), f"{row['durable']['run_ms']['p50']:,.0f} / {row['durable']['run_ms']['p99']:,.0f}"] for row in concurrent["measured"]]
        text += f"""
The same 10,000 tasks, spread over runs that 64 clients submit at once. A run is on record, its inputs too, before its client is answered, and each step of it begins and ends on record.

{table(["runs", "tasks a second", "journal in memory", "throughput against SQLite alone", "a run, p50 / p99, ms"], rows)}

Measured {where(concurrent)}; `sandhog bench --durable --runs N`.
"""
    if sizes:
        rows = [[f"{row['input_bytes']:,}", f"{row['durable']['tasks_per_second']:,.0f}", f"{row['memory']['tasks_per_second']:,.0f}", f"{row['sqlite_alone']['tasks_per_second']:,.0f}", over_alone(row), f"{row['durable']['journal_bytes_per_task']:,}"] for row in sizes["measured"]]
        text += f"""
20,000 tasks by the size of their inputs: each has its own, and gives it back as its result, which is in the journal as well.

{table(["bytes of an input", "tasks a second", "journal in memory", "SQLite alone", "throughput against SQLite alone", "bytes of journal a task"], rows)}

Measured {where(sizes)}; `sandhog bench --durable --input-bytes N`.
"""
    if plain:
        of = plain["measured"]
        text += f"""
SQLite alone is written to from Rust above, from prepared statements and rows that lie ready. As a plain client writes to it (Python's `sqlite3`, one `execute` for each record and blob of such a run, in as many synced
transactions) it takes the rows of {around(of["plain"])} tasks a second, where a run of {of["tasks"]:,} does {around(of["run"])}: {around(of["over_plain"])} of that, and in the same rounds {around(of["over_strict"])} of the strict one.

Measured {where(plain)}; `scripts/report --only plain`.
"""
    return text


def others(results):
    text = []
    if result := results.get("isolation"):
        measured = result["measured"]
        rows = [[name, around(spread, " ms")] for name, spread in measured["ms_per_task"].items()]
        text.append(f"""## A process for each attempt

What the second wall (`--isolate process`) costs: wall time of a task, in a run of 200 over the API. {around(measured["over"], " times")} as long.

{table(["`--isolate`", "a task"], rows)}

Measured {where(result)}; `scripts/report --only isolation`.
""")
    if result := results.get("suspended"):
        rows = [[row["tasks"], f"{row['bytes_per_task'] / 1024:.0f} KiB"] for row in result["measured"]]
        text.append(f"""## Memory of tasks that wait

Instances that sleep in a call to the host, alive at once: by how much the server's resident memory grew.

{table(["tasks", "memory of one"], rows)}

Measured {where(result)}; `scripts/report --only suspended`.
""")
    if result := results.get("fan_out"):
        rows = [[row["subscribers"], f"{row['records']:,}", around(row["cpu_us_per_delivery"], " us"), f"{row['deliveries_per_second']:,}"] for row in result["measured"]]
        text.append(f"""## Events to subscribers

Each follows all records from the first one on, over server-sent events. Processor time of the server for one record that reaches one subscriber; how many a second arrive is bounded by the reader, which is written in Python and shares the cores.

{table(["subscribers", "records", "processor time of a delivery", "deliveries a second"], rows)}

Measured {where(result)}; `scripts/report --only fan_out`.
""")
    if result := results.get("languages"):
        rows = [[row["language"], f"{row['size_kib']:,.0f} KiB", f"{row['first_ms']:,.0f} ms", f"{row['kept_ms']:.0f} ms", f"{row['fuel']:,}", f"{row['us']:,.0f} us", f"{row['ratio']:.1f} x", f"{row['reused_us']:.1f} us"] for row in result["measured"]]
        text.append(f"""## Languages

The same worker in each. Loads are wall time of `sandhog plugins check`, the process included: the first time, and with compiled code kept. The ratio of a call is against the worker in WebAssembly's text.

{table(["", "component", "first load", "kept", "fuel", "a call", "ratio", "a call, reused"], rows)}

Measured {where(result)}; `scripts/bench-languages`.
""")
    if result := results.get("check"):
        rows = [[row["native"], row["gate"], row["findings"], row["differ"], f"{row['seconds']['native'][1]:.2f} s", f"{row['seconds']['cold'][1]:.2f} s", f"{row['seconds']['warm'][1]:.2f} s", f"{row['ratio']['cold']:.1f} x", f"{row['ratio']['warm']:.1f} x"] for row in result["measured"]]
        text.append(f"""## `sandhog check` against native tools

A tree of a thousand small files in Python (400), Markdown and JavaScript (300 each); the same engine natively, and as a gate in its sandbox, with nothing known (cold) and when nothing changed (warm). Processor time, the best of three rounds, each process included.

{table(["native", "gate", "findings", "that differ", "native", "cold", "warm", "cold ratio", "warm ratio"], rows)}

Measured {where(result)}; `scripts/against-native`.
""")
    return text


def cost(results):
    text = []
    if result := results.get("cost"):
        rows = [[name, f"{share * 100:.1f} %"] for name, share in sorted(result["measured"]["parts"].items(), key=lambda row: -row[1])]
        text.append(f"""## Where the time of a task goes

{result["measured"]["samples"]:,} samples of the processor during `sandhog bench --durable --tasks 50000`, all threads: a run in memory and a durable one. [flame.svg](flame.svg) has the stacks.

{table(["", "share"], rows)}

Measured {where(result)}; `scripts/report --only cost` (perf).
""")
    if result := results.get("allocations"):
        rows = [[name, row["count"], f"{row['bytes'] / 1024:.1f} KiB"] for name, row in result["measured"].items()]
        text.append(f"""## Allocations

Of the whole process, for one task: [tests/allocations.rs](../../tests/allocations.rs) counts them, and fails where there are twice as many.

{table(["", "allocations", "bytes"], rows)}
""")
    if result := results.get("build"):
        row = result["measured"]
        text.append(f"""## The build

From nothing, one profile: {row["wall_seconds"] / 60:.1f} minutes on {result["machine"]["cores"]} cores ({row["cpu_seconds"] / 60:.0f} of processor time). The binary has {row["binary_bytes"] / 2**20:.0f} MiB, {row["stripped_bytes"] / 2**20:.0f} without
its symbols. {row["dependencies"]} crates, {row["direct_dependencies"]} of them direct.

What keeps it there: wasmtime with the features that are used and no others (no `wat`, profiling, GC, threads); one profile for tests and release, so that it compiles once; libraries without their default features; gates in workspaces of their own.
Unused dependencies, licences, sources and advisories are checked by `scripts/test`.

Measured {where(result)}; `scripts/report --only build`.
""")
    return text


def soak(plt):
    path = INTO / "soak.json"
    if not path.exists():
        return []
    told = json.loads(path.read_text())
    counts = told["counts"]
    rows = [[name, f"{count:,}"] for name, count in counts.items()]
    slopes = [[part["part"], part["on"] + (f" at `{part['commit']}`" if part["commit"] else ""), part["isolate"], f"{part['minutes']:.0f}", f"{part['steady_minutes']:.0f}", f"{part['resident_mib']['median']:.0f} MiB ({part['resident_mib']['least']:.0f} to {part['resident_mib']['most']:.0f})", f"{part['slope_mib_per_hour']:+.1f} MiB an hour", f"{part['descriptors_most']}", f"{part['threads_most']}", f"{part['journal_bytes_per_record']:.0f}"] for part in told["parts"]]
    return [f"""## How it stands up to work

`just soak`: {told["minutes"] / 60:.1f} hours in {len(told["parts"])} parts of a server under good and hostile work from eight clients, with six slow subscribers, plugins that are replaced every few seconds beside junk in the plugin folder, and, for the first
half of each part, kills at random moments and full disks; in the other half it is left alone with its work, and may not grow by more than a part allows (memory by 256 MiB, as much as a host that is busy keeps). What clients were told was held against what there was: **{told["wrong"]} times something was wrong.**

![memory, descriptors, threads and journal over time](soak.svg)

{table(["part", "when", "`--isolate`", "minutes", "steady", "resident memory, steady", "its slope", "descriptors at most", "threads at most", "bytes of journal a record"], slopes)}

{table(["what happened", "times"], rows)}
"""]


def fuzzing():
    """The sums of scripts/fuzz, where it ran here; else those that are kept."""
    path, run = INTO / "fuzz.json", TARGET / "fuzz" / "figures.jsonl"
    if run.exists():
        sums = {}
        for line in run.read_text().splitlines():
            row = json.loads(line)
            told = sums.setdefault(row["target"], {"target": row["target"], "seconds": 0, "executions": 0})
            told |= {"on": row["on"], "corpus": row["corpus"], "edges": max(row["edges"], told.get("edges", 0)), "found": row["found"]}
            told["seconds"] += row["seconds"]
            told["executions"] += row["executions"]
        path.write_text(json.dumps(list(sums.values()), indent=1) + "\n")
    if not path.exists():
        return []
    rows = json.loads(path.read_text())
    cells = [[row["target"], f"{row['seconds']:,}", f"{row['executions']:,}", f"{row['corpus']:,}", f"{row['edges']:,}", "**something**" if row["found"] else "nothing"] for row in rows]
    return [f"""## Fuzzing

Targets of [tests/fuzz](../../tests/fuzz/targets.rs) under libFuzzer (`just fuzz SECONDS`), {sum(row["executions"] for row in rows):,} executions in all. Edges are those that the corpus reaches in the whole host, the standard library and wasmtime included.
What earlier runs found is [mended](#what-attacks-found), and a seed. CI gives each target up to 2,000 changed seeds beside that. Gates run in their sandbox, where libFuzzer sees no edges of theirs.

Last run on {max(row["on"] for row in rows)}. With cargo-fuzz on a nightly compiler, its address and leak sanitizers on, each target was run for 45 seconds on 2026-11-28: 753,000 executions found nothing in the host, and a server of one of the targets
that nobody could reach any more when its process ended, which is mended.

{table(["target", "seconds", "executions", "corpus", "edges", "found by the last run"], cells)}
"""]


def proof(results):
    """The one page, docs/proof.md: its figures are those of the reports."""
    soak_path, fuzz_path = INTO / "soak.json", INTO / "fuzz.json"
    if not {"task", "peers", "durable", "holds"} <= results.keys() or not soak_path.exists() or not fuzz_path.exists():
        return
    soaked, fuzzed = json.loads(soak_path.read_text()), json.loads(fuzz_path.read_text())
    counts = soaked["counts"]
    found = sum(1 for row in fuzzed if row["found"])
    task = results["task"]["measured"]["threads"]
    ratio = lambda name: " and ".join(f"{threads['ratios'][name]:.2f}" for threads in task)
    over = results["peers"]["measured"]["over_library"]
    us = results["peers"]["measured"]["cpu_us_per_task"]
    held = results["holds"]["measured"]
    durable = results["durable"]["measured"]
    chain = statistics.median(row["chain"]["steps_per_second"] for row in durable)
    rate = {row["tasks"]: row for row in durable}
    larger = [f"{row['throughput_over_sqlite_alone']:.2f} with {row['input_bytes']:,}" for row in results.get("sizes", {}).get("measured", [])[1:]]
    plain = around(results["plain"]["measured"]["over_plain"]) if "plain" in results else "not measured"
    of_sizes = " with inputs of 100 bytes, " + ", ".join(larger) if larger else ""
    rows = [[name, number(us[name]["median"]), f"{number(over[name]['median'])} x"] for name in sorted(us, key=lambda name: us[name]["median"])]
    machine = results["task"]["machine"]
    text = f"""# What you can believe, in five minutes

sandhog runs code that you do not trust, and says yes or no to what it made. Two questions decide whether it is of use: does it hold, and what does it cost? For the first there are tests, which fail where it does not: run them. For the second there are figures that commands
of this repository measured (but for two rows: the drivers of the other hosts are not part of it), on {machine["processor"]} with {machine["cores"]} cores, shared with others, on {results["task"]["on"]} at `{machine["versions"]["commit"]}`, as far as tasks and durable runs go (the report says when and where each other one was measured): run them and compare. They are read from what was measured ([results.json](benchmarks/results.json), [soak.json](benchmarks/soak.json), [fuzz.json](benchmarks/fuzz.json)).

```text
 somebody's code ──► component ──► [ engine: fuel, deadline, memory, handles ] ──► gate ──► your result
                        │              [ with --isolate process: Landlock, seccomp, rlimits ]
                 digest, bounds,               │
                 compiled in a child           └── each start and each end: one chained record, synced
```

## Does it hold?

| | what tries it | what has to come of it |
|---|---|---|
| **A guest does what it likes** | `just hostile`: {held["attacking_guests"]} guests of [tests/guests](../tests/guests), honest ones among them, in {held["attacks"] // 2} attacks, each with the engine as the wall and again with the kernel's walls around it; four instances at once on a server with six slots, which is watched from outside | exactly the expected outcome; nothing left behind, nothing got out; the server goes on with honest work (which took {held["honest_work_ms"]["median"]:.0f} ms meanwhile, {held["honest_work_ms"]["most"]:.0f} at the most) |
| **A guest breaks out of the engine** | `sandhog config walls` has a process of a guest try | no file, no network, no process, no thread and no executable memory |
| **The host is killed** | `tests/durable.rs`: {constant("durable", "KILLS"):,} kills in every build (for this page {held["kills"]:,}, by `SANDHOG_TEST_KILLS`), one at each of {held["kill_points"]} syncs, and after each of these a second one at every sync of the recovery: {held["kills_while_recovering"]} pairs | nothing that was acknowledged is lost, and no step completes twice |
| **The power fails** | `tests/power.rs`: {held["images"]:,} disks rebuilt from what was synced and any part of the rest, torn at sectors | each opens, and has what was told |
| **It runs on and on** | `just soak`: {soaked["minutes"] / 60:.1f} hours, {counts["good tasks"] + counts["hostile tasks"]:,} tasks, {counts["hostile tasks"]:,} of them hostile, {counts["SIGKILL"]:,} kills, {counts["full disks"]} full disks, {counts["plugins replaced"]:,} plugins replaced | something was wrong {soaked["wrong"]} times |
| **Files and messages are garbage** | `just fuzz`: {len(fuzzed)} readers, {sum(row["executions"] for row in fuzzed):,} inputs | {found} have something open; what was found [is mended](benchmarks/README.md#what-attacks-found) |

What is promised, what is not, and which test tries to break each promise: [the guide to security](guide/security.md).

## What does it cost?

| what | figure |
|---|---|
| a task through the library, against bare wasmtime with WASI, fuel, deadline and memory limit | {ratio("library_over_wasmtime")} x on one and two threads{missed(results, "library_over_wasmtime", 1.25)} |
| the same, called from threads of your own (each call goes over to ours and back) | {hop(task)} |
| a task of a workflow run whose journal is kept in memory | {ratio("run_over_wasmtime")} x{missed(results, "run_over_wasmtime", 2)} |
| durable runs, each start and end synced | {rate[10_000]["durable"]["tasks_per_second"]:,.0f} tasks a second of 10,000; {rate[1_000_000]["durable"]["tasks_per_second"]:,.0f} of a million |
| the same, against SQLite alone that writes the same rows in as many transactions: a plain client in Python | {plain} |
| and the strictest one that we could write, in Rust | {rate[10_000]["throughput_over_sqlite_alone"]:.2f}{of_sizes}, sandbox included (we wanted 0.6: [why not](benchmarks/README.md#what-it-takes)) |
| a step that needs the one before, each synced | {1e3 / chain:.1f} ms |
| recovery after a crash | {rate[1_000_000]["recovery"]["events_per_second"]:,.0f} records a second |

The same 100 bytes in and out, by what you might use instead: microseconds of processor time for one task (where it says *wall*, of time that passes on both cores), and against a task through our library.

{table(["by", "microseconds", "ratio"], rows)}

A process for each task (`cat`, `sh`, `python3`, `node`) includes starting it. Ratios are taken in each round, and their median is shown: they are not the quotients of the first column. It was another hour than that of the table above. A process is not a sandbox, and the others do not all promise the same: [the report](benchmarks/README.md) says what was measured, and how.

## What it does not do

It does not make a program that you grant a folder, a network or a secret harmless; it does not see through a test that lies about itself; it has no defence of its own against side channels of the processor; and fuel that is granted may be wasted. Runs that fill every slot with long tasks keep other runs waiting for as long as their limits let them.
[The list](guide/security.md#what-is-not) is longer, and meant to be read.
"""
    (ROOT / "docs" / "proof.md").write_text(text)


def hop(threads):
    """A task through the library, called from threads that are not its own, against bare wasmtime."""
    return " and ".join(f"{of['library_across_threads']['cpu_us_per_task'] / of['wasmtime']['cpu_us_per_task']:.2f} x" for of in threads)


def constant(test, name):
    """A number of a test, as its source has it."""
    source = (ROOT / "tests" / f"{test}.rs").read_text()
    return int(re.search(rf"const {name}: usize = ([0-9_]+);", source)[1])


def missed(results, name, most):
    """What to say behind a ratio that is above what it was to be at most."""
    return "" if all(of["ratios"][name] <= most for of in results["task"]["measured"]["threads"]) else f" (**missed**: at most {most})"


def noted(text, results):
    """What people wrote of the figures, with the figures of now."""
    if "task" in results:
        threads = results["task"]["measured"]["threads"]
        text = text.replace("{hop}", hop(threads))
        for name, ratio, most in (("library", "library_over_wasmtime", 1.25), ("run", "run_over_wasmtime", 2)):
            told = " and ".join(f"{of['ratios'][ratio]:.2f} x" for of in threads)
            text = text.replace(f"{{{name}}}", f"{told} on one and two threads{missed(results, ratio, most)}")
    if "durable" in results:
        least, *_, most = sorted(row["throughput_over_sqlite_alone"] for row in [*results["durable"]["measured"], *results.get("concurrent", {}).get("measured", [])])
        text = text.replace("{durable}", f"{least:.2f} to {most:.2f}")
    for row in results.get("sizes", {}).get("measured", []):
        text = text.replace(f"{{durable of {row['input_bytes']}}}", over_alone(row))
    if "plain" in results:
        text = text.replace("{plain}", around(results["plain"]["measured"]["over_plain"]))
    return text


def draw():
    plt = plots()
    results = json.loads((INTO / "results.json").read_text()) if (INTO / "results.json").exists() else {}
    parts = ["""# Benchmarks

Generated by `just bench` (`scripts/report`); the figures are in [results.json](results.json), those of the soak in [soak.json](soak.json). Times depend on the machine, which was shared: what counts are ratios, each measured in turns within one run: medians, and
where there were several rounds the least and the most. Targets, and what profiles changed, are in [what it takes](#what-it-takes).
"""]
    if "task" in results:
        parts.append(task(plt, results["task"]))
    if "peers" in results:
        parts.append(peers(plt, results["peers"]))
    if "durable" in results:
        parts.append(durable(plt, results["durable"], results.get("concurrent"), results.get("sizes"), results.get("plain")))
    parts += others(results)
    parts += cost(results)
    parts += soak(plt)
    parts += fuzzing()
    if (INTO / "notes.txt").exists():
        parts.append(noted((INTO / "notes.txt").read_text(), results))
    (INTO / "README.md").write_text("\n".join(parts))
    proof(results)
    print(INTO / "README.md")


def gather(folder):
    """The parts of a soak, as docs/benchmarks/soak.json and a plot."""
    plt = plots()
    INTO.mkdir(exist_ok=True)
    parts, counts, series, offset = [], {}, [], 0.0
    paths = sorted(folder.glob("part-*.json"), key=lambda path: int(path.stem.split("-")[1]))
    for path in paths:
        told = json.loads(path.read_text())
        samples = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
        steady = [sample for sample in samples if sample["stage"] == "steady"]
        settled = steady[len(steady) // 4 :]  # what a process makes once is made by then
        slope = slope_of([(sample["at"] / 3600, sample["resident_bytes"] / 2**20) for sample in settled])
        resident = [sample["resident_bytes"] / 2**20 for sample in settled or samples]
        usage = told["journal_before_prune"]
        parts.append(
            {
                "part": int(path.stem.split("-")[1]),
                "isolate": told["isolate"],
                "on": told["on"],
                "commit": told["commit"],
                "minutes": told["minutes"],
                "steady_minutes": round((steady[-1]["at"] - steady[0]["at"]) / 60, 1) if steady else 0,
                "resident_mib": {"median": round(statistics.median(resident), 1), "least": round(min(resident), 1), "most": round(max(resident), 1)},
                "slope_mib_per_hour": round(slope, 1),
                "descriptors_most": max(sample["descriptors"] for sample in samples),
                "threads_most": max(sample["threads"] for sample in samples),
                "journal_bytes_per_record": round(usage["file_bytes"] / usage["records"], 1),
                "recovery_seconds": told["recovery_seconds"],
                "full_disks": told["full_disks"],
                "wrong": len(told["wrong"]),
            }
        )
        for name, count in told["counts"].items():
            counts[name] = counts.get(name, 0) + count
        series += [(offset + sample["at"] / 60, sample) for sample in samples]
        offset += told["minutes"]
    if not parts:
        sys.exit(f"{folder} has no part of a soak: run scripts/soak first")
    names = ("runs accepted", "runs that ended as they must", "good tasks", "hostile tasks", "records", "SIGKILL", "SIGTERM", "lost attempts", "full disks", "plugins replaced", "junk in the plugin folder", "slow subscriptions")
    told = {"minutes": round(offset, 1), "wrong": sum(part["wrong"] for part in parts), "counts": {name: counts.get(name, 0) for name in names}, "parts": parts}
    (INTO / "soak.json").write_text(json.dumps(told, indent=1) + "\n")
    figure, axes = plt.subplots(4, 1, figsize=(7, 7.5), sharex=True)
    minutes = [at for at, _ in series]
    for axis, (name, key, scale) in zip(axes, (("resident memory, MiB", "resident_bytes", 2**20), ("descriptors", "descriptors", 1), ("threads", "threads", 1), ("journal, MiB", "journal_bytes", 2**20))):
        axis.plot(minutes, [sample[key] / scale for _, sample in series], linewidth=0.5)
        axis.set_ylabel(name)
        axis.set_ylim(bottom=0)
        for stage, stretch in itertools.groupby(series, key=lambda sample: sample[1]["stage"]):
            within = [at for at, _ in stretch]
            if stage == "chaos":
                axis.axvspan(within[0], within[-1], color="#fde68a", linewidth=0)
    axes[-1].set_xlabel("minutes; shaded: under kills and full disks")
    save(plt, figure, "soak")


def slope_of(points):
    """The slope of a straight line through them, by least squares."""
    if len(points) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*points)).slope
