package cellfs;

/** What Java cannot do by itself: ../../native.c. */
final class Native {
	static final int TIMEOUT = 0;
	static final int INTERRUPT = 1;
	static final int GUARD = 2;

	static {
		System.load(System.getProperty("cellfs.native"));
	}

	private Native() {
	}

	/** Moves a descriptor out of the way, close-on-exec; its new number, -1 if there was none. */
	static native int claim(int fd);

	/** A second descriptor for the same file, out of the way. */
	static native int copy(int fd);

	/** Makes `to` the file of `from`, inherited by children. */
	static native void replace(int from, int to);

	/** Bytes read, 0 at the end of file. */
	static native int read(int fd, byte[] into);

	/** Writes all; an errno as text, null if it went well. */
	static native String write(int fd, byte[] bytes, int offset, int length);

	/** Whether something can be read within so many milliseconds. */
	static native boolean readable(int fd, int milliseconds);

	/** Makes a new file that only we can read and write, with this content; an errno as text, or null. */
	static native String create(byte[] path, byte[] content);

	/** An errno as text, or null. */
	static native String chdir(byte[] path);

	static native byte[] getcwd();

	/** Changes the process's environment, which a child gets when nobody has asked for another; null removes. */
	static native void setenv(byte[] name, byte[] value);

	/** From here on SIGINT wakes `await`, whatever was installed before. */
	static native void catchInterrupts();

	/** Whether a SIGINT has come since `catchInterrupts`. */
	static native boolean interrupted();

	/** Waits for SIGINT, a byte on `guard` (-1 for none), or the timeout (-1 for none). */
	static native int await(int guard, int milliseconds);

	/** Throws `error` in another thread, wherever it is. */
	static native void stop(Thread thread, Throwable error);

	/** The priority of a thread, by the system's number. */
	static native void nice(int thread, int value);

	static native void redefine(Class<?> type, byte[] bytes);

	/** From here on `Shutdown.halt0` calls `Exit.request`, but for a halt. */
	static native void takeExits();

	/** Runs the shutdown hooks and ends the process. */
	static native void exit(int status);

	/** Reads and writes fields whatever their access; `target` is null for static ones. */
	static native Object get(Object target, Class<?> owner, String field, String type);

	static native void put(Object target, Class<?> owner, String field, String type, Object value);
}
