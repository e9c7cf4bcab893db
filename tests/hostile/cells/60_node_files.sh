#: must: as 01 and 02, from Node
#: must not: give a byte of a secret
#: needs: node
. ./attack.sh
node - <<'JS'
const fs = require('fs'), canary = JSON.parse(fs.readFileSync('/workspace/canary.json'));
const refused = (what, f) => { try { console.log('LEAK:', what, String(f()).slice(0, 200)); } catch (e) { console.log('ok:', what, e.code); } };
for (const f of [...canary.files, '/etc/shadow', '/proc/1/environ', '/proc/1/mem', '/proc/1/root/etc/shadow', '/dev/mem']) refused(f, () => fs.readFileSync(f));
for (const d of [...canary.dirs, '/boot', '/sys', '/opt']) if (d !== '/home') refused(d, () => fs.readdirSync(d));
for (const f of ['/proc/sys/kernel/core_pattern', '/usr/bin/id', '/etc/passwd', '/artifacts/x']) refused('write ' + f, () => fs.openSync(f, 'w'));
refused('SECRET_TOKEN', () => { if (process.env.SECRET_TOKEN === undefined) throw { code: 'undefined' }; });
refused('setuid', () => process.setuid(0));
refused('chown', () => fs.chownSync('/workspace', 0, 0));
JS
