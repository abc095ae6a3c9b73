// Buffers of many sizes, JSON, strings and zlib in the thread pool, as in a service behind which
// files are uploaded. Commands come by standard input: a number of rounds; `done` is the answer
// when all is dropped and collected (needs --expose-gc: an idle node collects when it likes).
'use strict';
const readline = require('readline');
const { promisify } = require('util');
const zlib = require('zlib');

const deflate = promisify(zlib.deflate);
const KEPT = 4000; // buffers alive together
const PARALLEL = 8;

let seed = 1;
function number(below) {
  seed = (seed * 16807) % 2147483647;
  return seed % below;
}

function size() {
  const kind = number(20);
  return 1 + number(kind < 12 ? 8192 : kind < 19 ? 65536 : 400000);
}

async function round() {
  const kept = [];
  for (let i = 0; i < KEPT; i++) {
    kept.push(Buffer.alloc(size(), i & 255));
    if (i % 5 === 0) kept[number(kept.length)] = Buffer.from('y'.repeat(number(20000)));
  }
  const records = kept.map((b, i) => ({ id: i, size: b.length, head: b.toString('hex', 0, 60) }));
  const copy = JSON.parse(JSON.stringify(records));
  for (let i = 0; i < copy.length; i += 40 * PARALLEL)
    await Promise.all(
      kept.slice(i, i + PARALLEL).map((b) => deflate(b.subarray(0, 30000), { level: 1 })));
  return copy.length;
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    for (let left = Number(line); left > 0; left--) await round();
    // The second time takes what the first one's finalizers let go.
    global.gc();
    await new Promise((resolve) => setImmediate(resolve));
    global.gc();
    process.stdout.write('done\n');
  }
}

main();
