package cellfs;

import java.io.IOException;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;

/** What every cell can call: all of it is imported. */
public final class Cell {
	private static final AtomicLong numbers = new AtomicLong();

	private Cell() {
	}

	/** Shows a value with all the formats that it has. */
	public static Display display(Object value) {
		return show(Bundle.of(value));
	}

	/** Shows data (a text, bytes, or what JSON can hold) as this MIME type. */
	public static Display display(Object data, String mime) {
		return show(Bundle.of(data, mime));
	}

	/** Gives what was shown under this id a new content. */
	public static void update(String id, Object value) {
		Driver.instance.publish("update", id, Bundle.of(value));
	}

	/** Gives what was shown under this id a new content. */
	public static void update(String id, Object data, String mime) {
		Driver.instance.publish("update", id, Bundle.of(data, mime));
	}

	/** Takes away what was displayed so far. */
	public static void clearOutput() {
		clearOutput(false);
	}

	/** Takes away what was displayed so far, with `wait` when the next display comes. */
	public static void clearOutput(boolean wait) {
		Driver.instance.clear(wait);
	}

	/** Changes the working directory, for files and for processes. */
	public static void chdir(String path) throws IOException {
		Driver.instance.surroundings.chdir(path);
	}

	/** Adds a jar or a directory of classes to the class path of the next statements. */
	public static void addClasspath(String path) {
		Driver.instance.engine.addClasspath(path);
	}

	private static Display show(Map<String, Object> bundle) {
		String id = "java-" + numbers.incrementAndGet();
		Driver.instance.publish("display", id, bundle);
		return new Display(id);
	}
}
