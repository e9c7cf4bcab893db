'use strict';

// The control protocol's lines, acks and spool files.

const { closeSync, openSync, readSync, unlinkSync, writeSync, constants } = require('fs');
const net = require('net');
const path = require('path');
const { Buffer, process } = main;

const PROTOCOL = 1;
const LINE_LIMIT = 65536;
const INLINE_LIMIT = 16384;
const LOG_LIMIT = 4096;

const byteLength = Buffer.byteLength;
const toBuffer = Buffer.from;
const subarray = Function.prototype.call.bind(Buffer.prototype.subarray);
const decode = Function.prototype.call.bind(
	main.TextDecoder.prototype.decode, new main.TextDecoder('utf-8'));

// JSON whose strings are all valid Unicode: half of a surrogate pair has no UTF-8.
function dumps(value) {
	const text = JSON.stringify(value);
	return text.includes('\\ud')
		? text.replace(/\\(?:\\|u(d[89a-f]..))/g, (found, half) => half ? '\ufffd' : found)
		: text;
}

function writeAll(fd, bytes) {
	for (let at = 0; at < bytes.length;)
		at += writeSync(fd, bytes, at);
}

// Node cannot duplicate a descriptor; a pipe that is opened again is close-on-exec, and has flags of its own.
function claim(fd, flags) {
	return openSync(`/proc/self/fd/${fd}`, flags);
}

class Wire {
	constructor(interrupts) {
		this.interrupts = interrupts;
		this.spool = null;
		this.isMute = false;
		this._commands = claim(3, constants.O_RDONLY);
		this._events = claim(4, constants.O_WRONLY);
		this._acks = claim(5, constants.O_RDONLY);
		for (const fd of [3, 4, 5, 6]) { // all at the end: the first one free is the next one opened
			try {
				closeSync(fd);
			} catch {
				// no guard: SIGINT does what it could ask for
			}
		}
		this._owed = 0;
		this._ack = Buffer.alloc(64);
		this._files = 0;
		this._unread = '';
	}

	// Calls `receive()` when a command can be taken, `end()` after the last.
	listen(receive, end) {
		const onread = {
			buffer: Buffer.alloc(LINE_LIMIT),
			callback: (size, buffer) => {
				this._unread += decode(subarray(buffer, 0, size), { stream: true });
				receive();
				return true;
			},
		};
		const socket = new net.Socket({ fd: this._commands, readable: true, writable: false, onread });
		socket.on('end', end).on('error', end);
	}

	get hasCommand() {
		return this._unread.includes('\n');
	}

	// The next command, if it is there.
	take() {
		const end = this._unread.indexOf('\n');
		if (end < 0)
			return null;
		const line = this._unread.slice(0, end);
		this._unread = this._unread.slice(end + 1);
		return JSON.parse(line);
	}

	send(event) {
		if (this.isMute)
			return;
		const isHeld = this.interrupts.hold();
		try {
			this._write(dumps(event));
		} finally {
			if (isHeld)
				this.interrupts.release();
		}
	}

	log(text) {
		this.send({ ev: 'log', text: text.slice(0, LOG_LIMIT) });
	}

	// Sends a `display` event with `formats` (as `pack` made them) and waits for its ack.
	display(event, formats) {
		if (this.isMute)
			return;
		const isHeld = this.interrupts.hold();
		try {
			const data = this._inline(formats);
			this._write(`${dumps(event).slice(0, -1)},"data":{${data.join(',')}}}`);
			this._owed++;
			this._awaitAcks();
		} finally {
			if (isHeld)
				this.interrupts.release();
		}
	}

	_inline(formats) {
		let room = LINE_LIMIT - 8192;
		return formats.map(({ mime, text, payload }) => {
			const name = dumps(mime);
			room -= byteLength(name) + 64;
			if (text !== null && byteLength(payload) <= INLINE_LIMIT && byteLength(text) <= room)
				room -= byteLength(text);
			else
				text = dumps({ file: this._put(payload) });
			return `${name}:${text}`;
		});
	}

	_put(payload) {
		const name = `${process.pid}-${++this._files}`;
		const file = path.join(this.spool, name);
		const fd = openSync(file, 'wx', 0o600);
		try {
			writeAll(fd, typeof payload === 'string' ? toBuffer(payload) : payload);
		} catch (error) {
			unlinkSync(file);
			throw error;
		} finally {
			closeSync(fd);
		}
		return name;
	}

	_write(line) {
		const bytes = toBuffer(`${line}\n`);
		if (bytes.length > LINE_LIMIT)
			throw new main.RangeError('an event is too long');
		writeAll(this._events, bytes);
	}

	_awaitAcks() {
		while (this._owed) {
			try {
				this._owed -= readSync(this._acks, this._ack, 0, Math.min(this._owed, 64)) || this._owed;
			} catch (error) {
				if (error.code !== 'EINTR')
					throw error;
				if (this.interrupts.isPressed)
					return; // the rest is taken before the next
			}
		}
	}
}

module.exports = { PROTOCOL, Wire, claim, dumps, writeAll };
