//: must: a cell that catches all errors is ended at its time-out, at the latest after the ladder's 5 s
//: must not: go on
//: config: timeout=1
//: status: timeout\b.*
//: within: 7.5
//: other: yes
if (!java.nio.file.Files.readString(java.nio.file.Path.of("/proc/sys/kernel/hostname")).trim().equals("sandbox")) throw new Error("not in a box");
System.out.println("ok: begun");
for (;;) try { for (;;) Thread.onSpinWait(); } catch (Throwable e) { }
