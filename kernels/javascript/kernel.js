'use strict';

// The JavaScript and TypeScript driver: runs cells for the daemon over the protocol in ../PROTOCOL.md.

const fs = require('fs');
const path = require('path');
const vm = require('vm');

// A realm of its own: what a cell does to Array.prototype, JSON or Promise does not reach the driver.
const realm = vm.createContext();
const loaded = new Map();

function load(name) {
	if (!loaded.has(name)) {
		const filename = path.join(__dirname, `${name}.js`);
		const names = ['module', 'exports', 'require', 'load', 'main'];
		const made = { exports: {} };
		loaded.set(name, made);
		vm.compileFunction(fs.readFileSync(filename, 'utf8'), names, { filename, parsingContext: realm })(
			made, made.exports, require, load, globalThis);
	}
	return loaded.get(name).exports;
}

load('driver').start(__dirname);
