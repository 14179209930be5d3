// client.mjs CACHE WEBSOCKET_URL: a third-party WebSocket client (npm's ws) logs in, fragments a frame and gets its echo.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [cache, url] = process.argv.slice(2);
const WebSocket = createRequire(`${cache}/node/`)("ws");

const frame = (operation, sequence, body = Buffer.alloc(0)) => {
  const header = Buffer.alloc(16);
  header.writeUInt32BE(16 + body.length, 0);
  header.writeUInt16BE(16, 4);
  header.writeUInt16BE(1, 6);
  header.writeInt32BE(operation, 8);
  header.writeInt32BE(sequence, 12);
  return Buffer.concat([header, body]);
};

const socket = new WebSocket(url, { perMessageDeflate: false });
const messages = [];
let wake = () => {};
socket.on("message", (data) => { messages.push(data); wake(); });
const next = async () => {
  while (messages.length === 0) {
    await new Promise((resolve, reject) => { wake = resolve; setTimeout(() => reject(new Error("no answer in time")), 10000).unref(); });
  }
  return messages.shift();
};

await new Promise((resolve, reject) => { socket.once("open", resolve); socket.once("error", reject); });
socket.send(frame(7, 1, Buffer.from(JSON.stringify({ mid: 3, accepts: [1000] }))));
assert.deepEqual(await next(), frame(8, 1));
const body = Buffer.alloc(30000, 7);
const whole = frame(200, 2, body);
socket.send(whole.subarray(0, 10), { fin: false, binary: true });
socket.ping("between");
socket.send(whole.subarray(10, 20000), { fin: false });
socket.send(whole.subarray(20000), { fin: true });
assert.deepEqual(await next(), whole);
const closed = new Promise((resolve) => socket.once("close", resolve));
socket.close(1000);
assert.equal(await closed, 1000);
console.log("node: ok");
