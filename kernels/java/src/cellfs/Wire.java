package cellfs;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/** The control protocol's lines, acks and spool files. */
final class Wire {
	static final int PROTOCOL = 1;
	private static final int LINE_MOST = 65536;
	private static final int INLINE_MOST = 16384;
	private static final int ACK_PATIENCE = 20; // milliseconds between looks at an interrupt

	final int guard;
	private final int commands, events, acks;
	private final byte[] chunk = new byte[LINE_MOST];
	private byte[] unread = new byte[0];
	private String spool;
	private int owed, files;

	Wire() {
		commands = Native.claim(3);
		events = Native.claim(4);
		acks = Native.claim(5);
		guard = Native.claim(6);
	}

	void spool(String directory) {
		spool = directory;
	}

	boolean hasCommand() {
		return Native.readable(commands, 0);
	}

	/** The next command, null at the end. */
	Map<?, ?> receive() {
		ByteArrayOutputStream line = new ByteArrayOutputStream();
		while (true) {
			for (int i = 0; i < unread.length; i++)
				if (unread[i] == '\n') {
					line.write(unread, 0, i);
					unread = java.util.Arrays.copyOfRange(unread, i + 1, unread.length);
					return (Map<?, ?>) Json.read(line.toString(StandardCharsets.UTF_8));
				}
			line.writeBytes(unread);
			int n = Native.read(commands, chunk);
			if (n == 0)
				return null;
			unread = java.util.Arrays.copyOf(chunk, n);
		}
	}

	/** Writes one event. */
	synchronized void send(String event) {
		byte[] line = (event + "\n").getBytes(StandardCharsets.UTF_8);
		Native.write(events, line, 0, line.length);
	}

	void log(String text) {
		send(Json.object("ev", "log", "text", text.length() > 4096 ? text.substring(0, 4096) : text));
	}

	/** Sends a display and waits for its ack, or until the run is interrupted. */
	void display(long run, String kind, String id, Map<String, Object> bundle, Runner runner) {
		StringBuilder data = new StringBuilder("{");
		int room = LINE_MOST - 8192;
		for (var format : bundle.entrySet()) {
			String text = inline(format.getValue());
			if (text == null || utf8Length(text) > Math.min(room, INLINE_MOST + 64))
				text = Json.object("file", put(format.getValue()));
			room -= utf8Length(text) + format.getKey().length();
			data.append(data.length() > 1 ? "," : "");
			Json.quote(data, format.getKey());
			data.append(':').append(text);
		}
		send(Json.object("ev", "display", "id", run, "kind", kind, "display_id", id,
				"data", new Json.Raw(data.append('}').toString())));
		owed++;
		while (owed > 0) {
			while (!Native.readable(acks, ACK_PATIENCE))
				if (runner.interrupted())
					return;
			int taken = Native.read(acks, new byte[owed]);
			owed = taken == 0 ? 0 : owed - taken;
		}
	}

	private static String inline(Object value) {
		if (value instanceof Json.Raw raw)
			return raw.text().length() > INLINE_MOST ? null : "{\"json\":" + raw.text() + "}";
		if (value instanceof String text && text.length() <= INLINE_MOST)
			return Json.write(text);
		return null;
	}

	private static int utf8Length(String text) {
		int n = text.length();
		for (int i = 0; i < text.length(); i++)
			n += text.charAt(i) < 0x80 ? 0 : text.charAt(i) < 0x800 ? 1 : 2;
		return n;
	}

	private String put(Object value) {
		byte[] content = value instanceof byte[] bytes ? bytes
				: (value instanceof Json.Raw raw ? raw.text() : (String) value).getBytes(StandardCharsets.UTF_8);
		String name = ProcessHandle.current().pid() + "-" + ++files;
		String failure = Native.create((spool + "/" + name).getBytes(StandardCharsets.UTF_8), content);
		if (failure != null)
			throw new IllegalStateException("display: " + failure);
		return name;
	}
}
