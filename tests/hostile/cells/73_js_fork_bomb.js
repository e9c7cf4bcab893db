//: must: child processes and threads stop at the limit
//: must not: make more processes than the limit, or end another kernel
//: config: processes=64 memory=1G timeout=8
//: status: (ok|error|timeout|interrupted|killed|oom)\b.*
//: within: 16
//: other: yes
//: after: few_processes
const { ok, check } = require('./attack.js');
const { spawn } = require('child_process');
let made = 0, failed = 0;
for (let i = 0; i < 300; i++) {
	const child = spawn('sleep', ['1000'], { stdio: 'ignore', detached: true });
	child.on('error', () => 0);
	child.pid ? made++ : failed++;
}
check(made < 64, made, 'children,', failed, 'refused');
