'use strict';

// Installs and removes packages of npm: install.js INTERPRETER +SPEC... -SPEC...; with no argument it only writes
// down what is installed.

const { spawn } = require('child_process');
const fs = require('fs');
const path = require('path');

const prefix = process.env.CELLFS_PACKAGES;
const workspace = process.env.CELLFS_WORKSPACE;
const modules = path.join(prefix, 'lib', 'node_modules');
const PLAIN = /^(@[\w.-]+\/)?[\w.-]+(@[\w.^~*+-]+)?$/;
const PLACE = /^((?:(?:@[^/@]+\/)?[^/@:]+@)?(?:file:)?)(.*)$/; // NAME@file: and the rest
const QUIET = ['--no-audit', '--no-fund', '--no-update-notifier', '--no-progress'];

// What a line names: one package, or as many as it has words that are one each.
function packages(spec) {
	const whole = spec.trim();
	const words = whole.split(/\s+/);
	const isOne = /^[./]/.test(whole) && fs.existsSync(path.resolve(workspace, whole));
	const isEach = words.every((word) => PLAIN.test(word) || isFile(word));
	return (isOne || !isEach ? [whole] : words).map((word) => isFile(word) ? absolute(word) : word);
}

// Only its form says that this is a file or a folder: a cell may make a folder of any name, and OWNER/NAME is GitHub's.
function isFile(word) {
	const [, before, place] = PLACE.exec(word);
	return before.endsWith('file:') || /^[./]/.test(place) || /\.(tgz|tar|tar\.gz)$/i.test(place) && !place.includes(':');
}

function absolute(word) {
	const [, before, place] = PLACE.exec(word);
	return before + path.resolve(workspace, place);
}

// The npm that belongs to this Node, else the first in PATH.
function findNpm(interpreter) {
	const places = [path.dirname(interpreter), ...(process.env.PATH ?? '').split(':')];
	const found = places.map((place) => path.resolve(place, 'npm')).find((file) => fs.existsSync(file));
	if (!found) {
		console.error('packages: packages of npm need npm: apt-get install npm');
		process.exit(1);
	}
	return found;
}

// The user's settings. npm would take those of the prefix, which are a cell's.
function environment() {
	const of = (name) => path.join(process.env.CELLFS_SETTINGS, 'npm', name);
	return { ...process.env, npm_config_globalconfig: of('global'), npm_config_userconfig: of('user') };
}

function run(npm, env, args) {
	const own = ['--global', '--prefix', prefix, '--cache', path.join(prefix, 'cache', 'npm'), ...QUIET];
	return new Promise((done) => {
		spawn(npm, [...args.slice(0, 1), ...own, '--', ...args.slice(1)], { env, stdio: 'inherit' })
			.on('error', (error) => { console.error(`packages: npm: ${error.message}`); done(1); })
			.on('exit', (code, signal) => done(signal ? 130 : code));
	});
}

function folders(place) {
	try {
		return fs.readdirSync(place).filter((name) => name[0] !== '.').map((name) => path.join(place, name));
	} catch {
		return [];
	}
}

function writeList() {
	const lines = [];
	for (const folder of folders(modules).flatMap((each) => path.basename(each)[0] === '@' ? folders(each) : each)) {
		try {
			const { name, version } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
			lines.push(version ? `${name}@${version}` : name);
		} catch {
			// no package
		}
	}
	const place = path.join(prefix, 'list');
	const made = path.join(place, `.js-${process.pid}`);
	fs.mkdirSync(place, { recursive: true });
	fs.writeFileSync(made, lines.sort().map((line) => `${line}\n`).join(''));
	fs.renameSync(made, path.join(place, 'js'));
}

async function main([interpreter, ...specs]) {
	if (interpreter === undefined)
		return writeList();
	const named = (sign) => specs.filter((spec) => spec[0] === sign).flatMap((spec) => packages(spec.slice(1)));
	const [add, remove] = [named('+'), named('-')];
	const npm = findNpm(interpreter);
	process.env.PATH = `${path.dirname(interpreter)}:${process.env.PATH}`; // npm's own first line asks for `node`
	process.on('SIGINT', () => {}); // npm's, which is waited for
	const env = environment();
	fs.mkdirSync(path.join(prefix, 'lib'), { recursive: true });
	let status = add.length ? await run(npm, env, ['install', ...add]) : 0;
	if (remove.length && !status)
		status = await run(npm, env, ['uninstall', ...remove]);
	writeList();
	process.exitCode = status;
}

main(process.argv.slice(2));
