#: must: as 12 and 13, from Node; its own loopback works
#: must not: come to a listener of the host
#: needs: node
#: within: 15
. ./attack.sh
node - <<'JS'
const net = require('net'), fs = require('fs'), dns = require('dns'), http = require('http');
const canary = JSON.parse(fs.readFileSync('/workspace/canary.json'));
const attempt = (what, options) => new Promise(done => {
  const s = net.connect(options);
  s.setTimeout(1500, () => { console.log('ok:', what, 'timeout'); s.destroy(); done(); });
  s.on('error', e => { console.log('ok:', what, e.code); done(); });
  s.on('connect', () => { console.log('LEAK:', what); s.destroy(); done(); });
});
(async () => {
  await attempt('loopback', { host: '127.0.0.1', port: canary.tcp4 });
  for (const a of [...canary.addresses, '8.8.8.8', '169.254.169.254']) await attempt(a, { host: a, port: 80 });
  await attempt('path', { path: '/tmp/' + canary.name + '.sock' });
  await attempt('abstract', { path: '\0' + canary.name });
  await new Promise(d => dns.lookup('example.com', e => { console.log(e ? 'ok: dns ' + e.code : 'LEAK: dns'); d(); }));
  await new Promise(d => { const s = http.createServer((q, r) => r.end('mine')).listen(0, '127.0.0.1', () => http.get({ port: s.address().port, host: '127.0.0.1' }, r => { r.on('data', b => console.log('ok: own http', String(b))); r.on('end', () => { s.close(); d(); }); })); });
})();
JS
