'use strict';

// Interrupts of a run, and its end from within (process.exit), as seen by the main thread.
//
// One number says who may stop the main thread at the moment. All changes go by compare-and-exchange, so
// that a termination never hits the driver's own code, and is never left over for the next run.

const { createHook } = require('async_hooks');
const path = require('path');
const { Worker, MessageChannel } = require('worker_threads');
const { process } = main;

const STATES = Object.freeze({
	IDLE: 0, // no run: nothing is stopped
	USER: 1, // a cell's code may run
	HELD: 2, // ...but is in a part of the driver that must not be torn apart
	ASKED: 3, // a SIGINT has come: an event loop that is free ends the run by itself
	HELD_ASKED: 4,
	EXIT: 5, // the cell wants to be stopped
	KILLING: 6, // a termination will come
	KILLED: 7, // ...and has been sent
});
const { IDLE, USER, HELD, ASKED, HELD_ASKED, EXIT, KILLING, KILLED } = STATES;
const STATE = 0, WAKE = 1, READY = 2;
const START = 20000; // ms
const SOON = 50; // ms

class Interrupts {
	// `wake()` is called from the event loop, at any time and for no reason too.
	constructor(directory, wake) {
		ignoreSignal();
		allowTermination();
		this.cells = new Int32Array(new SharedArrayBuffer(12));
		const { port1, port2 } = new MessageChannel();
		port1.on('message', wake).unref();
		new Worker(path.join(directory, 'interrupter.js'), {
			workerData: { cells: this.cells, port: port2, states: STATES }, transferList: [port2],
			resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 2 }, stdout: true, stderr: true,
		}).unref();
	}

	// False if the thread does not come up.
	isReady() {
		return Atomics.wait(this.cells, READY, 0, START) !== 'timed-out';
	}

	get state() {
		return Atomics.load(this.cells, STATE);
	}

	_change(from, to) {
		return Atomics.compareExchange(this.cells, STATE, from, to) === from;
	}

	_wait(state, timeout) {
		Atomics.wait(this.cells, STATE, state, timeout);
	}

	// From here on a SIGINT ends the run.
	arm() {
		this._change(IDLE, USER);
	}

	// Does the run have to end?
	get isAsked() {
		return this.state >= ASKED;
	}

	// What ended by a SIGINT, a child above all, tells that one has come: its thread may hear of it later.
	expect() {
		this._wait(USER, SOON);
	}

	// From here on nothing is stopped. A termination that is under way hits here, or has been.
	disarm() {
		for (let state; (state = this.state) !== IDLE;) {
			if (state === KILLING)
				this._wait(KILLING);
			else if (state === KILLED)
				this._absorb();
			if (state !== KILLING)
				this._change(state, IDLE);
		}
	}

	// A termination that was sent takes effect at the latest here: a wait looks for it, a loop that is compiled may not.
	_absorb() {
		this._wait(KILLED, 5);
	}

	// What comes until release() is not torn apart. True if it has to be released.
	hold() {
		for (let state; (state = this.state) !== IDLE;) {
			if (state === KILLED) {
				this._absorb();
				return false;
			}
			if (this._change(USER, HELD))
				return true;
			this._wait(state);
		}
		return false;
	}

	get isPressed() {
		return this.state === HELD_ASKED;
	}

	release() {
		if (!this._change(HELD, USER)) {
			this._change(HELD_ASKED, ASKED);
			Atomics.notify(this.cells, STATE);
			this._perish();
		}
	}

	// Ends the code that called, uncatchably. The event loop goes on.
	stop() {
		this.arm();
		if (this._change(USER, EXIT)) {
			Atomics.store(this.cells, WAKE, 1);
			Atomics.notify(this.cells, WAKE);
		}
		this._perish();
	}

	_perish() {
		for (;;)
			this._wait(this.state, 10);
	}
}

// The signal has a handler from the start, and no listener of a cell takes it from the thread above.
function ignoreSignal() {
	process.on('SIGINT', () => {});
	for (const event of ['newListener', 'removeListener']) {
		for (const listener of process.listeners(event)) {
			process.removeListener(event, listener);
			process.on(event, (type, ...rest) => {
				if (type !== 'SIGINT')
					Reflect.apply(listener, process, [type, ...rest]);
			});
		}
	}
	process.removeAllListeners('SIGINT');
}

// A callback that is terminated leaves its asynchronous context behind. Node ends the process when it sees that, unless
// it is told not to look (--no-force-async-hooks-checks), and looks anyway while hooks are enabled.
function allowTermination() {
	const { noDeprecation } = process;
	process.noDeprecation = true;
	try {
		const { async_hook_fields: fields, constants: { kCheck, kTotals } } = process.binding('async_wrap');
		const prototype = Object.getPrototypeOf(createHook({}));
		for (const name of ['enable', 'disable']) {
			const own = prototype[name];
			prototype[name] = function () {
				const result = Reflect.apply(own, this, []);
				fields[kCheck] = fields[kTotals] = 0;
				return result;
			};
		}
	} catch {
		// a Node without these: an interrupt may then cost the state of a kernel that uses hooks
	} finally {
		process.noDeprecation = noDeprecation;
	}
}

module.exports = { Interrupts };
