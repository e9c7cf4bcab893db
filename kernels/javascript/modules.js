'use strict';

// require() and import as of a file in the cwd of the moment.

const { readFileSync, readdirSync, statSync } = require('fs');
const Module = require('module');
const path = require('path');
const { fileURLToPath, pathToFileURL } = require('url');
const { IMPORT, TYPESCRIPT, hasPackages, toCommonJS } = load('source');
const { URL, process } = main;

const { cwd, env } = process;
const compile = Function.prototype.call.bind(Module.prototype._compile);
const requireOf = Function.prototype.call.bind(Module.prototype.require);
const reject = main.Promise.reject.bind(main.Promise);
const { _cache, _load, _nodeModulePaths, _resolveFilename, builtinModules, isBuiltin } = Module;
const then = Function.prototype.call.bind(main.Promise.prototype.then);

const IMPORTER = 'cellfsImport'; // how it is called in stacks, which leave it out

const MOST_IMPORTERS = 1000;

const importers = new Map(); // file that imports: function
const required = new Map(), imported = new Map(); // file of the workspace: its state when it was loaded first

const isPackage = (id) => /^[@\w][^:]*$/.test(id) && !isBuiltin(id);
const isPath = (id) => /^(\.{0,2}\/|\.{1,2}$|file:)/.test(id);

function fileOf(name) {
	return path.join(cwd(), name);
}

// A file of this name beside the context's packages.
function fileOfPackages(name) {
	return env.CELLFS_PACKAGES ? path.join(env.CELLFS_PACKAGES, 'lib', name) : null;
}

function moduleAt(file) {
	const made = new Module(file);
	made.filename = file;
	made.paths = _nodeModulePaths(path.dirname(file));
	made.loaded = true;
	return made;
}

// With the context's packages, which come after the workspace's.
function placed(parent) {
	if (env.CELLFS_PACKAGES)
		parent.paths.push(path.join(env.CELLFS_PACKAGES, 'lib', 'node_modules'));
	return parent;
}

// What tells one version of a workspace's file from another.
function stateOf(file) {
	if (file.includes('/node_modules/'))
		return '';
	try {
		const { mtimeMs, size, ino } = statSync(file);
		return `${mtimeMs}-${size}-${ino}`;
	} catch {
		return '';
	}
}

// The directories that have the package. Node is never asked for one that is not there: it would remember that, and the
// package would stay missing after its installation.
function homesOf(id, directories) {
	const [scope, rest] = id.split('/');
	const folder = id[0] === '@' ? `${scope}/${rest}` : scope;
	return directories.filter((directory) => {
		try {
			return readdirSync(path.join(directory, folder)).length;
		} catch {
			return false;
		}
	});
}

// `name()` is the cell's.
function makeRequire(name) {
	const resolve = (id, options) => _resolveFilename(id, placed(moduleAt(fileOf(name()))), false, options);
	const own = function require(id) {
		const parent = moduleAt(fileOf(name()));
		if (typeof id === 'string' && isPath(id)) {
			const file = _resolveFilename(id, parent, false);
			const state = stateOf(file);
			if (required.has(file) && required.get(file) !== state)
				delete _cache[file];
			required.set(file, state);
		} else if (typeof id === 'string') {
			parent.paths = homesOf(id, placed(parent).paths);
			if (!parent.paths.length && isPackage(id) && !homesOf(id, Module.globalPaths).length)
				throw Object.assign(new main.Error(`Cannot find module '${id}'`), { code: 'MODULE_NOT_FOUND', requireStack: [] });
		}
		return requireOf(parent, id);
	};
	return Object.assign(own, { resolve, cache: _cache, extensions: Module._extensions, main: undefined });
}

// The function that `import` becomes: import(specifier, options), with `meta`, `from` for the statement, and `throws`.
function makeImport(name, ownRequire, note) {
	const stand = (specifier, options) => {
		if (TYPESCRIPT.test(specifier) && isPath(specifier) && !process.features.typescript)
			return then(main.Promise.resolve(), () => ownRequire(specifier));
		const file = fileOf(name());
		if (typeof specifier === 'string' && isPackage(specifier) && !homesOf(specifier, moduleAt(file).paths).length) {
			const beside = fileOfPackages(name());
			if (beside && homesOf(specifier, [path.join(path.dirname(beside), 'node_modules')]).length)
				return importer(beside)(specifier, options);
			const error = new main.Error(`Cannot find package '${specifier}' imported from ${file}`);
			return reject(Object.assign(error, { code: 'ERR_MODULE_NOT_FOUND' }));
		}
		return importer(file)(target(specifier, file), options);
	};
	stand.from = (specifier, attributes, names) => {
		const options = Object.keys(attributes).length ? { with: attributes, assert: attributes } : undefined;
		return then(stand(specifier, options), (space) => {
			for (const word of names) {
				if (!(word in space))
					throw new main.SyntaxError(`The requested module '${specifier}' does not provide an export named '${word}'`);
			}
			return space;
		});
	};
	stand.throws = (line, column, value) => {
		note({ value, line, column });
		return value;
	};
	stand.meta = {
		get url() { return pathToFileURL(fileOf(name())).href; },
		get filename() { return fileOf(name()); },
		get dirname() { return cwd(); },
		resolve: (id) => isPath(id) ? new URL(id, pathToFileURL(fileOf(name()))).href
			: pathToFileURL(_resolveFilename(id, placed(moduleAt(fileOf(name()))), false)).href,
	};
	return stand;
}

// import() takes the file that it stands in as the place to search from.
function importer(file) {
	if (importers.size > MOST_IMPORTERS)
		importers.clear();
	if (!importers.has(file)) {
		const made = moduleAt(file);
		compile(made, `module.exports = function ${IMPORTER}(specifier, options) { return import(specifier, options); }`, file);
		importers.set(file, made.exports);
	}
	return importers.get(file);
}

// A file that has changed is another module.
function target(specifier, file) {
	if (typeof specifier !== 'string' || !isPath(specifier))
		return specifier;
	const url = new URL(specifier, pathToFileURL(file));
	if (url.protocol !== 'file:')
		return specifier;
	const path = fileURLToPath(url);
	const state = stateOf(path);
	if (!imported.has(path))
		imported.set(path, state);
	if (imported.get(path) !== state)
		url.searchParams.set('changed', state);
	return url.href;
}

// What a cell finds as in a file, and Node's own modules as in Node's REPL.
function install(name, note) {
	const define = (key, descriptor) =>
		Object.defineProperty(main, key, { configurable: true, enumerable: false, ...descriptor });
	const own = makeRequire(name);
	define('require', { value: own, writable: true });
	define(IMPORT, { value: makeImport(name, own, note) });
	define('module', { value: { exports: {} }, writable: true });
	define('exports', { value: main.module.exports, writable: true });
	for (const [key, get] of [['__dirname', () => cwd()], ['__filename', () => fileOf(name())]])
		define(key, { get });
	for (const id of builtinModules) {
		if (/^[a-z]\w*$/.test(id) && !(id in main)) {
			define(id, {
				get: () => _load(id),
				set: (value) => define(id, { value, writable: true, enumerable: true }),
			});
		}
	}
	if (hasPackages && !Module._extensions['.ts']) {
		Module._extensions['.ts'] = (made, file) =>
			compile(made, toCommonJS(readFileSync(file, 'utf8')), file);
	}
}

module.exports = { IMPORTER, install };
