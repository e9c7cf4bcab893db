//: must: native code that the kernel of Java loads is as boxed as Java
//: must not: reach more than a C program in the box
//: needs: gcc
//: config: timeout=40
//: within: 45
//: state: kept
import java.nio.file.*;

if (!Files.readString(Path.of("/proc/sys/kernel/hostname")).trim().equals("sandbox")) throw new Error("not in a box");
int made = new ProcessBuilder("gcc", "-shared", "-fPIC", "-o", "evil.so", "evil.c").inheritIO().start().waitFor();
if (made != 0) throw new Error("gcc gave " + made);
System.load("/workspace/evil.so");
System.out.println("ok: loaded");
