package cellfs;

/** What System.exit throws in a kernel. */
final class Exit extends Stop {
	private static final long serialVersionUID = 1;

	final int status;

	Exit(int status) {
		super("exit " + status);
		this.status = status;
	}

	/** Called for every exit but Runtime.halt and the driver's own end. */
	static void request(int status) {
		Exit exit = new Exit(status);
		Driver.instance.runner.exit(exit);
		throw exit;
	}
}
