//: must: 8 GB is an OutOfMemoryError that can be caught; the kernel lives
//: must not: be had
//: config: memory=1G timeout=20
//: within: 27
//: state: kept
//: other: yes
if (!java.nio.file.Files.readString(java.nio.file.Path.of("/proc/sys/kernel/hostname")).trim().equals("sandbox")) throw new Error("not in a box");
var all = new java.util.ArrayList<Object>();
try {
	for (int i = 0; i < 128; i++) all.add(new byte[64 << 20]);
	System.out.println("LEAK: 8 GB of heap");
} catch (OutOfMemoryError e) {
	int n = all.size();
	all.clear();
	System.out.println("ok: " + n + " pieces of 64 MB: " + e.getMessage());
}
