// Debian's Chromium, driven by playwright-core, as a person with a browser who looks at the dashboard. What the page says on its console, and what it
// throws, is kept: a test wants that to be nothing.

import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { findProgram } from "./programs.ts";

/** How long a page may take for what a test asks of it. */
const PATIENCE_MS = 4_500;

/** A browser with one page. To be declared with `await using`. */
export class PageInBrowser implements AsyncDisposable {
  readonly page: Page;
  /** Errors and warnings of the page, in their order. */
  readonly complaints: string[] = [];
  readonly #browser: Browser;

  constructor(browser: Browser, page: Page) {
    this.#browser = browser;
    this.page = page;
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("pageerror", ({ message }) => this.complaints.push(message));
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) this.complaints.push(message.text());
    });
    page.on("dialog", (dialog) => {
      this.complaints.push(`a dialog opened: ${dialog.message()}`);
      void dialog.dismiss();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.close();
  }
}

/** Starts the browser with an empty page. */
export async function startBrowser(options: BrowserContextOptions = {}): Promise<PageInBrowser> {
  const executablePath = findProgram("chromium");
  if (executablePath === null) throw new Error("chromium is not installed");
  // Its sandbox does not work for root, and only pages of ours are loaded.
  const args = ["--no-sandbox", "--disable-dev-shm-usage", "--js-flags=--max-old-space-size=256"];
  const browser = await chromium.launch({ executablePath, args, headless: true });
  const context = await browser.newContext({ viewport: { width: 1400, height: 1000 }, ...options });
  return new PageInBrowser(browser, await context.newPage());
}

/** What the scripts of a page hold, after a collection. */
export async function heapBytes(page: Page): Promise<number> {
  const session = await page.context().newCDPSession(page);
  await session.send("HeapProfiler.collectGarbage");
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  await session.detach();
  return usedSize;
}
