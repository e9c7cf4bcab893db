//: must: a heap without end ends the kernel, and the next cell has a new one
//: must not: go past the limit
//: config: memory=512M timeout=25
//: status: (error|killed\b.*|oom: memory limit 512 MiB)
//: within: 32
//: other: yes
require('./attack.js').ok('begun');
const all = [];
for (;;) all.push(new Array(100000).fill(Math.random()));
