package cellfs;

import java.io.File;
import java.io.IOException;
import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;
import java.nio.file.FileSystems;
import java.util.HashMap;
import java.util.Map;

/** The environment, also as system properties, and the working directory of the kernel. */
final class Surroundings {
	private final Map<String, String> environment = environment();
	private final Map<String, String> hidden = new HashMap<>(); // properties that variables have taken the place of
	private String cwd;

	/** How a variable and its property were. */
	record Was(String variable, String property) {
	}

	/** What System.getenv() shows and ProcessBuilder hands on. */
	@SuppressWarnings("unchecked")
	private static Map<String, String> environment() {
		Object view = System.getenv();
		try {
			Class<?> unmodifiable = Class.forName("java.util.Collections$UnmodifiableMap");
			return (Map<String, String>) Native.get(view, unmodifiable, "m", "Ljava/util/Map;");
		} catch (ClassNotFoundException e) {
			throw new IllegalStateException(e);
		}
	}

	/** Changes the environment from now on; a null removes. */
	void set(Map<?, ?> changes) {
		for (var change : changes.entrySet()) {
			String name = (String) change.getKey(), value = (String) change.getValue();
			variable(name, value);
			if (value != null) {
				if (!hidden.containsKey(name))
					hidden.put(name, System.getProperty(name));
				property(name, value);
			} else if (hidden.containsKey(name)) {
				property(name, hidden.remove(name));
			}
		}
	}

	/** Changes it for a run. What it returns is for `restore`. */
	Map<String, Was> change(Map<?, ?> changes) {
		Map<String, Was> before = new HashMap<>();
		for (var change : changes.entrySet()) {
			String name = (String) change.getKey(), value = (String) change.getValue();
			before.put(name, new Was(environment.get(name), System.getProperty(name)));
			variable(name, value);
			property(name, value);
		}
		return before;
	}

	void restore(Map<String, Was> before) {
		before.forEach((name, was) -> {
			variable(name, was.variable);
			property(name, was.property);
		});
	}

	private void variable(String name, String value) {
		if (value == null)
			environment.remove(name);
		else
			environment.put(name, value);
		Native.setenv(bytes(name), value == null ? null : bytes(value));
	}

	private static byte[] bytes(String text) {
		return text.getBytes(StandardCharsets.UTF_8);
	}

	private static void property(String name, String value) {
		if (value == null)
			System.clearProperty(name);
		else
			System.setProperty(name, value);
	}

	String cwd() {
		return cwd;
	}

	/** Enters a directory, and tells the parts of the JDK that have kept the last one. */
	synchronized void chdir(String path) throws IOException {
		String failure = Native.chdir(bytes(path));
		if (failure != null)
			throw new FileSystemException(path, null, failure);
		cwd = path.startsWith("/") ? path : new String(Native.getcwd(), StandardCharsets.UTF_8);
		System.setProperty("user.dir", cwd);
		for (Field field : File.class.getDeclaredFields())
			if (field.getType().getName().equals("java.io.FileSystem")) {
				Object files = Native.get(null, File.class, field.getName(), "Ljava/io/FileSystem;");
				Native.put(files, files.getClass(), "userDir", "Ljava/lang/String;", cwd);
			}
		Object paths = FileSystems.getDefault();
		Class<?> owner = paths.getClass();
		while (!owner.getSimpleName().equals("UnixFileSystem"))
			owner = owner.getSuperclass();
		Native.put(paths, owner, "defaultDirectory", "[B", bytes(cwd));
		Native.put(paths, owner, "needToResolveAgainstDefaultDirectory", "Z", null);
	}

	/** A cell that has set the property user.dir means it. */
	void followProperty() {
		String wanted = System.getProperty("user.dir");
		if (cwd == null || cwd.equals(wanted))
			return;
		try {
			if (wanted != null)
				chdir(wanted);
		} catch (IOException e) {
			// as it was
		}
		System.setProperty("user.dir", cwd);
	}
}
