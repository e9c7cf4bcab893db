'use strict';

// Installs and removes packages of npm: install.js INTERPRETER +SPEC... -SPEC...; with no argument it only writes
// down what is installed.

const { execFileSync, spawn } = require('child_process');
const fs = require('fs');
const path = require('path');

const prefix = process.env.CELLFS_PACKAGES;
const modules = path.join(prefix, 'lib', 'node_modules');
const PLAIN = /^(@[\w.-]+\/)?[\w.-]+(@[\w.^~*+-]+)?$/;
const QUIET = ['--no-audit', '--no-fund', '--no-update-notifier', '--no-progress'];

// What a line names: one package, or as many as it has words that are one each.
function packages(spec) {
	const words = spec.trim().split(/\s+/);
	const isEach = words.every((word) => PLAIN.test(word) || fs.existsSync(word));
	return words.length > 1 && isEach && !fs.existsSync(spec) ? words : [local(spec.trim())];
}

// A file is a file for npm only when it does not look like the name of a package.
function local(spec) {
	return /\.(tgz|tar|tar\.gz)$/.test(spec) && !/^[./]|:/.test(spec) && fs.existsSync(spec) ? `./${spec}` : spec;
}

// The npm that belongs to this Node, else the first in PATH that is not the wrapper of the cells.
function findNpm(interpreter) {
	const wrappers = path.join(__dirname, '..', 'packages', 'bin');
	const places = [path.dirname(interpreter), ...(process.env.PATH ?? '').split(':')];
	const found = places.map((place) => path.resolve(place, 'npm')).find((file) =>
		path.dirname(file) !== wrappers && fs.existsSync(file));
	if (!found) {
		console.error('packages: packages of npm need npm: apt-get install npm');
		process.exit(1);
	}
	return found;
}

// The user's settings. npm would take those of the prefix, which are a cell's.
function environment(npm) {
	const settings = process.env.CELLFS_SETTINGS;
	const env = { ...process.env };
	if (settings) {
		env.npm_config_globalconfig = path.join(settings, 'npm', 'global');
		env.npm_config_userconfig = path.join(settings, 'npm', 'user');
	} else if (!env.npm_config_globalconfig) {
		env.npm_config_globalconfig = execFileSync(npm, ['config', 'get', 'globalconfig', '-g'],
			{ encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
	}
	return env;
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
	const env = environment(npm);
	fs.mkdirSync(path.join(prefix, 'lib'), { recursive: true });
	let status = add.length ? await run(npm, env, ['install', ...add]) : 0;
	if (remove.length && !status)
		status = await run(npm, env, ['uninstall', ...remove]);
	writeList();
	process.exitCode = status;
}

main(process.argv.slice(2));
