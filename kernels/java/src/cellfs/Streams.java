package cellfs;

import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/** The user's stdout and stderr: what is printed is in the pipe when print returns. */
final class Streams {
	private final int[] pipes = {0, Native.copy(1), Native.copy(2)};
	private final Own[] own = new Own[3];

	/** A PrintStream that knows whether it was closed. */
	private static final class Own extends PrintStream {
		volatile boolean closed;

		Own(OutputStream out) {
			super(out, true, StandardCharsets.UTF_8);
		}

		@Override
		public void close() {
			closed = true;
			super.close();
		}
	}

	private static final class Pipe extends OutputStream {
		private final int fd;

		Pipe(int fd) {
			this.fd = fd;
		}

		@Override
		public void write(int b) throws IOException {
			write(new byte[] {(byte) b}, 0, 1);
		}

		@Override
		public void write(byte[] bytes, int offset, int length) throws IOException {
			String failure = Native.write(fd, bytes, offset, length);
			if (failure != null)
				throw new IOException(failure);
		}
	}

	Streams() {
		renew(true);
	}

	/** Replaces the streams that a cell has closed; all of ours where a lock may have been left behind. */
	void renew(boolean all) {
		for (int fd = 1; fd < 3; fd++) {
			Native.replace(pipes[fd], fd); // a cell may have closed it
			Own old = own[fd];
			if (!all && !old.closed)
				continue;
			own[fd] = new Own(new Pipe(pipes[fd]));
			if (fd == 1 && (old == null || System.out == old))
				System.setOut(own[fd]);
			if (fd == 2 && (old == null || System.err == old))
				System.setErr(own[fd]);
		}
	}

	/** Puts what was written to other streams into the pipes: those may be the user's. */
	void flush() {
		System.out.flush();
		System.err.flush();
	}

	/** Says something on stderr, whatever has become of System.err. */
	void complain(String line) {
		byte[] bytes = (line + "\n").getBytes(StandardCharsets.UTF_8);
		Native.write(pipes[2], bytes, 0, bytes.length);
	}
}
