//: must: as 12 and 13, from the kernel of JavaScript; its own loopback works
//: must not: come to a listener of the host
//: within: 20
const { ok, leak, canary } = require('./attack.js');
const net = require('net'), dns = require('dns'), http = require('http');

const attempt = (what, options) => new Promise(done => {
	const s = net.connect(options);
	const end = say => { say(); s.destroy(); done(); };
	s.setTimeout(1500, () => end(() => ok(what, 'timeout')));
	s.on('error', e => end(() => ok(what, e.code)));
	s.on('connect', () => end(() => leak(what)));
});
await attempt('loopback', { host: '127.0.0.1', port: canary.tcp4 });
for (const a of [...canary.addresses, '8.8.8.8', '169.254.169.254']) await attempt(a, { host: a, port: 80 });
await attempt('path', { path: `/tmp/${canary.name}.sock` });
await attempt('abstract', { path: '\0' + canary.name });
await new Promise(done => dns.lookup('example.com', e => { e ? ok('dns', e.code) : leak('dns'); done(); }));
await fetch('http://169.254.169.254/').then(() => leak('fetch'), e => ok('fetch', e.cause?.code));
await new Promise(done => {
	const s = http.createServer((q, r) => r.end('mine')).listen(0, '127.0.0.1', () =>
		http.get({ port: s.address().port, host: '127.0.0.1', agent: false }, r => {
			r.on('data', b => ok('own http', String(b)));
			r.on('end', () => s.close(done));
		}));
});
