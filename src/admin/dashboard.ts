// The dashboard: one page at / and its files under /assets/. They are read when a browser asks for them and not kept, so a daemon that nobody looks at
// pays nothing. All data come from the API; here is only what is the same for every daemon.

import type { Runtime } from "../runtime/runtime.ts";
import { CLOSE_REASONS } from "../telemetry/close-reason.ts";
import { Problem } from "./problem.ts";
import { type Route, route } from "./route.ts";

/**
 * What the page may do: load what comes from here, and nothing else. No script or style stands in the page itself, so that text of strangers (SNI,
 * names in certificates) could not become one even by a mistake of ours.
 */
const DASHBOARD_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const FOLDER = new URL("./dashboard/", import.meta.url);
/** Files of the chart library, as the page calls them. */
const CHARTS: Readonly<Record<string, string>> = {
  "uplot.js": "uplot/dist/uPlot.iife.min.js",
  "uplot.css": "uplot/dist/uPlot.min.css",
};
const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  json: "application/json",
};
/** No slash and no second dot: a name cannot lead out of the folder. */
const FILE_NAME = /^[a-z][a-z-]*\.(js|css)$/;

/** What it needs of the platform. */
export type DashboardRuntime = Pick<Runtime, "files" | "sha256">;

/** The page and its files. */
export function dashboardRoutes(runtime: DashboardRuntime): readonly Route[] {
  return [
    route({
      method: "GET",
      path: "/",
      summary: "The dashboard.",
      answers: { 200: "text/html" },
      answer: ({ request }) => fileAnswer(request, runtime, { type: "html", text: read(runtime, place("index.html")) }),
    }),
    route({
      method: "GET",
      path: "/assets/{id}",
      summary: "A file of the dashboard.",
      answers: { 200: "text/javascript" },
      problems: [404],
      answer: ({ request, id }) => fileAnswer(request, runtime, assetOf(runtime, id)),
    }),
  ];
}

interface Asset {
  /** Of `TYPES`. */
  readonly type: string;
  readonly text: string;
}

function assetOf(runtime: DashboardRuntime, name: string): Asset {
  // The meanings are the table's: the page has no words of its own for them.
  if (name === "close-reasons.json") return { type: "json", text: JSON.stringify(CLOSE_REASONS) };
  const path = Object.hasOwn(CHARTS, name) ? pathOf(import.meta.resolve(CHARTS[name] as string)) : place(name);
  if (!FILE_NAME.test(name) || !runtime.files.exists(path)) throw new Problem(404, "the dashboard has no such file");
  return { type: name.slice(name.lastIndexOf(".") + 1), text: read(runtime, path) };
}

/** Compressed for clients that accept it, with an ETag, so that a browser that has the file gets a 304. */
async function fileAnswer(request: Request, { sha256 }: DashboardRuntime, { type, text }: Asset): Promise<Response> {
  const bytes = new TextEncoder().encode(text);
  const tag = `W/"${sha256(bytes).slice(0, 16)}"`;
  const headers = {
    "Content-Type": TYPES[type] ?? "application/octet-stream",
    "Content-Security-Policy": DASHBOARD_POLICY,
    "Cache-Control": "no-cache",
    ETag: tag,
    Vary: "Accept-Encoding",
  };
  if (request.headers.get("if-none-match") === tag) return new Response(null, { status: 304, headers });
  if (!/\bgzip\b/.test(request.headers.get("accept-encoding") ?? "")) return new Response(bytes, { headers });
  const packed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Response(await new Response(packed).arrayBuffer(), {
    headers: { ...headers, "Content-Encoding": "gzip" },
  });
}

function read({ files }: DashboardRuntime, path: string): string {
  return files.readText(path);
}

function place(name: string): string {
  return pathOf(new URL(name, FOLDER).href);
}

function pathOf(url: string): string {
  return decodeURIComponent(new URL(url).pathname);
}
