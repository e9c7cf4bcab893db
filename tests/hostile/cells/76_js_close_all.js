//: must: a kernel that closes all descriptors and goes on is ended
//: must not: hang
//: config: timeout=2
//: status: (killed|timeout|error|ok)\b.*
//: within: 10
//: next: any
const { ok } = require('./attack.js');
const fs = require('fs');
ok('begun');
for (let fd = 0; fd < 1024; fd++) try { fs.closeSync(fd); } catch {}
for (;;);
