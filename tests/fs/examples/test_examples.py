"""examples/: each one as a stranger would start it, on a mount of its own."""

import contextlib
import http.client
import http.server
import json
import os
import random
import re
import socket
import subprocess
import threading

import pytest

from mount import PATIENCE, ROOT, end, done, hold, let_go, ok, parked, read, read_bytes, read_until, run, sh, spawn, until, write

EXAMPLES = ROOT / "examples"
PNG = "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.savefig('plot.png')\n"


# ---- analysis ------------------------------------------------------------------------------------


def test_a_csv_goes_in_and_a_chart_and_a_report_are_on_the_shelf(m):
    out = m.dir / "out"
    for name in ("analysis", "analysis2"):  # a second time as well
        said = ok([EXAMPLES / "analysis" / "run.sh", m.path, out], timeout=50)
        shelf = m.path / "artifacts" / name
        assert sorted(os.listdir(shelf)) == ["co2.png", "report.html"], said
        assert read_bytes(shelf / "co2.png").startswith(b"\x89PNG")
        assert "424.61 ppm in 2024" in read(shelf / "report.html") and "2010s" in read(shelf / "report.html")
        assert os.listdir(m.contexts / name / "artifacts") == ["data"]  # what was uploaded is none, what is on the shelf has gone
        write(m.contexts / name / "ctl", "remove\n")
        assert read_bytes(shelf / "co2.png") == read_bytes(out / "co2.png")


# ---- gallery -------------------------------------------------------------------------------------


class Gallery:
    def __init__(self, mnt):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.proc = spawn([EXAMPLES / "gallery" / "run.sh", mnt, str(self.port)], stdout=subprocess.PIPE)
        assert read_until(self.proc.stdout.fileno(), b"ends it\n")  # before, `nginx -t` may listen for a moment
        until(self.up, why="nginx does not listen")

    def up(self):
        assert self.proc.poll() is None, "run.sh ended"
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def get(self, path, **headers):
        c = http.client.HTTPConnection("localhost", self.port, timeout=10)
        c.request("GET", path, headers=headers)
        answer = c.getresponse()
        answer.body = answer.read()
        c.close()
        return answer


@pytest.fixture
def gallery(m):
    g = Gallery(m.path)
    yield g
    g.proc.terminate()
    g.proc.wait(PATIENCE)


def test_the_gallery_shows_artifacts_and_new_ones_without_a_restart(m, ctx, gallery):
    assert b"Artifacts" in gallery.get("/").body
    assert ctx.name in [e["name"] for e in json.loads(gallery.get("/list/contexts/").body)]
    where = f"/contexts/{ctx.name}/artifacts/"
    assert json.loads(gallery.get("/list" + where).body) == []
    assert done(run(ctx, "plot.py", PNG)) == "ok"
    assert [e["name"] for e in json.loads(gallery.get("/list" + where).body)] == ["plot.png"]
    assert b'href="plot.png"' in gallery.get(where).body
    picture = gallery.get(where + "plot.png")
    assert picture.headers["Content-Type"] == "image/png" and picture.body == read_bytes(ctx / "artifacts" / "plot.png")
    ok(["mv", ctx / "artifacts" / "plot.png", m.path / "artifacts" / "kept.png"])
    assert gallery.get("/shelf/kept.png").body == picture.body
    assert gallery.get(where + "plot.png").status == 404
    again = gallery.get("/shelf/kept.png", **{"If-None-Match": gallery.get("/shelf/kept.png").headers["ETag"]})
    assert again.status == 304


def test_the_gallery_shows_a_context_whatever_its_name(m, gallery):
    ctx = m.context("_x.y-z")
    assert done(run(ctx, "a.sh", "echo 1 > one.txt\n")) == "ok"
    where = f"/contexts/{ctx.name}/artifacts/"
    assert [e["name"] for e in json.loads(gallery.get("/list" + where).body)] == ["one.txt"]
    assert gallery.get(where + "one.txt").body == b"1\n"
    write(ctx / "ctl", "remove\n")


def test_a_large_file_and_parts_of_it_come_byte_for_byte(m, gallery):
    data = random.Random(1).randbytes(9_000_001)
    write(m.path / "artifacts" / "large.bin", data)
    assert gallery.get("/shelf/large.bin").body == data
    for asked, part in (("bytes=0-9", data[:10]), ("bytes=4095-70000", data[4095:70001]), ("bytes=-5", data[-5:])):
        answer = gallery.get("/shelf/large.bin", Range=asked)
        assert answer.status == 206 and answer.body == part, asked
    assert gallery.get("/shelf/large.bin", Range="bytes=9000001-").status == 416


@pytest.mark.parametrize("name, mime", [
    ("a.svg", "image/svg+xml"), ("a.csv", "text/csv"), ("a.html", "text/html"), ("a.json", "application/json"),
    ("a.md", "text/markdown"), ("a.pdf", "application/pdf"), ("a.whatever", "application/octet-stream"),
])
def test_the_gallery_names_the_type_and_lets_no_page_of_a_cell_run_scripts(ctx, gallery, name, mime):
    assert done(run(ctx, "w.sh", f"echo '<script>1</script>' > {name}\n")) == "ok"
    answer = gallery.get(f"/contexts/{ctx.name}/artifacts/{name}")
    assert answer.headers["Content-Type"].split(";")[0] == mime
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    confined = answer.headers["Content-Security-Policy"] or ""
    assert confined.startswith("sandbox; default-src 'none'") == (name in ("a.svg", "a.html"))


def test_the_gallery_gives_nothing_else(m, ctx, gallery):
    write(ctx / "workspace" / "upload.txt", "not an artifact")
    assert done(run(ctx, "link.sh", "ln -s /etc/passwd out.txt; echo 1 > real.txt; ln -s real.txt in.txt\n")) == "ok"
    here = f"/contexts/{ctx.name}"
    for path in (here + "/log", here + "/workspace/upload.txt", here + "/artifacts/upload.txt", here + "/artifacts/out.txt",
                 here + "/artifacts/../log", here + "/artifacts/%2e%2e/log", here + "/artifacts/..%2flog", "/shelf/../log", "/status",
                 "/shelf../log", here + "/artifacts/real.txt/../../log", "/list/contexts/..", "/contexts/../status"):
        assert gallery.get(path).status in (400, 403, 404), path
    assert gallery.get(here + "/artifacts/real.txt").body == b"1\n"
    try:
        os.symlink("/etc/passwd", m.path / "artifacts" / "out.txt")
    except OSError:
        pass  # the mount itself refuses it
    assert gallery.get("/shelf/out.txt").status in (403, 404)
    assert gallery.get("/", Host="elsewhere.example").status == 421
    c = http.client.HTTPConnection("localhost", gallery.port, timeout=10)
    c.request("DELETE", here + "/artifacts/real.txt")
    assert c.getresponse().status == 405
    c.close()
    assert read(ctx / "artifacts" / "real.txt") == "1\n"


# ---- sync ----------------------------------------------------------------------------------------


def tree(top):
    return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}


def synced(copy, want):
    def equal():
        # What rsync writes has another name until it is whole, and a file may become a directory while it is read.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return copy.is_dir() and tree(copy) == want

    until(equal, why=f"the copy is not {list(want)}")


@pytest.mark.parametrize("how", ["rsync", "rclone"])
def test_a_copy_follows_the_artifacts(fresh, how):
    ctx, copy = fresh.context("source"), fresh.dir / "a copy"
    env = dict(os.environ, RCLONE_CONFIG=str(fresh.dir / "rclone.conf"), TMPDIR=str(fresh.dir))
    to = f"rclone::local:{copy}" if how == "rclone" else copy
    argv = [EXAMPLES / "sync" / "sync.sh", ctx, to]
    write(ctx / "workspace" / "upload.txt", "mine")
    assert done(run(ctx, "a.sh", "mkdir 'd r'; echo 1 > 'd r/a b.txt'; echo 2 > two.txt\n")) == "ok"
    p = spawn(argv, env=env)
    synced(copy, {"d r/a b.txt": b"1\n", "two.txt": b"2\n"})  # what was there before
    assert done(run(ctx, "b.sh", "echo 22 > two.txt; head -c 3000000 /dev/zero > big\n")) == "ok"
    synced(copy, {"big": bytes(3000000), "d r/a b.txt": b"1\n", "two.txt": b"22\n"})
    held = hold(ctx, code="echo half > three.txt\necho begun\nwhile [ ! -e go ]; do sleep 0.02; done\necho whole > three.txt\n")
    os.unlink(ctx / "artifacts" / "big")  # three.txt is half there, and so not copied
    other = fresh.dir / "other"
    second = spawn([EXAMPLES / "sync" / "sync.sh", ctx, other], env=env)  # begins while the cell writes
    synced(other, {"d r/a b.txt": b"1\n", "two.txt": b"22\n"})
    end(second)
    assert not (copy / "three.txt").exists()
    let_go(ctx)
    assert done(held) == "ok"
    want = {"d r/a b.txt": b"1\n", "three.txt": b"whole\n", "two.txt": b"22\n"}
    synced(copy, want)
    parked(p)  # rclone has looked at the files again, and is done
    fresh.kill()  # a crash of the daemon leaves the copy as it is
    assert tree(copy) == want
    fresh.start()
    assert done(run(ctx, "c.sh", "echo 4 > four.txt\n")) == "ok"
    want["four.txt"] = b"4\n"
    synced(copy, want)
    end(p)
    times = {f: f.stat().st_ino for f in copy.rglob("*")}
    p = spawn(argv, env=env)  # a second time: nothing is copied again
    assert done(run(ctx, "d.sh", "echo 5 > five.txt\n")) == "ok"
    want["five.txt"] = b"5\n"
    synced(copy, want)
    assert {f: f.stat().st_ino for f in times} == times
    parked(p)
    write(ctx / "ctl", "remove\n")
    assert p.wait(PATIENCE) == 0
    assert tree(copy) == want


@pytest.mark.parametrize("how", ["rsync", "rclone"])
def test_a_file_may_take_the_place_of_a_directory(fresh, how):
    ctx, late = fresh.context("source"), fresh.dir / "late"
    copy = fresh.dir / "copy"
    env = dict(os.environ, RCLONE_CONFIG=str(fresh.dir / "rclone.conf"), TMPDIR=str(fresh.dir))
    to = {c: f"rclone::local:{c}" if how == "rclone" else c for c in (copy, late)}
    assert done(run(ctx, "a.sh", "mkdir -p a/b gone; echo 1 > a/b/x; echo 2 > gone/y; echo 3 > f\n")) == "ok"
    p = spawn([EXAMPLES / "sync" / "sync.sh", ctx, to[copy]], env=env)
    synced(copy, {"a/b/x": b"1\n", "gone/y": b"2\n", "f": b"3\n"})
    assert done(run(ctx, "b.sh", "rm -r a gone f; echo file > a; mkdir f; echo in > f/z\n")) == "ok"
    want = {"a": b"file\n", "f/z": b"in\n"}
    synced(copy, want)
    until(lambda: not (copy / "gone").exists(), why="an empty directory is left")
    second = spawn([EXAMPLES / "sync" / "sync.sh", ctx, to[late]], env=env)  # has both runs to stage at once
    synced(late, want)
    assert done(run(ctx, "c.sh", "rm -r a f; mkdir a; echo 4 > a/x; echo 5 > f\n")) == "ok"
    for c in (copy, late):  # and back
        synced(c, {"a/x": b"4\n", "f": b"5\n"})
    end(p)
    end(second)


# ---- agent ---------------------------------------------------------------------------------------


class Model(http.server.BaseHTTPRequestHandler):
    """A chat model that says what a script says, and keeps what it was asked."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers.get("Authorization"), asked))
        step = self.server.script[len(self.server.asked) - 1]
        message = {"role": "assistant", "content": step if isinstance(step, str) else None}
        if not isinstance(step, str):
            message["tool_calls"] = [
                {"id": f"call{i}", "type": "function",
                 "function": {"name": tool, "arguments": given if isinstance(given, str) else json.dumps(given)}}
                for i, (tool, given) in enumerate(step)
            ]
        body = json.dumps({"choices": [{"message": message}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def model():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def agent(ctx, model, script, transcript):
    model.script = script
    env = dict(os.environ, MODEL_URL=f"http://127.0.0.1:{model.server_port}/v1", MODEL="scripted", MODEL_KEY="secret-key",
               TRANSCRIPT=str(transcript), no_proxy="127.0.0.1")
    return sh([EXAMPLES / "agent" / "agent.sh", ctx, "what is six", "times seven?"], env=env, timeout=50)


def answers(transcript):
    return [message["content"] for message in json.loads(read(transcript)) if message["role"] == "tool"]


def test_an_agent_in_plain_shell_corrects_its_error(m, ctx, model):
    transcript = m.dir / "transcript.json"
    d = agent(ctx, model, [
        [("write_file", {"path": "cells/a.py", "content": "x = 6\nx * y\n"}), ("read_file", {"path": "results/a.py/report.md"})],
        [("write_file", {"path": "cells/a.py", "content": "y = 7\nprint('caf\u00e9')\nx * y\n"})],
        [("read_file", {"path": "results/a.py/result.txt"}), ("list", {"path": "results/a.py"})],
        "It is 42.",
    ], transcript)
    assert d.returncode == 0, d.stderr
    assert d.stdout.rstrip().endswith("It is 42.")
    said = answers(transcript)
    assert said[0] == "written: cells/a.py" and "NameError: name 'y' is not defined" in said[1]
    assert said[3] == "42" and "report.md" in said[4].split()
    assert read(ctx / "results" / "a.py" / "stdout") == "caf\u00e9\n"
    path, key, asked = model.asked[-1]
    assert path == "/v1/chat/completions" and key == "Bearer secret-key"
    assert [message["role"] for message in asked["messages"]][:5] == ["system", "user", "assistant", "tool", "tool"]
    assert asked["messages"][1]["content"] == "what is six times seven?"
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["read_file", "write_file", "list"]
    assert len(model.asked) == 4


def test_the_agents_script_refuses_paths_that_lead_out(m, ctx, model):
    other = m.dir / "other"
    other.mkdir(exist_ok=True)
    write(other / "secret", "very secret")
    sibling = m.context(ctx.name + "x")
    outside = ["../../../other/secret", str(other / "secret"), "/etc/passwd", "//etc/passwd", "..", "cells/../../main/log",
               "workspace/../../../status", f"../{sibling.name}/log", "cells/.."]
    calls = [(tool, {"path": path, "content": "x"}) for path in outside for tool in ("read_file", "write_file", "list")]
    beside = ["ctl", "config/network", "results/a.py/stdout", "cells", "workspace", "log"]
    calls += [("write_file", {"path": path, "content": "on"}) for path in beside]
    odd = [("rm", {"path": "cells/a.py"}), ("read_file", "not json"), ("read_file", {}), ("read_file", {"path": ["a"]})]
    evil = [("write_file", {"path": "workspace/$(touch pwned)`id`;-n", "content": "kept \\n $HOME %s"}), ("list", {"path": "workspace"})]
    transcript = m.dir / "refused.json"
    d = agent(ctx, model, [calls, odd, evil, "done"], transcript)
    assert d.returncode == 0, d.stderr
    said = answers(transcript)
    for (tool, given), answer in zip(calls + odd, said):
        assert answer.startswith("error: "), (tool, given, answer)
    assert "very secret" not in read(transcript) and "root:" not in read(transcript)
    assert read(other / "secret") == "very secret" and sorted(os.listdir(other)) == ["secret"]
    assert read(ctx / "config" / "network").strip() in ("", "off")
    assert os.listdir(ctx / "workspace") == ["$(touch pwned)`id`;-n"] and read(ctx / "workspace" / "$(touch pwned)`id`;-n") == "kept \\n $HOME %s"
    write(sibling / "ctl", "remove\n")


def test_long_arguments_and_answers_do_not_break_the_agents_talk(m, ctx, model):
    long = "long " * 40_000  # more than Linux lets one argument have
    many = ctx / "workspace" / "many"
    many.mkdir()
    for i in range(700):
        write(many / f"{i:0200}", "")
    transcript = m.dir / "long.json"
    d = agent(ctx, model, [
        [("write_file", {"path": "workspace/long.txt", "content": long}), ("read_file", {"path": "workspace/long.txt"})],
        [("read_file", {"path": long}), ("read_file", long), ("list", {"path": "workspace/many"})],
        "done",
    ], transcript)
    assert d.returncode == 0 and not d.stderr, d.stderr
    assert read(ctx / "workspace" / "long.txt") == long
    said = answers(transcript)
    assert said[0] == "written: workspace/long.txt" and said[1] == long[:32768]
    assert said[2].startswith("error: ") and said[3].startswith("error: ") and len(said) == 5
    assert said[4].startswith(f"{0:0200}\n") and 32000 < len(said[4]) <= 32768
    ids = [message["tool_call_id"] for message in json.loads(read(transcript)) if message["role"] == "tool"]
    assert ids == ["call0", "call1", "call0", "call1", "call2"]


def test_what_the_agent_shows_does_not_control_the_terminal(m, ctx, model):
    evil = "\x1b]0;title\x07\x9b2J\r\x7f\tcaf\u00e9\n"
    write(ctx / "workspace" / "evil", evil)
    transcript = m.dir / "evil.json"
    d = agent(ctx, model, [[("read_file", {"path": "workspace/evil"}), ("read_file", {"path": evil}), (evil, {"path": "a"})], evil], transcript)
    assert d.returncode == 0, d.stderr
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", d.stdout), d.stdout
    assert d.stdout.count("\tcaf\u00e9") >= 4
    assert answers(transcript)[0] == evil.rstrip()  # the model is told what there is


def test_the_agent_ends_when_the_model_cannot_be_reached(m, ctx, model):
    d = agent(ctx, model, [], m.dir / "none.json")
    assert d.returncode == 1 and re.search("no answer", d.stderr), d.stderr
