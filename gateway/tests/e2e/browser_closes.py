"""browser_closes.py WEBSOCKET_URL CONTROL_URL COUNT BROWSER…: how a browser sees a kick.

Serves a page whose WebSockets log in, write without a pause, and are kicked; the page reports the code and `wasClean` of each
close event (RFC 6455 §7.1.4). Every close must carry the code of the kick, after the Closed frame, and be clean. Chromium calls a
close clean only when the page has nothing left to send (Blink, `DOMWebSocket::DidClose`), whatever the server does: there a close
with unsent bytes counts as clean.
"""

import http.server
import json
import subprocess
import sys
import threading
import urllib.request

KICKED = 3503
DEADLINE_SECONDS = 180

PAGE = """<!doctype html><title>closes</title><script>
const [url, count, atATime] = [%(url)s, %(count)d, 4];
const frame = (operation, sequence, body) => {
  const bytes = new Uint8Array(16 + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length); view.setUint16(4, 16); view.setUint16(6, 1);
  view.setInt32(8, operation); view.setInt32(12, sequence);
  bytes.set(body, 16);
  return bytes;
};
const post = (path, body) => fetch(path, { method: "POST", body });
const kickOne = (mid) => new Promise((resolve) => {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  let word = false, writing = 0, first = true;
  socket.onopen = () => socket.send(frame(7, 1, new TextEncoder().encode(JSON.stringify({ mid, accepts: [1000] }))));
  socket.onmessage = ({ data }) => {
    if (new DataView(data).getInt32(8) === 111) word = true;
    if (!first) return;
    first = false;
    writing = setInterval(() => {
      for (let sent = 0; sent < 80 && socket.readyState === WebSocket.OPEN; sent += 1) socket.send(frame(200, 2, new Uint8Array(64)));
    }, 4);
    setTimeout(() => post("/kick", String(mid)), 50);
  };
  socket.onclose = ({ code, wasClean }) => { clearInterval(writing); resolve({ mid, word, code, wasClean, unsent: socket.bufferedAmount }); };
});
(async () => {
  const results = [];
  let next = 1;
  const work = async () => { while (next <= count) results.push(await kickOne(next++)); };
  await Promise.all(Array.from({ length: atATime }, work));
  await post("/done", JSON.stringify(results));
})();
</script>"""


def main():
    url, control, count, *browser = sys.argv[1:]
    done, results = threading.Event(), []

    def order(path, body, kind):
        request = urllib.request.Request(control + path, data=body, headers={"Content-Type": kind})
        urllib.request.urlopen(request, timeout=30).read()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, body=b"", kind="text/plain"):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            page = PAGE % {"url": json.dumps(url), "count": int(count)}
            self.answer(page.encode() if self.path == "/" else b"", "text/html")

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/kick":
                mid = int(body)
                for _ in range(8):
                    order(f"/goim/push/mids?operation=1000&mids={mid}", b"x" * 4000, "text/plain")
                order("/api/v1/kick", json.dumps({"mid": mid}).encode(), "application/json")
            else:
                results.extend(json.loads(body))
                done.set()
            self.answer()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = f"http://127.0.0.1:{server.server_address[1]}/"
    process = subprocess.Popen([*browser, page], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if not done.wait(DEADLINE_SECONDS):
            sys.exit(f"{browser[0]}: no report after {DEADLINE_SECONDS} s")
    finally:
        process.kill()
        process.wait()
    wrong = [one for one in results if not (one["word"] and one["code"] == KICKED and (one["wasClean"] or one["unsent"]))]
    unsent = sum(1 for one in results if one["unsent"])
    print(f"{browser[0]}: {len(wrong)} of {len(results)} closes were not clean, or without the Closed frame or code {KICKED}; "
          f"{unsent} pages had bytes left to send")
    for one in wrong[:5]:
        print(f"  {one}")
    sys.exit(1 if wrong or len(results) != int(count) else 0)


main()
