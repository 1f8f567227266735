// The alerts and the dashboard that come with bunnel: Prometheus' own tool takes the alerts and tests each of them, and every metric and label that they
// name is in the catalogue.

import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { CATALOGUE, PREFIX } from "../../../src/admin/metrics-catalogue.ts";
import { missingPrograms } from "../../support/programs.ts";
import { promtool } from "../../support/promtool.ts";
import { temporaryDirectory } from "../../support/temporary.ts";

const CONFIG = join(import.meta.dir, "../../../config");
const ALERTS = join(CONFIG, "alerts.yaml");
const TESTS = "alerts.test.yaml";
const missing = missingPrograms("promtool");
const skipped = missing === "" ? "" : ` (skipped, missing: ${missing})`;

/** Of the scrape, not of ours. */
const OF_THE_SCRAPE = ["instance", "job"];
const SUFFIX = /_(bucket|sum|count)$/;

interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: Readonly<Record<string, string>>;
}

const alerts = (parse(readFileSync(ALERTS, "utf8")) as { groups: { rules: Alert[] }[] }).groups.flatMap(
  ({ rules }) => rules,
);

/** An expression, with the texts in which labels of its result are named. */
interface Query {
  readonly where: string;
  readonly expr: string;
  readonly texts: readonly string[];
}

const dashboard = JSON.parse(readFileSync(join(CONFIG, "grafana-dashboard.json"), "utf8")) as Readonly<
  Record<string, unknown>
>;

function queriesOfAlerts(): readonly Query[] {
  return alerts.map(({ alert, expr, annotations }) => ({ where: alert, expr, texts: Object.values(annotations) }));
}

/** Wherever they are in it. */
function queriesOfDashboard(part: unknown = dashboard, where = "dashboard"): readonly Query[] {
  if (typeof part !== "object" || part === null) return [];
  const { expr, definition, legendFormat = "", title } = part as Record<string, unknown>;
  const named = typeof title === "string" ? `${where}, ${title}` : where;
  const own = [expr, definition].filter((text) => typeof text === "string");
  return [
    ...own.map((text) => ({ where: named, expr: text, texts: [String(legendFormat)] })),
    ...Object.values(part).flatMap((each) => queriesOfDashboard(each, named)),
  ];
}

/** What an expression names that there is not. */
function unknownIn({ expr, texts }: Query): readonly string[] {
  const wrong: string[] = [];
  const known = new Set([...OF_THE_SCRAPE, "le"]);
  for (const [, name = "", selector = ""] of expr.matchAll(/\b(bunnel_\w+)(\{[^}]*\})?/g)) {
    const metric = metricNamed(name);
    if (metric === undefined) wrong.push(name);
    for (const label of metric?.labels ?? []) known.add(label);
    for (const [, label = ""] of selector.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"/g))
      if (metric?.labels.includes(label) !== true && !OF_THE_SCRAPE.includes(label)) wrong.push(`${name}{${label}}`);
  }
  const grouped = [...expr.matchAll(/\b(?:by|without|on|ignoring)\s*\(([^)]*)\)/g)].flatMap(([, list = ""]) =>
    list.split(",").map((label) => label.trim()),
  );
  const shown = texts.flatMap((text) =>
    [...text.matchAll(/\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}/g)].map(([, l]) => l ?? ""),
  );
  const values = [...expr.matchAll(/label_values\(.*,\s*(\w+)\)/g)].map(([, label = ""]) => label);
  return [...wrong, ...[...grouped, ...shown, ...values].filter((label) => label !== "" && !known.has(label))];
}

function metricNamed(name: string): (typeof CATALOGUE)[number] | undefined {
  return CATALOGUE.find(({ name: suffix, type }) => {
    const full = `${PREFIX}${suffix}`;
    return type === "histogram" ? full === name.replace(SUFFIX, "") && SUFFIX.test(name) : full === name;
  });
}

test("every metric and label that alerts and dashboard name is in the catalogue", () => {
  const queries = [...queriesOfAlerts(), ...queriesOfDashboard()];
  expect(queries.length).toBeGreaterThan(50);
  const wrong = queries.flatMap((query) => unknownIn(query).map((name) => `${query.where}: ${name}`));
  expect(wrong).toEqual([]);
});

test("what is named and is not there is found", () => {
  const query = (expr: string, text = ""): Query => ({ where: "", expr, texts: [text] });
  expect(unknownIn(query("rate(bunnel_nothing_total[5m])"))).toEqual(["bunnel_nothing_total"]);
  expect(unknownIn(query('bunnel_bytes_total{backend="a", client="b"}'))).toEqual(["bunnel_bytes_total{client}"]);
  expect(unknownIn(query("sum by (code, listener) (bunnel_handshakes_total)"))).toEqual(["code"]);
  expect(unknownIn(query("bunnel_connections_active", "{{ $labels.backend }} {{listener}}"))).toEqual(["backend"]);
  expect(unknownIn(query("bunnel_connect_duration_seconds"))).toEqual(["bunnel_connect_duration_seconds"]);
  expect(unknownIn(query("label_values(bunnel_build_info, listener)"))).toEqual(["listener"]);
});

test("every metric of the catalogue is on the dashboard", () => {
  const drawn = queriesOfDashboard().flatMap(({ expr }) => [...expr.matchAll(/bunnel_\w+/g)].map(([name]) => name));
  const names = new Set(drawn.map((name) => metricNamed(name)?.name));
  expect(CATALOGUE.map(({ name }) => name).filter((name) => !names.has(name))).toEqual([]);
});

test("panels have numbers of their own and do not lie on one another", () => {
  const panels = dashboard.panels as readonly {
    readonly id: number;
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  }[];
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  const taken = new Set<string>();
  for (const { id, gridPos } of panels) {
    expect([id, gridPos.x + gridPos.w <= 24]).toEqual([id, true]);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        expect([id, x, y, taken.has(`${x} ${y}`)]).toEqual([id, x, y, false]);
        taken.add(`${x} ${y}`);
      }
  }
});

test.skipIf(missing !== "")(`promtool takes every expression of the dashboard${skipped}`, async () => {
  const rules = queriesOfDashboard()
    .filter(({ expr }) => !expr.startsWith("label_values("))
    .map(({ expr }, index) => ({ record: `panel:${index}`, expr: filledIn(expr) }));
  const path = join(temporaryDirectory("bunnel-dashboard-"), "rules.yaml");
  writeFileSync(path, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
  expect(await promtool(["check", "rules", path])).toBe("");
});

/** As Grafana would send it. */
function filledIn(expr: string): string {
  return expr.replaceAll(/\$__\w*interval/g, "5m").replaceAll(/\$\w+/g, ".*");
}

describe(`alerts${skipped}`, () => {
  test.skipIf(missing !== "")("are sound by promtool check rules", async () => {
    expect(await promtool(["check", "rules", ALERTS])).toBe("");
  });

  test.skipIf(missing !== "")("fire when they should and not otherwise, by promtool test rules", async () => {
    expect(await promtool(["test", "rules", TESTS], "", import.meta.dir)).toBe("");
  });

  test("are each tested, and say how severe they are and of whom", () => {
    const cases = (
      parse(readFileSync(join(import.meta.dir, TESTS), "utf8")) as {
        tests: { alert_rule_test: { alertname: string; exp_alerts: unknown[] }[] }[];
      }
    ).tests.flatMap(({ alert_rule_test }) => alert_rule_test);
    for (const { alert, labels, annotations } of alerts) {
      const own = cases.filter(({ alertname }) => alertname === alert);
      const fires = own.some(({ exp_alerts }) => exp_alerts.length > 0);
      expect([alert, fires, ["warning", "critical"].includes(labels.severity)]).toEqual([alert, true, true]);
      expect(annotations.summary).toContain("$labels.instance");
    }
  });
});
