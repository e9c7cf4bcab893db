//: must: as 01, 10, 12, 13 and 14, from the kernel of Java
//: must not: give a byte of a secret, or come to a listener
//: config: timeout=40
//: within: 45
//: state: kept
import java.io.*;
import java.net.*;
import java.nio.file.*;
import java.util.*;
import java.util.regex.*;

if (!Files.readString(Path.of("/proc/sys/kernel/hostname")).trim().equals("sandbox")) throw new Error("not in a box");
interface Act { Object go() throws Exception; }
void refused(String what, Act act) {
	try {
		Object got = act.go();
		System.out.println("LEAK: " + what + " " + got);
	} catch (Throwable e) {
		System.out.println("ok: " + what + " " + e.getClass().getSimpleName());
	}
}
String told = Files.readString(Path.of("/workspace/canary.json"));
List<String> paths = new ArrayList<>(List.of("/etc/shadow", "/proc/1/environ", "/proc/1/mem", "/dev/mem", "/sys"));
for (Matcher found = Pattern.compile("\"(/[^\"]+)\"").matcher(told); found.find(); ) if (!found.group(1).equals("/home")) paths.add(found.group(1));
for (String f : paths) refused(f, () -> Files.isDirectory(Path.of(f)) ? Files.list(Path.of(f)).count() : Files.readString(Path.of(f)));
Matcher port = Pattern.compile("\"tcp4\": (\\d+)").matcher(told);
port.find();
int tcp = Integer.parseInt(port.group(1));
refused("loopback", () -> new Socket("127.0.0.1", tcp));
refused("far", () -> { Socket s = new Socket(); s.connect(new InetSocketAddress("8.8.8.8", 53), 1000); return s; });
refused("dns", () -> InetAddress.getByName("example.com"));
refused("write core_pattern", () -> new FileOutputStream("/proc/sys/kernel/core_pattern"));
refused("write /usr", () -> new FileOutputStream("/usr/made"));
refused("write /kernels", () -> new FileOutputStream("/kernels/java/made"));
refused("environment", () -> { if (System.getenv("SECRET_TOKEN") == null) throw new Exception(); return 1; });
refused("kill 1", () -> { var p = ProcessHandle.of(1).get(); p.destroyForcibly(); Thread.sleep(100); if (p.isAlive()) throw new Exception(); return "dead"; });
refused("kill the supervisor", () -> { var p = ProcessHandle.current().parent().get(); p.destroyForcibly(); Thread.sleep(100); if (p.isAlive()) throw new Exception(); return "dead"; });
for (ProcessHandle p : ProcessHandle.allProcesses().filter(p -> !p.equals(ProcessHandle.current())).toList())
	for (String part : List.of("environ", "mem", "root/etc/passwd"))
		refused(p.pid() + " " + part, () -> { var got = Files.readAllBytes(Path.of("/proc/" + p.pid() + "/" + part)); if (got.length == 0) throw new Exception(); return got.length; });
