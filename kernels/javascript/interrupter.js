'use strict';

// A thread that waits for SIGINT, and stops the main thread by whatever it takes.
//
// Node hands SIGINT to JavaScript only between two callbacks, so a loop would never hear of it. But a
// script that is run with `breakOnSigint` ends at a SIGINT in whatever thread it runs: here that is all
// this thread ever does. An outer script stays registered while the inner one begins anew.

const inspector = require('inspector');
const vm = require('vm');
const { workerData: { cells, port, states } } = require('worker_threads');

const { USER, HELD, ASKED, HELD_ASKED, EXIT, KILLING, KILLED } = states;
const STATE = 0, WAKE = 1, READY = 2;
const PATIENCE = 50; // ms in which an event loop that is free has answered
const options = { breakOnSigint: true };
let signalled = false;
let posted = false;

const change = (from, to) => Atomics.compareExchange(cells, STATE, from, to) === from;

// What follows may end at any point by the next SIGINT, and is begun again.
function serve() {
	for (;;) {
		if (signalled || Atomics.load(cells, STATE) === EXIT)
			handle();
		signalled = false;
		Atomics.store(cells, READY, 1);
		Atomics.notify(cells, READY);
		Atomics.wait(cells, WAKE, 0);
		Atomics.store(cells, WAKE, 0);
	}
}

// One SIGINT, until the run that it met is over.
function handle() {
	if (change(USER, ASKED))
		Atomics.notify(cells, STATE);
	else
		change(HELD, HELD_ASKED);
	for (;;) {
		const state = Atomics.load(cells, STATE);
		if (state === ASKED)
			ask();
		else if (state === HELD_ASKED)
			wakeSystemCall();
		else if (state === EXIT)
			change(EXIT, KILLING);
		else if (state === KILLING)
			kill();
		else if (state === KILLED)
			follow();
		else
			return;
	}
}

function ask() {
	port.postMessage(0);
	if (Atomics.wait(cells, STATE, ASKED, PATIENCE) === 'timed-out')
		change(ASKED, KILLING);
}

function wakeSystemCall() {
	if (Atomics.wait(cells, STATE, HELD_ASKED, PATIENCE) === 'timed-out')
		process.kill(process.pid, 'SIGINT');
}

function kill() {
	if (!posted) {
		posted = true;
		const session = new inspector.Session();
		session.connectToMainThread();
		session.post('Runtime.terminateExecution');
		session.disconnect();
	}
	posted = false;
	Atomics.store(cells, STATE, KILLED);
	Atomics.notify(cells, STATE);
	port.postMessage(0);
}

// What was ended may have been a callback of many.
function follow() {
	if (Atomics.wait(cells, STATE, KILLED, PATIENCE) === 'timed-out')
		change(KILLED, KILLING);
}

// Of two scripts, one could end while the other one is about to begin anew.
const outer = new vm.Script('cellfs.guard()');
const middle = new vm.Script('cellfs.repeat()');
const inner = new vm.Script('cellfs.serve()');

function repeat(script) {
	for (;;) {
		try {
			script.runInThisContext(options);
		} catch {
			signalled = true;
		}
	}
}

globalThis.cellfs = { serve, repeat: () => repeat(inner), guard: () => repeat(middle) };
repeat(outer);
