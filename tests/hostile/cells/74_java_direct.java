//: must: 8 GB outside of the heap is an OutOfMemoryError, or the end of that kernel
//: must not: be had
//: config: memory=1G timeout=20
//: status: (ok|error|killed\b.*|oom: memory limit 1 GiB)
//: within: 27
//: other: yes
if (!java.nio.file.Files.readString(java.nio.file.Path.of("/proc/sys/kernel/hostname")).trim().equals("sandbox")) throw new Error("not in a box");
var all = new java.util.ArrayList<Object>();
try {
	for (int i = 0; i < 128; i++) all.add(java.nio.ByteBuffer.allocateDirect(64 << 20));
	System.out.println("LEAK: 8 GB outside of the heap");
} catch (OutOfMemoryError e) {
	int n = all.size();
	all.clear();
	System.out.println("ok: " + n + " direct pieces of 64 MB: " + e.getMessage());
}
