'use strict';

// The command loop: one REPL, driven by the daemon.

const { closeSync, fstatSync, openSync, readSync } = require('fs');
const inspector = require('inspector');
const { types } = require('util');
const v8 = require('v8');
const { MessageChannel } = require('worker_threads');
const { Describer, isBySignal } = load('errors');
const { Interrupts } = load('interrupts');
const { JUPYTER, KINDS, formats, inspect, pack } = load('bundle');
const { PROTOCOL, Wire, dumps } = load('wire');
const { Refusal, Source } = load('source');
const modules = load('modules');
const streams = load('streams');
const { process } = main;

const LANGUAGE = 'javascript';
const META_LIMIT = 4096;
const FRAMES = 30;
const WARM_CELLS = [
	'40 + 2', '[{ a: 1, b: "x" }]', 'await 1; "text"', 'throw new Error("x")', 'display({ a: [1] })',
	'console.log("x", { a: 1 })', 'import "node:path"; 1',
];
const WARM_ROUNDS = 30;
const TAKE = 'cellfsTake';

const uncurry = Function.prototype.call.bind(Function.prototype.bind, Function.prototype.call);
const then = uncurry(main.Promise.prototype.then);
const post = uncurry(inspector.Session.prototype.post);
const decode = uncurry(main.TextDecoder.prototype.decode);
const { chdir, cwd, env, exit, reallyExit } = process;
const { alloc } = main.Buffer;
const subarray = uncurry(main.Buffer.prototype.subarray);
const { onInit } = v8.promiseHooks;
const emit = uncurry(process.emit);
const listenerCount = uncurry(process.listenerCount);

class Driver {
	constructor(directory) {
		this.run = null;
		this.name = 'cell.js';
		this.streams = streams.install(); // before anything opens Node's own, which make the pipes non-blocking
		this.interrupts = new Interrupts(directory, () => this._tick());
		this.wire = new Wire(this.interrupts);
		this.errors = new Describer(directory);
		const { port1, port2 } = new MessageChannel();
		port1.on('message', () => this._tick()).unref();
		this._soon = () => port2.postMessage(0); // calls _tick() in a later turn of the event loop
		this._connect();
		this._prepare();
		modules.install(() => this.name, (noted) => { this.noted = noted; });
	}

	// Answers commands until the last.
	serve() {
		this.wire.send({
			ev: 'hello', proto: PROTOCOL, min_proto: PROTOCOL, lang: LANGUAGE, ver: process.versions.node,
			engine: `V8 ${process.versions.v8}`, pid: process.pid,
		});
		this.interrupts.arm();
		this.wire.listen(() => this._receive(), () => leave(0));
	}

	_receive() {
		for (let command; !this.run && (command = this.wire.take());) {
			this.interrupts.disarm();
			this._obey(command);
		}
		if (!this.run)
			this.interrupts.arm(); // against what the cells have left behind
	}

	_obey(command) {
		switch (command.op) {
		case 'exec':
			this._execute(command);
			break;
		case 'set':
			this._set(command);
			break;
		case 'init':
			if (command.proto !== PROTOCOL) {
				this.wire.log(`only protocol ${PROTOCOL} is spoken here`);
				leave(1);
			}
			this.wire.spool = command.spool;
			this._set({ cwd: command.cwd });
			this.wire.send({ ev: 'ready' });
			break;
		case 'shutdown':
			leave(0);
			break;
		default:
			this.wire.log(`unknown op '${command.op}'`);
		}
	}

	_set(command) {
		try {
			change(command.env);
			if (command.cwd !== undefined)
				chdir(command.cwd);
		} catch (error) {
			this.wire.log(`set: ${error.message}`);
		}
	}

	// A run: `end` is how it ends, once that is known.
	_execute(command) {
		const run = this.run = { id: command.id, source: null, end: null, restore: null, kept: [], isPending: false };
		this.name = command.name;
		this.noted = null;
		let text = '';
		try {
			run.restore = surroundings(command.env, command.cwd);
			text = command.text ?? readText(command.path);
			run.source = new Source(command.name, text);
		} catch (error) {
			this._settle(run, { status: 'error', event: error instanceof Refusal
				? this.errors.refuse(error, command.name, text)
				: this.errors.describe(error, null, null) });
			return;
		}
		this.errors.know(run.source);
		this.interrupts.arm();
		this._begin(run);
	}

	_begin(run) {
		if (run.source.imports)
			this._evaluate(run, run.source.importCode, () => this._main(run));
		else
			this._main(run);
	}

	_main(run) {
		this._evaluate(run, run.source.code, (value) => {
			if (run.source.isValue)
				this._answer(run, value);
			else
				this._settle(run, { status: 'ok' });
		});
	}

	_evaluate(run, expression, done) {
		run.isPending = true;
		// V8 waits for a promise here. Would nothing refer to it and the collector take it, V8 would call back from
		// within the collector, and that ends the process. It is the first one that the evaluation makes.
		const stop = onInit((promise) => {
			stop();
			run.kept.push(promise);
		});
		post(this.session, 'Runtime.evaluate', { expression, replMode: true, silent: true, objectGroup: 'cell' }, (error, answer) => {
			if (run.end || this.run !== run)
				return;
			run.isPending = false;
			if (error)
				this._settle(run, { status: 'interrupted' });
			else if (answer.exceptionDetails)
				this._failed(run, answer.exceptionDetails);
			else
				done(this._take(answer.result));
		});
		stop();
	}

	// The value that the inspector names.
	_take(remote) {
		if (remote.objectId !== undefined) {
			this.taken = undefined;
			post(this.session, 'Runtime.callFunctionOn', {
				functionDeclaration: 'function (take) { "use strict"; take(this); }',
				objectId: remote.objectId, arguments: [{ objectId: this.takeId }], silent: true,
			});
			const { taken } = this;
			this.taken = undefined;
			this.hasObjects = true;
			return taken;
		}
		if (remote.type === 'bigint')
			return BigInt(remote.unserializableValue.slice(0, -1));
		if (remote.unserializableValue !== undefined)
			return Number(remote.unserializableValue);
		return remote.type === 'undefined' ? undefined : remote.value;
	}

	_failed(run, details) {
		const thrown = details.exception ? this._take(details.exception) : details.text;
		const at = { line: details.lineNumber + 1, column: details.columnNumber + 1 };
		const event = this.errors.describe(thrown, run.source, at, this.noted);
		const [, name] = /^Identifier '(.+)' has already been declared$/.exec(event.message) ?? [];
		if (name && event.name === 'SyntaxError' && run.source.resolve(name))
			this._begin(run);
		else
			this._fail(run, thrown, event);
	}

	_answer(run, value) {
		if (types.isPromise(value)) {
			then(value, (settled) => this._answer(run, settled), (reason) => {
				if (!run.end && this.run === run)
					this._fail(run, reason, this.errors.describe(reason, run.source, null, this.noted));
			});
		} else if (value === undefined || handles.has(value)) {
			this._settle(run, { status: 'ok' });
		} else if (!run.end && this.run === run) {
			this._show(value, (data) => {
				if (run.end || this.run !== run)
					return;
				if (typeof value === 'string')
					data['text/x-repr'] = inspect(value);
				this._publish(data, 'result');
				this._settle(run, { status: 'ok' });
			}, (error) => this._settle(run, { status: 'error', event: this.errors.describe(error, run.source, null) }));
		}
	}

	_fail(run, thrown, event) {
		if (isBySignal(thrown))
			this.interrupts.expect();
		this._settle(run, { status: 'error', event });
	}

	// The run's end is known. It is told in a later turn: what the cell has set going at once comes before.
	_settle(run, end) {
		run.end ??= end;
		this._soon();
	}

	// Called when something may have changed: a run is over, or is asked to be.
	_tick() {
		const { run } = this;
		if (run && !run.end && !this.interrupts.isAsked)
			return;
		if (run && run.end?.status !== 'exit' && this.interrupts.isAsked)
			run.end = { status: 'interrupted' };
		this.interrupts.disarm();
		if (run)
			this._finish(run, run.end);
		this._receive();
	}

	_finish(run, { status, code = 0, event }) {
		if (run.isPending)
			this._connect(); // what is left of the run is not waited for
		else if (this.hasObjects)
			post(this.session, 'Runtime.releaseObjectGroup', { objectGroup: 'cell' });
		this.hasObjects = false;
		if (status === 'interrupted')
			event = { ev: 'error', name: 'Interrupted', message: 'the run was interrupted', frames: [],
				traceback: ['Interrupted: the run was interrupted'] };
		if (event)
			this.wire.send({ ...event, id: run.id });
		try {
			run.restore?.();
		} catch (error) {
			this.wire.log(`cannot go back: ${error.message}`);
		}
		this.run = null;
		this.wire.send({ ev: 'done', id: run.id, status, code });
	}

	// A new session with V8, and the means to get at the values in it.
	_connect() {
		this.session?.disconnect();
		this.session = new inspector.Session();
		this.session.connect();
		Object.defineProperty(main, TAKE, { value: (value) => { this.taken = value; }, configurable: true });
		post(this.session, 'Runtime.evaluate', { expression: TAKE }, (error, { result }) => {
			this.takeId = result.objectId;
		});
		delete main[TAKE];
	}

	// What a cell finds beside the language.

	_prepare() {
		main.Error.stackTraceLimit = FRAMES;
		process.argv.length = 1;
		process.exit = process.reallyExit = (code) => this._exit(code);
		process.setUncaughtExceptionCaptureCallback((error) => this._background(error));
		Object.defineProperty(main, 'display', { value: this._makeDisplay(), configurable: true, writable: true });
	}

	_exit(code) {
		const status = Number(code ?? process.exitCode ?? 0) & 255;
		process.exitCode = undefined;
		if (this.run)
			this._settle(this.run, { status: 'exit', code: status });
		else
			this._background(new main.Error(`process.exit(${status}) outside a run`));
		this.interrupts.stop();
	}

	// An error that belongs to no run, or that a run does not wait for.
	_background(error) {
		if (listenerCount(process, 'uncaughtException')) {
			emit(process, 'uncaughtException', error, 'uncaughtException');
			return;
		}
		const event = this.errors.describe(error, null, null);
		this.streams.complain(`${event.traceback.join('\n')}\n`);
		this.wire.send({ ...event, id: null });
	}

	_makeDisplay() {
		const display = (value, options) => this._display(value, options);
		display.update = (id, value, options) => void this._display(value, { ...options, id, kind: 'update' });
		display.clear = (wait) => this._clear(wait);
		for (const [name, mime] of Object.entries(KINDS)) {
			display[name] = (content, ...rest) => {
				const text = content?.raw ? String.raw(content, ...rest) : content;
				const options = content?.raw ? {} : rest[0];
				return this._display({ [mime]: text }, { ...options, raw: true });
			};
		}
		return display;
	}

	_display(value, { id, raw = false, metadata, kind = 'display' } = {}) {
		const name = id === true ? `display-${++this.count}` : id;
		const send = (data) => this._publish(data, kind, name, metadata);
		if (raw)
			send({ ...value });
		else
			this._show(value, send, (error) => { throw error; });
		if (name === undefined || kind === 'update')
			return undefined;
		const handle = {
			id: name,
			update: (next, options) => void this._display(next, { ...options, id: name, kind: 'update' }),
		};
		handles.add(handle);
		return handle;
	}

	// Calls done(bundle), or failed(error) if not even a text can be made.
	_show(value, done, failed) {
		const degraded = (what, error) => this.streams.complain(
			`${what} failed: ${error instanceof Object || types.isNativeError(error) ? error : inspect(error)}\n`);
		const finish = (made) => {
			let data;
			try {
				data = formats(value, made, degraded);
			} catch (error) {
				failed(error);
				return;
			}
			done(data);
		};
		let made;
		try {
			made = typeof value?.[JUPYTER] === 'function' ? value[JUPYTER]() : undefined;
		} catch (error) {
			degraded('Symbol(Jupyter.display)', error);
		}
		if (types.isPromise(made))
			then(made, finish, (error) => { degraded('Symbol(Jupyter.display)', error); finish(); });
		else
			finish(made);
	}

	_publish(data, kind, id, metadata) {
		const packed = pack(data);
		if (!this.run)
			this.wire.log('a display outside a run was dropped');
		else if (packed.length) {
			const event = { ev: 'display', id: this.run.id, kind };
			if (id !== undefined)
				event.display_id = String(id);
			if (metadata && dumps(metadata).length < META_LIMIT)
				event.meta = metadata;
			this.wire.display(event, packed);
		}
	}

	_clear(wait) {
		if (this.run)
			this.wire.send({ ev: 'clear', id: this.run.id, wait: Boolean(wait) });
	}

	// Runs what every cell runs, so that the first one finds it compiled, until a command comes; calls `done()` then.
	warm(rounds, done) {
		const finish = this._finish;
		let left = rounds * WARM_CELLS.length;
		const next = () => {
			if (left-- && !this.wire.hasCommand) {
				this._execute({ id: 0, name: left % 2 ? 'a.js' : 'a.ts', text: WARM_CELLS[left % WARM_CELLS.length] });
				return;
			}
			delete this._finish;
			this.wire.isMute = this.streams.isMute = false;
			done();
		};
		this.wire.isMute = this.streams.isMute = true;
		this._finish = (run, end) => {
			finish.call(this, run, end);
			next();
		};
		next();
	}
}

const handles = new WeakSet();

function readText(path) {
	const bytes = readBytes(path);
	const text = decode(new main.TextDecoder(), bytes);
	if (!text.includes('\ufffd'))
		return text;
	try {
		return decode(new main.TextDecoder('utf-8', { fatal: true }), bytes);
	} catch {
		const before = text.slice(0, text.indexOf('\ufffd')).split('\n');
		throw new Refusal('the cell is not valid UTF-8', before.length, before[before.length - 1].length + 1);
	}
}

// As readFileSync() does, which a cell can replace parts of.
function readBytes(path) {
	const fd = openSync(path, 'r');
	try {
		const bytes = alloc(fstatSync(fd).size);
		let size = 0;
		for (let got; size < bytes.length && (got = readSync(fd, bytes, size, bytes.length - size, null)); size += got);
		return subarray(bytes, 0, size);
	} finally {
		closeSync(fd);
	}
}

// Sets, or with null removes, environment variables; the values there were.
function change(values) {
	const before = {};
	for (const [name, value] of Object.entries(values ?? {})) {
		before[name] = env[name] ?? null;
		if (value === null)
			delete env[name];
		else
			env[name] = value;
	}
	return before;
}

// The environment and the cwd of one run; a function that restores them.
function surroundings(values, directory) {
	let here = null;
	if (directory !== undefined) {
		here = cwd();
		chdir(directory);
	}
	const before = values ? change(values) : null;
	return () => {
		change(before);
		if (here !== null)
			chdir(here);
	};
}

// The process's own way out, with the handlers for it.
function leave(code) {
	process.reallyExit = reallyExit;
	try {
		exit(code);
	} finally {
		reallyExit.call(process, code); // a cell has changed what exit() needs
	}
}

function start(directory) {
	const driver = new Driver(directory);
	driver.warm(1, () => {
		if (!driver.interrupts.isReady()) {
			driver.wire.log('the thread for interrupts does not come up');
			leave(1);
		}
		driver.serve();
		driver.warm(WARM_ROUNDS, () => driver.interrupts.arm()); // a spare has the time for it
	});
}

module.exports = { start };
