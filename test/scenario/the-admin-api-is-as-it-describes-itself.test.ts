// A daemon under load answers every path of its admin API as its own description says, and none of its answers, errors included, has a secret of its
// config in it.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Ajv2020, { type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { type TestPki, testPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { connected } from "../support/live-clients.ts";
import { unusedPort } from "../support/servers.ts";
import { type Supervised, startSupervised } from "../support/supervised.ts";
import { connectTo, type Endpoint, startEndpoint, talking } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";

interface Operation {
  readonly operationId: string;
  readonly parameters: readonly { readonly name: string; readonly in: string }[];
  readonly responses: Readonly<
    Record<string, { readonly content: Readonly<Record<string, { readonly schema: object }>> }>
  >;
}
interface Description {
  readonly openapi: string;
  readonly info: { readonly version: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
}
interface Answer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

const PASSWORD = "correct-horse-battery";
const PROBE_TOKEN = "probe-token-2718281828";

let pki: TestPki;
let echo: Endpoint;
let made: Supervised;
let description: Description;
let load: ReturnType<typeof setInterval>;
const everything: string[] = [];

beforeAll(async () => {
  pki = await testPki();
  echo = await startEndpoint();
  const key = join(temporaryDirectory("bunnel-key-"), "server.key");
  writeFileSync(key, readFileSync(pki.server.keyPath));
  process.env.PROBE_PASSWORD = PASSWORD;
  made = await startSupervised(`
workers: 2
listeners:
  - { name: plain, address: 127.0.0.1:0, backend: echo }
  - { name: refusing, address: 127.0.0.1:0, backend: nobody }
  - name: mtls
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${key} }]
      client_ca: [${pki.authority.certificatePath}]
    routes: [{ name: all, tls: terminate, policy: clients, backend: originating }]
policies:
  clients: { rules: [{ action: allow, uri: ["spiffe://bunnel.test/client"] }] }
backends:
  echo:
    endpoints: ["${echo.address}"]
    health: { type: tcp, send: "AUTH \${PROBE_PASSWORD}", expect: "never" , interval: 1s, timeout: 200ms, initial: up, fall: 100 }
  nobody:
    endpoints: ["127.0.0.1:${await unusedPort()}"]
    health: { type: http, http: { path: "/health?token=${PROBE_TOKEN}" }, interval: 1s, initial: up, fall: 100 }
  originating:
    endpoints: ["${echo.address}"]
    idle_timeout: 1h
`);
  const plain = await made.daemon.address("plain");
  const client = await connected({
    to: await made.daemon.address("mtls"),
    ca: pki.authority.certificatePem,
    certificate: pki.client,
  });
  const peer = await talking(plain);
  const refusing = await made.daemon.address("refusing");
  let turns = 0;
  load = setInterval(() => {
    if (++turns > 2000) return;
    peer.socket.write("more");
    void client.echo().catch(() => {});
    for (const to of [plain, refusing])
      void connectTo(to).then(
        ({ socket }) => socket.end("x"),
        () => {},
      );
  }, 10);
  description = JSON.parse((await ask("GET", "/api/v1/openapi.json")).text) as Description;
});

afterAll(async () => {
  clearInterval(load);
  delete process.env.PROBE_PASSWORD;
  await made?.[Symbol.asyncDispose]();
  await echo?.[Symbol.asyncDispose]();
});

async function ask(method: string, path: string, init: RequestInit = {}): Promise<Answer> {
  const answer = await fetch(`http://bunnel${path}`, { ...init, method, unix: made.adminPath });
  const text = path.includes("/events") && answer.status === 200 ? await someEvents(answer) : await answer.text();
  everything.push(text, ...[...answer.headers].flat());
  return { status: answer.status, type: answer.headers.get("content-type") ?? "", text };
}

/** Until each kind of event has come. */
async function someEvents(answer: Response): Promise<string> {
  let text = "";
  for await (const bytes of answer.body ?? []) {
    text += new TextDecoder().decode(bytes);
    if (["status", "tick", "closes"].every((name) => text.includes(`event: ${name}\n`)) && text.endsWith("\n\n")) break;
  }
  return text;
}

/** Validators by what the description calls them. */
function validators(): (schema: object) => ValidateFunction {
  const ajv = new Ajv2020({ strict: true, allErrors: true, validateSchema: true });
  addFormats(ajv);
  ajv.addVocabulary(["components"]);
  ajv.addSchema({ $id: "api", components: description.components });
  return (schema) =>
    ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/components', '"api#/components')) as object);
}

test("every path answers as described", async () => {
  const compile = validators();
  const { connections } = JSON.parse((await ask("GET", "/api/v1/connections?identity=client")).text) as {
    readonly connections: readonly { readonly id: string }[];
  };
  const [{ id } = { id: "" }] = connections;
  await eventually(
    "something has failed",
    async () => (await ask("GET", "/api/v1/closes?failed=true")).text.length > 50,
  );
  const visited: string[] = [];
  for (const [path, operations] of Object.entries(description.paths)) {
    for (const [method, { responses }] of Object.entries(operations)) {
      // These end what is looked at here, and are asked below.
      if (method === "delete" || path.endsWith("/drain")) continue;
      const answer = await ask(method.toUpperCase(), path.replace("{id}", id));
      expect([path, answer.status]).toEqual([path, 200]);
      const content = responses[answer.status]?.content ?? {};
      const [type = ""] = answer.type.split(";");
      expect(Object.keys(content)).toEqual([type]);
      if (type === "application/json") {
        const validate = compile((content[type] as { schema: object }).schema);
        validate(JSON.parse(answer.text));
        expect([path, validate.errors]).toEqual([path, null]);
      }
      if (type === "text/event-stream") checkEvents(answer.text, compile);
      visited.push(`${method} ${path}`);
    }
  }
  expect(visited.length).toBeGreaterThanOrEqual(11);

  const closed = await ask("DELETE", `/api/v1/connections/${id}`);
  const validate = compile({ $ref: "#/components/schemas/Closed" });
  validate(JSON.parse(closed.text));
  expect([closed.status, validate.errors]).toEqual([200, null]);
});

function checkEvents(text: string, compile: (schema: object) => ValidateFunction): void {
  const found = [...text.matchAll(/event: (\w+)\ndata: (.*)\n\n/g)];
  expect(new Set(found.map(([, name]) => name))).toEqual(new Set(["status", "tick", "closes"]));
  for (const [, name = "", data = ""] of found) {
    const validate = compile({ $ref: `#/components/schemas/${name[0]?.toUpperCase()}${name.slice(1)}` });
    validate(JSON.parse(data));
    expect([name, validate.errors]).toEqual([name, null]);
  }
}

test("every error is a problem, as described", async () => {
  const validate = validators()({ $ref: "#/components/schemas/Problem" });
  const wrongConfig = async (): Promise<Answer> => {
    const path = join(made.daemon.directory, "bunnel.yaml");
    const good = readFileSync(path, "utf8");
    writeFileSync(path, `${good}\nlistenrs: []\n`);
    const answer = await ask("POST", "/api/v1/reload");
    writeFileSync(path, good);
    return answer;
  };
  for (const [status, answer] of [
    [404, await ask("GET", "/nowhere")],
    [404, await ask("GET", "/api/v1/connections/none")],
    [404, await ask("DELETE", "/api/v1/connections/none")],
    [405, await ask("PUT", "/api/v1/status")],
    [400, await ask("GET", "/api/v1/closes?limit=x&reason=y&z=1")],
    [400, await ask("POST", "/api/v1/reload", { body: "{" })],
    [400, await ask("POST", "/api/v1/reload", { body: '{"force":true}' })],
    [400, await ask("POST", "/api/v1/drain?now=1")],
    [413, await ask("POST", "/api/v1/reload", { body: "x".repeat(17_000) })],
    [403, await ask("POST", "/api/v1/drain", { headers: { Origin: "http://evil.example" } })],
    [403, await ask("GET", "/api/v1/events", { headers: { "Sec-Fetch-Site": "cross-site" } })],
    [409, await wrongConfig()],
  ] as const) {
    expect([answer.status, answer.type]).toEqual([status, "application/problem+json"]);
    const problem = JSON.parse(answer.text) as { readonly status: number };
    validate(problem);
    expect([problem.status, validate.errors]).toEqual([status, null]);
  }
});

test("nothing that it has ever answered holds a secret", async () => {
  const told = everything.join("\n");
  expect(told.includes("(masked)")).toBe(true);
  const base64 = (path: string): string[] =>
    readFileSync(path, "utf8")
      .split("\n")
      .filter((line) => /^[\w+/=]{20,}$/.test(line));
  const secrets = [PASSWORD, PROBE_TOKEN, "PRIVATE KEY", ...base64(pki.server.keyPath)];
  expect(secrets.length).toBeGreaterThan(4);
  for (const secret of secrets) expect([secret, told.includes(secret)]).toEqual([secret, false]);
});
