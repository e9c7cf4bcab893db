'use strict';

// The user's stdout and stderr: at once, in order with child processes, and never closed.
//
// Node's own streams queue in memory what a full pipe does not take, which comes after the run's end, or never.

const { fstatSync, constants } = require('fs');
const { Console } = require('console');
const { Writable } = require('stream');
const { claim, writeAll } = load('wire');
const { Buffer, console, process } = main;

const toBuffer = Buffer.from;
const { isUint8Array } = require('util').types;

class Out extends Writable {
	constructor(fd) {
		super({ decodeStrings: false });
		this.fd = fd;
		this._own = fstatSync(fd).isFIFO() ? claim(fd, constants.O_WRONLY) : fd; // a child may make its own non-blocking
	}

	write(chunk, encoding, done) {
		if (typeof encoding === 'function')
			[encoding, done] = [undefined, encoding];
		put(this._own, bytes(chunk, encoding));
		if (typeof done === 'function')
			process.nextTick(done);
		return true;
	}

	end(chunk, encoding, done) {
		const callback = [chunk, encoding, done].find((argument) => typeof argument === 'function');
		if (chunk !== undefined && chunk !== null && typeof chunk !== 'function')
			this.write(chunk, encoding);
		if (callback)
			process.nextTick(callback);
		return this;
	}

	destroy() {
		return this;
	}

	_write(chunk, encoding, done) {
		put(this._own, bytes(chunk, encoding));
		done();
	}
}

function bytes(chunk, encoding) {
	if (typeof chunk === 'string')
		return toBuffer(chunk, encoding === 'buffer' ? undefined : encoding);
	if (isUint8Array(chunk))
		return chunk;
	throw Object.assign(new main.TypeError(
		'The "chunk" argument must be of type string or an instance of Buffer or Uint8Array.'),
	{ code: 'ERR_INVALID_ARG_TYPE' });
}

const control = { complain: null, isMute: false };

function put(fd, data) {
	if (control.isMute)
		return;
	try {
		writeAll(fd, data);
	} catch (error) {
		if (error.code !== 'EPIPE') // nobody reads any more: the driver is about to end
			throw error;
	}
}

function install() {
	for (const [fd, name] of [[1, 'stdout'], [2, 'stderr']]) {
		const value = new Out(fd);
		Object.defineProperty(process, name, { value, configurable: true, enumerable: true, writable: true });
	}
	const methods = new Console({ stdout: process.stdout, stderr: process.stderr });
	for (const name of Object.keys(methods)) {
		if (typeof methods[name] === 'function' && name !== 'Console')
			console[name] = methods[name]; // the inspector would keep what the built-in ones print
	}
	const { _own } = process.stderr;
	control.complain = (text) => put(_own, toBuffer(text));
	return control;
}

module.exports = { install };
