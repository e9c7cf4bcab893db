//: must: Buffers past the memory limit are an error that can be caught, or the end of that kernel
//: must not: be had
//: config: memory=512M timeout=15
//: status: (ok|error|killed\b.*|oom: memory limit 512 MiB)
//: within: 22
//: other: yes
const { ok, leak } = require('./attack.js');
const all = [];
ok('begun');
try {
	for (let i = 0; i < 64; i++) all.push(Buffer.alloc(128 << 20, i + 1));
	leak('8 GB of buffers');
} catch (e) {
	ok(all.length, e.message);
}
all.length = 0;
