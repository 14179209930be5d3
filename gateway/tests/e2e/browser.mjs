// browser.mjs CACHE PAGE_URL [SCREENSHOTS]: tabs of Debian's Chromium open the demo page, log in, chat with names, and meet
// what goes wrong: each error must be in sight. SCREENSHOTS: a folder for pictures of the states.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [cache, url, screenshots] = process.argv.slice(2);
const { chromium } = createRequire(`${cache}/node/`)("playwright-core");

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const shoot = async (page, name) => { if (screenshots) await page.screenshot({ path: `${screenshots}/${name}.png` }); };
const fresh = async (size = { width: 1280, height: 800 }, colorScheme = "light") => {
  const page = await (await browser.newContext({ viewport: size, colorScheme })).newPage();
  page.on("pageerror", (error) => { throw error; });
  await page.goto(url);
  return page;
};
const connect = async (page, user, room = "chat://browser") => {
  await page.fill("#user", user);
  await page.fill("#room", room);
  await page.click("#connect");
  await page.waitForFunction(() => document.querySelector("#status").dataset.state === "open", null, { timeout: 10000 });
};
const say = async (page, text) => { await page.fill("#text", text); await page.click("#send"); };
const sees = (page, text) => page.waitForFunction((text) => document.querySelector("#log").textContent.includes(text), text, { timeout: 10000 });
// The alert says it, and lies within the window.
const refused = async (page, text) => {
  await page.waitForFunction((text) => {
    const alert = document.querySelector("#alert");
    return !alert.hidden && alert.textContent.includes(text);
  }, text, { timeout: 10000 });
  const box = await page.locator("#alert").boundingBox();
  const height = page.viewportSize().height;
  assert.ok(box.y >= 0 && box.y + box.height <= height, `the alert is out of sight: ${JSON.stringify(box)} in ${height}`);
};

try {
  const alice = await fresh();
  await shoot(alice, "first");
  await connect(alice, "alice");
  const seven = await fresh();
  await connect(seven, "7");
  await say(alice, "hello from alice ✓");
  await sees(seven, "hello from alice ✓");
  await sees(seven, "alice ");
  await sees(alice, "delivered");
  await say(seven, "hello back");
  await sees(alice, "hello back");
  await sees(alice, "user 7 ");
  // To a user by name and by number, to nobody, and to targets that are none.
  await seven.fill("#target", "uid:alice");
  await say(seven, "only you");
  await sees(alice, "only you");
  await alice.fill("#target", "mid:7");
  await say(alice, "and you");
  await sees(seven, "and you");
  await seven.fill("#target", "uid:nobody");
  await say(seven, "anyone?");
  await sees(seven, "not sent: no connection has that name");
  for (const [target, why] of [["mid:abc", "is not a user's number"], ["mid:99999999999999999999", "is too large"], ["abc", "Write the target as"]]) {
    await seven.fill("#target", target);
    await say(seven, "lost");
    await refused(seven, why);
    assert.equal(await seven.inputValue("#text"), "lost", "what was written is kept");
  }
  // More than a frame holds, in bytes: said as it is written, and again at an attempt to send it; the connection stays.
  await seven.fill("#target", "uid:alice");
  await seven.fill("#text", "é".repeat(35_000));
  await refused(seven, "This message has 70000 bytes; at most");
  await shoot(seven, "too-long");
  await seven.click("#send");
  await refused(seven, "This message has 70000 bytes; at most");
  const most = await seven.evaluate(() => BODY_MAX);
  assert.ok(most > 60_000, `a frame holds ${most} bytes`);
  await seven.fill("#text", "x".repeat(most - 8 - "alice".length - 8));
  assert.equal(await seven.locator("#alert").isHidden(), true, "what fits is no fault");
  await seven.click("#send");
  await sees(alice, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
  assert.equal(await seven.locator("#status").getAttribute("data-state"), "open");
  await shoot(seven, "chat");
  await alice.click("#connect");
  await sees(alice, "Disconnected.");
  await alice.fill("#user", "9223372036854775808");
  await alice.click("#connect");
  await refused(alice, "is too large");
  // A wrong path, with More open, in a small window of either theme.
  for (const scheme of ["light", "dark"]) {
    const phone = await fresh({ width: 390, height: 700 }, scheme);
    await phone.click("summary");
    await phone.fill("#path", "/wrong");
    await phone.click("#connect");
    await refused(phone, "is the path right");
    await shoot(phone, `phone-error-${scheme}`);
    await phone.fill("#path", "/sub");
    await phone.click("summary");
    await connect(phone, "bob");
    await say(phone, "from a phone");
    await sees(seven, "from a phone");
    await seven.fill("#target", "room:chat://browser");
    await say(seven, "welcome");
    await sees(phone, "welcome");
    const field = await phone.locator("#text").boundingBox();
    assert.ok(field.width > 330, `the field for the message is ${field.width} px wide`);
    const width = await phone.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 390, `the page is ${width} px wide`);
    await shoot(phone, `phone-${scheme}`);
    await phone.close();
  }
  const dark = await fresh({ width: 1280, height: 800 }, "dark");
  await connect(dark, "carol");
  await say(seven, "good evening");
  await sees(dark, "good evening");
  await say(dark, "hello");
  await shoot(dark, "dark");
  const icon = await fetch(new URL("/favicon.ico", url));
  assert.equal(icon.status, 200);
  assert.match(icon.headers.get("content-type"), /svg/);
  console.log("browser: ok");
} finally {
  await browser.close();
}
