//: must: threads and processes stop at the limit, with an error that can be caught, or end that kernel
//: must not: make more than the limit, or end another kernel
//: config: processes=64 memory=1G timeout=15
//: status: (ok|error|timeout|interrupted|killed|oom)\b.*
//: within: 25
//: other: yes
//: after: few_processes
if (!java.nio.file.Files.readString(java.nio.file.Path.of("/proc/sys/kernel/hostname")).trim().equals("sandbox")) throw new Error("not in a box");
System.out.println("ok: begun");
int threads = 0, children = 0;
var all = new java.util.ArrayList<Thread>();
try {
	for (; threads < 1000; threads++) {
		var t = new Thread(() -> { try { Thread.sleep(1000000); } catch (InterruptedException e) { } });
		t.setDaemon(true);
		t.start();
		all.add(t);
	}
} catch (Throwable e) {
	System.out.println("ok: " + e);
}
System.out.println((threads < 64 ? "ok: " : "LEAK: ") + threads + " threads");
for (var t : all) t.interrupt();
for (var t : all) t.join();
try {
	for (; children < 1000; children++) new ProcessBuilder("sleep", "1000").start();
} catch (Throwable e) {
	System.out.println("ok: " + e);
}
System.out.println((children < 64 ? "ok: " : "LEAK: ") + children + " children");
