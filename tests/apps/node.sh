#!/bin/bash
# node on the library computes the same as without: worker threads, zlib and crypto in its thread
# pool, buffers from bytes to tens of megabytes, JSON, child processes, streams, WebAssembly memory.
. "$(dirname "$0")/lib.sh"
need node:nodejs
node -e structuredClone 2>/dev/null || skip "node $(node --version) is older than version 17"

write_program() {
    cat >program.js <<'PROGRAM'
'use strict';
const assert = require('assert');
const { execFileSync } = require('child_process');
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const path = require('path');
const { promisify } = require('util');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const zlib = require('zlib');

const maps = isMainThread ? process.argv[2] : workerData.maps;
const keepMaps = (name) =>
  fs.writeFileSync(path.join(maps, name), fs.readFileSync('/proc/self/maps'));

// A fixed sequence of pseudo-random numbers (Park and Miller's).
function numbers(seed, count, below) {
  return Array.from({ length: count }, () => (seed = (seed * 16807) % 2147483647) % below);
}

function digest(...parts) {
  const hash = crypto.createHash('sha256');
  for (const part of parts) hash.update(Buffer.isBuffer(part) ? part : String(part));
  return hash.digest('hex');
}

function objects(seed, count) {
  const made = {};
  numbers(seed, count, 8000).forEach((n, i) => {
    made[`key${n}`] = [i, 'x'.repeat(n % 150), { n, half: n / 2 }, null];
    if (n < 8) made[`large${n}`] = 'y'.repeat(n * 50000);
    if (n % 3 === 0) delete made[`key${n >> 1}`];
  });
  return made;
}

// Buffers live outside of V8's heap: each is one malloc or calloc, freed by the collector.
function buffers(seed) {
  const zeros = Buffer.alloc(60000);
  const kept = [];
  const hash = crypto.createHash('sha256');
  for (const n of numbers(seed, 6000, 60000)) {
    const buffer = n % 2 ? Buffer.alloc(n) : Buffer.allocUnsafeSlow(n).fill(n & 255);
    if (n % 2) assert(buffer.equals(zeros.subarray(0, n)), 'Buffer.alloc gave dirty memory');
    buffer.fill(n & 127, 0, n >> 1);
    kept.push(buffer);
    if (kept.length > 300) hash.update(kept.splice(n % 300, 1)[0]);
  }
  for (const megabytes of [1, 3, 8, 20, 40]) {
    const large = Buffer.alloc(megabytes << 20);
    assert(large.equals(Buffer.concat([large])), 'a copy differs');
    large.writeUInt32LE(seed, large.length - 4);
    hash.update(large);
  }
  return hash.digest('hex');
}

async function compression(seed) {
  const text = Buffer.from(numbers(seed, 60000, 5000).join(','));
  const ways = ['gzip', 'deflate', 'brotliCompress'];
  const undo = ['gunzip', 'inflate', 'brotliDecompress'];
  const options = { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 4 } };
  const packed = await Promise.all(
    ways.flatMap((way) => [0, 1, 2, 3].map(() => promisify(zlib[way])(text, way[0] === 'b' ? options : {}))),
  );
  const unpacked = await Promise.all(packed.map((data, i) => promisify(zlib[undo[i >> 2]])(data)));
  for (const data of unpacked) assert(data.equals(text), 'compression lost something');
  return digest(...packed);
}

async function cryptography(seed) {
  const key = crypto.createHash('sha256').update(String(seed)).digest();
  const cipher = crypto.createCipheriv('aes-256-gcm', key, key.subarray(0, 12));
  const parts = numbers(seed, 500, 9000).map((n) => cipher.update('z'.repeat(n)));
  cipher.final();
  const derive = promisify(crypto.pbkdf2);
  const derived = await Promise.all(numbers(seed, 16, 1000).map((n) => derive(`p${n}`, key, 500, 64, 'sha512')));
  const scrypt = await promisify(crypto.scrypt)('password', key, 64, { N: 4096 });
  return digest(...parts, cipher.getAuthTag(), ...derived, scrypt);
}

function json(seed, count) {
  const text = JSON.stringify(objects(seed, count));
  const again = JSON.parse(text);
  assert.strictEqual(JSON.stringify(again), text);
  return digest(text, JSON.stringify(structuredClone(again)));
}

function wasm() {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 512 });
  for (let pages = 1; pages < 300; pages += 20) {
    new Uint8Array(memory.buffer).fill(pages & 255, -65536);
    memory.grow(20);
  }
  return digest(Buffer.from(memory.buffer));
}

async function served() {
  const server = http.createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => response.end(Buffer.concat(chunks).reverse()));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  const ask = (n) => new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port, method: 'POST' }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve(Buffer.concat(chunks)));
    });
    request.on('error', reject);
    request.end(Buffer.alloc(n, String(n)));
  });
  const answers = [];
  for (let round = 0; round < 10; round++) {
    answers.push(...(await Promise.all(numbers(round + 1, 30, 200000).map(ask))));
  }
  server.close();
  return digest(...answers);
}

// Each worker is a V8 of its own that comes and goes; what it made is sent over and freed here.
function inWorker(seed) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: { seed, maps } });
    let result;
    worker.on('message', ({ text, buffer }) => (result = text + digest(Buffer.from(buffer))));
    worker.on('error', reject);
    worker.on('exit', (code) => (code ? reject(new Error(`worker ended with ${code}`)) : resolve(result)));
  });
}

async function workers() {
  const results = [];
  for (let round = 0; round < 3; round++) {
    results.push(...(await Promise.all([1, 2, 3, 4].map((n) => inWorker(round * 4 + n)))));
  }
  return digest(...results);
}

function children() {
  const program = 'process.stdout.write(String(JSON.stringify(Array(50000).fill({a: 1})).length))';
  return [1, 2].map(() => execFileSync(process.execPath, ['-e', program]).toString()).join();
}

async function work() {
  const { seed } = workerData;
  keepMaps(`worker-${seed}`);
  const buffer = new Uint8Array(1 << 20).fill(seed).buffer;
  const text = [json(seed, 6000), buffers(seed), await compression(seed)].join();
  parentPort.postMessage({ text, buffer }, [buffer]);
}

async function main() {
  keepMaps('main');
  console.log('json', json(1, 30000));
  console.log('buffers', buffers(1));
  console.log('compression', await compression(1));
  console.log('cryptography', await cryptography(1));
  console.log('wasm', wasm());
  console.log('served', await served());
  console.log('workers', await workers());
  console.log('children', children());
}

(isMainThread ? main() : work()).catch((error) => {
  console.error(error);
  process.exit(1);
});
PROGRAM
}

work() {
    write_program
    run node program.js "$maps" >"$results/output" 2>"$logs/stderr"
    cp "$logs/stderr" "$results/stderr"
}

calls_go_to_library node -e 'require("child_process").execFileSync("cat", ["/dev/null"])'
compare_runs work
