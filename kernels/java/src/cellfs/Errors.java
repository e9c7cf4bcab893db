package cellfs;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;

/** Errors as the protocol wants them: name, message, place, frames, traceback. */
final class Errors {
	private static final int MESSAGE_MOST = 8192;
	private static final int FRAMES_MOST = 40;
	private static final int TRACEBACK_MOST = 36864;
	private static final int LINE_MOST = 4096;

	private Errors() {
	}

	/** The `error` event of what ended the run `id` (null for one outside) of the cell `cell`. */
	static String describe(Throwable error, Long id, String cell) {
		if (error instanceof Failure failure)
			return event(id, failure.name, failure.getMessage(), failure.line, failure.column, List.of(),
					failure.traceback);
		List<Json.Raw> frames = new ArrayList<>();
		int line = 0;
		for (StackTraceElement element : trimmed(error.getStackTrace())) {
			if (!ofCell(element))
				continue;
			if (line == 0 && element.getFileName().equals(cell))
				line = element.getLineNumber();
			frames.add(0, new Json.Raw(Json.object("file", element.getFileName(), "line", element.getLineNumber(),
					"func", cut(function(element), 256))));
		}
		if (frames.size() > FRAMES_MOST)
			frames.subList(FRAMES_MOST / 2, frames.size() - FRAMES_MOST / 2).clear();
		if (Json.write(frames).length() > MESSAGE_MOST)
			frames.subList(2, frames.size() - 4).clear();
		String name = error instanceof Stop ? "InterruptedException" : name(error.getClass());
		return event(id, name, message(error), line, 0, frames, traceback(error));
	}

	/** The lines of what printStackTrace prints, in the terms of cells. */
	static List<String> traceback(Throwable error) {
		List<String> lines = new ArrayList<>();
		write(lines, error, "", "", new StackTraceElement[0], Collections.newSetFromMap(new IdentityHashMap<>()));
		return lines;
	}

	private static String event(Long id, String name, String message, int line, int column,
			List<Json.Raw> frames, List<String> traceback) {
		return Json.object("ev", "error", "id", id == null ? new Json.Raw("null") : id, "name", name,
				"message", cut(message, MESSAGE_MOST / 3), "line", line > 0 ? line : null,
				"column", column > 0 ? column : null, "frames", frames, "traceback", fitted(traceback));
	}

	private static String name(Class<?> type) {
		while (type.getSimpleName().isEmpty())
			type = type.getSuperclass();
		return type.getSimpleName();
	}

	private static String message(Throwable error) {
		try {
			String message = error.getLocalizedMessage();
			return message == null ? "" : Values.clean(message);
		} catch (RuntimeException e) {
			return "(its getMessage failed: " + e.getClass().getName() + ")";
		}
	}

	static boolean ofCell(StackTraceElement element) {
		return element.getClassName().startsWith("REPL.$JShell$") && element.getLineNumber() > 0
				&& element.getFileName() != null;
	}

	/** Without the frames of the driver, and those by which it calls a cell. */
	private static StackTraceElement[] trimmed(StackTraceElement[] stack) {
		int end = stack.length;
		while (end > 0 && isOurs(stack[end - 1]))
			end--;
		while (end < stack.length && end > 0 && isCall(stack[end - 1].getClassName()))
			end--;
		return Arrays.stream(stack, 0, end).filter(each -> !isOurs(each)).map(Driver.instance.engine::place)
				.toArray(StackTraceElement[]::new);
	}

	/** Of Method.invoke. */
	private static boolean isCall(String type) {
		return type.contains("reflect.") || type.startsWith("java.lang.invoke.");
	}

	private static boolean isOurs(StackTraceElement element) {
		return element.getClassName().startsWith("cellfs.");
	}

	private static String function(StackTraceElement element) {
		String type = element.getClassName(), method = element.getMethodName();
		if (method.startsWith("do_it$"))
			return "<cell>";
		int inner = type.indexOf('$', "REPL.$JShell$".length());
		String name = method.startsWith("lambda$") ? "<lambda>" : method;
		return inner < 0 ? name : type.substring(inner + 1).replace('$', '.') + "." + name;
	}

	private static void write(List<String> out, Throwable error, String caption, String indent,
			StackTraceElement[] enclosing, Set<Throwable> seen) {
		if (!seen.add(error)) {
			out.add(indent + caption + "(the same " + error.getClass().getName() + " again)");
			return;
		}
		String message = message(error);
		String title = error instanceof Stop ? "" : Values.clean(error.getClass().getName());
		if (title.isEmpty() || message.isEmpty())
			title += message;
		else
			title += ": " + message;
		for (String line : (caption + title).split("\n", -1))
			out.add(indent + line);
		StackTraceElement[] stack = trimmed(error.getStackTrace());
		int m = stack.length - 1;
		for (int n = enclosing.length - 1; m >= 0 && n >= 0 && stack[m].equals(enclosing[n]); n--)
			m--;
		for (int i = 0; i <= m; i++)
			out.add(indent + "    at " + (ofCell(stack[i])
					? function(stack[i]) + "(" + stack[i].getFileName() + ":" + stack[i].getLineNumber() + ")"
					: Values.clean(stack[i].toString())));
		if (m < stack.length - 1)
			out.add(indent + "    ... " + (stack.length - 1 - m) + " more");
		for (Throwable suppressed : error.getSuppressed())
			write(out, suppressed, "Suppressed: ", indent + "    ", stack, seen);
		if (error.getCause() != null)
			write(out, error.getCause(), "Caused by: ", indent, stack, seen);
	}

	private static String cut(String text, int most) {
		return text.length() <= most ? text : text.substring(0, most) + "\u2026";
	}

	/** Lines left out in the middle until the rest fits. */
	private static List<String> fitted(List<String> lines) {
		int[] sizes = lines.stream().mapToInt(line -> Json.write(cut(line, LINE_MOST)).length() * 3 / 2 + 1).toArray();
		int total = 0, head = 0, tail = lines.size();
		for (int size : sizes)
			total += size;
		List<String> kept = new ArrayList<>();
		if (total > TRACEBACK_MOST) {
			int room = TRACEBACK_MOST / 4;
			while (room > sizes[head])
				room -= sizes[head++];
			room = TRACEBACK_MOST * 3 / 4;
			while (tail > head && room > sizes[tail - 1])
				room -= sizes[--tail];
		}
		for (int i = 0; i < lines.size(); i++)
			if (total <= TRACEBACK_MOST || i < head || i >= tail)
				kept.add(cut(lines.get(i), LINE_MOST));
			else if (i == head)
				kept.add("    \u2026 " + (tail - head) + " lines left out \u2026");
		return kept;
	}
}
