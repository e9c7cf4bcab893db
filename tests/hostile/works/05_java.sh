#: must: javac, java and jshell work, with threads, processes and sockets
#: needs: java javac jshell
#: within: 50
#: config: timeout=50
cat >A.java <<'JAVA'
import java.net.*;
import java.util.stream.*;
public class A {
	public static void main(String[] a) throws Exception {
		System.out.println("ok: " + IntStream.range(0, 100000).parallel().mapToLong(i -> i).sum());
		var p = new ProcessBuilder("echo", "child").redirectErrorStream(true).start();
		System.out.println("ok: " + new String(p.getInputStream().readAllBytes()).trim());
		try (var s = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
			var t = new Thread(() -> { try (var c = s.accept()) { c.getOutputStream().write(42); } catch (Exception e) { } });
			t.start();
			System.out.println("ok: " + new Socket(s.getInetAddress(), s.getLocalPort()).getInputStream().read());
		}
		System.out.println("ok: " + System.getProperty("user.home") + " " + System.getProperty("user.name"));
	}
}
JAVA
javac A.java && java A || exit 1
echo 'System.out.println("ok: jshell " + (40 + 2));' | jshell -s - || exit 1
