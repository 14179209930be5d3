// last_word.mjs CACHE WEBSOCKET_URL CONTROL_URL COUNT: clients that write 20 frames a millisecond, with pushes queued for them,
// are kicked. Each must hear why: the Closed frame, then a close frame with the code.
import { createRequire } from "node:module";

const [cache, url, control, count] = process.argv.slice(2);
const WebSocket = createRequire(`${cache}/node/`)("ws");
const KICKED = 3503;
const CLOSED = 111;
const AT_A_TIME = 5;

const frame = (operation, sequence, body = Buffer.alloc(0)) => {
  const header = Buffer.alloc(16);
  header.writeUInt32BE(16 + body.length, 0);
  header.writeUInt16BE(16, 4);
  header.writeUInt16BE(1, 6);
  header.writeInt32BE(operation, 8);
  header.writeInt32BE(sequence, 12);
  return Buffer.concat([header, body]);
};

const post = async (path, body) => {
  const response = await fetch(control + path, { method: "POST", body, headers: { "Content-Type": "application/json" } });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
};

const kickOne = async (mid) => {
  const socket = new WebSocket(url, { perMessageDeflate: false });
  const heard = { word: false, code: 0, clean: true };
  await new Promise((resolve, reject) => { socket.once("open", resolve); socket.once("error", reject); });
  const loggedIn = new Promise((resolve) => socket.once("message", resolve));
  socket.on("message", (data) => { if (data.readInt32BE(8) === CLOSED) heard.word = true; });
  socket.on("error", () => { heard.clean = false; });
  const ended = new Promise((resolve) => socket.once("close", (code) => { heard.code = code; resolve(); }));
  socket.send(frame(7, 1, Buffer.from(JSON.stringify({ mid, accepts: [1000] }))));
  await loggedIn;
  const message = frame(200, 2, Buffer.alloc(64, 7));
  const writing = setInterval(() => {
    for (let sent = 0; sent < 20 && socket.readyState === WebSocket.OPEN; sent += 1) socket.send(message);
  }, 1);
  await new Promise((resolve) => setTimeout(resolve, 30));
  const push = "x".repeat(4000);
  for (let pushed = 0; pushed < 8; pushed += 1) await post(`/goim/push/mids?operation=1000&mids=${mid}`, push);
  await post("/api/v1/kick", JSON.stringify({ mid }));
  await ended;
  clearInterval(writing);
  return heard.word && heard.code === KICKED && heard.clean;
};

let lost = 0;
let next = 1;
const work = async () => {
  while (next <= Number(count)) {
    const mid = next;
    next += 1;
    if (!(await kickOne(mid))) lost += 1;
  }
};
await Promise.all(Array.from({ length: AT_A_TIME }, work));
console.log(`${url}: ${lost} of ${count} lost their last word`);
process.exit(lost === 0 ? 0 : 1);
