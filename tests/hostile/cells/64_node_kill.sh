#: must: Node ends nothing but what its own kernel started
#: must not: end the box, the supervisor or the driver of another kernel
#: needs: node
#: state: kept
#: old status: (ok|error|killed)\b.*
. ./attack.sh
node -e '
for (const p of [1, '$PPID']) for (const s of ["SIGKILL", "SIGSTOP", "SIGTERM"]) { try { process.kill(p, s); console.log("ok: no effect", p, s); } catch (e) { console.log("ok:", p, s, e.code); } }
let n = 0; for (let p = 2; p < 9000; p++) { try { process.kill(p, 0); } catch (e) { if (e.code === "EPERM") n++; } }
console.log(n <= 6 ? "ok:" : "LEAK:", n, "processes of others can be seen by a signal");
try { console.log("LEAK: ", require("child_process").execSync("unshare -Ur id 2>&1").toString()); } catch (e) { console.log("ok: unshare", e.status); }
'
