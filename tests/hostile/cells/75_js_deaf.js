//: must: a cell that ignores all signals and catches all errors is ended at its time-out, at the latest after the ladder's 5 s
//: must not: go on
//: config: timeout=1
//: status: timeout\b.*
//: within: 7.5
//: other: yes
const { ok } = require('./attack.js');
ok('begun');
for (const s of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2']) process.on(s, () => 0);
process.on('uncaughtException', () => 0);
for (;;) try { for (;;); } catch {}
