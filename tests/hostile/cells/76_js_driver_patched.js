//: must: a driver whose builtins were replaced harms its kernel alone
//: must not: harm the daemon or another kernel
//: config: timeout=5
//: status: (killed|timeout|ok|error)\b.*
//: within: 14
//: next: any
require('./attack.js').ok('begun');
const fs = require('fs');
JSON.stringify = () => ']}garbage';
fs.writeSync = () => { throw new Error('mine'); };
Object.prototype.toJSON = () => { throw new Error('mine'); };
Array.prototype.push = Array.prototype.map = Array.prototype.join = () => { throw new Error('mine'); };
Promise.prototype.then = () => { throw new Error('mine'); };
globalThis.Error = undefined;
