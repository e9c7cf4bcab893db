#: must: as 01, 10, 12 and 13, from Java
#: must not: give a byte of a secret, or come to a listener
#: needs: java javac
#: config: timeout=40
#: within: 45
. ./attack.sh
cat >Attack.java <<'JAVA'
import java.io.*;
import java.net.*;
import java.nio.file.*;
import java.util.*;

public class Attack {
	interface Act { Object go() throws Exception; }
	static void refused(String what, Act act) {
		try {
			Object got = act.go();
			System.out.println("LEAK: " + what + " " + got);
		} catch (Throwable e) {
			System.out.println("ok: " + what + " " + e.getClass().getSimpleName());
		}
	}
	public static void main(String[] args) throws Exception {
		for (String f : args)
			if (f.startsWith("/")) refused(f, () -> Files.isDirectory(Path.of(f)) ? Files.list(Path.of(f)).count() : Files.readString(Path.of(f)));
		int port = Integer.parseInt(args[0]);
		refused("loopback", () -> new Socket("127.0.0.1", port));
		refused("far", () -> { Socket s = new Socket(); s.connect(new InetSocketAddress("8.8.8.8", 53), 1000); return s; });
		refused("dns", () -> InetAddress.getByName("example.com"));
		refused("write core_pattern", () -> new FileOutputStream("/proc/sys/kernel/core_pattern"));
		refused("write /usr", () -> new FileOutputStream("/usr/made"));
		refused("environment", () -> { if (System.getenv("SECRET_TOKEN") == null) throw new Exception(); return 1; });
		refused("kill 1", () -> { var p = ProcessHandle.of(1).get(); p.destroyForcibly(); Thread.sleep(100); if (p.isAlive()) throw new Exception(); return "dead"; });
		System.out.println("ok: " + ProcessHandle.allProcesses().count() + " processes");
	}
}
JAVA
javac -J-Xmx200m Attack.java && java -Xmx200m -cp . Attack $(canary tcp4) $(canary files) $(canary dirs | grep -vx /home) /etc/shadow /proc/1/environ /dev/mem
