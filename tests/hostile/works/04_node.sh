#: must: node's worker threads, WebAssembly, child processes and http work
#: needs: node
#: within: 30
cat >w.js <<'JS'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
if (!isMainThread) { parentPort.postMessage(workerData * 2); } else (async () => {
  const r = await Promise.all([1, 2, 3, 4].map(n => new Promise((y, z) => { const w = new Worker(__filename, { workerData: n }); w.on('message', y); w.on('error', z); })));
  if (String(r) !== '2,4,6,8') throw r;
  console.log('ok: workers');
  const wasm = new Uint8Array([0,97,115,109,1,0,0,0,1,7,1,96,2,127,127,1,127,3,2,1,0,7,7,1,3,97,100,100,0,0,10,9,1,7,0,32,0,32,1,106,11]);
  const { instance } = await WebAssembly.instantiate(wasm);
  if (instance.exports.add(40, 2) !== 42) throw 'wasm';
  new WebAssembly.Memory({ initial: 10, maximum: 1000 });
  console.log('ok: wasm');
  const cp = require('child_process');
  if (cp.execSync('echo hi').toString() !== 'hi\n') throw 'exec';
  await new Promise((y, z) => cp.fork('-e', ['process.send(1)'], { execArgv: [] }).on('error', z).on('exit', y)).catch(() => 0);
  console.log('ok: child_process');
  const http = require('http');
  await new Promise((y, z) => { const s = http.createServer((q, a) => a.end('hello')).listen(0, 'localhost', () => http.get({ port: s.address().port, host: 'localhost' }, a => a.on('data', d => { s.close(); String(d) === 'hello' ? y() : z(d); }))); });
  console.log('ok: http');
  const fs = require('fs'), crypto = require('crypto'), os = require('os');
  fs.watch('.').close(); crypto.randomBytes(10); crypto.createHash('sha256').update('x').digest();
  if (os.cpus().length < 1 || os.homedir() !== '/home/user') throw 'os';
  new SharedArrayBuffer(1 << 20);
  console.log('ok: fs.watch, crypto, os');
})().catch(e => { console.log('failed', e); process.exit(1); });
JS
node w.js
