#: must: Buffers past the memory limit are an error or the end of that process
#: must not: be had
#: needs: node
#: config: memory=512M timeout=15
#: status: (ok|error|oom: memory limit 512 MiB)
#: within: 22
#: other: yes
#: next: any
. ./attack.sh
node -e 'const all = []; try { for (let i = 0; i < 64; i++) all.push(Buffer.alloc(128 << 20, i + 1)); console.log("LEAK: 8 GB of buffers"); } catch (e) { console.log("ok:", all.length, e.message); }' 2>&1 | grep -v '^ ' | head -5
echo "ok: the shell goes on"
