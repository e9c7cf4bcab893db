//: must: native code that the kernel of JavaScript loads is as boxed as JavaScript
//: must not: reach more than a C program in the box
//: needs: gcc
//: config: timeout=20
//: within: 25
//: state: kept
const { ok } = require('./attack.js');
require('child_process').execSync('gcc -shared -fPIC -o evil.so evil.c');
try {
	process.dlopen({ exports: {} }, '/workspace/evil.so');
} catch (e) {
	ok('loaded:', e.code ?? e.message); // it is no addon, but its constructor has run
}
