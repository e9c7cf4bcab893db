'use strict';

// A cell's text, made ready for V8's REPL mode: TypeScript to JavaScript, imports taken out, and every other
// character left where it is.

const packages = packagesOrNull();

const PARSE_LIMIT = 1 << 20; // of characters; longer cells are mostly data, and an import there is not found
const IMPORT = 'ımport'; // as wide as the keyword; the function that stands in for it
const PLACELESS = new Set([
	'Literal', 'TemplateLiteral', 'ObjectExpression', 'ArrayExpression', 'UnaryExpression', 'BinaryExpression',
	'ArrowFunctionExpression', 'FunctionExpression',
]);
const TYPESCRIPT = /\.[cm]?ts$/;
const TRANSFORM = { transforms: ['typescript'], keepUnusedImports: true, disableESTransforms: true };
const PARSE = {
	ecmaVersion: 'latest', sourceType: 'script', allowAwaitOutsideFunction: true,
	allowImportExportEverywhere: true, allowHashBang: true,
};

function packagesOrNull() {
	try {
		return load('packages');
	} catch (error) {
		if (error.code === 'ENOENT')
			return null;
		throw error;
	}
}

// What a cell is refused for before V8 sees it.
class Refusal {
	constructor(message, line, column) {
		Object.assign(this, { message, line, column });
	}
}

class Source {
	constructor(name, text) {
		this.name = name;
		this.url = name.replace(/[\s"'%]/g, encodeURIComponent);
		this.text = text;
		this.lines = text.split('\n');
		this.isTypeScript = TYPESCRIPT.test(name);
		this.conflicts = new Set();
		this.imports = null; // code that has to run first
		this.isValue = true; // does the cell end with an expression?
		this._edits = [];
		this._mappings = null;
		this._script = this.isTypeScript ? this._transform() : text;
		this._compile();
	}

	// The code to run.
	get code() {
		return `${this._code}\n//# sourceURL=${this.url}`;
	}

	get importCode() {
		return `${this.imports}\n//# sourceURL=${this.url}`;
	}

	// The place in the cell of a place in what V8 ran; both count from 1.
	place(line, column) {
		let shift = 0;
		for (const edit of this._edits) {
			if (edit.line === line && column - shift > edit.column)
				shift += Math.min(edit.width, column - shift - edit.column);
		}
		column -= shift;
		if (this.isTypeScript)
			column = this._original(line, column);
		return { line, column };
	}

	// The end of the text, where V8 has found less than it needs, if the place is behind it.
	clamp(at) {
		const lines = this.text.trimEnd().split('\n');
		return at.line <= lines.length ? at : { line: lines.length, column: lines[lines.length - 1].length + 1 };
	}

	// Declares `name`, which is there already as what cannot be declared again, by other means. False if
	// that has been tried.
	resolve(name) {
		if (this.conflicts.has(name) || !packages)
			return false;
		this.conflicts.add(name);
		this._compile();
		return true;
	}

	_transform() {
		if (!packages)
			throw new Refusal('TypeScript needs packages.js, which `make` builds where there is npm', 1, 1);
		try {
			const refused = findNamespace(this.text);
			if (refused !== null) {
				const { line, column } = this._at(refused);
				throw new Refusal('a namespace cannot be translated here: use an object or a module', line, column);
			}
			return packages.transform(this.text, TRANSFORM).code;
		} catch (error) {
			if (!error.loc)
				throw error;
			const message = error.message.replace(/^Error transforming .*?: /, '').replace(/ \(\d+:\d+\)$/, '');
			throw new Refusal(message, error.loc.line, error.loc.column);
		}
	}

	_compile() {
		this._edits = [];
		this._code = this._script;
		if (!packages || this.text.length > PARSE_LIMIT)
			return;
		const object = this._asObject();
		if (object)
			return;
		let tree;
		try {
			tree = packages.parse(this._script, PARSE);
		} catch (error) {
			if (error.loc)
				this._refuse(error);
			return; // V8 may know better, and finds the words otherwise
		}
		const edits = new Edits(this._script);
		const imports = [];
		for (const node of tree.body)
			this._statement(node, edits, imports);
		if (/\b(import|throw)\b/.test(this._script))
			standIn(tree, edits);
		const last = tree.body.filter((node) => node.type !== 'EmptyStatement').pop();
		this.isValue = last?.type === 'ExpressionStatement' || last?.type === 'ExportDefaultDeclaration';
		this._code = edits.apply();
		this._edits = edits.shifts();
		this.imports = imports.length ? this._importCode(imports) : null;
	}

	// A cell that is an object literal is no block.
	_asObject() {
		const text = this._script.trimEnd();
		if (!/^\s*\{/.test(text) || !text.endsWith('}'))
			return false;
		try {
			packages.parse(`(${text})`, PARSE);
		} catch {
			return false;
		}
		if (text.includes('import'))
			return false;
		this._code = `(${text})`;
		this._edits = [{ line: 1, column: 1, width: 1 }];
		return true;
	}

	_refuse(error) {
		const place = this.place(error.loc.line, error.loc.column + 1);
		const message = error.message.replace(/ \(\d+:\d+\)$/, '');
		if (this._script[error.pos] === '@')
			throw new Refusal('decorators are not supported', place.line, place.column);
		if (/^\s*(import|export)\b/m.test(this._script))
			throw new Refusal(message, place.line, place.column);
	}

	_statement(node, edits, imports) {
		const { declaration } = node;
		switch (node.type) {
		case 'ImportDeclaration':
			imports.push(node);
			edits.blank(node.start, node.end);
			break;
		case 'ExportAllDeclaration':
			imports.push(node);
			edits.blank(node.start, node.end);
			break;
		case 'ExportNamedDeclaration':
			if (declaration) {
				edits.blank(node.start, declaration.start);
				this._statement(declaration, edits, imports);
			} else {
				edits.blank(node.start, node.end);
				if (node.source)
					imports.push(node);
			}
			break;
		case 'ExportDefaultDeclaration':
			if (declaration.id && declaration.type !== 'ClassExpression') {
				edits.blank(node.start, declaration.start);
				this._statement(declaration, edits, imports);
			} else {
				edits.blank(node.start, declaration.start - 1);
				edits.replace(declaration.start - 1, declaration.start, '(');
				edits.replace(declaration.end, declaration.end, ')');
			}
			break;
		case 'VariableDeclaration':
			this._variables(node, edits);
			break;
		case 'FunctionDeclaration':
		case 'ClassDeclaration':
			if (this.conflicts.has(node.id.name)) {
				edits.replace(node.start, node.start, `${node.id.name}=`);
				edits.replace(node.end, node.end, ';');
			}
		}
	}

	// A later cell may declare a constant anew as anything: V8 lets it do so as a constant only.
	_variables(node, edits) {
		const kind = node.kind === 'const' ? 'let' : node.kind;
		if (!/^(var|let)$/.test(kind))
			return;
		const [head, tail] = declarator(kind, node.declarations.flatMap(({ id }) => names(id)), this.conflicts);
		if (head !== node.kind)
			edits.replace(node.start, node.start + node.kind.length, head.padEnd(node.kind.length));
		if (!tail)
			return;
		for (const { init, end } of node.declarations) {
			if (!init && kind === 'let')
				edits.replace(end, end, '=void 0');
		}
		const { end } = node.declarations[node.declarations.length - 1];
		edits.replace(end, end, tail);
	}

	_importCode(imports) {
		let code = '';
		let line = 1, column = 1;
		for (const node of imports) {
			const at = place(this._script, node.start);
			if (at.line > line) {
				code += '\n'.repeat(at.line - line);
				[line, column] = [at.line, 1];
			}
			const text = statement(node, this.isTypeScript, this.conflicts);
			code += ' '.repeat(Math.max(0, at.column - column)) + text;
			column = Math.max(column, at.column) + text.length;
		}
		return code;
	}

	_at(offset) {
		return place(this.text, offset);
	}

	// The column in the TypeScript of a column in the JavaScript.
	_original(line, column) {
		if (!this._mappings) {
			const { sourceMap } = packages.transform(this.text, {
				...TRANSFORM, filePath: this.name, sourceMapOptions: { compiledFilename: this.name } });
			this._mappings = decodeMappings(sourceMap.mappings);
		}
		let best = null;
		for (const segment of this._mappings[line - 1] ?? []) {
			if (segment.from <= column - 1)
				best = segment;
		}
		return best ? best.to + column - best.from : column;
	}
}

// Replacements in a text, in any order.
class Edits {
	constructor(text) {
		this.text = text;
		this.list = [];
	}

	replace(start, end, text) {
		this.list.push({ start, end, text });
	}

	// Spaces instead, but for the ends of lines.
	blank(start, end) {
		this.replace(start, end, this.text.slice(start, end).replace(/[^\n\r\u2028\u2029]/g, ' '));
	}

	apply() {
		this.list.sort((a, b) => a.start - b.start || a.end - b.end);
		let at = 0, made = '';
		for (const { start, end, text } of this.list) {
			made += this.text.slice(at, start) + text;
			at = end;
		}
		return made + this.text.slice(at);
	}

	// Where columns are not the text's own any more, in order.
	shifts() {
		return this.list.filter(({ start, end, text }) => text.length !== end - start).map(
			({ start, end, text }) => ({ ...place(this.text, start), width: text.length - (end - start) }));
	}
}

function place(text, offset) {
	const before = text.slice(0, offset).split('\n');
	return { line: before.length, column: before[before.length - 1].length + 1 };
}

// `import(…)` and `import.meta` become a function, wherever they stand; what is thrown and cannot be an error, which
// would know its place, is noted.
function standIn(node, edits) {
	if (node.type === 'ImportExpression' || (node.type === 'MetaProperty' && node.meta.name === 'import')) {
		edits.replace(node.start, node.start + IMPORT.length, IMPORT);
	} else if (node.type === 'ThrowStatement' && isNoError(node.argument)) {
		const { start, end } = node.argument;
		const { line, column } = place(edits.text, node.start);
		edits.replace(start, start, `${IMPORT}.throws(${line},${column},`);
		edits.replace(end, end, ')');
	}
	for (const key of Object.keys(node)) {
		const part = node[key];
		if (Array.isArray(part))
			part.forEach((item) => item?.type && standIn(item, edits));
		else if (part?.type)
			standIn(part, edits);
	}
}

const isNoError = ({ type, name }) => PLACELESS.has(type) || (type === 'Identifier' && name === 'undefined');

// What an import or a re-export does, as a statement of V8's REPL mode.
function statement(node, isLenient, conflicts) {
	const words = [], parts = [];
	let space = null;
	for (const { type, imported, local } of node.specifiers ?? []) {
		if (type === 'ImportNamespaceSpecifier')
			space = local.name;
		else if (type === 'ImportDefaultSpecifier' || imported) {
			const word = imported ? imported.name ?? imported.value : 'default';
			words.push(word);
			parts.push(`${JSON.stringify(word)}: ${local.name}`);
		}
	}
	const attributes = (node.attributes ?? []).map(
		({ key, value }) => `${JSON.stringify(key.name ?? key.value)}: ${JSON.stringify(value.value)}`);
	const asked = isLenient || node.type !== 'ImportDeclaration' ? [] : words;
	const call = `await ${IMPORT}.from(${JSON.stringify(node.source.value)}, {${attributes}}, ${JSON.stringify(asked)})`;
	if (node.type !== 'ImportDeclaration' || (!parts.length && !space))
		return `${call}; `;
	const targets = [];
	if (space)
		targets.push(`${space} = ${call}`);
	if (parts.length)
		targets.push(`{${parts}} = ${space ?? call}`);
	const [head, tail] = declarator('let', node.specifiers.map(({ local }) => local.name), conflicts);
	return `${head} ${targets.join(', ')}${tail}; `;
}

// What stands before and behind the names of one declaration. V8 tells one conflict at a time, so there is a second only
// where one name has to be `let` and another `var`: then the latter are assigned to.
function declarator(kind, declared, conflicts) {
	const taken = [...conflicts].filter((name) => declared.includes(name));
	if (taken.length < 2)
		return [taken.length === (kind === 'var' ? 0 : 1) ? 'var' : 'let', ''];
	const lexical = taken[kind === 'var' ? 0 : 1]; // an assignment is not enough where its first value has failed
	const anew = [...new Set(declared)].filter((name) => name === lexical || !conflicts.has(name));
	return [`;let ${anew};(`, ');'];
}

// The names that a pattern declares.
function names(pattern) {
	if (!pattern)
		return [];
	switch (pattern.type) {
	case 'Identifier':
		return [pattern.name];
	case 'ObjectPattern':
		return pattern.properties.flatMap((property) => names(property.value ?? property.argument));
	case 'ArrayPattern':
		return pattern.elements.flatMap(names);
	case 'AssignmentPattern':
		return names(pattern.left);
	default:
		return names(pattern.argument);
	}
}

// The offset of a namespace that sucrase would leave out without a word, or null.
function findNamespace(text) {
	if (!/\b(namespace|module)\b/.test(text))
		return null;
	const { ContextualKeyword, TokenType } = packages;
	const { tokens } = packages.tokenize(text, false, true, false);
	const declared = [];
	let depth = 0;
	for (const [index, token] of tokens.entries()) {
		const [before, next, after] = [tokens[index - 1], tokens[index + 1], tokens[index + 2]];
		if (token.type === TokenType.braceL)
			depth++;
		else if (token.type === TokenType.braceR && --depth === declared[declared.length - 1])
			declared.pop();
		const { contextualKeyword } = token;
		if (!token.isType || ![ContextualKeyword._namespace, ContextualKeyword._module].includes(contextualKeyword)
			|| next?.type !== TokenType.name || ![TokenType.braceL, TokenType.dot].includes(after?.type))
			continue;
		if (before?.contextualKeyword === ContextualKeyword._declare)
			declared.push(depth);
		else if (!declared.length)
			return token.start;
	}
	return null;
}

const DIGITS = new Map([...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'].map(
	(digit, value) => [digit, value]));

// [[{from, to}] of each line]: columns that belong together, from 0. Lines are the same on both sides.
function decodeMappings(mappings) {
	let to = 0;
	return mappings.split(';').map((line) => {
		let from = 0;
		return line.split(',').filter(Boolean).map((segment) => {
			const numbers = numbersOf(segment);
			from += numbers[0];
			to += numbers[3] ?? 0;
			return { from, to };
		});
	});
}

function numbersOf(segment) {
	const numbers = [];
	let value = 0, shift = 0;
	for (const digit of segment) {
		const bits = DIGITS.get(digit);
		value |= (bits & 31) << shift;
		shift += 5;
		if (!(bits & 32)) {
			numbers.push(value & 1 ? -(value >> 1) : value >> 1);
			value = shift = 0;
		}
	}
	return numbers;
}

// A TypeScript file of the workspace, as a CommonJS module.
function toCommonJS(text) {
	return packages.transform(text, { transforms: ['typescript', 'imports'], disableESTransforms: true }).code;
}

module.exports = { IMPORT, TYPESCRIPT, Refusal, Source, toCommonJS, hasPackages: packages !== null };
