#: must: npm installs a local folder without a network
#: needs: npm node
#: within: 55
#: config: timeout=55
set -e
mkdir -p lib app
echo '{"name":"lib","version":"1.0.0","main":"i.js"}' >lib/package.json
echo 'module.exports = 42;' >lib/i.js
echo '{"name":"app","version":"1.0.0"}' >app/package.json
cd app
npm install --offline --no-audit --no-fund --install-links ../lib
node -e 'console.log("ok: npm", require("lib"))'
