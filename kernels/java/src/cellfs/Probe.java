package cellfs;

/** What the daemon asks an interpreter: its version, and whether it has what the driver needs. */
final class Probe {
	private static final int OLDEST = 17;

	public static void main(String[] arguments) {
		if (Runtime.version().feature() < OLDEST || ModuleLayer.boot().findModule("jdk.jshell").isEmpty()
				|| ModuleLayer.boot().findModule("jdk.compiler").isEmpty())
			System.exit(2);
		System.out.println(System.getProperty("java.version"));
	}
}
