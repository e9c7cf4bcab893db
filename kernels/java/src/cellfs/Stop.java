package cellfs;

/** Ends what a run executes, wherever it is. */
public class Stop extends Error {
	private static final long serialVersionUID = 1;

	Stop(String message) {
		super(message, null, false, true);
	}

	/** Called by a cell's `catch (Throwable)` before anything else: this is not for it. */
	public static void pass(Throwable caught) {
		if (caught instanceof Stop stop)
			throw stop;
	}
}
