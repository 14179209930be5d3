// browser.mjs CACHE PAGE_URL [SCREENSHOT]: two tabs of Debian's Chromium open the demo page, log in, join a room and
// exchange messages.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [cache, url, screenshot] = process.argv.slice(2);
const { chromium } = createRequire(`${cache}/node/`)("playwright-core");

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
try {
  const open = async (mid) => {
    const page = await (await browser.newContext()).newPage();
    page.on("pageerror", (error) => { throw error; });
    await page.goto(url);
    await page.fill("#mid", String(mid));
    await page.fill("#room", "chat://browser");
    await page.fill("#target", "room:chat://browser");
    await page.click("#connect");
    await page.waitForFunction(() => /logged in|online|connected/i.test(document.querySelector("#status").textContent), null, { timeout: 10000 });
    return page;
  };
  const alice = await open(101);
  const bob = await open(102);
  const say = async (page, text) => { await page.fill("#text", text); await page.click("#send"); };
  const sees = (page, text) => page.waitForFunction((text) => document.querySelector("#log").textContent.includes(text), text, { timeout: 10000 });
  await say(alice, "hello from alice ✓");
  await sees(bob, "hello from alice ✓");
  await say(bob, "hello back");
  await sees(alice, "hello back");
  if (screenshot) await alice.screenshot({ path: screenshot, fullPage: true });
  assert.ok(true);
  console.log("browser: ok");
} finally {
  await browser.close();
}
