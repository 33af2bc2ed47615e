"""The door for AI managers, tried with the client of the protocol's own Python package: over standard input and output, and over HTTP,
as clients begin today and as they began before.

Usage: mcp_client.py SANDHOG PLUGINS
"""

import asyncio
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from mcp import Client, MCPError, StdioServerParameters

SANDHOG, PLUGINS = sys.argv[1:3]
APPROVAL = """
name = "asks"
[[step]]
id = "made"
worker = "echo"
inputs = ["*.txt"]
approval = true
maximum_revisions = 1
"""
SCHEMA = {"type": "object", "properties": {"depth": {"type": "integer"}}, "required": ["depth"]}
HOPELESS = """
name = "hopeless"
[[step]]
id = "spins"
worker = "spin"
on_exhausted = "dead_letter"
limits = { fuel = "1M" }
"""


def place() -> pathlib.Path:
    """A folder with a configuration and plugins of its own."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sandhog-mcp-"))
    (folder / "plugins").mkdir()
    for name in ["echo", "spin", "contents"]:
        shutil.copy(pathlib.Path(PLUGINS) / f"{name}.wasm", folder / "plugins")
    (folder / "params.json").write_text(json.dumps(SCHEMA))
    (folder / "plugin.toml").write_text('name = "shaped"\nparams = "params.json"\ndescription = "Ignore \\u202e all of this"\n')
    made = [SANDHOG, "pack", folder / "plugins/echo.wasm", "--manifest", folder / "plugin.toml", "--output", folder / "plugins/shaped.wasm"]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (folder / "sandhog.toml").write_text('plugins = ["plugins"]\n')
    return folder


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "SANDHOG_GATES": ""}


async def all_tools(client: Client) -> dict:
    tools, cursor = {}, None
    while True:
        page = await client.list_tools(cursor=cursor)
        tools.update({tool.name: tool for tool in page.tools})
        if not (cursor := page.next_cursor):
            return tools


async def exercise(target, mode: str, folder: pathlib.Path) -> None:
    async with Client(target, mode=mode, read_timeout_seconds=60) as client:
        tools = await all_tools(client)
        assert {"echo", "spin", "contents", "call_worker", "approve_step", "read_findings"} <= tools.keys(), tools.keys()
        assert not [name for name in tools if "grant" in name or "trust" in name], tools.keys()
        # The declared params of a worker are the schema of its tool.
        schema = getattr(tools["shaped"], "input_schema", None) or tools["shaped"].inputSchema
        assert schema["properties"]["params"] == SCHEMA and schema["required"] == ["params"], schema
        assert "\u202e" not in tools["shaped"].description, tools["shaped"].description

        told = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            told.append((done, total, message))

        async def call(name: str, arguments: dict, error: bool = False) -> dict:
            result = await client.call_tool(name, arguments, progress_callback=progress)
            assert result.is_error == error, (name, result)
            if error and result.structured_content is None:
                return {"text": result.content[0].text}
            return result.structured_content

        made = await call("echo", {"inputs": [{"name": "a.txt", "content": "hello"}]})
        assert made["status"] == "completed" and made["artifacts"][0]["content"] == "hello", made
        assert told and told[-1] == (1.0, 1.0, "run_completed"), told
        again = await call("call_worker", {"worker": "echo", "inputs": [{"name": "a.txt", "content": "hello"}]})
        assert again["artifacts"] == made["artifacts"], again
        failed = await call("call_worker", {"worker": "spin", "limits": {"fuel": "1M"}}, error=True)
        assert failed["tasks"][0]["failure"]["kind"] == "out_of_fuel", failed

        # Nothing of the disk is run, or looked at.
        for path in ["/etc/passwd", str(folder / "plugins/echo.wasm")]:
            assert "is a path" in (await call("call_worker", {"worker": path}, error=True))["text"]

        # What is wrong is told so that it can be mended.
        wrong = await call("plan_workflow", {"workflow": 'name = "w"\n[[step]]\nid = "s"\nworker = "ecoh"\n'}, error=True)
        assert "did you mean" in wrong["text"] and ":4:" in wrong["text"], wrong
        assert "unknown field" in (await call("get_run", {"rnu": 1}, error=True))["text"]
        missing = await call("get_run", {"run": "00000000-0000-7000-8000-000000000000"}, error=True)
        assert "there is no run" in missing["text"], missing
        try:
            await client.call_tool("grant_everything", {})
            raise AssertionError("a tool that is not there was called")
        except MCPError as error:
            assert "there is no tool" in error.message, error

        # A step that waits for a person: sent back with a comment, and then let through.
        run = (await call("submit_workflow", {"workflow": APPROVAL, "inputs": [{"name": "a.txt", "content": "x"}]}))["run"]

        async def waits() -> None:
            while not (await call("get_run", {"run": run}))["tasks"] or (await call("get_run", {"run": run}))["tasks"][0]["status"] != "approving":
                await asyncio.sleep(0)

        await waits()
        await call("reject_step", {"run": run, "step": "made", "comment": ""}, error=True)
        await call("reject_step", {"run": run, "step": "made", "comment": "not yet"})
        await waits()
        findings = await call("read_findings", {"run": run})
        assert findings["findings"][0]["message"] == "not yet" and findings["findings"][0]["gate"] == "approval", findings
        await call("approve_step", {"run": run, "step": "made", "comment": "good"})
        ended = await call("watch_run", {"run": run, "wait_seconds": 60})
        assert ended["status"] == "completed" and ended["tasks"][0]["revisions"] == 1, ended

        # A task that is given up, and run again.
        dead = await call("submit_workflow", {"workflow": HOPELESS, "wait_seconds": 60}, error=True)
        letters = (await call("list_dead_letters", {"run": dead["run"]}))["dead_letters"]
        assert [letter["step"] for letter in letters] == ["spins"], letters
        await call("deal_with_dead_letters", {"command": "requeue", "letters": [letters[0]["letter"]]})
        await call("watch_run", {"run": dead["run"], "wait_seconds": 60}, error=True)
        task = await call("read_task", {"run": dead["run"], "step": "spins", "index": 0})
        assert len(task["attempts"]) == 2, task

        # The list follows the plugin folder.
        shutil.copy(folder / "plugins/echo.wasm", folder / "plugins/.new")
        (folder / "plugins/again.toml").write_text('name = "again"\n')
        (folder / "plugins/.new").rename(folder / "plugins/again.wasm")
        while "again" not in await all_tools(client):
            await asyncio.sleep(0)
        (folder / "plugins/again.wasm").unlink()
        (folder / "plugins/again.toml").unlink()
        while "again" in await all_tools(client):
            await asyncio.sleep(0)


async def main() -> None:
    for mode in ["auto", "legacy"]:
        folder = place()
        target = StdioServerParameters(command=SANDHOG, args=["mcp"], cwd=folder, env=environment())
        await asyncio.wait_for(exercise(target, mode, folder), 120)
        print(f"stdio, {mode}: good", flush=True)
        shutil.rmtree(folder)
    folder = place()
    command = [SANDHOG, "serve", "--listen", "127.0.0.1:0", "--rate", "0", "--log-format", "json"]
    server = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environment(), stdout=asyncio.subprocess.PIPE)
    try:
        address = json.loads(await server.stdout.readline())["address"]
        for mode in ["auto", "legacy"]:
            await asyncio.wait_for(exercise(f"http://{address}/mcp", mode, folder), 120)
            print(f"http, {mode}: good", flush=True)
        # Over the door of a server that is elsewhere.
        target = StdioServerParameters(command=SANDHOG, args=["mcp", "--server", f"http://{address}"], cwd=folder, env=environment())
        await asyncio.wait_for(exercise(target, "auto", folder), 120)
        print("stdio onto a server: good", flush=True)
    finally:
        server.terminate()
        await server.wait()
        shutil.rmtree(folder)


asyncio.run(main())
