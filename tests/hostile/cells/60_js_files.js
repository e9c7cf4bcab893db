//: must: as 01, 02 and 14, from the kernel of JavaScript
//: must not: give a byte of a secret
//: state: kept
const { ok, leak, refused, canary } = require('./attack.js');
const fs = require('fs');

for (const f of [...canary.files, '/etc/shadow', '/proc/1/environ', '/proc/1/mem', '/proc/1/root/etc/shadow', '/dev/mem'])
	refused(f, () => fs.readFileSync(f));
for (const d of [...canary.dirs, '/boot', '/sys', '/opt'].filter(d => d !== '/home'))
	refused(d, () => fs.readdirSync(d));
for (const f of ['/proc/sys/kernel/core_pattern', '/usr/bin/id', '/etc/passwd', '/artifacts/x', '/kernels/javascript/x'])
	refused('write ' + f, () => fs.openSync(f, 'w'));
refused('SECRET_TOKEN', () => process.env.SECRET_TOKEN ?? (() => { throw new Error('undefined'); })());
refused('setuid', () => process.setuid(0));
refused('chown', () => fs.chownSync('/workspace', 0, 0));
refused('hard link', () => fs.linkSync('/etc/passwd', '/workspace/passwd'));
for (const name of fs.readdirSync('/proc').filter(n => /^\d+$/.test(n) && n !== String(process.pid)))
	for (const part of ['environ', 'mem', 'fd/0', 'root/etc/passwd'])
		refused(`/proc/${name}/${part}`, () => fs.readFileSync(`/proc/${name}/${part}`, { encoding: 'utf8' }) || (() => { throw new Error('empty'); })());
