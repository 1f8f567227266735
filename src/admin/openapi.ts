// GET /api/v1/openapi.json: the description of the API (OpenAPI 3.1), made from the routes that the app has and from the schemas that their answers are held to.

import { z } from "zod";
import { PROBLEM_TYPE } from "./problem.ts";
import { LONGEST_VALUE, type QueryField } from "./query.ts";
import type { Route } from "./route.ts";
import { SCHEMAS } from "./schemas.ts";

/** A part of it: JSON. */
type Json = Readonly<Record<string, unknown>>;

/** The whole document. */
export function openApi(routes: readonly Route[], version: string): Json {
  return {
    openapi: "3.1.1",
    info: {
      title: "bunnel admin API",
      version,
      description:
        "What a node does, and its few commands. Every error is a problem (RFC 9457). A GET is answered to HEAD, too. Beside what each path tells, every one may answer 400, 401, 403, 405, 413, 421 and 500.",
    },
    servers: [{ url: "/" }],
    security: [{}, { bearer: [] }, { basic: [] }, { mtls: [] }],
    paths: pathsOf(routes),
    components: {
      schemas: componentSchemas(),
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer", description: "The token of `admin.token_file`." },
        basic: { type: "http", scheme: "basic", description: "Any user, and the token as password." },
        mtls: { type: "mutualTLS", description: "A client certificate, with `admin.tls.client_ca`." },
      },
    },
  };
}

function pathsOf(routes: readonly Route[]): Json {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operation(route) };
  }
  return paths;
}

function operation({ method, path, summary, query, answers, problems }: Route): Json {
  const inPath = path.includes("{id}")
    ? [{ name: "id", in: "path", required: true, description: "The id of a connection.", schema: { type: "string" } }]
    : [];
  const inQuery = Object.entries(query).map(([name, field]) => ({
    name,
    in: "query",
    required: false,
    description: field.about,
    schema: querySchema(field),
  }));
  const responses = Object.fromEntries([
    ...Object.entries(answers).map(([status, content]) => [
      status,
      { description: summary, content: contentOf(content) },
    ]),
    ...[...problems, "default"].map((status) => [status, { description: "A problem.", content: PROBLEM }]),
  ]);
  const words = `${method.toLowerCase()} ${path.replace(/^\/(api\/v1\/)?/, "")}`.split(/[^a-z]+/).filter(Boolean);
  const operationId = words
    .map((word, index) => (index === 0 ? word : word[0]?.toUpperCase() + word.slice(1)))
    .join("");
  return { operationId, summary, parameters: [...inPath, ...inQuery], responses };
}

const PROBLEM: Json = { [PROBLEM_TYPE]: { schema: { $ref: "#/components/schemas/Problem" } } };

function contentOf(content: string): Json {
  if (!content.includes("/")) return { "application/json": { schema: { $ref: `#/components/schemas/${content}` } } };
  return { [content]: { schema: content === "application/json" ? { type: "object" } : { type: "string" } } };
}

function querySchema(field: QueryField): Json {
  switch (field.kind) {
    case "text":
      return { type: "string", maxLength: LONGEST_VALUE, ...(field.values !== undefined && { enum: field.values }) };
    case "integer":
      return { type: "integer", minimum: field.min, maximum: field.max, default: field.default };
    case "flag":
      return { type: "boolean" };
  }
}

/** As components refer to one another. */
function componentSchemas(): Json {
  const registry = z.registry<{ readonly id: string }>();
  for (const [id, schema] of Object.entries(SCHEMAS)) registry.add(schema, { id });
  const { schemas } = z.toJSONSchema(registry, { uri: (id) => `#/components/schemas/${id}`, io: "output" });
  // What stands in a document has its place for a name.
  return Object.fromEntries(Object.entries(schemas).map(([id, { $id, $schema, ...schema }]) => [id, schema]));
}
