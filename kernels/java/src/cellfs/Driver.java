package cellfs;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** The Java driver: runs cells for the daemon over the protocol in ../../../PROTOCOL.md. */
final class Driver {
	private static final int ROUNDS = 3; // of warming: the first before `hello`, the rest while nothing is asked for
	private static final String[] WARMING = {
		"int warm = 1; int warm(int n) { return n + 1; }",
		"System.out.print(\"\"); System.err.print(\"\")",
		"for (int i = 0; i < 2; i++) {\n  warm(i);\n}\nwarm",
		"class Warm { int n; Warm(int n) { this.n = n; } }\nnew Warm(2)",
		"List.of(1, 2).stream().map(n -> \"\" + n).collect(Collectors.toList())",
		"40 + 2",
		"warm(1) / 0",
		"warm cold",
		"cold",
	};

	private static final int RESERVE = 16 << 20;

	static Driver instance;

	final Wire wire;
	final Runner runner;
	final Streams streams;
	final Surroundings surroundings = new Surroundings();
	final Engine engine;
	private volatile long run = -1;
	private byte[] reserve;

	public static void main(String[] arguments) throws Throwable {
		try {
			new Driver(arguments[0]).serve();
		} catch (Throwable e) {
			e.printStackTrace();
			Native.exit(1);
		}
	}

	private Driver(String jar) throws Throwable {
		instance = this;
		wire = new Wire();
		streams = new Streams();
		runner = new Runner(wire.guard);
		try (var in = Object.class.getResourceAsStream("/java/lang/Runtime.class")) {
			Native.redefine(Runtime.class, ClassFile.redirectExit(in.readAllBytes()));
			Native.takeExits();
		}
		calmCompiler();
		engine = new Engine(runner, jar);
		for (String source : WARMING)
			warm(source);
		engine.forget();
	}

	/** The optimizing compiler works for the next cells, never at the cost of this one. */
	private static void calmCompiler() throws IOException {
		try (var threads = Files.newDirectoryStream(Path.of("/proc/self/task"))) {
			for (Path thread : threads)
				if (Files.readString(thread.resolve("comm")).startsWith("C2 "))
					Native.nice(Integer.parseInt(thread.getFileName().toString()), 10);
		}
	}

	/** Takes the paths that cells take, so that the first one is as fast as those after it. */
	private void warm(String source) {
		runner.arm();
		try {
			Object value = engine.run("warm", source);
			if (value != null)
				runner.call(() -> Bundle.of(value).size() + Json.write(Map.of("a", "b")).length());
		} catch (Throwable expected) {
			describe(expected, "warm", false);
		}
		flush();
		runner.disarm();
	}

	private void warmOn() {
		for (int i = 0; i < (ROUNDS - 1) * WARMING.length && !wire.hasCommand(); i++)
			warm(WARMING[i % WARMING.length]);
		engine.forget();
	}

	/** Answers commands until the last. */
	private void serve() {
		wire.send(Json.object("ev", "hello", "proto", Wire.PROTOCOL, "min_proto", Wire.PROTOCOL, "lang", "java",
				"ver", System.getProperty("java.version"), "engine", "JShell", "pid", ProcessHandle.current().pid()));
		warmOn();
		while (true) {
			Map<?, ?> command = wire.receive();
			String operation = command == null ? "shutdown" : String.valueOf(command.get("op"));
			switch (operation) {
			case "exec" -> execute(command);
			case "set" -> set(command);
			case "init" -> {
				if (!Long.valueOf(Wire.PROTOCOL).equals(command.get("proto"))) {
					wire.log("only protocol " + Wire.PROTOCOL + " is spoken here");
					Native.exit(1);
				}
				wire.spool((String) command.get("spool"));
				set(command);
				wire.send(Json.object("ev", "ready"));
			}
			case "shutdown" -> Native.exit(0);
			default -> wire.log("unknown op '" + operation + "'");
			}
		}
	}

	private void set(Map<?, ?> command) {
		try {
			if (command.get("env") instanceof Map<?, ?> changes)
				surroundings.set(changes);
			if (command.get("cwd") instanceof String path)
				surroundings.chdir(path);
		} catch (IOException | IllegalArgumentException e) {
			wire.log("set: " + e.getMessage());
		}
	}

	/** Runs one cell and says how it ended. */
	private void execute(Map<?, ?> command) {
		run = (Long) command.get("id");
		String status = "error";
		int code = 0;
		try {
			streams.renew(false);
			if (Thread.getDefaultUncaughtExceptionHandler() == null)
				Thread.setDefaultUncaughtExceptionHandler(this::uncaught);
			keepReserve();
			runner.arm();
			Throwable failure = failure(command);
			boolean interrupted = runner.interrupted();
			String name = (String) command.get("name");
			String error = failure == null || failure instanceof Exit && !interrupted ? null
					: describe(failure, name, interrupted);
			flush();
			runner.disarm();
			if (error != null)
				wire.send(error);
			if (interrupted)
				streams.renew(true);
			status = failure == null ? "ok" : interrupted ? "interrupted" : failure instanceof Exit ? "exit" : "error";
			code = failure instanceof Exit exit && !interrupted ? exit.status : 0;
		} catch (OutOfMemoryError e) {
			reserve = null;
			runner.disarm();
			wire.send(Errors.describe(new Failure("OutOfMemoryError", "Java heap space", 0, 0, List.of()), run, ""));
		}
		long id = run;
		run = -1;
		wire.send(Json.object("ev", "done", "id", id, "status", status, "code", code));
	}

	/** What the run has ended with, or null. */
	private Throwable failure(Map<?, ?> command) {
		try {
			attempt(command, (String) command.get("name"));
			return null;
		} catch (OutOfMemoryError e) {
			reserve = null;
			return e;
		} catch (Throwable e) {
			return e;
		}
	}

	/** A heap that a cell has filled must leave room to compile the cell that empties it. */
	private void keepReserve() {
		Runtime runtime = Runtime.getRuntime();
		if (reserve == null && runtime.maxMemory() - runtime.totalMemory() + runtime.freeMemory() > 4 * RESERVE)
			reserve = new byte[RESERVE];
	}

	private void attempt(Map<?, ?> command, String name) throws Throwable {
		Map<String, Surroundings.Was> before = null;
		String cwd = surroundings.cwd();
		boolean moved = command.get("cwd") instanceof String;
		try {
			if (moved)
				surroundings.chdir((String) command.get("cwd"));
			if (command.get("env") instanceof Map<?, ?> changes)
				before = surroundings.change(changes);
			String source = new String(Files.readAllBytes(Path.of((String) command.get("path"))),
					StandardCharsets.UTF_8);
			Object value = engine.run(name, source);
			if (value != null && !(value instanceof Display))
				runner.call(() -> publish("result", null, Bundle.of(value)));
		} finally {
			if (before != null)
				surroundings.restore(before);
			if (moved)
				set(Map.of("cwd", cwd));
			else
				surroundings.followProperty();
		}
	}

	/** The error's event. What it is made of is the user's code, and runs as such. */
	private String describe(Throwable failure, String name, boolean interrupted) {
		Throwable shown = failure;
		if (interrupted && !(failure instanceof Stop)) {
			shown = new Stop("interrupted");
			shown.setStackTrace(failure.getStackTrace());
		}
		if (shown instanceof Stop || shown instanceof Failure)
			return Errors.describe(shown, run, name);
		try {
			return runner.call(() -> Errors.describe(failure, run, name));
		} catch (Throwable e) {
			return Errors.describe(new Failure(failure.getClass().getSimpleName(),
					"(it cannot be described: " + e.getClass().getName() + ")", 0, 0, List.of()), run, name);
		}
	}

	private void flush() {
		try {
			runner.call(() -> {
				streams.flush();
				return null;
			});
		} catch (Throwable e) {
			// what is replaced by System.setOut is the cell's affair
		}
	}

	/** An exception that a thread of the user's has ended with. */
	private void uncaught(Thread thread, Throwable error) {
		if (error instanceof Stop)
			return;
		System.err.println("Exception in thread \"" + thread.getName() + "\" "
				+ String.join("\n", Errors.traceback(error)));
		wire.send(Errors.describe(error, null, ""));
	}

	// What cells call.

	/** Sends a bundle behind all that was printed before it. */
	Object publish(String kind, String id, Map<String, Object> bundle) {
		streams.flush();
		if (!runner.ask(() -> wire.display(run, kind, id, bundle, runner)))
			wire.log("a display outside a run was dropped");
		return null;
	}

	/** Takes the displays so far away, with `wait` when the next one comes. */
	void clear(boolean wait) {
		streams.flush();
		runner.ask(() -> wire.send(Json.object("ev", "clear", "id", run, "wait", wait)));
	}
}
