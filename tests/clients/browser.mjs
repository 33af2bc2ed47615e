// The dashboard in a real browser, against a real server: a run is started and seen live, the findings of a rejected task are read, a dead
// letter is run again, a result is approved; in the dark and in the light, and on a screen as narrow as a phone's. Screenshots are kept.
//
// Usage: browser.mjs URL FOLDER
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const puppeteer = createRequire(process.env.NODE_PATH + "/")("puppeteer-core");
const [url, folder] = process.argv.slice(2);
const hostile = "<img src=x onerror=\"document.title='owned'\">\u202egpj.exe";

async function post(path, body) {
  const answer = await fetch(url + path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  assert.ok(answer.ok, `${path}: ${await answer.clone().text()}`);
  return answer.json();
}

const get = async (path) => (await fetch(url + path)).json();

const browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
try {
  const page = await browser.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
  page.on("console", (message) => message.type() === "error" && wrong.push(`console: ${message.text()}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) wrong.push(`elsewhere: ${request.url()}`);
  });
  const at = (id) => page.waitForSelector(`[data-testid="${id}"]`, { timeout: 30_000 });
  const says = (id, text) =>
    page.waitForFunction((id, text) => document.querySelector(`[data-testid="${id}"]`)?.textContent.includes(text), { timeout: 30_000 }, id, text);
  const shot = (name) => page.screenshot({ path: `${folder}/${name}.png`, fullPage: false });
  const go = (hash) => page.evaluate((hash) => (location.hash = hash), hash);
  const fits = async (name) => {
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 0, `${name} is ${wide} pixels too wide`);
  };

  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  await page.setViewport({ width: 1280, height: 900 });
  await page.goto(url);
  await says("connection", "live");

  // A run is started from the page, by its workflow's name, and seen to its end without a reload.
  await (await at("start-run")).click();
  const name = await at("start-run-name");
  const kind = await name.evaluate((element) => element.tagName);
  if (kind === "SELECT") await name.select("contents");
  else await name.type("contents");
  await (await at("start-run-submit")).click();
  await says("run-status", "completed");
  await at("graph");
  await at("step-contents");
  await at("step-index");
  await at("timeline");
  const drawn = () => page.waitForFunction(() => document.querySelectorAll('[data-testid="timeline"] rect').length > 3, { timeout: 30_000 });
  await drawn();
  await shot("run-dark");

  // The findings of a task that was sent back: with gate, place and message.
  const run = (await get("/v1/runs?limit=1")).runs[0].run;
  const report = await get(`/v1/runs/${run}/report`);
  const rejected = report.tasks.find((task) => task.revisions > 0);
  await (await at(`task-row-${rejected.step}-${rejected.index}`)).evaluate((row) => (row.querySelector("a") ?? row).click());
  await says("findings", rejected.findings[0].message);
  await says("findings", rejected.findings[0].gate);
  await shot("task-dark");

  // Text of guests is text.
  const workflow = 'name = "asks"\n[[step]]\nid = "made"\nworker = "echo"\ninputs = ["*"]\napproval = true\n';
  const asks = (await post("/v1/runs", { workflow, inputs: [{ name: "a.txt", content: hostile }] })).run;
  await go(`#/runs/${asks}/tasks/made/0`);
  await page.waitForFunction(() => document.querySelector('[data-testid="approve"]'), { timeout: 30_000 });
  assert.equal(await page.evaluate(() => document.querySelectorAll("main img").length), 0);
  await (await at("approve")).click();
  const confirm = await page.$('dialog[open] [data-testid="confirm"], dialog[open] button.primary, dialog[open] button[type="submit"]');
  if (confirm) await confirm.click();
  await go(`#/runs/${asks}`);
  await says("run-status", "completed");

  // A dead letter is run again, while the page is open.
  const spins = 'name = "spins"\n[[step]]\nid = "s"\nworker = "spin"\non_exhausted = "dead_letter"\nlimits = { fuel = "1M" }\n';
  const dead = (await post("/v1/runs", { workflow: spins })).run;
  await go("#/dead-letters");
  const row = await at(`dead-letter-${dead}/s/0`);
  await shot("dead-letters-dark");
  await row.evaluate((row) => row.querySelector("input[type=checkbox]")?.click());
  await (await at("requeue")).click();
  const sure = await page.$('dialog[open] [data-testid="confirm"], dialog[open] button.primary, dialog[open] button[type="submit"]');
  if (sure) await sure.click();
  const until = Date.now() + 30_000;
  while ((await get(`/v1/runs/${dead}`)).attempts < 2) assert.ok(Date.now() < until, "the dead letter was not run again");

  // A wide run, watched live; then lists, plugins and figures, in the light.
  const inputs = Array.from({ length: 300 }, (_, n) => ({ name: `in/${n}`, content: String(n) }));
  const wide = 'name = "wide"\n[[step]]\nid = "each"\nworker = "echo"\ninputs = ["in/*"]\nforeach = true\n[[step]]\nid = "all"\nworker = "echo"\nneeds = ["each"]\n';
  const wideRun = (await post("/v1/runs", { workflow: wide, inputs })).run;
  await go(`#/runs/${wideRun}`);
  await says("run-status", "completed");
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
  await drawn();
  await shot("wide-light");
  await go("#/runs");
  await at(`run-row-${wideRun}`);
  await shot("runs-light");
  await go("#/plugins");
  await at("plugin-row-contents-check");
  await shot("plugins-light");
  await go("#/activity");
  await at("activity");
  await shot("activity-light");

  // By keys alone: to the runs, and into the first.
  await page.keyboard.press("g");
  await page.keyboard.press("r");
  await at(`run-row-${wideRun}`);
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await at("run-status");

  // As narrow as a phone.
  await page.setViewport({ width: 360, height: 740, isMobile: true, hasTouch: true });
  for (const hash of ["#/runs", `#/runs/${run}`, `#/runs/${run}/tasks/${rejected.step}/${rejected.index}`, "#/plugins", "#/plugins/contents-check", "#/dead-letters", "#/activity"]) {
    await go(hash);
    await page.waitForFunction(() => document.querySelector("main")?.textContent.length > 20, { timeout: 30_000 });
    await fits(hash);
  }
  await go(`#/runs/${run}`);
  await at("run-status");
  await drawn();
  await shot("run-phone");

  assert.equal(await page.title().then((title) => title.includes("owned")), false);
  assert.deepEqual(wrong, []);
  console.log("a browser: good");
} finally {
  await browser.close();
}
