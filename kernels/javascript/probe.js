'use strict';

// Says which Node this is: exit status 0, or 1 if something is left out, or 2 if it does not do.

const fs = require('fs');
const path = require('path');

const OLDEST = 18;
const { version, versions, features } = process;

if (parseInt(versions.node, 10) < OLDEST || !features.inspector) {
	process.exitCode = 2;
} else if (!fs.existsSync(path.join(__dirname, 'packages.js'))) {
	console.log(`${version.slice(1)} without TypeScript and import (make, with npm)`);
	process.exitCode = 1;
} else {
	console.log(version.slice(1));
}
