import { readFileSync, writeFileSync } from 'fs';

const table = path => {
    const [head, ...rows] = readFileSync(path, 'utf8').trim().split(/\r?\n/).map(line => line.split(','));
    return rows.map(row => Object.fromEntries(head.map((name, i) => [name, Number(row[i])])));
};
const mean = numbers => numbers.reduce((a, b) => a + b) / numbers.length;
writeFileSync('decades.json', JSON.stringify(table('decades.csv')));
