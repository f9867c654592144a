// Node's fetch: goes past the proxy, unless undici's EnvHttpProxyAgent is its dispatcher (or, from Node 24 on,
// NODE_USE_ENV_PROXY=1 is set).
import { createRequire } from 'node:module';
import { once } from 'node:events';

const require = createRequire(new URL('../provider/server.mjs', import.meta.url));
const { EnvHttpProxyAgent, fetch, setGlobalDispatcher } = require('undici');
setGlobalDispatcher(new EnvHttpProxyAgent());

const url = process.argv[2];
console.log('plain', (await fetch(`${url}/plain`)).status);
const decoder = new TextDecoder();
for await (const piece of (await fetch(`${url}/events`)).body) {
  for (const _ of decoder.decode(piece, { stream: true }).matchAll(/data:/g)) console.log('event');
}
const pieces = new ReadableStream({
  start(controller) {
    for (let i = 0; i < 40; i++) controller.enqueue(new Uint8Array(30_000));
    controller.close();
  },
});
const uploaded = await fetch(`${url}/upload`, { method: 'POST', body: pieces, duplex: 'half' });
console.log('uploaded', (await uploaded.json()).length);
await once(process.stdin, 'data');
for (let i = 0; i < 4; i++) console.log('after', (await fetch(`${url}/after`)).status);
process.exit(0);
