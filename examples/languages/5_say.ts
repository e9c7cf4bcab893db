interface Decade { decade: number; co2_ppm: number }

const decades: Decade[] = JSON.parse(readFileSync('decades.json', 'utf8'));
const last: Decade = decades[decades.length - 1];
const summary = `${last.decade}s: ${last.co2_ppm} ppm, ${(last.co2_ppm - mean(decades.map(d => d.co2_ppm))).toFixed(1)} above the mean`;
writeFileSync('summary.txt', summary);
summary
