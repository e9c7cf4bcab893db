package cellfs;

import java.io.File;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import jdk.jshell.DeclarationSnippet;
import jdk.jshell.Diag;
import jdk.jshell.JShell;
import jdk.jshell.Snippet;
import jdk.jshell.Snippet.Kind;
import jdk.jshell.Snippet.Status;
import jdk.jshell.Snippet.SubKind;
import jdk.jshell.SnippetEvent;
import jdk.jshell.SourceCodeAnalysis;
import jdk.jshell.SourceCodeAnalysis.Completeness;
import jdk.jshell.SourceCodeAnalysis.CompletionInfo;
import jdk.jshell.UnresolvedReferenceException;
import jdk.jshell.TypeDeclSnippet;
import jdk.jshell.VarSnippet;
import jdk.jshell.execution.DirectExecutionControl;
import jdk.jshell.spi.ExecutionControl;
import jdk.jshell.spi.ExecutionControlProvider;
import jdk.jshell.spi.ExecutionEnv;
import jdk.jshell.spi.SPIResolutionException;

/** JShell in this process: takes a cell apart, compiles its statements one by one and has them run. */
final class Engine {
	private static final int LINES_MOST = 200; // of one statement, looking for the end that has no semicolon
	private static final int VALUES_KEPT = 16; // variables $1, $2, … that can still be named
	private static final List<String> IMPORTS = List.of("java.io.*", "java.math.*", "java.net.*", "java.nio.file.*",
			"java.util.*", "java.util.concurrent.*", "java.util.function.*", "java.util.prefs.*", "java.util.regex.*",
			"java.util.stream.*", "static cellfs.Cell.*", "cellfs.Display", "cellfs.Rich");
	/** What javac's parser and lexer say; all else is said of what could be parsed. */
	private static final Pattern SYNTAX = Pattern.compile("compiler\\.err\\.(expected\\d?|premature\\.eof|not\\.stmt"
			+ "|illegal\\.(start|char|esc|unicode|text|nonascii|underscore|line|dot).*|orphaned|unclosed.*|malformed.*"
			+ "|.*\\.without\\..*|empty\\.char\\.lit|invalid\\.(meth|hex|binary|unicode|lambda|permits|repeatable).*"
			+ "|(variable|class)\\.not\\.allowed|repeated\\.modifier|array\\.dimension\\.missing"
			+ "|int\\.number\\.too\\.large|.*as\\.identifier|enum.*expected|initializer\\.not\\.allowed)");
	private static final Pattern PACKAGE = Pattern.compile("package\\s");
	private static final Pattern CONTINUES = Pattern.compile("\\s*([-.+*/%&|^?:=<>)\\]},;]|instanceof\\b|else\\b|catch\\b|finally\\b).*",
			Pattern.DOTALL);

	private final Runner runner;
	private final JShell shell;
	private final SourceCodeAnalysis analysis;
	private final Control control = new Control();
	private final Lines lines;
	private final ArrayDeque<VarSnippet> values = new ArrayDeque<>();
	private Object value;
	private Throwable thrown;

	/** A statement of the cell, and where it begins. */
	private record Piece(String text, int start) {
	}

	Engine(Runner runner, String jar) {
		this.runner = runner;
		ExecutionControlProvider provider = new ExecutionControlProvider() {
			@Override
			public String name() {
				return "cellfs";
			}

			@Override
			public ExecutionControl generate(ExecutionEnv env, Map<String, String> parameters) {
				return control;
			}
		};
		shell = JShell.builder().executionEngine(provider, Map.of()).build();
		shell.addToClasspath(jar);
		analysis = shell.sourceCodeAnalysis();
		lines = new Lines(shell);
		for (String each : IMPORTS)
			shell.eval("import " + each + ";");
	}

	/** JShell's end of the code that it has compiled. */
	private final class Control extends DirectExecutionControl {
		private Lines.Origin origin; // of what is compiled now

		@Override
		public void load(ClassBytecodes[] classes)
				throws ClassInstallException, NotImplementedException, EngineTerminationException {
			ClassBytecodes[] changed = new ClassBytecodes[classes.length];
			for (int i = 0; i < classes.length; i++)
				changed[i] = new ClassBytecodes(classes[i].name(), lines.settle(classes[i], origin));
			super.load(changed);
		}

		@Override
		public String invoke(String type, String method) throws RunException, InternalException {
			Method body;
			try {
				body = findClass(type).getDeclaredMethod(method);
				body.setAccessible(true);
				runner.use(body.getDeclaringClass().getClassLoader());
			} catch (ReflectiveOperationException | LinkageError e) {
				throw new InternalException(e.toString());
			}
			try {
				value = runner.call(() -> body.invoke(null));
				return "";
			} catch (InvocationTargetException e) {
				thrown = e.getCause();
			} catch (Throwable e) {
				thrown = e;
			}
			if (thrown instanceof SPIResolutionException unresolved)
				throw new ResolutionException(unresolved.id(), new StackTraceElement[0]);
			throw new UserException("", thrown.getClass().getName(), new StackTraceElement[0]);
		}

		Class<?> find(String name) throws ClassNotFoundException {
			return findClass(name);
		}
	}

	/** Where a frame of a cell is now. */
	StackTraceElement place(StackTraceElement element) {
		return lines.place(element);
	}

	void addClasspath(String path) {
		shell.addToClasspath(new File(path).getAbsolutePath());
	}

	/** Drops all that was declared. */
	void forget() {
		values.clear();
		shell.snippets().filter(each -> each.kind() != Kind.IMPORT && shell.status(each).isActive())
				.collect(Collectors.toList()).forEach(shell::drop);
	}

	/** Runs a cell. The value of its last expression, or null; throws what it threw, or a Failure. */
	Object run(String file, String source) throws Throwable {
		List<Snippet> open = new ArrayList<>(); // declared, but something that they name is not
		ArrayDeque<Piece> pieces = split(source, source.startsWith("#!") ? source.indexOf('\n') : 0);
		Object last = null;
		boolean program = true; // nothing but types
		List<TypeDeclSnippet> types = new ArrayList<>();
		while (!pieces.isEmpty()) {
			Piece piece = pieces.remove();
			last = null;
			List<SnippetEvent> events = eval(file, source, piece);
			int part = isSyntaxError(events) ? firstLines(piece.text) : 0;
			if (part > 0) { // what misses its semicolon was taken together with the next statement
				pieces = split(source, piece.start + part);
				piece = new Piece(piece.text.substring(0, part) + ";", piece.start);
				events = eval(file, source, piece);
			}
			for (SnippetEvent event : events) {
				Snippet snippet = event.snippet();
				if (event.causeSnippet() != null)
					continue;
				lines.seen(snippet, control.origin);
				check(event, file, source, piece);
				if (event.status() == Status.RECOVERABLE_DEFINED || event.status() == Status.RECOVERABLE_NOT_DEFINED)
					open.add(snippet);
				program &= snippet.kind() == Kind.IMPORT || snippet.kind() == Kind.TYPE_DECL;
				if (snippet instanceof TypeDeclSnippet type)
					types.add(type);
				if (snippet.subKind() == SubKind.TEMP_VAR_EXPRESSION_SUBKIND
						|| snippet.subKind() == SubKind.VAR_VALUE_SUBKIND)
					last = value;
				if (snippet.subKind() == SubKind.TEMP_VAR_EXPRESSION_SUBKIND)
					keep((VarSnippet) snippet);
				else if (snippet.kind() == Kind.EXPRESSION || snippet.kind() == Kind.STATEMENT)
					lines.forget(snippet);
			}
			value = null;
		}
		for (Snippet snippet : open)
			warn(snippet, file);
		if (program)
			runMain(types, file, source);
		return last;
	}

	private List<SnippetEvent> eval(String file, String source, Piece piece) throws Throwable {
		thrown = null;
		control.origin = new Lines.Origin(file, lineAt(source, piece.start));
		List<SnippetEvent> events = shell.eval(piece.text);
		if (runner.exited() != null)
			throw runner.exited();
		if (runner.interrupted())
			throw thrown != null ? thrown : stopAt(control.origin);
		return events;
	}

	/** It came while a statement was compiled. */
	private static Stop stopAt(Lines.Origin origin) {
		Stop stop = new Stop("interrupted");
		stop.setStackTrace(new StackTraceElement[] {
				new StackTraceElement("REPL.$JShell$0", "do_it$", origin.file(), origin.line())});
		return stop;
	}

	private void check(SnippetEvent event, String file, String source, Piece piece) throws Throwable {
		if (event.status() == Status.REJECTED)
			throw failure(event.snippet(), file, source, piece);
		if (event.exception() instanceof UnresolvedReferenceException unresolved)
			throw named("UnresolvedReferenceException", needs(unresolved.getSnippet()), file, source, piece);
		if (event.exception() != null && thrown != null)
			throw thrown;
		if (event.snippet() instanceof VarSnippet variable && event.status() == Status.RECOVERABLE_NOT_DEFINED) {
			String missing = missing(variable);
			shell.drop(variable);
			throw named("CompileError", "cannot find symbol: " + missing, file, source, piece);
		}
	}

	/** The values of the last expressions are kept for a while, under the names that JShell gives them. */
	private void keep(VarSnippet variable) {
		values.add(variable);
		if (values.size() <= VALUES_KEPT)
			return;
		VarSnippet oldest = values.remove();
		try {
			if (shell.status(oldest).isActive())
				shell.drop(oldest);
		} catch (IllegalArgumentException e) {
			// the cell has declared a variable of this name
		}
		lines.forget(oldest);
	}

	// ---- what does not compile

	private boolean isSyntaxError(List<SnippetEvent> events) {
		return !events.isEmpty() && events.get(0).status() == Status.REJECTED && shell.diagnostics(events.get(0).snippet())
				.filter(Diag::isError).limit(1).allMatch(each -> SYNTAX.matcher(each.getCode()).matches());
	}

	private Failure failure(Snippet snippet, String file, String source, Piece piece) {
		List<Diag> diagnostics = shell.diagnostics(snippet).filter(Diag::isError).collect(Collectors.toList());
		if (diagnostics.isEmpty())
			return named("CompileError", "rejected", file, source, piece);
		List<String> text = new ArrayList<>();
		int line = 0, column = 0;
		for (Diag diagnostic : diagnostics) {
			int position = (int) Math.max(0, Math.min(diagnostic.getStartPosition(), piece.text.length()));
			int at = Math.min(piece.start + position, source.length());
			int start = source.lastIndexOf('\n', at - 1) + 1, end = source.indexOf('\n', at);
			if (line == 0) {
				line = lineAt(source, at);
				column = source.codePointCount(start, at) + 1;
			}
			String[] message = diagnostic.getMessage(Locale.ROOT).split("\n");
			text.add(file + ":" + lineAt(source, at) + ": " + message[0]);
			String code = source.substring(start, end < 0 ? source.length() : end);
			text.add("    " + code.stripTrailing());
			text.add("    " + code.substring(0, at - start).replaceAll("[^\t]", " ") + "^");
			for (int i = 1; i < message.length; i++)
				if (!message[i].startsWith("  location: class"))
					text.add(Values.clean(message[i]));
		}
		String[] first = diagnostics.get(0).getMessage(Locale.ROOT).split("\n");
		Matcher symbol = Pattern.compile("symbol: +(.*)").matcher(String.join("\n", first));
		String message = Values.clean(symbol.find() ? first[0] + ": " + symbol.group(1) : first[0]);
		if (PACKAGE.matcher(piece.text).lookingAt())
			message = "a cell has no package";
		String name = SYNTAX.matcher(diagnostics.get(0).getCode()).matches() ? "SyntaxError" : "CompileError";
		text.add(name + ": " + message);
		return new Failure(name, message, line, column, text);
	}

	private static Failure named(String name, String message, String file, String source, Piece piece) {
		int line = lineAt(source, piece.start);
		return new Failure(name, message, line, 0,
				List.of(file + ":" + line + ": " + piece.text.lines().findFirst().orElse(""), name + ": " + message));
	}

	private String missing(DeclarationSnippet snippet) {
		return shell.unresolvedDependencies(snippet).collect(Collectors.joining(", "));
	}

	private String needs(DeclarationSnippet snippet) {
		String missing = missing(snippet);
		if (missing.isEmpty())
			missing = shell.diagnostics(snippet).map(each -> each.getMessage(Locale.ROOT).lines().findFirst().orElse(""))
					.collect(Collectors.joining(", "));
		return snippet.name() + " cannot be used before " + missing + " is declared";
	}

	private void warn(Snippet snippet, String file) {
		Status status = shell.status(snippet);
		if (status == Status.RECOVERABLE_DEFINED || status == Status.RECOVERABLE_NOT_DEFINED)
			Driver.instance.streams.complain(file + ": " + needs((DeclarationSnippet) snippet));
	}

	// ---- a cell that is a program

	/** A cell of nothing but types, one of which has a main: it is run, as `java FILE` would. */
	private void runMain(List<TypeDeclSnippet> types, String file, String source) throws Throwable {
		List<String> found = new ArrayList<>();
		for (TypeDeclSnippet type : types)
			if (shell.status(type) == Status.VALID && hasMain(control.find(lines.className(type) + "$" + type.name())))
				found.add(type.name());
		if (found.size() != 1)
			return;
		Matcher declared = Pattern.compile("\\b" + Pattern.quote(found.get(0)) + "\\b").matcher(source);
		Piece call = new Piece(found.get(0) + ".main(new String[0]);", declared.find() ? declared.start() : 0);
		for (SnippetEvent event : eval(file, source, call))
			if (event.causeSnippet() == null)
				check(event, file, source, call);
	}

	private static boolean hasMain(Class<?> type) {
		try {
			int flags = type.getDeclaredMethod("main", String[].class).getModifiers();
			return Modifier.isPublic(flags) && Modifier.isStatic(flags);
		} catch (NoSuchMethodException | LinkageError e) {
			return false;
		}
	}

	// ---- taking a cell apart

	private ArrayDeque<Piece> split(String source, int from) {
		ArrayDeque<Piece> pieces = new ArrayDeque<>();
		int at = from < 0 ? source.length() : from;
		while (true) {
			while (at < source.length() && Character.isWhitespace(source.charAt(at)))
				at++;
			if (at == source.length())
				return pieces;
			String rest = source.substring(at);
			CompletionInfo info = analysis.analyzeCompletion(rest);
			Completeness state = info.completeness();
			if (state == Completeness.EMPTY)
				return pieces;
			boolean complete = isComplete(state), semicolon = state == Completeness.COMPLETE_WITH_SEMI;
			int length = complete ? rest.length() - info.remaining().length() : firstLines(rest);
			String text = rest.substring(0, length > 0 ? length : rest.length());
			pieces.add(new Piece(semicolon || !complete && length > 0 ? text + ";" : text, at));
			at += text.length();
		}
	}

	private static boolean isComplete(Completeness state) {
		return state.isComplete() || state == Completeness.CONSIDERED_INCOMPLETE;
	}

	/** The length of the first lines of a text that are a statement by themselves; 0 if none but all of it is. */
	private int firstLines(String text) {
		int tries = 0;
		for (int end = text.indexOf('\n'); end >= 0 && tries++ < LINES_MOST; end = text.indexOf('\n', end + 1))
			if (!CONTINUES.matcher(text.substring(end)).matches()
					&& isComplete(analysis.analyzeCompletion(text.substring(0, end)).completeness()))
				return end;
		return 0;
	}

	static int lineAt(String source, int position) {
		int line = 1;
		for (int i = 0; i < position; i++)
			if (source.charAt(i) == '\n')
				line++;
		return line;
	}
}
