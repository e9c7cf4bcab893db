"""The cells of test_contract.py in Java, and the JDKs beside the one in PATH."""

import glob
import os

from conversation import manifests, probe

JAVA = {
    "file": "a.java",
    "value": ("40 + 2", "42"),
    "string": ("\"a\\\"b\\n\u00e9\"", "a\"b\n\u00e9", "\"a\\\"b\\n\u00e9\""),
    "none": "int x = 1;",
    "print": "System.out.println(\"{}\")",
    "set": "int kept = {};",
    "show": "System.out.println(kept)",
    "failing": ("System.out.println(\"before\");\n\nint failed = 1 / 0;\n"
                "System.out.println(\"after\");\n", "ArithmeticException", 3, 0),
    "syntax": ("int x = 1;\nif x\n", 2),
    "again": "int f() { return 1; }\nclass C { }\nrecord R(int a) { }\nenum E { A }\n"
             "interface I { }\nint v = 1;\n",
    "env": "System.out.println(System.getenv(\"{0}\") == null ? \"(absent)\" : System.getenv(\"{0}\"));",
    "cwd": "System.out.println(Path.of(\"\").toAbsolutePath());",
    "chdir": "chdir(\"{}\")",
    "prepare": "",
    "ordered": "for (int i = 0; i < 2000; i++) {\n    System.out.println(\"line \" + i);\n"
               "    display(i);\n}\n",
    "ordered_count": 2000,
    "binary": ("byte[] all = new byte[102400];\nfor (int i = 0; i < all.length; i++) all[i] = (byte) i;\n"
               "display(all, \"image/png\");\n", "image/png", bytes(range(256)) * 400),
    "large_text": ("display(\"z\".repeat(300000));\n", "text/plain"),
    "unicode": "System.out.println(\"\u00e9\u4e16\U0001f600\")",
    "exit": "int kept = 5;\nSystem.exit({});\n",
    "bulk": "String row = \"y\".repeat(1 << 20);\nfor (int i = 0; i < 64; i++) System.out.print(row);\n",
    "started": "System.out.println(\"started\");\n",
    "waits": {
        "loop": "while (true) { }",
        "caught": "while (true) try { Thread.sleep(1); } catch (Throwable t) { }",
        "sleep": "Thread.sleep(100000);",
        "subprocess": "new ProcessBuilder(\"sleep\", \"100\").start().waitFor();",
        "await": "new CompletableFuture<Integer>().get();",
        "join": "new CompletableFuture<Integer>().join();",
        "lock": "Object o = new Object();\nsynchronized (o) { o.wait(); }",
        "native": "BigInteger.TWO.pow(30_000_000).multiply(BigInteger.TEN.pow(10_000_000)).toString();",
        "bulk": "while (true) System.out.print(\"z\".repeat(4096));",
    },
    "interrupt_name": "InterruptedException",
    "needs_a_second": set(),
    "deaf": "sun.misc.Signal.handle(new sun.misc.Signal(\"INT\"), sun.misc.SignalHandler.SIG_IGN);",
    "late": "var gate = new java.util.concurrent.CountDownLatch(1);\n"
            "new Thread(() -> { try { gate.await(); } catch (InterruptedException e) { }\n"
            "    System.out.println(\"late\"); }).start();\n",
    "late_go": "gate.countDown();\n",
    "background": "new ProcessBuilder(\"sh\", \"-c\", \"until [ -e go ]; do sleep 0.01; done; echo background\").inheritIO().start();\n",
    "nul": b"System.out.println(1);\n\0\n",
    "crlf": b"int a = 1;\r\nint b = 2;\r\nSystem.out.println(a + b);\r\n",
    "no_newline": b"System.out.println(\"end\")",
    "comment": "// comment",
    "at_exit": "Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println(\"left\")));",
    "stdin": "System.out.println(\"'\" + new String(System.in.readAllBytes()) + \"'\");",
    "control": "for (int fd = 3; fd < 7; fd++)\n    if (Files.exists(Path.of(\"/proc/self/fd/\" + fd)))\n"
               "        System.out.println(Files.readSymbolicLink(Path.of(\"/proc/self/fd/\" + fd)));",
}



def drivers():
    """{java-VERSION: argv} of each other JDK of this machine, one of each version."""
    found = {}
    manifest = manifests()["java"]
    first = probe(manifest)
    versions = {first[1].split(".")[0]} if first else set()
    for path in sorted(glob.glob("/usr/lib/jvm/*/bin/java")):
        taken = probe({**manifest, "interpreters": [path]})
        version = taken and taken[1].split(".")[0]
        if version and version not in versions:
            versions.add(version)
            found[f"java-{version}"] = ["/bin/sh", os.path.join(manifest["dir"], "start.sh"), path]
    return found


SNIPPETS = {"java": JAVA, **{name: JAVA for name in drivers()}}
