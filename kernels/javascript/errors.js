'use strict';

// Errors as the protocol wants them: name, message, place, frames, traceback.

const { types } = require('util');
const { inspect } = load('bundle');
const { IMPORTER } = load('modules');
const { dumps } = load('wire');

const byteLength = main.Buffer.byteLength;

const MESSAGE_LIMIT = 8192;
const FRAMES_LIMIT = 40;
const TRACEBACK_LIMIT = 36864;
const LINE_LIMIT = 4096;
const MOST_FILES = 1000;
const SHOWN_LINE = 300; // a longer line of code is not shown

const FRAME = /^ +at (?:async )?(?:(.*?) \()?((?:file:\/\/)?[^()]*?):(\d+):(\d+)\)?( \{)?$/;

// Knows the cells: the `name` of each, the `url` by which V8 calls it, and what `place(line, column)` maps to it.
class Describer {
	constructor(directory) {
		this.directory = directory;
		this.files = new Map();
	}

	know(file) {
		this.files.delete(file.url);
		this.files.set(file.url, file);
		if (this.files.size > MOST_FILES)
			this.files.delete(this.files.keys().next().value);
	}

	// The `error` event of what ended a run of the cell in `file`, but for the run's id. `at` is the place that V8 gave,
	// which counts for what could not be compiled; `noted` is {value, line, column} of what was thrown last, and no error.
	describe(thrown, file, at, noted) {
		const isError = types.isNativeError(thrown) || isLike(thrown);
		const { head, frames } = isError ? this._stack(thrown) : { head: [], frames: [] };
		let place = frames.find((frame) => frame.file === file?.name);
		if (!place && at && !frames.length && types.isNativeError(thrown) && nameOf(thrown) === 'SyntaxError')
			place = file.clamp(file.place(at.line, at.column));
		else if (!place && !isError && noted && Object.is(noted.value, thrown))
			place = file.place(noted.line, noted.column);
		const event = {
			ev: 'error', name: isError ? nameOf(thrown) : 'Uncaught',
			message: short(isError ? text(() => thrown.message) : text(() => inspect(thrown)), MESSAGE_LIMIT),
		};
		if (place) {
			event.line = place.line;
			event.column = place.column;
		}
		const chain = frames.map(({ file: name, line, func }) => ({ file: name, line, func })).reverse();
		if (place && !chain.some((frame) => frame.file === file.name))
			chain.push({ file: file.name, line: place.line, func: '<anonymous>' });
		if (chain.length > FRAMES_LIMIT)
			chain.splice(FRAMES_LIMIT / 2, chain.length - FRAMES_LIMIT);
		if (dumps(chain).length > MESSAGE_LIMIT)
			chain.splice(2, chain.length - 6);
		event.frames = chain;
		const body = isError ? head : [`Uncaught ${event.message}`];
		event.traceback = cut([...this._excerpt(place, file), ...body.flatMap((line) => line.split('\n'))]);
		return event;
	}

	// The event of a cell that was refused before V8 saw it.
	refuse({ message, line, column }, name, text) {
		const file = { name, lines: text.split('\n') };
		return {
			ev: 'error', name: 'SyntaxError', message, line, column,
			frames: [{ file: name, line, func: '<anonymous>' }],
			traceback: cut([...this._excerpt({ line, column }, file), `SyntaxError: ${message}`]),
		};
	}

	// What inspect() says of an error, without the driver's frames, and the frames of the first stack in it.
	_stack(thrown) {
		const own = this._frames(text(() => String(thrown.stack)));
		const head = [];
		for (const line of text(() => inspect(thrown)).split('\n')) {
			const found = FRAME.exec(line);
			if (!found || !this._isHidden(found))
				head.push(found ? this._clean(line, found) : line);
			else if (found[5] && head.length)
				head[head.length - 1] += found[5];
		}
		return { head, frames: own };
	}

	_frames(stack) {
		const frames = [];
		for (const line of stack.split('\n')) {
			const found = FRAME.exec(line);
			if (!found || this._isHidden(found))
				continue;
			const [, func, url, row, column] = found;
			const file = this.files.get(url);
			const place = file ? file.place(+row, +column) : { line: +row, column: +column };
			frames.push({
				file: (file ? file.name : url.replace(/^file:\/\//, '')).slice(0, 1024), ...place,
				func: (func || '<anonymous>').slice(0, 256),
			});
		}
		return frames;
	}

	_isHidden([, func, url]) {
		return url.startsWith('node:') || url.startsWith(this.directory) || func === IMPORTER;
	}

	_clean(line, [, , url, row, column]) {
		const file = this.files.get(url);
		if (!file)
			return line;
		const place = file.place(+row, +column);
		return line.replace(`${url}:${row}:${column}`, `${file.name}:${place.line}:${place.column}`);
	}

	// The place and the code there, as Node shows them.
	_excerpt(place, file) {
		if (!place)
			return [];
		const code = file.lines[place.line - 1];
		const head = `${file.name}:${place.line}`;
		if (code === undefined || code.length > SHOWN_LINE)
			return [head, ''];
		const indent = code.slice(0, place.column - 1).replace(/[^\t]/g, ' ');
		return [head, code, `${indent}^`, ''];
	}
}

function isLike(thrown) {
	return text(() => typeof thrown === 'object' && thrown !== null && typeof thrown.stack === 'string'
		&& typeof thrown.message === 'string', false);
}

// As child_process tells that a child was ended by SIGINT, and a shell that its own was.
function isBySignal(thrown) {
	return isLike(thrown) && text(() => thrown.signal === 'SIGINT' || thrown.status === 130 || thrown.code === 130, false);
}

// What `make()` gives; a getter of the cell's may throw.
function text(make, otherwise = '<without a printable message>') {
	try {
		const made = make();
		return otherwise === false ? made : String(made);
	} catch {
		return otherwise;
	}
}

function nameOf(error) {
	const name = text(() => error.name);
	const kind = text(() => error.constructor.name);
	return short((name === 'Error' && /^[\w$]+$/.test(kind) ? kind : name) || 'Error', 256);
}

function short(value, limit) {
	if (value.length <= limit && byteLength(dumps(value)) <= limit)
		return value;
	let rest = value.slice(0, limit);
	while (byteLength(dumps(rest)) > limit)
		rest = rest.slice(0, Math.floor(rest.length * 7 / 8) - 1);
	return `${rest}…`;
}

// Leaves lines out in the middle until the rest fits.
function cut(lines) {
	if (lines.length > 400)
		lines = [...lines.slice(0, 100), `  … ${lines.length - 400} lines left out …`, ...lines.slice(-300)];
	lines = lines.map((line) => short(line, LINE_LIMIT));
	const sizes = lines.map((line) => byteLength(dumps(line)) + 1);
	if (sizes.reduce((a, b) => a + b, 0) <= TRACEBACK_LIMIT)
		return lines;
	let head = 0, tail = lines.length;
	for (let room = TRACEBACK_LIMIT / 2; head < tail && room > sizes[head]; head++)
		room -= sizes[head];
	for (let room = TRACEBACK_LIMIT / 2 - 64; tail > head && room > sizes[tail - 1]; tail--)
		room -= sizes[tail - 1];
	return [...lines.slice(0, head), `  … ${tail - head} lines left out …`, ...lines.slice(tail)];
}

module.exports = { Describer, isBySignal };
