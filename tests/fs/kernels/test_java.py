"""Java through the mount: what a cell shows, returns and raises."""

import json
import os

from control.steps import events, record, says
from mount import done, read, read_bytes, run, write

PNG = b"\x89PNG\r\n\x1a\n"


def fine(r):
    assert done(r) == "ok", read(r / "report.md")
    return r


def test_value_output_and_state(ctx):
    r = fine(run(ctx, "a.java", 'int square(int x) { return x * x; }\nSystem.out.println("out");\nsquare(6) + 6\n'))
    assert (read(r / "result.txt"), read(r / "stdout")) == ("42\n", "out\n")
    r = fine(run(ctx, "b.jsh", '"two words" + square(1)'))
    assert read(r / "result.txt") == "two words1\n" and read(r / "result.repr.txt") == '"two words1"\n'
    assert not (fine(run(ctx, "c.java", "int x = 1;")) / "result.txt").exists()


def test_a_rich_value_has_a_file_for_each_type(ctx):
    r = fine(run(ctx, "a.java", "import java.awt.image.BufferedImage;\nrecord Row(int n, String s) { }\n"
                 'display(new BufferedImage(9, 9, BufferedImage.TYPE_INT_RGB));\ndisplay("*m*", "text/markdown");\n'
                 'List.of(new Row(1, "a"), new Row(2, "b"))'))
    assert read_bytes(r / "display-1.png").startswith(PNG) and read(r / "display-2.md") == "*m*\n"
    assert json.loads(read(r / "result.data.json")) == {"n": [1, 2], "s": ["a", "b"]}
    assert "<td>b</td>" in read(r / "result.html")
    r = fine(run(ctx, "b.java", 'Map.of("k", List.of(1, 2))'))
    assert json.loads(read(r / "result.json")) == {"k": [1, 2]}


def test_errors_have_the_line_of_the_file(ctx):
    r = run(ctx, "a.java", "//| timeout: 30\nint x = 0;\n\nint y = 1 / x;\n")
    assert done(r) == "error"
    error = json.loads(read(r / "error.json"))
    assert (error["name"], error["line"]) == ("ArithmeticException", 4)
    assert "at <cell>(a.java:4)" in read(r / "error.txt")
    r = run(ctx, "b.java", "\nint z = ;\n")
    assert done(r) == "error"
    error = json.loads(read(r / "error.json"))
    assert (error["name"], error["line"], error["column"]) == ("SyntaxError", 2, 9)


def test_a_program_exit_and_its_code(ctx):
    r = run(ctx, "Main.java", "public class Main {\n  public static void main(String[] args) {\n"
            '    System.out.println("main");\n    System.exit(3);\n  }\n}\n')
    assert done(r) == "error" and read(r / "exit_code") == "3\n" and read(r / "stdout") == "main\n"
    assert record(r)["state_preserved"] is True


def test_options_of_a_run(ctx):
    os.mkdir(ctx / "workspace" / "sub")
    ask = 'System.out.println(System.getenv("A") + System.getProperty("A") + Path.of("").toAbsolutePath().getFileName());\n'
    write(ctx / "config" / "env" / "A", "one")
    assert read(fine(run(ctx, "a.java", ask)) / "stdout") == "oneoneworkspace\n"
    assert read(fine(run(ctx, "a.java", "//| cwd: sub\n//| env.A: two\n" + ask)) / "stdout") == "twotwosub\n"
    assert read(fine(run(ctx, "a.java", ask)) / "stdout") == "oneoneworkspace\n"
    fine(run(ctx, "b.java", 'Files.writeString(Path.of("made"), "x");'))
    assert read(ctx / "workspace" / "made") == "x"


def test_interrupt_and_timeout_keep_the_state(ctx):
    r = run(ctx, "a.java", 'int kept = 7;\n{ System.out.println("in"); while (true) try { Thread.sleep(10); } catch (Throwable t) { } }')
    says(r, "in")
    write(ctx / "ctl", "interrupt\n")
    assert done(r) == "interrupted" and record(r)["state_preserved"] is True
    r = run(ctx, "b.java", "//| timeout: 1\nwhile (true);")
    assert done(r) == "timeout" and record(r)["state_preserved"] is True
    assert read(fine(run(ctx, "c.java", "kept")) / "result.txt") == "7\n"


def test_threads_until_the_box_has_no_more(ctx):
    r = run(ctx, "a.java", "while (true) new Thread(() -> { try { Thread.sleep(1000000); } catch (InterruptedException e) { } }).start();")
    assert done(r) == "error" and json.loads(read(r / "error.json"))["name"] == "OutOfMemoryError"
    assert read(fine(run(ctx, "b.java", "40 + 2")) / "result.txt") == "42\n"
    r = run(ctx, "c.java", '{ System.out.println("in"); while (true); }')
    says(r, "in")
    write(ctx / "ctl", "interrupt\n")
    assert done(r) == "interrupted"


def test_memory_that_is_not_there_is_an_error(ctx):
    write(ctx / "config" / "memory", "512M")
    r = run(ctx, "a.java", "var all = new ArrayList<byte[]>();\nwhile (true) all.add(new byte[1 << 20]);")
    assert done(r) == "error", read(r / "report.md")
    assert json.loads(read(r / "error.json"))["name"] == "OutOfMemoryError"
    assert int(read(fine(run(ctx, "b.java", "all.size()")) / "result.txt")) > 150


def test_an_exception_of_a_thread_is_a_notice(ctx):
    r = fine(run(ctx, "a.java", 'Thread t = new Thread(() -> { throw new IllegalStateException("bg"); });\nt.start(); t.join();'))
    assert "IllegalStateException: bg" in read(r / "stderr")
    assert any(e["type"] == "notice" and "bg" in e["text"] for e in events(ctx))


def test_a_kernel_that_halts_is_replaced(ctx):
    fine(run(ctx, "a.java", "int gone = 1;"))
    r = run(ctx, "b.java", "Runtime.getRuntime().halt(3);")
    assert done(r) == "killed"
    r = run(ctx, "c.java", "gone")
    assert done(r) == "error" and json.loads(read(r / "error.json"))["name"] == "CompileError"
