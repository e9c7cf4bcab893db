package cellfs;

import java.util.List;

/** Why a cell was not run: an error that is not an exception of its code. */
final class Failure extends Exception {
	private static final long serialVersionUID = 1;

	final String name;
	final int line, column;
	final transient List<String> traceback;

	Failure(String name, String message, int line, int column, List<String> traceback) {
		super(message);
		this.name = name;
		this.line = line;
		this.column = column;
		this.traceback = traceback;
	}
}
