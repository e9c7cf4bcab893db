package cellfs;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.IntUnaryOperator;
import java.util.function.Supplier;

/**
 * Small changes in compiled classes, without a library.
 *
 * A cell's classes get the cell's file name and lines, so that every stack trace shows them, whoever prints it.
 * And what ends a run passes their `catch (Throwable)`: each such handler first calls `Stop.pass`. Nothing is
 * moved for that: the handler's entry is sent to a trampoline behind the method's code.
 */
final class ClassFile {
	private static final int POOL = 8;
	private static final Set<String> CATCHES_STOP = Set.of("java/lang/Throwable", "java/lang/Error", "cellfs/Stop");

	private final ByteBuffer in;
	private final int[] entries; // where the constants are
	private final ByteArrayOutputStream extra = new ByteArrayOutputStream();
	private int count;
	private int pass; // Stop.pass as a constant
	private final String file;
	private final IntUnaryOperator lines;

	private ClassFile(byte[] bytes, String file, IntUnaryOperator lines) {
		in = ByteBuffer.wrap(bytes);
		this.file = file;
		this.lines = lines;
		count = u2(POOL);
		entries = new int[count];
		int at = POOL + 2;
		for (int i = 1; i < count; i++) {
			entries[i] = at;
			int tag = in.get(at);
			at += switch (tag) {
			case 1 -> 3 + u2(at + 1);
			case 7, 8, 16, 19, 20 -> 3;
			case 15 -> 4;
			case 5, 6 -> 9;
			default -> 5;
			};
			if (tag == 5 || tag == 6)
				i++;
		}
		in.position(at);
	}

	/** The class as of the file of its cell; `lines` tells the cell's line of a compiled one, 0 if it has none. */
	static byte[] ofCell(byte[] bytes, String file, IntUnaryOperator lines) {
		return new ClassFile(bytes, file, lines).rewrite();
	}

	/** java.lang.Runtime, with its `exit` going to `Shutdown.halt0` directly. */
	static byte[] redirectExit(byte[] runtime) {
		ClassFile type = new ClassFile(runtime, null, null);
		for (int entry : type.entries) {
			if (entry == 0 || type.in.get(entry) != 10)
				continue;
			int name = type.entries[type.u2(entry + 3)];
			if (type.className(type.u2(entry + 1)).equals("java/lang/Shutdown")
					&& type.text(type.u2(name + 1)).equals("exit"))
				type.in.putShort(entry + 3, (short) type.nameAndType("halt0", "(I)V"));
		}
		return type.assemble(type.rest());
	}

	private int u2(int at) {
		return in.getShort(at) & 0xffff;
	}

	private String text(int constant) {
		int at = entries[constant];
		return new String(in.array(), at + 3, u2(at + 1), StandardCharsets.UTF_8);
	}

	private String className(int constant) {
		return text(u2(entries[constant] + 1));
	}

	// New constants go behind the old ones.

	private int constant(int tag, int... parts) {
		extra.write(tag);
		for (int part : parts)
			put2(extra, part);
		return count++;
	}

	private int utf8(String text) {
		byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
		constant(1, bytes.length);
		extra.writeBytes(bytes);
		return count - 1;
	}

	private int nameAndType(String name, String type) {
		return constant(12, utf8(name), utf8(type));
	}

	private int pass() {
		if (pass == 0)
			pass = constant(10, constant(7, utf8("cellfs/Stop")), nameAndType("pass", "(Ljava/lang/Throwable;)V"));
		return pass;
	}

	private static void put2(ByteArrayOutputStream out, int value) {
		out.write(value >> 8);
		out.write(value);
	}

	private static void put4(ByteArrayOutputStream out, int value) {
		put2(out, value >> 16);
		put2(out, value);
	}

	private byte[] assemble(byte[] rest) {
		int pool = POOL + 2;
		int end = in.array().length - rest().length;
		ByteArrayOutputStream out = new ByteArrayOutputStream(in.array().length + extra.size() + 64);
		out.write(in.array(), 0, POOL);
		put2(out, count);
		out.write(in.array(), pool, end - pool);
		out.writeBytes(extra.toByteArray());
		out.writeBytes(rest);
		return out.toByteArray();
	}

	private byte[] rest;

	/** What is behind the constants, as it came. */
	private byte[] rest() {
		if (rest == null)
			rest = Arrays.copyOfRange(in.array(), in.position(), in.array().length);
		return rest;
	}

	private byte[] rewrite() {
		rest();
		ByteArrayOutputStream out = new ByteArrayOutputStream();
		int self = u2(in.position() + 2);
		copy(out, 6);
		copy(out, 2 + 2 * u2(in.position())); // interfaces
		for (boolean methods : new boolean[] {false, true}) {
			int members = in.getShort() & 0xffff;
			put2(out, members);
			for (int i = 0; i < members; i++) {
				int flags = u2(in.position());
				String name = text(u2(in.position() + 2)), type = text(u2(in.position() + 4));
				copy(out, 6);
				attributes(out, methods ? () -> code(out, () -> locals(flags, name, type, self)) : null);
			}
		}
		int attributes = in.getShort() & 0xffff;
		put2(out, attributes);
		for (int i = 0; i < attributes; i++) {
			boolean source = text(u2(in.position())).equals("SourceFile");
			copy(out, 6);
			if (source) {
				in.getShort();
				put2(out, utf8(file));
			} else {
				copy(out, in.getInt(in.position() - 4));
			}
		}
		return assemble(out.toByteArray());
	}

	private void copy(ByteArrayOutputStream out, int n) {
		out.write(in.array(), in.position(), n);
		in.position(in.position() + n);
	}

	/** Copies the attributes of a member, its code by `code`, which finds it at its name. */
	private void attributes(ByteArrayOutputStream out, Runnable code) {
		int n = in.getShort() & 0xffff;
		put2(out, n);
		for (int i = 0; i < n; i++) {
			if (code != null && text(u2(in.position())).equals("Code"))
				code.run();
			else
				copy(out, 6 + in.getInt(in.position() + 2));
		}
	}

	private record Handler(int start, int end, int at, int type) {
	}

	private void code(ByteArrayOutputStream out, Supplier<List<byte[]>> locals) {
		int name = in.getShort() & 0xffff;
		in.getInt();
		int stack = in.getShort() & 0xffff, most = in.getShort() & 0xffff, length = in.getInt();
		ByteArrayOutputStream code = new ByteArrayOutputStream(length + 32);
		copy(code, length);
		List<Handler> handlers = new ArrayList<>();
		for (int n = in.getShort() & 0xffff; n > 0; n--)
			handlers.add(new Handler(in.getShort() & 0xffff, in.getShort() & 0xffff, in.getShort() & 0xffff,
					in.getShort() & 0xffff));
		TreeMap<Integer, Integer> trampolines = new TreeMap<>(); // handler: trampoline
		for (Handler handler : handlers)
			if (handler.type != 0 && CATCHES_STOP.contains(className(handler.type)))
				trampolines.put(handler.at, 0);
		if (length + trampolines.size() * 9 > 65535)
			trampolines.clear();
		for (var trampoline : trampolines.entrySet()) {
			trampoline.setValue(code.size());
			code.write(0x59); // dup
			code.write(0xb8); // invokestatic
			put2(code, pass());
			code.write(0xc8); // goto_w
			put4(code, trampoline.getKey() - (code.size() - 1));
		}
		List<Handler> changed = new ArrayList<>();
		for (Handler handler : handlers) {
			boolean stops = handler.type != 0 && CATCHES_STOP.contains(className(handler.type));
			changed.add(new Handler(handler.start, handler.end,
					stops ? trampolines.getOrDefault(handler.at, handler.at) : handler.at, handler.type));
		}
		for (Handler handler : List.copyOf(changed)) // what guards a handler guards its trampoline
			trampolines.forEach((at, trampoline) -> {
				if (handler.start <= at && at < handler.end)
					changed.add(new Handler(trampoline, trampoline + 9, handler.at, handler.type));
			});

		ByteArrayOutputStream body = new ByteArrayOutputStream();
		put2(body, trampolines.isEmpty() ? stack : Math.max(stack, 2));
		put2(body, most);
		put4(body, code.size());
		body.writeBytes(code.toByteArray());
		put2(body, changed.size());
		for (Handler handler : changed) {
			put2(body, handler.start);
			put2(body, handler.end);
			put2(body, handler.at);
			put2(body, handler.type);
		}
		int attributes = in.getShort() & 0xffff;
		put2(body, attributes);
		for (int i = 0; i < attributes; i++) {
			String kind = text(u2(in.position()));
			int size = in.getInt(in.position() + 2);
			if (kind.equals("LineNumberTable")) {
				copy(body, 6);
				lineNumbers(body);
			} else if (kind.equals("StackMapTable") && !trampolines.isEmpty()) {
				copy(body, 2);
				in.getInt();
				byte[] frames = frames(size, locals.get(), trampolines);
				put4(body, frames.length);
				body.writeBytes(frames);
			} else {
				copy(body, 6 + size);
			}
		}
		put2(out, name);
		put4(out, body.size());
		out.writeBytes(body.toByteArray());
	}

	private void lineNumbers(ByteArrayOutputStream out) {
		int n = in.getShort() & 0xffff;
		put2(out, n);
		for (; n > 0; n--) {
			copy(out, 2);
			put2(out, lines.applyAsInt(in.getShort() & 0xffff));
		}
	}

	/** The stack map with a frame for each trampoline: that of its handler. */
	private byte[] frames(int size, List<byte[]> locals, TreeMap<Integer, Integer> trampolines) {
		int start = in.position(), n = in.getShort() & 0xffff, pc = -1;
		List<byte[]> now = new ArrayList<>(locals);
		TreeMap<Integer, byte[]> added = new TreeMap<>();
		for (int i = 0; i < n; i++) {
			int kind = in.get() & 0xff;
			byte[] top = null; // of the stack, where there is one value on it
			if (kind < 64) {
				pc += kind + 1;
			} else if (kind < 128) {
				pc += kind - 64 + 1;
				top = type();
			} else {
				pc += (in.getShort() & 0xffff) + 1;
				if (kind == 247) {
					top = type();
				} else if (kind < 251) {
					for (int gone = 251 - kind; gone > 0; gone--)
						now.remove(now.size() - 1);
				} else if (kind > 251 && kind < 255) {
					for (int more = kind - 251; more > 0; more--)
						now.add(type());
				} else if (kind == 255) {
					now.clear();
					for (int k = in.getShort() & 0xffff; k > 0; k--)
						now.add(type());
					for (int k = in.getShort() & 0xffff; k > 0; k--)
						top = type();
				}
			}
			Integer trampoline = trampolines.get(pc);
			if (trampoline != null)
				added.put(trampoline, frame(now, top));
		}
		ByteArrayOutputStream out = new ByteArrayOutputStream(size + 32);
		put2(out, n + added.size());
		out.write(in.array(), start + 2, size - 2);
		for (var frame : added.entrySet()) {
			out.write(255);
			put2(out, frame.getKey() - pc - 1);
			out.writeBytes(frame.getValue());
			pc = frame.getKey();
		}
		return out.toByteArray();
	}

	private static byte[] frame(List<byte[]> locals, byte[] top) {
		ByteArrayOutputStream out = new ByteArrayOutputStream();
		put2(out, locals.size());
		locals.forEach(out::writeBytes);
		put2(out, 1);
		out.writeBytes(top);
		return out.toByteArray();
	}

	/** The verification type here. */
	private byte[] type() {
		int at = in.position(), n = in.get(at) >= 7 ? 3 : 1;
		in.position(at + n);
		return Arrays.copyOfRange(in.array(), at, at + n);
	}

	/** The verification types of a method's arguments. */
	private List<byte[]> locals(int flags, String name, String descriptor, int self) {
		List<byte[]> types = new ArrayList<>();
		if ((flags & 8) == 0)
			types.add(name.equals("<init>") ? new byte[] {6} : object(self));
		for (int i = 1; descriptor.charAt(i) != ')';) {
			int start = i;
			while (descriptor.charAt(i) == '[')
				i++;
			i = descriptor.charAt(i) == 'L' ? descriptor.indexOf(';', i) + 1 : i + 1;
			String type = descriptor.substring(start, i);
			types.add(switch (type.charAt(0)) {
			case 'F' -> new byte[] {2};
			case 'D' -> new byte[] {3};
			case 'J' -> new byte[] {4};
			case 'L' -> object(constant(7, utf8(type.substring(1, type.length() - 1))));
			case '[' -> object(constant(7, utf8(type)));
			default -> new byte[] {1};
			});
		}
		return types;
	}

	private static byte[] object(int constant) {
		return new byte[] {7, (byte) (constant >> 8), (byte) constant};
	}
}
