'use strict';

// MIME bundles: the formats of a value, made ready for the wire.

const { inspect: nodeInspect, types } = require('util');
const { dumps } = load('wire');
const { Buffer } = main;

const JUPYTER = Symbol.for('Jupyter.display'); // Deno's
const METHODS = { // ijavascript's
	_toHtml: 'text/html',
	_toMarkdown: 'text/markdown',
	_toSvg: 'image/svg+xml',
	_toPng: 'image/png',
	_toJpeg: 'image/jpeg',
	_toPdf: 'application/pdf',
	_toLatex: 'text/latex',
	_toJson: 'application/json',
	_toJavascript: 'application/javascript',
};
const KINDS = {
	html: 'text/html', markdown: 'text/markdown', md: 'text/markdown', svg: 'image/svg+xml',
	png: 'image/png', jpeg: 'image/jpeg', jpg: 'image/jpeg', gif: 'image/gif', pdf: 'application/pdf',
	latex: 'text/latex', json: 'application/json', javascript: 'application/javascript', text: 'text/plain',
};
const SIGNATURES = [
	['image/png', '89504e470d0a1a0a'], ['image/jpeg', 'ffd8ff'], ['image/gif', '47494638'],
	['application/pdf', '255044462d'],
];
const TABLE = 'application/vnd.cellfs.data+json';
const MAX_ROWS = 5000;
const HTML_ROWS = 60;
const MAX_COLUMNS = 1000;
const JSON_NODES = 200000;
const JSON_DEPTH = 200;
const JSON_LIMIT = 8 << 20;
const MOST_FORMATS = 32;

const toBuffer = Buffer.from;
const toHex = Function.prototype.call.bind(Buffer.prototype.toString);
const { isUint8Array, isAnyArrayBuffer, isDate, isArrayBufferView } = types;
const toISO = Function.prototype.call.bind(main.Date.prototype.toISOString);
const time = Function.prototype.call.bind(main.Date.prototype.getTime);
const plainPrototypes = new Set([null, main.Object.prototype, Object.prototype]);

const inspect = (value) => nodeInspect(value, { depth: 4, maxArrayLength: 200, maxStringLength: 20000 });

const isObject = (value) => value !== null && typeof value === 'object';
const isPlain = (value) => isObject(value) && !types.isProxy(value) && plainPrototypes.has(Object.getPrototypeOf(value));

// The bundle of `value`, which may have `made` formats itself. A failing method costs its own format only, told to
// `degraded(method, error)`; an inspect that fails is an error.
function formats(value, made, degraded) {
	const data = {};
	add(data, made);
	if (value !== null && (typeof value === 'object' || typeof value === 'function')) {
		const attempt = (what, make) => {
			try {
				make();
			} catch (error) {
				degraded(what, error);
			}
		};
		attempt('_toMime', () => add(data, call(value, '_toMime')));
		for (const [method, mime] of Object.entries(METHODS))
			attempt(method, () => add(data, { [mime]: call(value, method) }));
		if (!Object.keys(data).length && typeof value === 'object')
			attempt('rich output', () => recognise(value, data));
	}
	if (data['text/plain'] === undefined)
		data['text/plain'] = typeof value === 'string' ? value : inspect(value);
	return data;
}

function call(value, method) {
	return typeof value[method] === 'function' ? value[method]() : undefined;
}

function add(data, more) {
	if (!isObject(more))
		return;
	for (const mime of Object.keys(more)) {
		if (more[mime] !== undefined && more[mime] !== null && data[mime] === undefined)
			data[mime] = more[mime];
	}
}

// What is known by its looks.
function recognise(value, data) {
	if (isUint8Array(value)) {
		const mime = sniff(value);
		if (mime)
			data[mime] = value;
	} else if (typeof value.toBuffer === 'function' && typeof value.getContext === 'function') {
		data['image/png'] = value.toBuffer('image/png'); // node-canvas and its like
	} else if (typeof value.toSpec === 'function') {
		addChart(value.toSpec(), data); // vega-lite-api
	} else if (isPlain(value) || Array.isArray(value)) {
		if (!addChart(value, data))
			addJson(value, data);
	}
}

function sniff(bytes) {
	const head = toHex(toBuffer(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, 16)), 'hex');
	if (head.startsWith('52494646') && head.slice(16, 24) === '57454250')
		return 'image/webp';
	return SIGNATURES.find(([, signature]) => head.startsWith(signature))?.[0];
}

function addChart(value, data) {
	const schema = typeof value.$schema === 'string' && /\/schema\/(vega|vega-lite)\/v(\d+)/.exec(value.$schema);
	const isPlotly = Array.isArray(value.data) && isPlain(value.layout) && value.data.every(isPlain);
	if (!schema && !isPlotly)
		return false;
	const json = toJson(value);
	if (json === undefined)
		return false;
	const mime = !schema ? 'plotly.v1' : `${schema[1].replace('-', '')}.v${schema[2]}`;
	data[`application/vnd.${mime}+json`] = new Json(json);
	return true;
}

function addJson(value, data) {
	const json = toJson(value);
	if (json === undefined)
		return;
	data['application/json'] = new Json(json);
	const table = toTable(value);
	if (table) {
		data[TABLE] = new Json(toJson(table));
		data['text/html'] = toHtml(value, Object.keys(table));
	}
}

// A JSON value whose text is known.
class Json {
	constructor(text) {
		this.text = text;
	}
}

// The JSON text of plain data that is not too large; undefined of anything else.
function toJson(value) {
	let left = JSON_NODES;
	const path = new Set();
	const copy = (item) => {
		if (--left < 0)
			throw new Error('too large');
		if (item === null || typeof item === 'string' || typeof item === 'boolean')
			return item;
		if (typeof item === 'number')
			return Number.isFinite(item) ? item : null;
		if (isDate(item))
			return Number.isNaN(time(item)) ? null : toISO(item);
		if (typeof item !== 'object' || path.has(item) || path.size === JSON_DEPTH)
			throw new Error('no JSON');
		path.add(item);
		let made;
		if (Array.isArray(item)) {
			made = [];
			for (let i = 0; i < item.length; i++)
				made.push(item[i] === undefined ? null : copy(item[i]));
		} else if (isPlain(item)) {
			made = Object.create(null);
			for (const key of Object.keys(item)) {
				const part = item[key];
				if (part !== undefined)
					made[key] = copy(part);
			}
		} else {
			throw new Error('no JSON');
		}
		path.delete(item);
		return made;
	};
	try {
		const text = dumps(copy(value));
		return text.length <= JSON_LIMIT ? text : undefined;
	} catch {
		return undefined;
	}
}

// {column: [values]} of an array of flat plain objects.
function toTable(rows) {
	if (!Array.isArray(rows) || !rows.length || !rows.every(isPlain))
		return null;
	const columns = new Set();
	for (const row of rows) {
		for (const key of Object.keys(row)) {
			if (isObject(row[key]) && !isDate(row[key]))
				return null;
			columns.add(key);
		}
	}
	if (!columns.size || columns.size > MAX_COLUMNS)
		return null;
	const table = Object.create(null);
	const shown = rows.slice(0, MAX_ROWS);
	for (const column of columns)
		table[column] = shown.map((row) => row[column] === undefined ? null : row[column]);
	return table;
}

function toHtml(rows, columns) {
	const cell = (value) => value === undefined || value === null ? '' : escape(isDate(value) ? toJson(value).slice(1, -1) : String(value));
	const head = columns.map((column) => `<th>${escape(column)}</th>`).join('');
	const body = rows.slice(0, HTML_ROWS).map((row) =>
		`<tr>${columns.map((column) => `<td>${cell(row[column])}</td>`).join('')}</tr>\n`).join('');
	const notes = [];
	if (rows.length > HTML_ROWS)
		notes.push(`${HTML_ROWS} of ${rows.length} rows are shown`);
	if (rows.length > MAX_ROWS)
		notes.push(`${MAX_ROWS} are in the table's data`);
	return `<table>\n<thead><tr>${head}</tr></thead>\n<tbody>\n${body}</tbody>\n</table>\n`
		+ (notes.length ? `<p>${notes.join(', ')}</p>\n` : '');
}

function escape(text) {
	return text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
}

// [{mime, text: the JSON that may go inline or null, payload}] of a bundle.
function pack(data) {
	const packed = [];
	for (const mime of Object.keys(data)) {
		let value = data[mime];
		if (value === undefined || value === null || packed.length === MOST_FORMATS)
			continue;
		if (typeof value === 'string' && isBinary(mime))
			value = toBuffer(value.replace(/^data:[^,]*;base64,/, ''), 'base64');
		if (isAnyArrayBuffer(value))
			value = toBuffer(value);
		if (isArrayBufferView(value)) {
			packed.push({ mime, text: null, payload: toBuffer(value.buffer, value.byteOffset, value.byteLength) });
		} else if (typeof value === 'string') {
			packed.push(plain(value, mime));
		} else {
			const text = value instanceof Json ? value.text : toJson(value);
			if (text !== undefined)
				packed.push({ mime, text: `{"json":${text}}`, payload: text });
			else if (data['text/plain'] === undefined)
				packed.push(plain(inspect(value)));
		}
	}
	return packed;
}

const plain = (text, mime = 'text/plain') => ({ mime, text: dumps(text), payload: text });

function isBinary(mime) {
	return (/^(image|audio|video)\//.test(mime) && mime !== 'image/svg+xml') || mime === 'application/pdf';
}

module.exports = { JUPYTER, KINDS, formats, inspect, pack };
