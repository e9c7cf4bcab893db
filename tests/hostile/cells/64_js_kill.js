//: must: the kernel of JavaScript ends nothing but what it started itself
//: must not: end the box, the supervisor or the driver of another kernel
//: state: kept
//: old status: (ok|error|killed)\b.*
const { ok, check, refused } = require('./attack.js');
const { execSync, spawn } = require('child_process');

for (const p of [1, process.ppid])
	for (const s of ['SIGKILL', 'SIGSTOP', 'SIGTERM'])
		try {
			process.kill(p, s);
			ok('no effect', p, s);
		} catch (e) {
			ok(p, s, e.code);
		}
let others = 0;
for (let p = 2; p < 9000; p++)
	try {
		process.kill(p, 0);
	} catch (e) {
		others += e.code === 'EPERM';
	}
check(others <= 6, others, 'processes of others can be seen by a signal');
refused('unshare', () => execSync('unshare -Ur id 2>&1'));
const child = spawn('sleep', ['1000']);
await new Promise(done => child.on('exit', (code, signal) => { check(signal === 'SIGKILL', 'its own child', signal); done(); }).kill('SIGKILL'));
