// An operator who has nothing but the dashboard learns why a client was refused, which endpoint is down and why, finds a live connection among others and
// ends it, and sees when the daemon has gone and when it is back. What strangers write into their names stays text.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Locator, Page } from "playwright-core";
import type { Status } from "../../src/snapshot/status.ts";
import { issueCertificate } from "../../src/tls-tools/tls-tools.ts";
import { heapBytes, type PageInBrowser, startBrowser } from "../support/browser.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connected, LiveClient } from "../support/live-clients.ts";
import { paleTexts } from "../support/page-checks.js";
import { missingPrograms } from "../support/programs.ts";
import { unusedPort } from "../support/servers.ts";
import { type Echoes, SteadyLoad, startEchoes } from "../support/steady-load.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const missing = missingPrograms("chromium");
const withBrowser = test.skipIf(missing !== "");
const title = (sentence: string): string => (missing === "" ? sentence : `${sentence} (missing: ${missing})`);

const MARKUP = "<img src=x onerror=alert(document.domain)>";
const SCREENSHOT = join(import.meta.dir, "../../config/dashboard.png");

let pki: TestPki;
let echoes: Echoes;
let daemon: Daemon;
let loads: readonly SteadyLoad[] = [];
let browser: PageInBrowser;
let page: Page;
let admin: string;
let config: string;
/** An address at which nothing listens. */
let down: string;

beforeAll(async () => {
  if (missing !== "") return;
  pki = await testPki();
  echoes = await startEchoes(3);
  [admin, down] = await Promise.all([freeAddress(), freeAddress()]);
  const [first, second, third] = echoes.addresses;
  const health = "health: { interval: 500ms, timeout: 400ms, rise: 1, fall: 1 }";
  config = `
workers: 2
admin: { address: "${admin}" }
listeners:
  - name: edge
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]
    routes: [{ name: billing, tls: terminate, policy: billing-clients, backend: billing }]
  - { name: metrics, address: 127.0.0.1:0, backend: metrics }
policies:
  billing-clients: { rules: [{ action: allow, uri: ["spiffe://bunnel.test/client"] }] }
backends:
  billing: { ${health}, endpoints: ["${first}", "${second}", "${down}"] }
  metrics: { endpoints: ["${third}"] }
`;
  daemon = await startDaemon(config);
  const { certificatePem: certificate, keyPem: key } = pki.client;
  const edge = { ca: pki.authority.certificatePem, certificate, key };
  loads = [
    new SteadyLoad({
      targets: [{ address: await daemon.address("edge"), tls: edge }],
      ...{ perSecond: 1, exchanges: 1, streams: 12, seconds: 120, streamIntervalMs: 20 },
    }),
    new SteadyLoad({
      targets: [{ address: await daemon.address("metrics") }],
      ...{ perSecond: 40, streams: 6, seconds: 120, streamIntervalMs: 50 },
    }),
  ];
  browser = await startBrowser({ colorScheme: "light" });
  ({ page } = browser);
  await Promise.all([...loads.map((load) => load.ready()), page.goto(`http://${admin}/`)]);
  await page.getByText("live", { exact: true }).waitFor();
}, 30_000);

afterAll(async () => {
  for (const each of [browser, ...loads, daemon, echoes]) await each?.[Symbol.asyncDispose]();
});

/** `127.0.0.1:PORT`, of a port that nobody has. */
async function freeAddress(): Promise<string> {
  return `127.0.0.1:${await unusedPort()}`;
}

async function textOf(locator: Locator): Promise<string> {
  return (await locator.textContent()) ?? "";
}

/** A client of that listener that is refused. Gives its address. */
async function refused(certificate?: { certificatePem: string; keyPem: string }): Promise<string> {
  const client = new LiveClient({
    to: await daemon.address("edge"),
    ca: pki.authority.certificatePem,
    ...(certificate && { certificate }),
  });
  // Once it has been refused its port can no longer be asked for.
  await once(client.socket, "connect");
  const address = `127.0.0.1:${client.socket.localPort}`;
  await eventually("it was refused", () => !client.isOpen);
  return address;
}

withBrowser(
  title("why clients were refused is found by their address, by keyboard alone"),
  async () => {
    const bare = await refused();
    const named = await refused(pki.otherClient);

    await page.keyboard.press("/");
    await page.keyboard.type(bare);
    const row = page.locator("#closes-table tbody tr[data-opens]");
    await page.getByText("1 that fit").waitFor();
    expect(await textOf(row)).toMatch(/edge[\s\S]*certificate rejected[\s\S]*the client sent no certificate/);
    // From the filter by Tab to the row, past the other filters and the button that clears them.
    await eventually("the row's button was reached", async () => {
      await page.keyboard.press("Tab");
      return await page.evaluate("document.activeElement.matches('#closes-table button.open')");
    });
    await page.keyboard.press("Enter");
    const record = page.locator("#closes-table .record");
    const told = await textOf(record);
    expect(told).toContain("The client's certificate was absent or did not verify.");
    expect(told).toContain("The client sent no certificate.");
    expect(told).toContain("Give the client a certificate and its key");
    expect(told).toContain("PEER_DID_NOT_RETURN_A_CERTIFICATE");
    expect(told).toContain(bare);
    await page.keyboard.press("Escape");
    await record.waitFor({ state: "detached" });

    await page.getByRole("button", { name: "Show all" }).click();
    await page.getByLabel("Filter failures by reason").selectOption({ label: "policy denied" });
    await row.filter({ hasText: named }).click();
    expect(await textOf(record)).toMatch(/Policy billing-clients: no rule matches[\s\S]*spiffe:\/\/bunnel.test\/other/);
    await page.getByRole("button", { name: "Show all" }).click();

    // What is being read is not pushed away by what comes.
    const late = await refused();
    await page.getByText(/; 1 newer when the record is closed$/).waitFor();
    expect(await row.filter({ hasText: late }).count()).toBe(0);
    await row.filter({ hasText: named }).click();
    await row.filter({ hasText: late }).waitFor();

    // From the listener's own count to those that it counts.
    const chip = page.locator("#listeners-table button.chip", { hasText: "certificate rejected" }).first();
    await chip.click();
    await row.filter({ hasText: bare }).waitFor();
    await row.filter({ hasText: "policy denied" }).first().waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Show all" }).click();
  },
  20_000,
);

withBrowser(
  title("what strangers call themselves stays text"),
  async () => {
    const certificate = await issueCertificate(pki.authority, {
      commonName: MARKUP,
      uri: "spiffe://bunnel.test/stranger",
      usage: "client",
      lifetimeMs: 86_400_000,
    });
    const client = await refused(certificate);
    await page.getByLabel("Filter failures by text").fill(client);
    await page.getByText("1 that fit").waitFor();
    await page.locator("#closes-table tr[data-opens]").click();
    expect(await textOf(page.locator("#closes-table .record"))).toContain(MARKUP);
    expect(await page.locator("main img, main script").count()).toBe(0);
    await page.getByRole("button", { name: "Show all" }).click();
    expect(browser.complaints).toEqual([]);
  },
  20_000,
);

withBrowser(title("which endpoint is down, and why, is said at the top and among the endpoints"), async () => {
  const concern = page.locator("#attention li", { hasText: "Backend billing: 1 of 3 endpoints out" }).first();
  expect(await textOf(concern)).toContain(`${down} is down: connect: the connection was refused`);
  const row = page.locator("#backends-table tr", { hasText: down });
  expect(await textOf(row)).toMatch(/down[\s\S]*the connection was refused · since/);
  // The load arrives at the others.
  const open = page.locator("#facts div", { hasText: "Connections" }).locator("dd").first();
  await eventually("connections were counted", async () => Number(await textOf(open)) >= 12);
  await page.locator("#bytes-chart b", { hasText: /[1-9]/ }).first().waitFor();
});

withBrowser(
  title("a live connection is found among others, looked into and closed"),
  async () => {
    const client = await connected({
      to: await daemon.address("edge"),
      ca: pki.authority.certificatePem,
      certificate: pki.client,
    });
    const address = `127.0.0.1:${client.socket.localPort}`;
    await page.locator("#connections").scrollIntoViewIfNeeded();
    await page.getByLabel("Filter connections by text").fill(address);
    const row = page.locator("#connections-table tr[data-opens]");
    await page.getByText(/^1 of \d+ fit$/).waitFor();
    expect(await textOf(row)).toContain("spiffe://bunnel.test/client");
    await row.locator("button.open").press("Enter");
    const panel = page.getByRole("dialog", { name: /^Connection / });
    await panel.getByText("retransmits").waitFor();
    expect(await textOf(panel)).toMatch(/round trip\s*[\d.]+ ± [\d.]+ ms/);
    await page.keyboard.press("Escape");
    await panel.waitFor({ state: "hidden" });

    await row.getByRole("button", { name: /^Close connection/ }).click();
    const question = page.getByRole("dialog", { name: "Close this connection?" });
    await question.getByRole("button", { name: "Keep it" }).click();
    expect(client.isOpen).toBe(true);
    await row.getByRole("button", { name: /^Close connection/ }).click();
    await question.getByRole("button", { name: "Close connection" }).click();
    await eventually("the client was cut", () => !client.isOpen);
    expect(client.ending).toBe("ECONNRESET");
    await page.getByText("No live connection fits the filter.").waitFor();
    await page.getByLabel("Filter failures by text").fill(address);
    await page.locator("#closes-table td.reason", { hasText: "admin closed" }).waitFor();
    await page.getByLabel("Filter failures by text").fill("");
    await page.getByLabel("Filter connections by text").fill("");
    // Once that table has its length again, what is below it stays where it is.
    await row.nth(1).waitFor();
    await page.locator("#peers").scrollIntoViewIfNeeded();
    await page.locator("#peers-table tr", { hasText: "spiffe://bunnel.test/client" }).getByText("→ billing").waitFor();
  },
  20_000,
);

withBrowser(
  title("what a list lacks is said above it: rows of a worker that is silent, and of processes from before an upgrade"),
  async () => {
    const status = (await (await fetch(`http://${admin}/api/v1/status`)).json()) as Status;
    const stuck = status.workers[0];
    const isMissing = (place: string) =>
      page.locator(`#${place}-missing`, { hasText: `Worker ${stuck?.worker} does not answer` });
    await page.locator("#connections").scrollIntoViewIfNeeded();
    process.kill(stuck?.pid ?? 0, "SIGSTOP");
    try {
      await isMissing("connections").waitFor({ timeout: 12_000 });
      await page.locator("#closes").scrollIntoViewIfNeeded();
      await isMissing("closes").waitFor({ timeout: 12_000 });
      await page.locator("#attention", { hasText: `Worker ${stuck?.worker} does not answer` }).waitFor();
    } finally {
      process.kill(stuck?.pid ?? 0, "SIGCONT");
    }
    for (const place of ["closes", "connections"]) {
      await page.locator(`#${place}`).scrollIntoViewIfNeeded();
      await isMissing(place).waitFor({ state: "detached", timeout: 12_000 });
    }

    await page.route("**/api/v1/connections?*", async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, json: { ...((await answer.json()) as object), elsewhere: 3 } });
    });
    await page.getByText("3 connections of processes from before an upgrade cannot be listed").waitFor();
    await page.unroute("**/api/v1/connections?*");
  },
  30_000,
);

withBrowser(
  title("it is legible in both themes, fits a telephone, and is small"),
  async () => {
    await page.evaluate("scrollTo(0, 0)");
    if (process.env.UPDATE_SCREENSHOTS === "1") {
      await page.setViewportSize({ width: 1280, height: 1240 });
      await page
        .getByText(/last 1 min \d+ s/)
        .first()
        .waitFor({ timeout: 75_000 });
      await page.locator("#closes-table tr", { hasText: "the client sent no certificate" }).first().click();
      await page.evaluate("scrollTo(0, 0)");
      await page.screenshot({ path: SCREENSHOT });
    }
    await page.locator("#closes-table button.open").nth(1).click();
    const background = () => page.evaluate("getComputedStyle(document.body).backgroundColor");
    const light = await background();
    expect(await page.evaluate(paleTexts)).toEqual([]);
    await page.getByLabel("Theme").selectOption("Dark");
    const dark = await background();
    expect(dark).not.toBe(light);
    expect(await page.evaluate(paleTexts)).toEqual([]);
    await page.getByLabel("Theme").selectOption("System");
    expect(await background()).toBe(light);
    await page.emulateMedia({ colorScheme: "dark" });
    expect(await background()).toBe(dark);

    await page.setViewportSize({ width: 1280, height: 1000 });
    await page.locator("#certificates-table td").first().waitFor();
    // What is contained in a box of a size of its own is cut off, and not scrolled to.
    const isCut =
      "figures => figures.filter(figure => figure.scrollWidth > figure.clientWidth).map(figure => figure.textContent)";
    expect(await page.evaluate(`(${isCut})([...document.querySelectorAll(".figure")])`)).toEqual([]);
    await page.setViewportSize({ width: 390, height: 844 });
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(390);
    const seen = await page.locator("#closes-table td.why").first().boundingBox();
    expect((seen?.x ?? 400) + (seen?.width ?? 0)).toBeLessThanOrEqual(390);
    await page.setViewportSize({ width: 1400, height: 1000 });

    await page.reload();
    await page.getByText("live", { exact: true }).waitFor();
    const sum = "[...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]";
    const transferred = await page.evaluate(`${sum}.reduce((sum, { transferSize }) => sum + transferSize, 0)`);
    expect(transferred).toBeLessThan(150_000);
    expect(browser.complaints).toEqual([]);
  },
  90_000,
);

withBrowser(
  title("half an hour of events leaves the page as small as the last ten minutes of them"),
  async () => {
    const status = (await (await fetch(`http://${admin}/api/v1/status`)).json()) as Status;
    const other = await page.context().newPage();
    await other.route("**/api/v1/events", (route) =>
      route.fulfill({ contentType: "text/event-stream", body: halfAnHour(status) }),
    );
    await other.goto(`http://${admin}/`);
    await other.locator("#closes-count", { hasText: "the newest 25 of the last 500" }).waitFor();
    expect(await textOf(other.locator("#bytes-chart .note"))).toBe("last 9 min 59 s");
    expect(await other.locator("#closes-table tbody tr").count()).toBe(25);
    expect(await heapBytes(other)).toBeLessThan(20e6);
    await other.close();
  },
  20_000,
);

/** As the daemon tells it, with five failures in each second. */
function halfAnHour(status: Status): string {
  const events: string[] = [];
  const tell = (event: string, data: object): number =>
    events.push(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  tell("status", status);
  const startMs = Date.now();
  for (let second = 1; second <= 1800; second++) {
    const time = new Date(startMs + second * 1000).toISOString();
    const listeners = status.listeners.map((row) => ({
      ...row,
      connections_total: row.connections_total + second * 9,
    }));
    tell("tick", { ...status, time, listeners });
    const closes = [1, 2, 3, 4, 5].map((nth) => ({
      ...{
        seq: second * 5 + nth,
        id: `a-${second * 5 + nth}`,
        ended_at: time,
        listener: "edge",
        downstream: "192.0.2.1:4",
      },
      ...{ close_reason: "policy_denied", policy: "billing-clients", policy_rule: "default" },
    }));
    tell("closes", { closes, silent_workers: [] });
  }
  return events.join("");
}

withBrowser(
  title("whoever knows the token sees it over TLS, and nobody else"),
  async () => {
    const [address, token] = [await freeAddress(), "0123456789-abcdefghijk"];
    const file = join(temporaryDirectory("bunnel-token-"), "token");
    writeFileSync(file, `${token}\n`, { mode: 0o600 });
    const { certificatePath: cert, keyPath: key } = pki.server;
    await using _daemon = await startDaemon(`
admin: { address: "${address}", token_file: ${file}, tls: { cert: ${cert}, key: ${key} } }
listeners: [{ name: edge, address: 127.0.0.1:0, backend: b }]
backends: { b: { endpoints: [127.0.0.1:9] } }
`);
    const [knowing, guessing] = await Promise.all(
      [token, "0123456789-0123456789"].map(async (password) => {
        const httpCredentials = { username: "operator", password };
        return await page.context().browser()?.newContext({ ignoreHTTPSErrors: true, httpCredentials });
      }),
    );
    const seen = await knowing?.newPage();
    await seen?.goto(`https://${address}/`);
    await seen?.getByText("live", { exact: true }).waitFor();
    const refusal = await (await guessing?.newPage())?.goto(`https://${address}/`);
    expect(refusal?.status()).toBe(401);
    await Promise.all([knowing?.close(), guessing?.close()]);
  },
  20_000,
);

withBrowser(
  title("a daemon that has gone is noticed, and so is one that is back"),
  async () => {
    for (const load of loads) await load[Symbol.asyncDispose]();
    await daemon.stop("SIGKILL");
    await page.locator("#lost", { hasText: "Connection lost, retrying" }).waitFor();
    expect(await textOf(page.locator("#said"))).toBe("Connection lost, retrying.");
    await page.locator("#state", { hasText: "not known" }).waitFor();
    await daemon[Symbol.asyncDispose]();
    daemon = await startDaemon(config);
    await page.getByText("live", { exact: true }).waitFor({ timeout: 10_000 });
    expect(await page.locator("#lost").isVisible()).toBe(false);
    const version = page.locator("#facts div", { hasText: "Version" });
    await version.getByText(`pid ${daemon.pid}`).waitFor();
  },
  25_000,
);
