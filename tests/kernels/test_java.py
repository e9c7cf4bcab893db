"""What only the Java driver does."""

import json
import os
import subprocess

import pytest

from conftest import DRIVERS
from conversation import Driver
from snippets_java import SNIPPETS

ONLY = tuple(SNIPPETS)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def run(driver):
    def runner(code, name="a.java", **options):
        return driver.run(code, name, **options)

    return runner


def text(done):
    assert done.status == "ok", done.events
    return done.value and done.value["text/plain"]


def error_of(done, name, line=None):
    assert done.status == "error" and done.error["name"] == name, done.events
    if line is not None:
        assert done.error["line"] == line
    return done.error


def frames(error):
    return [(frame["file"], frame["line"], frame["func"]) for frame in error["frames"]]


# Values.

@pytest.mark.parametrize("code,value", [
    ("1 + 1;", "2"), ("5 / 2.0", "2.5"), ("'c'", "c"), ("true", "true"), ("1L << 40", "1099511627776"),
    ("new int[] {1, 2}", "[1, 2]"), ("new String[][] {{\"a\"}, {}}", "[[a], []]"),
    ("List.of(1, 2)", "[1, 2]"), ("Optional.of(3)", "Optional[3]"), ("int v = 3; v", "3"),
    ("record P(int x, int y) { }\nnew P(1, 2)", "P[x=1, y=2]"),
    ("BigInteger.TWO.pow(70)", "1180591620717411303424"),
    ("Stream.of(1, 2, 3)\n    .map(i -> i * 2)\n    .collect(Collectors.toList())", "[2, 4, 6]"),
    ("int s = 4\nswitch (s) { case 4 -> \"four\"; default -> \"other\"; }", "four"),
    ("null", None), ("int w = 5", None), ("w2 = 5", None), ("Runnable r = () -> { }\nr.run()", None),
])
def test_values(run, code, value):
    run("int w2 = 0;")
    assert text(run(code)) == value


def test_an_object_is_called_by_its_own_name(run):
    assert text(run("class Own { }\nnew Own()")).startswith("Own@")


def test_values_have_names_for_a_while(run):
    run("\"first\"")
    name = run("int unnamed = 1;") and next(
        f"${n}" for n in range(1, 500) if run(f"${n}").value == {"text/plain": "first", "text/x-repr": '"first"'})
    for n in range(20):
        run(f"{n} + 0")
    error_of(run(name), "CompileError", 1)


def test_semicolons_may_be_left_out(run):
    done = run("import java.time.*\nint a = 1\nint b = (2 +\n  3)\nvar list = new ArrayList<Integer>()\n"
               "list.add(a)\nlist.add(b)\nfor (int i = 0; i < 2; i++) {\n  list.add(i);\n}\n"
               "String s = \"x\"\n    + list\nSystem.out.println(s)\nDuration.ofDays(1)")
    assert done.stdout == "x[1, 5, 0, 1]\n" and text(done) == "PT24H"


def test_plain_maps_and_lists_are_json_too(run):
    assert run("Map.of(\"a\", Arrays.asList(1, 2.5, null, true, \"\\u00e9\"))").value["application/json"] == {
        "json": {"a": [1, 2.5, None, True, "\u00e9"]}}
    assert "application/json" not in run("List.of(new Object())").value
    assert "application/json" not in run("var me = new ArrayList<Object>(); me.add(List.of(Thread.currentThread())); me").value


def test_records_and_maps_are_tables(run):
    done = run("record Row(String name, Double share, java.time.LocalDate day) { }\n"
               "List.of(new Row(\"a<b\", 1.5, java.time.LocalDate.of(2026, 1, 2)), new Row(\"c\", Double.NaN, null))")
    assert done.value["application/vnd.cellfs.data+json"] == {"json": {
        "name": ["a<b", "c"], "share": [1.5, None], "day": ["2026-01-02", None]}}
    assert "<td>a&lt;b</td>" in done.value["text/html"]
    done = run("List.of(Map.of(\"a\", 1), Map.of(\"b\", 2))")
    assert done.value["application/vnd.cellfs.data+json"] == {"json": {"a": [1, None], "b": [None, 2]}}


def test_a_long_table_says_that_it_is_cut(run):
    done = run("record N(int n) { }\nIntStream.range(0, 6000).mapToObj(N::new).collect(Collectors.toList())")
    data = json.loads(done.value["application/vnd.cellfs.data+json"])
    assert len(data["n"]) == 5000 and "60 of 6000 rows, the first 5000" in done.value["text/html"]


def test_pictures(run):
    done = run("import java.awt.image.BufferedImage;\nnew BufferedImage(20, 10, BufferedImage.TYPE_INT_RGB)")
    assert done.value["image/png"].startswith(PNG)


# Displays.

def test_display_update_and_clear(run):
    done = run("Display d = display(\"one\");\nd.update(\"two\");\nd.update(\"<i>\", \"text/html\");\n"
               "clearOutput(true);\ndisplay(Map.of(\"k\", 1), \"application/x+json\")")
    shown = [(event.get("kind"), event.get("data")) for event in done.events]
    one = done.events[0]["display_id"]
    assert shown[1] == ("update", {"text/plain": "two", "text/x-repr": '"two"'})
    assert shown[2] == ("update", {"text/html": "<i>"})
    assert [event["display_id"] for event in done.events[:3]] == [one] * 3
    assert done.of("clear")[0]["wait"] is True
    assert shown[4] == ("display", {"application/x+json": {"json": {"k": 1}}})
    assert done.value is None


def test_rich_objects(run):
    done = run("class All implements Rich {\n"
               "  public String toHtml() { return \"<b>h</b>\"; }\n"
               "  public String toMarkdown() { return \"*m*\"; }\n"
               "  public String toSvg() { return \"<svg/>\"; }\n"
               "  public String toLatex() { return \"$x$\"; }\n"
               "  public byte[] toPng() { throw new IllegalStateException(\"no picture\"); }\n"
               "  public Object toJson() { return List.of(1); }\n"
               "  public Map<String, ?> toBundle() { return Map.of(\"text/x-own\", \"o\"); }\n"
               "  public String toString() { return \"ALL\"; }\n}\nnew All()")
    assert text(done) == "ALL" and "no picture" in done.stderr
    assert done.value == {
        "text/x-own": "o", "text/html": "<b>h</b>", "text/markdown": "*m*", "image/svg+xml": "<svg/>",
        "text/latex": "$x$", "application/json": {"json": [1]}, "text/plain": "ALL"}


def test_a_failing_to_string_is_an_error_with_its_line(run):
    code = "class T {\n  public String toString() {\n    throw new IllegalStateException(\"no\"); }\n}\n"
    for last in ("new T()", "display(new T())"):
        error = error_of(run(code + last), "IllegalStateException", 3)
        assert "cellfs." not in "\n".join(error["traceback"])


def test_displays_of_threads(run):
    done = run("Runnable show = () -> { for (int i = 0; i < 50; i++) display(i); };\n"
               "Thread t = new Thread(show); t.start(); show.run(); t.join();")
    assert done.status == "ok" and len(done.displays) == 100


# Errors.

def test_frames_of_several_cells_and_libraries(run):
    run("int parse(String s) {\n  return Integer.parseInt(s);\n}\n", "lib.java")
    error = error_of(run("\n\nparse(\"x\")", "main.java"), "NumberFormatException", 3)
    assert frames(error) == [("main.java", 3, "<cell>"), ("lib.java", 2, "parse")]
    assert error["traceback"][0] == "java.lang.NumberFormatException: For input string: \"x\""
    assert any("Integer.parseInt" in line for line in error["traceback"])
    assert not any("REPL" in line or "cellfs." in line for line in error["traceback"])


def test_lines_of_methods_classes_and_lambdas(run):
    error = error_of(run("class A {\n  int b() {\n    return new B().c(); }\n}\nclass B {\n"
                         "  int c() {\n    return List.of(0).stream()\n        .mapToInt(i -> 1 / i)\n"
                         "        .sum(); }\n}\n\nnew A().b()"), "ArithmeticException", 8)
    assert frames(error) == [("a.java", 12, "<cell>"), ("a.java", 3, "A.b"), ("a.java", 9, "B.c"),
                             ("a.java", 8, "B.<lambda>")]


def test_the_same_declaration_at_another_place(run):
    code = "int moved(int a) {\n  return 1 / a;\n}\n"
    run(code)
    run("\n\n\n" + code, "b.java")
    assert frames(error_of(run("moved(0)"), "ArithmeticException"))[-1] == ("b.java", 5, "moved")


def test_a_new_version_of_what_others_use(run):
    run("int base() { return 1; }\nint user() { return base() + 1; }")
    assert text(run("user()")) == "2"
    run("int base() { return 41; }")
    assert text(run("user()")) == "42"
    run("class V { int n = 1; }\nV made = new V();")
    assert text(run("class V { int n = 2; }\nnew V().n")) == "2"


def test_chained_causes(run):
    error = error_of(run("try {\n  Integer.parseInt(\"x\");\n} catch (NumberFormatException e) {\n"
                         "  throw new IllegalStateException(\"outer\", e);\n}"), "IllegalStateException", 4)
    lines = error["traceback"]
    assert "Caused by: java.lang.NumberFormatException: For input string: \"x\"" in lines
    assert "    at <cell>(a.java:2)" in lines


def test_own_exceptions(run):
    error = error_of(run("class Own extends Exception { Own(String s) { super(s); } }\nthrow new Own(\"mine\");"),
                     "Own", 2)
    assert error["message"] == "mine" and error["traceback"][0] == "Own: mine"


def test_print_stack_trace_knows_the_cell_too(run):
    done = run("try {\n  throw new Exception();\n} catch (Exception e) { e.printStackTrace(); }", "own.java")
    assert "(own.java:2)" in done.stderr


@pytest.mark.parametrize("code,kind,line,column", [
    ("int x = 1;\nint y = ;", "SyntaxError", 2, 9), ("foo(", "SyntaxError", 1, None),
    ("class C {\n  int f( { }\n}", "SyntaxError", 2, None), ("\"abc", "SyntaxError", 1, 1),
    ("int i = 1;\nint y = \"s\";", "CompileError", 2, 9), ("\n  nope + 1", "CompileError", 2, 3),
    ("Strin s = null;", "CompileError", 1, 1), ("int a = 1;;\nStrin s;", "CompileError", 2, None),
    ("import nope.*;", "CompileError", 1, None),
    ("final class F { }\nclass G extends F { }", "CompileError", 2, None),
    ("List<String> l = List.of(\n  1);", "CompileError", None, None),
])
def test_what_does_not_compile(run, code, kind, line, column):
    error = error_of(run(code), kind, line)
    assert column is None or error["column"] == column
    assert any(text.startswith("a.java:") for text in error["traceback"])


def test_a_package_is_refused_by_name(run):
    assert "no package" in error_of(run("package a.b;\nclass X { }"), "SyntaxError", 1)["message"]


def test_what_is_declared_later(run):
    done = run("int early() { return late() + 1; }")
    assert done.status == "ok" and "early cannot be used before method late() is declared" in done.stderr
    error = error_of(run("early()"), "UnresolvedReferenceException", 1)
    assert "late()" in error["message"]
    assert text(run("int late() { return 1; }\nearly()")) == "2"
    done = run("int odd(int n) { return n == 0 ? 0 : even(n - 1); }\nint even(int n) { return n == 0 ? 1 : odd(n - 1); }")
    assert (done.status, done.stderr) == ("ok", "")


def test_a_program_is_run(run):
    program = ("import java.util.List;\npublic class Main {\n  record In(int a) { }\n"
               "  public static void main(String[] args) {\n    System.out.println(\"main \" + args.length);\n  }\n}\n")
    assert run(program).stdout == run(program).stdout == "main 0\n"
    assert run(program + "int other = 1;\n").stdout == ""
    error_of(run(program.replace("args.length", "args[0]")), "ArrayIndexOutOfBoundsException", 5)


def test_background_exceptions(driver, run):
    done = run("Thread t = new Thread(() -> { throw new IllegalStateException(\"bg\"); });\nt.start(); t.join();")
    assert done.status == "ok" and "IllegalStateException: bg" in done.stderr
    (error,) = [event for event in done.events + driver.events if event["ev"] == "error"]
    assert error["id"] is None and error["name"] == "IllegalStateException"


@pytest.mark.parametrize("code,kind", [
    ("void deep(int n) { deep(n + 1); }\ndeep(0)", "StackOverflowError"),
    ("int[] huge = new int[Integer.MAX_VALUE];", "OutOfMemoryError"),
    ("class Mean extends RuntimeException { public String getMessage() { throw new Error(\"no\"); } }\n"
     "throw new Mean();", "Mean")])
def test_errors_that_hurt(run, code, kind):
    error_of(run(code), kind)
    assert text(run("1 + 1")) == "2"


# Exits and interrupts.

def test_exit_passes_a_catch_and_runs_finally(run):
    done = run("try {\n  System.exit(4);\n} catch (Throwable t) {\n  System.out.println(\"caught\");\n} finally {\n"
               "  System.out.println(\"finally\");\n}")
    assert (done.status, done.done["code"], done.stdout) == ("exit", 4, "finally\n")
    assert run("Runtime.getRuntime().exit(2)").done["code"] == 2
    done = run("new Thread(() -> System.exit(9)).start();\nThread.sleep(100000);")
    assert (done.status, done.done["code"]) == ("exit", 9)


def test_halt_is_the_end(fresh):
    run = fresh.start("Runtime.getRuntime().halt(7);", "a.java")
    with pytest.raises(EOFError):
        fresh.finish(run)
    assert fresh.wait() == 7


def test_catch_keeps_what_it_caught(run):
    """The trampolines of ClassFile, in methods with all kinds of stack maps."""
    done = run("""
long mixed(int a, long b, double d, Object o, int[][] e, boolean static_) throws Exception {
  long sum = 0;
  for (int i = 0; i < 3; i++) {
    String each = "x" + i;
    try {
      if (i == 1) throw new Error("one");
      if (i == 2) synchronized (o) { try { throw new Exception("two"); } finally { sum += 100; } }
      sum += a;
    } catch (Error | RuntimeException t) {
      double inner = d;
      sum += t.getMessage().length() + (long) inner;
    } catch (Throwable t) {
      sum += 1000;
      try { throw new Error(t); } catch (Throwable u) { sum += u.getCause() == t ? 10000 : 0; }
    } finally { sum += b; }
  }
  return sum;
}
class K {
  final int n;
  K(int n) { int m; try { m = Integer.parseInt("x"); } catch (Throwable t) { m = n; } this.n = m; }
  static int f(Object o) { try { return ((String) o).length(); } catch (Throwable t) { return -1; } }
}
mixed(1, 10L, 2.5, new Object(), new int[1][1], true) + new K(5).n + K.f(3)
""")
    assert text(done) == str(1 + 3 + 2 + 100 + 1000 + 10000 + 30 + 5 - 1)


def test_an_interrupted_sleep_may_clean_up(driver):
    number = driver.start("try {\n  System.out.println(\"in\"); Thread.sleep(100000);\n} catch (InterruptedException e) {\n"
                          "  System.out.println(\"cleaned\");\n}", "a.java")
    driver.until(lambda out: b"in" in out)
    done, _ = driver.stop(number)
    assert done.status == "interrupted" and "cleaned" in done.stdout


def test_an_interrupt_tells_where(driver):
    number = driver.start("int n = 0;\n{\n  while (true)\n    if (n++ == 1) System.out.println(\"in\"); }", "a.java")
    driver.until(lambda out: b"in" in out)
    error = driver.stop(number)[0].error
    assert error["line"] in (3, 4) and error["message"] == "interrupted"
    assert text(driver.run("n > 0", "a.java")) == "true"


def test_the_guard_lets_go_of_native_waits(driver):
    driver.run("new ProcessBuilder(\"mkfifo\", \"gate\").start().waitFor();", "a.java")
    number = driver.start(  # another thread sees it wait: before, a Stop would end it
        "int kept = 3;\n{ Thread me = Thread.currentThread();\n  new Thread(() -> {\n"
        "    while (!me.getStackTrace()[0].getMethodName().equals(\"open0\")) Thread.yield();\n"
        "    System.out.println(\"in\"); }).start();\n"
        "  new FileInputStream(\"gate\").read(); }", "a.java")
    driver.until(lambda out: b"in" in out)
    driver.interrupt()
    with pytest.raises(TimeoutError):
        driver.finish(number, timeout=1)
    os.write(driver.fds[6], b"g")
    done = driver.finish(number)
    assert done.status == "interrupted" and "cannot be stopped" in bytes(driver.late[2]).decode() + done.stderr
    assert text(driver.run("kept", "a.java")) == "3"


# Streams and threads.

def test_streams_that_a_cell_closes_or_replaces(run):
    run("System.out.close(); System.err.close(); new FileOutputStream(FileDescriptor.out).close();")
    done = run("System.out.println(1); System.err.println(2);\n"
               "new ProcessBuilder(\"echo\", \"3\").inheritIO().start().waitFor();")
    assert (done.stdout, done.stderr) == ("1\n3\n", "2\n")
    done = run("var kept = System.out; var mine = new ByteArrayOutputStream();\n"
               "System.setOut(new PrintStream(mine)); System.out.print(\"x\");")
    assert done.stdout == "" and text(run("System.setOut(kept); mine.toString()")) == "x"


def test_what_is_printed_without_a_newline_comes_at_once(driver):
    number = driver.start("System.out.print(\"half\"); Thread.sleep(100000);", "a.java")
    driver.until(lambda out: out.endswith(b"half"))
    driver.stop(number)


def test_thread_locals_and_the_class_loader_stay(run):
    run("ThreadLocal<Integer> local = new ThreadLocal<>();\nlocal.set(5);\nclass Mine { }")
    assert text(run("local.get()")) == "5"
    assert text(run("Class.forName(Mine.class.getName(), false, Thread.currentThread().getContextClassLoader()) "
                    "== Mine.class")) == "true"


# Environment, directories, class path.

def test_environment_is_also_properties_and_the_childrens(run):
    code = ("System.out.println(System.getenv(\"CELL_P\") + System.getProperty(\"CELL_P\"));\n"
            "new ProcessBuilder(\"sh\", \"-c\", \"echo $CELL_P\").inheritIO().start().waitFor();\n"
            "Process p = Runtime.getRuntime().exec(new String[] {\"sh\", \"-c\", \"echo $CELL_P\"});\n"
            "System.out.print(new String(p.getInputStream().readAllBytes()));\nvar none = 0;")
    run("System.setProperty(\"CELL_P\", \"own\");")
    assert run(code, env={"CELL_P": "\u00e9"}).stdout == "\u00e9\u00e9\n\u00e9\n\u00e9\n"
    assert run(code).stdout == "nullown\n\n\n"
    run("System.clearProperty(\"CELL_P\");")
    assert run(code).stdout == "nullnull\n\n\n"


def test_all_of_java_follows_the_directory(run, tmp_path):
    (tmp_path / "in").write_text("text")
    done = run("System.out.println(Files.readString(Path.of(\"in\")) + new File(\"in\").length()\n"
               "    + new String(new FileInputStream(\"in\").readAllBytes())\n"
               "    + new File(\"in\").getCanonicalPath() + Path.of(\"in\").toRealPath() + Files.exists(Path.of(\"\", \"in\")));\n"
               "new ProcessBuilder(\"cat\", \"in\").inheritIO().start().waitFor();\n"
               "new PrintWriter(\"out\").close();\nFiles.writeString(Path.of(\"out2\"), \"2\");", cwd=str(tmp_path))
    place = f"{tmp_path}/in"
    assert done.status == "ok" and done.stdout == f"text4text{place}{place}true\ntext"
    assert sorted(os.listdir(tmp_path)) == ["in", "out", "out2"]


def test_the_property_user_dir_is_followed_after_the_cell(driver, run):
    run("System.setProperty(\"user.dir\", \"/usr\");")
    assert run("new ProcessBuilder(\"pwd\").inheritIO().start().waitFor();").stdout == "/usr\n"
    run("System.setProperty(\"user.dir\", \"/nowhere\");")
    assert text(run("System.getProperty(\"user.dir\")")) == "/usr"
    driver.send({"op": "set", "cwd": str(driver.cwd)})


def test_class_path(run, driver):
    folder = driver.cwd / "classes" / "own"
    folder.mkdir(parents=True)
    (folder / "Greeting.java").write_text(
        "package own; public class Greeting { public static String hi() { return \"hi\"; } }")
    subprocess.run(["javac", "--release", "17", str(folder / "Greeting.java")], check=True)
    assert text(run("addClasspath(\"classes\");\nimport own.Greeting;\nGreeting.hi()")) == "hi"


# The process.

@pytest.mark.parametrize("limit", ["256M", "2G"])
def test_memory_limits(name, limit):
    size = {"256M": 256 << 20, "2G": 2 << 30}[limit]
    driver = Driver(["/usr/bin/prlimit", f"--data={size}", *DRIVERS[name]])
    try:
        error_of(driver.run("var all = new ArrayList<byte[]>();\nwhile (true) all.add(new byte[1 << 20]);", "a.java"),
                 "OutOfMemoryError")
        kept = int(text(driver.run("int n = all.size(); all = null; n", "a.java")))
        assert kept > size / (1 << 20) * 0.3
        assert text(driver.run("new byte[30 << 20].length", "a.java")) == str(30 << 20)
    finally:
        driver.close()


def test_nothing_is_said_and_nothing_is_left(fresh):
    before = set(os.listdir("/tmp"))
    fresh.run("1", "a.java")
    assert (fresh.late[1], fresh.late[2]) == (b"", b"")
    assert os.listdir(fresh.cwd) == [] and os.listdir(fresh.home) == []
    assert not [name for name in set(os.listdir("/tmp")) - before if str(fresh.pid) in name]


def test_the_archive_of_loaded_classes_is_used(name, tmp_path):
    if name != "java":
        pytest.skip("it is made for the JDK in PATH")
    driver = Driver([*DRIVERS[name], f"-Xlog:class+load:file={tmp_path}/log"])
    driver.close()
    assert "cellfs.Driver source: shared objects file (top)" in (tmp_path / "log").read_text()


def test_many_cells_stay_fast(run):
    """JShell keeps all that it compiled, and looks at it: what nothing can name is taken away from it."""
    run("int seen = 0;")
    for n in range(150):
        run(f"seen += {n}")
    assert text(run("seen")) == str(sum(range(150)))
