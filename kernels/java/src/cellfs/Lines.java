package cellfs;

import static java.lang.invoke.MethodType.methodType;

import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import jdk.jshell.JShell;
import jdk.jshell.Snippet;
import jdk.jshell.spi.ExecutionControl.ClassBytecodes;

/** Turns the lines of what JShell makes of statements back into those of their cells, by JShell's own maps. */
final class Lines {
	/** Where a statement stands. */
	record Origin(String file, int line) {
	}

	private static final Pattern SHELL_CLASS = Pattern.compile("REPL\\.\\$JShell\\$\\w+?(?=\\$|$)");

	private final IdentityHashMap<Snippet, Origin> origins = new IdentityHashMap<>();
	private final Map<String, Origin> written = new ConcurrentHashMap<>(); // into the class of this name
	private final Map<String, Origin> moved = new ConcurrentHashMap<>(); // where it stands since
	private final Map<?, ?> compiled, wraps; // JShell's, of all classes that there were
	private final MethodHandle outer, className, snippets, snippetAt, wrapped, indexOf;

	Lines(JShell shell) {
		try {
			MethodHandles.Lookup trusted = (MethodHandles.Lookup) Native.get(null, MethodHandles.Lookup.class,
					"IMPL_LOOKUP", "Ljava/lang/invoke/MethodHandles$Lookup;");
			Class<?> map = Class.forName("jdk.jshell.OuterWrapMap");
			Class<?> wrap = Class.forName("jdk.jshell.OuterSnippetsClassWrap");
			Object maps = trusted.findGetter(JShell.class, "outerMap", map).invoke(shell);
			Class<?> factory = Class.forName("jdk.jshell.TaskFactory");
			Class<?> files = Class.forName("jdk.jshell.MemoryFileManager");
			Object tasks = trusted.findGetter(JShell.class, "taskFactory", factory).invoke(shell);
			compiled = (Map<?, ?>) trusted.findGetter(files, "classObjects", Map.class)
					.invoke(trusted.findGetter(factory, "fileManager", files).invoke(tasks));
			wraps = (Map<?, ?>) trusted.findGetter(map, "classOuters", Map.class).invoke(maps);
			outer = trusted.findVirtual(map, "getOuter", methodType(wrap, String.class)).bindTo(maps)
					.asType(methodType(Object.class, String.class));
			className = trusted.findVirtual(Snippet.class, "classFullName", methodType(String.class));
			snippets = trusted.findGetter(wrap, "wrapToSnippet", LinkedHashMap.class)
					.asType(methodType(LinkedHashMap.class, Object.class));
			snippetAt = trusted.findVirtual(wrap, "wrapLineToSnippet", methodType(Snippet.class, int.class))
					.asType(methodType(Snippet.class, Object.class, int.class));
			wrapped = trusted.findVirtual(wrap, "wrapped", methodType(String.class))
					.asType(methodType(String.class, Object.class));
			indexOf = trusted.findVirtual(wrap, "wrapIndexToSnippetIndex", methodType(int.class, int.class))
					.asType(methodType(int.class, Object.class, int.class));
		} catch (Throwable e) {
			throw new IllegalStateException("this JDK's JShell is unknown", e);
		}
	}

	byte[] settle(ClassBytecodes type, Origin now) {
		Matcher name = SHELL_CLASS.matcher(type.name());
		try {
			Object wrap = name.lookingAt() ? (Object) outer.invokeExact(name.group()) : null;
			if (wrap == null)
				return type.bytecodes();
			LinkedHashMap<?, ?> all = (LinkedHashMap<?, ?>) (LinkedHashMap) snippets.invokeExact(wrap);
			for (Object snippet : all.values())
				origins.putIfAbsent((Snippet) snippet, now);
			Snippet first = (Snippet) all.values().iterator().next();
			String text = (String) wrapped.invokeExact(wrap);
			String file = origins.get(first).file;
			written.put(name.group(), origins.get(first));
			moved.remove(name.group());
			return ClassFile.ofCell(type.bytecodes(), file, compiled -> {
				try {
					Snippet snippet = all.size() == 1 ? first : (Snippet) snippetAt.invokeExact(wrap, compiled);
					return line(wrap, text, compiled, snippet, file);
				} catch (Throwable e) {
					return 0;
				}
			});
		} catch (Throwable e) {
			return type.bytecodes();
		}
	}

	private int line(Object wrap, String text, int compiled, Snippet snippet, String file) throws Throwable {
		Origin origin = origins.get(snippet);
		if (origin == null || !origin.file.equals(file))
			return 0;
		int at = 0;
		for (int i = 1; i < compiled; i++)
			at = text.indexOf('\n', at) + 1;
		while (at < text.length() && " \t".indexOf(text.charAt(at)) >= 0)
			at++;
		int index = (int) indexOf.invokeExact(wrap, at);
		String source = snippet.source();
		return origin.line + Engine.lineAt(source, Math.min(index, source.length())) - 1;
	}

	String className(Snippet snippet) throws Throwable {
		return (String) className.invokeExact(snippet);
	}

	/** A declaration that came again unchanged is not compiled again: its class has the lines of before. */
	void seen(Snippet snippet, Origin now) {
		try {
			String name = className(snippet);
			if (!now.equals(written.getOrDefault(name, now)))
				moved.put(name, now);
		} catch (Throwable e) {
			// then they stay as they were
		}
	}

	StackTraceElement place(StackTraceElement element) {
		Matcher name = SHELL_CLASS.matcher(element.getClassName());
		Origin now = name.lookingAt() ? moved.get(name.group()) : null;
		Origin before = now == null ? null : written.get(name.group());
		if (before == null)
			return element;
		return new StackTraceElement(element.getClassName(), element.getMethodName(), now.file,
				element.getLineNumber() + now.line - before.line);
	}

	/** What nothing can name any more: JShell would go through it at each compilation. */
	void forget(Snippet snippet) {
		try {
			String name = className(snippet);
			origins.remove(snippet);
			moved.remove(name);
			written.remove(name);
			wraps.remove(name);
			compiled.keySet().removeIf(each -> each.equals(name) || ((String) each).startsWith(name + "$"));
		} catch (Throwable e) {
			// then it stays
		}
	}
}
