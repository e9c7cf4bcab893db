"""An agent that has only the reference MCP file server from npm, with the directory of contexts."""

import base64
import importlib.util
import json
import os
import subprocess

import pytest

from mount import BUILD, PATIENCE, ROOT, done, hold, let_go, ok, read, read_bytes, runs, within

PROGRAM = BUILD / "mcp" / "node_modules" / "@modelcontextprotocol" / "server-filesystem" / "dist" / "index.js"
TOOLS = {"read_text_file", "read_media_file", "read_multiple_files", "write_file", "edit_file", "create_directory", "list_directory",
         "list_directory_with_sizes", "directory_tree", "move_file", "search_files", "get_file_info", "list_allowed_directories"}


def load():
    spec = importlib.util.spec_from_file_location("session", ROOT / "examples" / "mcp" / "session.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


session = load()


@pytest.fixture(scope="module")
def program():
    if not PROGRAM.exists():  # `make test` has put it there
        subprocess.run([ROOT / "examples" / "mcp" / "install", BUILD / "mcp"], check=True)
    return PROGRAM


@pytest.fixture
def agent(m, program):
    server = session.Server(["node", program, m.contexts], stderr=subprocess.DEVNULL)
    yield server
    server.close()


def test_the_server_is_the_pinned_one_and_has_its_tools(agent, program):
    pinned = json.loads(read(ROOT / "examples" / "mcp" / "package.json"))["dependencies"]
    package = json.loads(read(program.parents[1] / "package.json"))
    assert pinned == {package["name"]: package["version"]}
    assert agent.info["serverInfo"]["name"] == "secure-filesystem-server"
    assert TOOLS <= {tool["name"] for tool in agent.ask("tools/list")["tools"]}


def test_a_whole_session_by_file_tools_only(m, agent):
    a = m.contexts / "by-mcp"
    agent.call("create_directory", path=str(a))
    agent.call("create_directory", path=f"{a}/workspace/in")
    agent.call("write_file", path=f"{a}/workspace/in/data.csv", content="x,y\n1,2\n3,5\n")
    agent.call("write_file", path=f"{a}/config/timeout", content="30\n")
    assert read(a / "config" / "timeout").strip() == "30"

    # an error, mended by edit_file: each write is one run
    agent.call("write_file", path=f"{a}/cells/load.py", content="import csv\ndata = list(csv.DictReader(open('in/data.csv')))\n"
                                                                  "sum(int(r['z']) for r in data)\n")
    report = agent.text("read_text_file", path=f"{a}/results/load.py/report.md")
    assert report.startswith("# load.py: error") and "KeyError: 'z'" in report
    diff = agent.text("edit_file", path=f"{a}/cells/load.py", edits=[{"oldText": "r['z']", "newText": "r['y']"}])
    assert "+sum(int(r['y']) for r in data)" in diff
    assert agent.text("read_text_file", path=f"{a}/results/load.py/result.txt") == "7\n"
    assert runs(a) == [1, 2]
    agent.call("edit_file", path=f"{a}/cells/load.py", edits=[{"oldText": "csv", "newText": "none"}], dryRun=True)
    agent.call("write_file", path=f"{a}/cells/load.py", content="len(data)\n")  # over one that is there
    assert agent.text("read_text_file", path=f"{a}/results/load.py/result.txt") == "2\n"
    assert runs(a) == [1, 2, 3] and os.listdir(a / "cells") == ["load.py"]
    assert oct((a / "cells" / "load.py").stat().st_mode & 0o777) in ("0o644", "0o600")

    # a picture, artifacts
    agent.call("write_file", path=f"{a}/cells/plot.py", content="import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\n"
                                                                  "plt.savefig('plot.png')\nplt.show()\n")
    assert agent.text("read_text_file", path=f"{a}/results/plot.py/done") == "ok\n"
    for path in (a / "results" / "plot.py" / "display-1.png", a / "artifacts" / "plot.png"):
        picture = agent.call("read_media_file", path=str(path))
        assert (picture["type"], picture["mimeType"]) == ("image", "image/png")
        assert base64.b64decode(picture["data"]) == read_bytes(path)
    assert agent.text("list_directory", path=f"{a}/artifacts").split("\n") == ["[FILE] plot.png"]
    assert "plot.png" in agent.text("list_directory_with_sizes", path=f"{a}/results/plot.py/artifacts")
    info = agent.text("get_file_info", path=f"{a}/artifacts/plot.png")
    assert f"size: {(a / 'artifacts' / 'plot.png').stat().st_size}" in info and "isFile: true" in info
    both = agent.text("read_multiple_files", paths=[f"{a}/results/plot.py/status", f"{a}/results/load.py/result.txt"])
    assert "ok" in both and "2\n" in both

    # names: a cell and an upload move, results follow
    agent.call("move_file", source=f"{a}/cells/plot.py", destination=f"{a}/cells/chart.py")
    assert agent.text("read_text_file", path=f"{a}/results/chart.py/done") == "ok\n" and runs(a) == [1, 2, 3, 4]
    agent.call("move_file", source=f"{a}/workspace/in/data.csv", destination=f"{a}/workspace/data.csv")
    assert agent.text("read_text_file", path=f"{a}/workspace/data.csv", head=1) == "x,y"

    # what is refused says so
    for tool, arguments in (
        ("write_file", {"path": f"{a}/history/1/stdout", "content": "x"}),
        ("write_file", {"path": f"{a}/config/timeout", "content": "soon\n"}),
        ("write_file", {"path": f"{m.path}/artifacts/x", "content": "x"}),
        ("read_text_file", {"path": f"{a}/results/load.py/error.txt"}),
        ("read_text_file", {"path": "/etc/passwd"}),
    ):
        with pytest.raises(RuntimeError):
            agent.call(tool, **arguments)
    assert read(a / "config" / "timeout").strip() == "30" and os.listdir(a / "config").count("timeout") == 1
    assert not [name for name in os.listdir(a / "config") if name.endswith(".tmp")]

    # the end: ctl
    agent.call("write_file", path=f"{a}/ctl", content="remove\n")
    assert not a.exists()


def names(entries, where=""):
    for entry in entries:
        yield where + entry["name"]
        yield from names(entry.get("children", []), where + entry["name"] + "/")


def test_walks_over_the_whole_mount_end_while_cells_run(m, program):
    server = session.Server(["node", program, m.path], stderr=subprocess.DEVNULL)
    try:
        a, b = m.context("walk-a"), m.context("walk-b")
        server.call("write_file", path=f"{a}/cells/x.sh", content="echo 1 > made.txt\n")
        assert done(a / "results" / "x.sh") == "ok"
        held = hold(b)
        with within(PATIENCE):
            found = set(names(json.loads(server.text("directory_tree", path=str(m.path)))))
            assert {"README.md", "contexts/walk-a/artifacts/made.txt", "contexts/walk-b/results/hold.sh/status"} <= found
            assert "contexts/walk-b/results/hold.sh/done" not in found and not [n for n in found if n.endswith(".follow")]
            hits = server.text("search_files", path=str(m.path), pattern="**/made.txt").split("\n")
            assert f"{a}/artifacts/made.txt" in hits and f"{a}/workspace/made.txt" in hits
            for top in (m.path, b, b / "results", held):
                server.call("list_directory_with_sizes", path=str(top))
        let_go(b)
        assert server.text("read_text_file", path=f"{held}/done") == "ok\n"
    finally:
        server.close()


def test_the_example(m, program):
    said = ok([str(ROOT / "examples" / "mcp" / "session.py"), str(m.contexts), "node", str(program), str(m.contexts)])
    for text in ("Successfully created directory", "KeyError: 'sales'", "+sum(int(r['sold']) for r in rows)", "\n23\n"):
        assert text in said, said
    assert runs(m.contexts / "tour") == [1, 2]
