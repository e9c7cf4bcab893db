"""What only the Python drivers do, in both tiers."""

import os
import shutil
import signal
import statistics
import time

import pytest

ONLY = ("python", "python-bare")
PACKAGES = "import sys\nif '/usr/lib/python3/dist-packages' not in sys.path:\n" \
    "    sys.path.append('/usr/lib/python3/dist-packages')\n"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def run(driver):
    return driver.run


@pytest.fixture
def ipython(name):
    if name != "python":
        pytest.skip("needs IPython")


@pytest.fixture
def matplotlib(run):
    pytest.importorskip("matplotlib")
    assert run(PACKAGES + "import matplotlib.pyplot as plt").status == "ok"


def pngs(done):
    return [event["kind"] for event in done.of("display")
            if event["data"].get("image/png", b"").startswith(PNG)]


def error_of(done, name, line=None):
    assert done.status == "error" and done.error["name"] == name, done.events
    if line is not None:
        assert done.error["line"] == line
    return done.error


# Values and displays.

def test_display_goes_before_the_result(run):
    done = run("display(1, 2)\n3")
    assert [event["kind"] for event in done.of("display")] == ["display", "display", "result"]


def test_each_repr_method_is_a_format(run):
    done = run("""
class All:
    def _repr_html_(self): return '<b>h</b>'
    def _repr_markdown_(self): return '*m*'
    def _repr_svg_(self): return '<svg/>'
    def _repr_png_(self): return b'png'
    def _repr_jpeg_(self): return b'jpeg'
    def _repr_pdf_(self): return b'pdf'
    def _repr_latex_(self): return '$x$'
    def _repr_json_(self): return {'a': [1, None]}
    def _repr_javascript_(self): return 'j()'
    def __repr__(self): return 'ALL'
All()
""")
    assert done.value == {
        "text/html": "<b>h</b>", "text/markdown": "*m*", "image/svg+xml": "<svg/>",
        "image/png": b"png", "image/jpeg": b"jpeg", "application/pdf": b"pdf",
        "text/latex": "$x$", "application/json": {"json": {"a": [1, None]}},
        "application/javascript": "j()", "text/plain": "ALL",
    }


def test_mimebundle(run):
    done = run("class B:\n  def _repr_mimebundle_(self, **_): return {'text/x-own': 'o'}, "
               "{'k': 1}\nB()")
    assert done.value["text/x-own"] == "o" and "text/plain" in done.value
    assert done.of("display")[0]["meta"] == {"k": 1}


def test_base64_of_a_binary_type_is_decoded(run):
    assert run("class P:\n  def _repr_png_(self): return 'iVBORw0KGgo='\nP()"
               ).value["image/png"] == PNG


def test_one_failing_format_costs_only_itself(run):
    done = run("class H:\n  def _repr_html_(self): return 1/0\n  def _repr_latex_(self): "
               "return 'l'\n  def __repr__(self): return 'H'\nH()")
    assert done.status == "ok" and done.value == {"text/latex": "l", "text/plain": "H"}
    assert "ZeroDivisionError" in done.stderr


def test_a_failing_repr_is_an_error(run):
    source = "class R:\n  def __repr__(self): raise ValueError('no')\n\n"
    error_of(run(source + "R()"), "ValueError", 2)
    error_of(run(source + "display(R())"), "ValueError", 2)


def test_json_is_strict(run):
    done = run("class J:\n  def _repr_json_(self): return {'n': float('nan'), 'i': [float('inf')]}"
               "\n  def __repr__(self): return 'J'\nJ()")
    assert done.value["application/json"] == {"json": {"n": None, "i": [None]}}


def test_lone_surrogates(run):
    assert run("'\\ud800'").status == "ok"
    assert run("print('\\ud800 \\udcff')").out[1] == b"\\ud800 \xff\n"


def test_bundle_of_many_middling_texts_fits_a_line(run):
    done = run("display({f'text/x-{i}': '\\x01' * 9000 for i in range(12)}, raw=True)")
    assert [len(done.displays[0]["data"][f"text/x-{i}"]) for i in range(12)] == [9000] * 12


def test_semicolon_silences(run):
    assert run("1;").value is None and run("1; # why").value is None
    assert run("'a;'").value["text/plain"] == "a;" and run("1 # ;").value["text/plain"] == "1"


def test_values_are_remembered(run, driver):
    number = next(driver.numbers)
    run("'first'", n=number)
    assert run("_").value["text/plain"] == "first"
    assert run(f"_{number} is Out[{number}]").value["text/plain"] == "True"
    run("\n".join(["pass"]))
    for value in range(40):
        run(str(value))
    assert int(run("len(Out)").value["text/plain"]) <= 16


def test_n_is_the_execution_count(run, ipython):
    run("1/0", n=500)
    run("'v'", n=501)
    assert run("Out[501], In[501], In[500]", n=502).value["text/plain"] == \
        "('v', \"'v'\", '1/0')"


def test_update_and_clear(run, name):
    if name == "python":
        run("from IPython.display import update_display, clear_output")
    done = run("display(1, display_id='d')\nupdate_display(2, display_id='d')\n"
               "clear_output(wait=True)")
    assert [(event.get("kind", event["ev"]), event.get("display_id")) for event in done.events] == [
        ("display", "d"), ("update", "d"), ("clear", None), ("done", None)]
    assert done.of("clear")[0]["wait"] is True


def test_display_from_a_thread(run):
    done = run("import threading\nt = threading.Thread(target=lambda: [display(i) for i in "
               "range(50)])\nt.start()\nfor i in range(50): display(-i)\nt.join()")
    assert len(done.displays) == 100


def test_display_outside_a_run_is_dropped_with_a_log(driver):
    gate = driver.base / "gate"
    os.mkfifo(gate)
    driver.run("import threading\nt = threading.Thread(target=lambda: "
               f"(open({str(gate)!r}).read(), display(1)))\nt.start()")
    gate.write_text("go")
    assert "display" in driver.event("log")["text"]
    assert driver.run("t.join()").status == "ok"


# Errors.

def test_error_in_another_cell_names_that_file_and_the_line_here(driver):
    driver.run("def f():\n    return 1 / 0\n", "lib.py")
    error = error_of(driver.run("\n\nf()\n", "main.py"), "ZeroDivisionError", 3)
    assert [(f["file"], f["line"], f["func"]) for f in error["frames"]] == [
        ("main.py", 3, "<module>"), ("lib.py", 2, "f")]
    assert "    return 1 / 0" in error["traceback"]


def test_line_is_the_innermost_of_the_cell(run):
    error_of(run("import json\ndef f():\n  return json.loads('{')\n\nf()\n"), "JSONDecodeError", 3)


def test_traceback_has_no_frames_of_the_driver(run):
    text = "\n".join(error_of(run("1/0"), "ZeroDivisionError")["traceback"])
    assert "cellfs_python" not in text and "IPython" not in text and "\x1b" not in text


def test_column(run):
    assert error_of(run("x = 1\n\u00e9 = [1/0]"), "ZeroDivisionError", 2)["column"] == 6


@pytest.mark.parametrize("code,line", [
    ("x = (1,\ny = 2", 1), ("\n\nreturn 5", 3), ("def f():\nx", 2), ("'abc", 1),
    ("a = 1\nfor", 2), ("x = 1\n  y = 2", 2)])
def test_syntax_errors(run, code, line):
    done = run(code)
    assert done.status == "error" and done.error["line"] == line
    assert done.error["name"] in ("SyntaxError", "IndentationError")
    assert not done.error["traceback"][0].startswith("Traceback")


def test_syntax_error_runs_nothing(run):
    assert run("print('ran')\nreturn 5").stdout == ""


def test_chained_errors(run):
    error = error_of(run("try:\n  1/0\nexcept Exception as e:\n  raise KeyError('k') from e"),
                     "KeyError", 4)
    assert "The above exception was the direct cause of the following exception:" in \
        error["traceback"]


def test_huge_errors_fit_a_line(run):
    for code in ("raise ValueError('\\x01' * 10**6)", "def f(n): return f(n + 1)\nf(0)",
                 "raise ValueError('\\n' * 10**5 + 'end')", "x = '" + "a" * 200000 + "'; 1/0",
                 "raise ValueError('\u4e16' * 10**5)"):
        done = run(code)
        assert done.status == "error" and done.error["traceback"]
    assert done.error["message"].startswith("\u4e16\u4e16")


def test_error_whose_text_fails(run):
    error_of(run("class E(Exception):\n  def __str__(self): 1/0\nraise E"), "E", 3)


def test_exception_group(run):
    error_of(run("raise ExceptionGroup('g', [ValueError(1), KeyError(2)])"), "ExceptionGroup", 1)


def test_error_is_cheap(driver):
    """Beside a cell that has none: a traceback once took 100 times as long."""
    times = {"1": [], "def f():\n  return 1/0\nf()": []}
    for _ in range(60):
        for code, taken in times.items():
            begin = time.perf_counter()
            driver.run(code)
            taken.append(time.perf_counter() - begin)
    plain, error = map(statistics.median, times.values())
    assert error < 25 * plain


# Source text.

def test_nul_byte(run):
    assert run(b"x = 1\n\0").error["name"] in ("SyntaxError", "ValueError")


def test_invalid_utf8(run):
    error = error_of(run(b"x = 1\ny = '\xff'"), "SyntaxError", 2)
    assert "codec can't decode byte 0xff" in error["message"]


def test_declared_encoding(run):
    assert run(b"# -*- coding: latin-1 -*-\n'\xe9'").value["text/plain"] == "\u00e9"
    error_of(run(b"# coding: nonsense\n1"), "SyntaxError")


def test_byte_order_mark(run):
    assert run(b"\xef\xbb\xbf1").value["text/plain"] == "1"


def test_indented_cell(run):
    assert run("    a = 1\n    if a:\n        a += 1\n    a").value["text/plain"] == "2"


def test_future_imports_last(driver):
    driver.run("from __future__ import annotations")
    assert driver.run("def f(x: nonsense): pass\nf.__annotations__['x']"
                      ).value["text/plain"] == "nonsense"


# The namespace.

def test_main_module(run):
    done = run("import sys, __main__\n"
               "[__name__, __main__.__dict__ is globals(), sys.path[0], sys.argv]")
    assert done.value["text/plain"] == "['__main__', True, '', ['']]"


def test_modules_of_the_driver_are_out_of_reach(run):
    error_of(run("import wire"), "ModuleNotFoundError", 1)


def test_workspace_modules_can_be_imported_at_once(driver):
    (driver.cwd / "fresh_module.py").write_text("x = 8")
    assert driver.run("import fresh_module; fresh_module.x").value["text/plain"] == "8"


def test_pickle_and_pools(run):
    done = run("""
import pickle, multiprocessing
def square(x): return x * x
class Point: pass
assert type(pickle.loads(pickle.dumps(Point()))) is Point
with multiprocessing.get_context('fork').Pool(2) as pool: print(pool.map(square, [1, 2, 3]))
with multiprocessing.get_context('spawn').Pool(1) as pool: print(pool.map(abs, [-4]))
""")
    assert (done.status, done.stdout) == ("ok", "[1, 4, 9]\n[4]\n")


def test_no_history_no_threads(fresh):
    assert fresh.run("import os; len(os.listdir('/proc/self/task'))").value["text/plain"] == "1"


def test_a_library_that_is_not_as_expected_can_be_imported(driver):
    """Plotly without the method that is taken away there."""
    package = driver.cwd / "plotly"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "basedatatypes.py").write_text("class BaseFigure: pass")
    done = driver.run("import plotly.basedatatypes\nplotly.__file__")
    assert done.status == "ok" and done.value["text/plain"].startswith(str(driver.cwd))
    assert "plotly.basedatatypes stays as it is" in done.of("log")[0]["text"]
    driver.run("import sys\nfor name in [*sys.modules]:\n"
               "    if name.startswith('plotly'): del sys.modules[name]")
    shutil.rmtree(package)


# What a cell finds when it is the first.

def test_nothing_is_imported_for_a_cell(fresh):
    done = fresh.run("import sys\nsorted({'numpy', 'pandas', 'matplotlib', 'plotly', 'altair', "
                     "'jedi', 'matplotlib_inline'} & set(sys.modules))")
    assert done.value["text/plain"] == "[]"


def test_nothing_is_left_of_the_warming(fresh, name):
    done = fresh.run("sorted(each for each in globals() if not each.startswith('__'))")
    names = eval(done.value["text/plain"])
    assert not set(names) & {"_", "__", "_0", "_i0", "_i00"} or name == "python", names
    assert fresh.run("Out").value["text/plain"].startswith("{1: [")
    if name == "python":
        assert fresh.run("In").value["text/plain"].count("'") == 8  # '', and three cells
        assert fresh.run("_i2").value["text/plain"] == "Out"
    assert fresh.run("1/0").error["traceback"][1] == '  File "a.py", line 1, in <module>'


def test_set_before_the_first_cell(fresh):
    new = fresh.base / "new"
    fresh.cwd.rename(new)
    fresh.cwd.mkdir()
    (fresh.cwd / "here.py").write_text("x = 1")
    (new / "lib.py").write_text("y = 2")
    fresh.send({"op": "set", "env": {"A": "1", "TZ": "Asia/Tokyo", "PYTHONPATH": str(new)},
                "cwd": str(fresh.cwd)})  # the same name, another directory
    done = fresh.run("import os, time, here, lib\n"
                     "os.environ['A'], os.listdir(), time.localtime(0).tm_hour")
    assert done.value["text/plain"] == "('1', ['here.py'], 9)"


def test_packages_of_a_home_that_comes_later(fresh, name):
    """As with a spare: at its start the home was an empty directory."""
    if name != "python":
        pytest.skip("python -S looks at no home")
    place = eval(fresh.run("import site; site.getusersitepackages()").value["text/x-repr"])
    os.makedirs(place)
    with open(os.path.join(place, "mine.py"), "w") as file:
        file.write("")
    with open(os.path.join(place, "a.pth"), "w") as file:
        file.write(str(fresh.cwd))
    assert fresh.run("import mine").status == "error"
    fresh.send({"op": "set", "cwd": str(fresh.cwd)})
    done = fresh.run("import mine, subprocess, sys\n"
                     "command = [sys.executable, '-c', 'import sys; print(sys.path)']\n"
                     "sys.path == eval(subprocess.run(command, capture_output=True).stdout)")
    assert done.value["text/plain"] == "True"


def test_variables_that_python_reads_at_its_start(fresh):
    (fresh.cwd / "p").mkdir()
    (fresh.cwd / "p" / "only_here.py").write_text("")
    fresh.run("import time, sys\nbefore = list(sys.path)\nhour = time.localtime(0).tm_hour")
    done = fresh.run("import only_here\ntime.localtime(0).tm_hour",
                     env={"TZ": "XYZ-3", "PYTHONPATH": f"/nonexistent:{fresh.cwd / 'p'}"})
    assert done.value["text/plain"] == "3"
    assert fresh.run("sys.path == before, time.localtime(0).tm_hour == hour"
                     ).value["text/plain"] == "(True, True)"


def test_source_of_a_function(driver):
    driver.run("def shown():\n    return 1\n", "shown.py")
    assert driver.run("import inspect; inspect.getsource(shown)"
                      ).value["text/plain"] == "def shown():\n    return 1\n"


# Exits, forks, input.

@pytest.mark.parametrize("call,code,text", [
    ("sys.exit()", 0, ""), ("sys.exit(None)", 0, ""), ("sys.exit('why')", 1, "why\n"),
    ("sys.exit(True)", 1, ""), ("exit(4)", 4, ""), ("quit()", 0, ""),
    ("raise SystemExit(7)", 7, "")])
def test_exits(run, call, code, text):
    done = run(f"import sys\n{call}")
    assert (done.status, done.done["code"], done.stderr) == ("exit", code, text)


def test_a_forked_child_is_no_second_driver(run):
    for end, code in (("raise SystemExit(5)", 5), ("pass", 0), ("1/0", 1)):
        done = run("import os, sys\nprint('once', end='')\npid = os.fork()\nif not pid:\n"
                   f"    display('child')\n    {end}\n"
                   "else:\n    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))")
        assert (done.status, done.stdout) == ("ok", f"once{code}\n") and not done.displays


def test_input_is_refused(run):
    for code in ("input('?')", "import getpass; getpass.getpass()"):
        error = error_of(run(code), "StdinUnavailable", 1)
        assert "a cell has no stdin" in error["message"]


# Streams.

def test_output_of_all_kinds_keeps_its_order(run):
    done = run("""
import os, subprocess, sys
print('a', end='')
os.system('echo b')
print('c', end='')
subprocess.run(['echo', 'd'])
print('e')
os.write(1, b'f\\n')
print('g', end='')
pid = os.posix_spawn('/bin/echo', ['echo', 'h'], {})
os.waitpid(pid, 0)
sys.stdout.buffer.write(b'i')
sys.stdout.flush()
import ctypes
ctypes.CDLL(None).puts(b'j')
print('k')
""")
    assert done.stdout == "ab\ncd\ne\nf\ngh\nij\nk\n"


def test_lines_are_live(driver):
    number = driver.start("print('seen')\nimport time\nwhile True: time.sleep(1)", "a.py")
    driver.until(lambda out: out == b"seen\n")
    assert driver.stop(number)[0].status == "interrupted"


def test_a_closed_stdout_comes_back(run):
    run("import sys; sys.stdout.close(); sys.stderr.close()")
    assert run("print('alive')").stdout == "alive\n"


def test_redirected_stdout(run):
    done = run("import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()) as b:\n"
               "  print('in')\nprint(b.getvalue() * 2)")
    assert done.stdout == "in\nin\n\n"


def test_bulk_speed(driver):
    begin = time.perf_counter()
    done = driver.run("import sys\ns = 'x' * (1 << 20)\nfor i in range(100): _ = "
                      "sys.stdout.write(s)\nb = s.encode()\nfor i in range(100): _ = "
                      "sys.stdout.buffer.write(b)")
    assert len(done.out[1]) == 200 << 20
    assert time.perf_counter() - begin < 5


# asyncio.

def test_top_level_await(run):
    assert run("import asyncio\nawait asyncio.sleep(0, 'v')").value["text/plain"] == "v"
    done = run("x = await asyncio.sleep(0, 2)\nasync with asyncio.Lock(): x += 1\nx")
    assert done.value["text/plain"] == "3"
    error_of(run("await asyncio.sleep(0)\n\n1/0"), "ZeroDivisionError", 3)


def test_asyncio_run_in_a_cell(run):
    assert run("import asyncio\nasync def f(): return 6\nasyncio.run(f())"
               ).value["text/plain"] == "6"
    assert run("await f()").value["text/plain"] == "6"


def test_tasks_go_on_between_cells(driver):
    gates = driver.base / "gates"
    gates.mkdir()
    driver.run("import asyncio, os\nasync def f(text):\n"
               f"  while not os.path.exists({str(gates)!r} + '/' + text): await asyncio.sleep(0.01)\n"
               "  print(text)\nt = asyncio.create_task(f('one'))")
    (gates / "one").touch()
    driver.until(lambda out: b"one\n" in out)
    driver.late[1].clear()
    driver.run("t = asyncio.create_task(f('two')); await asyncio.sleep(0)")
    (gates / "two").touch()
    driver.until(lambda out: b"two\n" in out)
    driver.late[1].clear()
    (gates / "three").touch()
    assert driver.run("await f('three')").stdout == "three\n"


def test_exit_in_a_coroutine(run):
    done = run("import asyncio\nawait asyncio.sleep(0)\nraise SystemExit(3)")
    assert (done.status, done.done["code"]) == ("exit", 3)


def test_interrupt_reaches_a_busy_coroutine(driver):
    number = driver.start("import asyncio\nawait asyncio.sleep(0)\nprint('on')\nwhile True: pass",
                          "a.py")
    driver.until(lambda out: b"on" in out)
    done, tries = driver.stop(number)
    assert (done.status, tries) == ("interrupted", 1)
    assert done.error["line"] in (3, 4)
    assert driver.run("await asyncio.sleep(0, 1)").value["text/plain"] == "1"


def test_interrupted_await_has_a_traceback(driver):
    number = driver.start("import asyncio\n_ = asyncio.get_running_loop().call_soon(print, 'on')\n"
                          "await asyncio.sleep(99)", "a.py")
    driver.until(lambda out: b"on" in out)
    done, _ = driver.stop(number)
    assert (done.error["name"], done.error["line"]) == ("KeyboardInterrupt", 3)
    assert done.error["traceback"][-1] == "KeyboardInterrupt"


def test_interrupt_may_be_handled(driver):
    number = driver.start("import time\ntry:\n  print('on'); time.sleep(99)\n"
                          "except KeyboardInterrupt:\n  print('handled')", "a.py")
    driver.until(lambda out: b"on" in out)
    done, _ = driver.stop(number)
    assert done.status == "ok" and done.stdout.endswith("handled\n")


def test_interrupts_at_any_moment_leave_a_working_driver(driver):
    code = "for i in range(40): display(i); print(i)\n"
    for delay in range(40):
        number = driver.start(code, "a.py")
        driver.step(delay / 20000)
        driver.interrupt()
        assert driver.finish(number).status in ("ok", "interrupted")
    driver.pause()
    done = driver.run(code)
    assert len(done.displays) == 40
    lines = 0
    for fd, what in done.order:
        if fd == 4 and what["ev"] == "display":
            lines += 1
        elif fd == 1:
            lines -= what.count(b"\n")
        assert lines in (0, 1)


# Libraries.

def test_figures(run, matplotlib):
    assert pngs(run("plt.plot([1, 2])\nplt.show()\nprint('after')")) == ["display"]
    assert pngs(run("fig, ax = plt.subplots()\nax.plot([1])\nx = 1")) == ["display"]
    assert pngs(run("fig, ax = plt.subplots()\nax.plot([1])\nfig")) == ["result"]
    assert pngs(run("fig, ax = plt.subplots()\ndisplay(fig)")) == ["display"]
    assert pngs(run("a = plt.figure(); b = plt.figure()")) == ["display", "display"]
    assert pngs(run("fig = plt.figure(); fig.show()")) == ["display"]
    assert pngs(run("plt.figure()\n1/0")) == ["display"]
    assert pngs(run("x = 1")) == []


def test_savefig(run, matplotlib, driver):
    assert run("plt.plot([1])\nplt.savefig('s.png')\nplt.close()").status == "ok"
    assert (driver.cwd / "s.png").read_bytes().startswith(PNG)


def test_matplotlib_in_a_child_process(run, matplotlib):
    done = run("import subprocess\nsubprocess.run(['/usr/bin/python3', '-c', "
               "'import matplotlib.pyplot as p; p.plot([1]); p.savefig(\"c.png\")'], check=True)")
    assert done.status == "ok", done.stderr


def test_pil(run, driver):
    pytest.importorskip("PIL")
    done = run(PACKAGES + "from PIL import Image\nim = Image.new('RGB', (3, 3))\nim.show()\n"
               "im.save('im.png')\nim")
    assert pngs(done) == ["display", "result"]
    assert (driver.cwd / "im.png").exists()


def test_data_frame(run):
    pytest.importorskip("pandas")
    done = run(PACKAGES + "import pandas\npandas.DataFrame({'a': [1]})")
    assert "<table" in done.value["text/html"] and done.value["text/plain"] == "   a\n0  1"


def test_a_segfault_is_told(fresh):
    fresh.start("import ctypes; ctypes.string_at(0)", "a.py")
    assert fresh.wait() == -signal.SIGSEGV
    while 2 in fresh.fds:
        fresh.step()
    assert b"Segmentation fault" in fresh.late[2] and b"a.py" in fresh.late[2]


# IPython's own.

def test_magics(run, ipython):
    assert run("%cd /usr\n").stdout == "/usr\n"
    assert run("import os; os.getcwd()").value["text/plain"] == "/usr"
    assert "per loop" in run("%timeit -n1 -r1 1").stdout
    assert run("%%capture c\nprint(1)\n2").value is None
    assert run("c.stdout").value["text/plain"] == "1\n"
    assert "Wall time" in run("%%time\n1 + 1").stdout
    error_of(run("%nonsense"), "UsageError", 1)


def test_cell_magic_after_blank_lines(run, ipython):
    assert run("\n\n%%bash\necho $((6 * 7))\n").stdout == "42\n"
    error_of(run("\n\n%%bash\nexit 3\n"), "CalledProcessError", 3)


def test_shell_escapes(run, ipython):
    done = run("word = 'w'\n!echo {word}; echo err >&2\nlines = !echo 1; echo 2\nlines")
    assert (done.stdout, done.stderr) == ("w\n", "err\n")
    assert done.value["text/plain"] == "['1', '2']"


@pytest.mark.parametrize("code", ["!echo >ON; sleep 99", "x = !echo >ON; sleep 99",
                                  "%%bash\necho >ON\nsleep 99"])
def test_interrupt_of_a_shell_escape(driver, ipython, code, tmp_path):
    number = driver.start(code.replace("ON", f"'{tmp_path}/on'"), "a.py")
    driver.until_there(tmp_path / "on")
    assert driver.stop(number)[0].status == "interrupted"


def test_line_numbers_after_magics(run, ipython):
    error_of(run("%cd /\n!true\n\n1/0"), "ZeroDivisionError", 4)


def test_nested_run_cell(run, ipython):
    done = run("r = get_ipython().run_cell('1/0')\nr.success")
    assert done.value["text/plain"] == "False" and "ZeroDivisionError" in done.stderr


def test_formatters_can_be_registered(run, ipython):
    run("f = get_ipython().display_formatter.formatters['text/html']\n"
        "_ = f.for_type(int, lambda i: f'<i>{i}</i>')")
    assert run("5").value["text/html"] == "<i>5</i>"
    run("f.pop(int);")
    assert "text/html" not in run("5").value


def test_matplotlib_inline_magic(run, ipython, matplotlib):
    assert pngs(run("%matplotlib inline\nplt.plot([1]);")) == ["display"]


def test_engine_says_the_tier(driver, name):
    assert driver.hello["engine"].startswith("IPython") == (name == "python")


def test_nothing_is_left_in_tmp(start, tmp_path):
    driver = start(env={"TMPDIR": str(tmp_path)})  # others write to /tmp meanwhile
    assert driver.run("import tempfile; tempfile.gettempdir()").value["text/plain"] == str(tmp_path)
    driver.run("1")
    assert os.listdir(tmp_path) == []
