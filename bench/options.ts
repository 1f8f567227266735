// What `npm run bench` is told on its command line.
import { parseArgs } from "node:util";
import { CONTENDERS } from "./contenders/all.ts";
import { DIRECT } from "./lab.ts";
import { WORKLOADS } from "./workloads/all.ts";

const ROUNDS = 5;
const QUICK_SCALE = 0.25;
/** Of a run that becomes the report: below 20 with the rest that it does. */
const REPORT_MINUTES = 18;

/** What is to be done. */
export interface Choices {
  readonly rounds: number;
  readonly scale: number;
  /** Minutes that it may take; infinite when not given. */
  readonly minutes: number;
  readonly workloads: readonly string[];
  readonly contenders: readonly string[];
  /** False: the scheduler places every process. */
  readonly pin: boolean;
  readonly json: string | undefined;
  readonly keep: boolean;
  readonly writeReport: boolean;
  readonly resume: boolean;
  readonly curves: boolean;
  /** Also where the CPU time goes. */
  readonly profiles: boolean;
  /** Aligned text for a terminal instead of Markdown. */
  readonly plain: boolean;
  /** A kept run to compare with. */
  readonly compare: string | undefined;
  /** The kept run that is compared with it; undefined: the one that is made now. */
  readonly to: string | undefined;
  /** A kept run of which the report is to be written again; nothing is measured. */
  readonly reportOf: string | undefined;
  readonly show: "list" | "configs" | undefined;
}

/** Reads the arguments. Throws, in words for the user, when they are wrong. */
export function readChoices(args: readonly string[]): Choices {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: "string" },
      minutes: { type: "string" },
      only: { type: "string", multiple: true, default: [] },
      contender: { type: "string", multiple: true, default: [] },
      all: { type: "boolean", default: false },
      json: { type: "string" },
      quick: { type: "boolean", default: false },
      "no-pin": { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
      "write-report": { type: "boolean", default: false },
      resume: { type: "boolean", default: false },
      "report-of": { type: "string" },
      curves: { type: "boolean", default: false },
      profile: { type: "boolean", default: false },
      plain: { type: "boolean", default: false },
      compare: { type: "string" },
      to: { type: "string" },
      list: { type: "boolean", default: false },
      "show-configs": { type: "boolean", default: false },
    },
  });
  const number = (name: "rounds" | "minutes", otherwise: number): number => {
    const value = Number(values[name] ?? otherwise);
    if (!(value >= 1) || (name === "rounds" && !Number.isInteger(value)))
      throw new Error(`--${name} ${values[name]}: not a ${name === "rounds" ? "whole " : ""}number from 1 on`);
    return value;
  };
  const writeReport = values["write-report"];
  if (writeReport && values.quick) throw new Error("--write-report takes no --quick: a quick run is no result");
  if (values.resume && !writeReport) throw new Error("--resume goes with --write-report");
  if (values.to !== undefined && values.compare === undefined) throw new Error("--to goes with --compare");
  const usual = WORKLOADS.filter(({ rare }) => values.all || rare !== true).map(({ name }) => name);
  const everyWorkload = WORKLOADS.map(({ name }) => name);
  const everyContender = [DIRECT, ...CONTENDERS.map(({ name }) => name)];
  const usualContenders = [DIRECT, ...CONTENDERS.filter(({ onDemand }) => onDemand !== true).map(({ name }) => name)];
  return {
    rounds: number("rounds", values.quick ? 1 : ROUNDS),
    scale: values.quick ? QUICK_SCALE : 1,
    minutes: number("minutes", writeReport ? REPORT_MINUTES : Number.POSITIVE_INFINITY),
    workloads: chosen(values.only, everyWorkload, usual),
    contenders: chosen(values.contender, everyContender, usualContenders),
    pin: !values["no-pin"],
    json: values.json,
    keep: values.keep || writeReport,
    writeReport,
    resume: values.resume,
    curves: values.curves || writeReport,
    profiles: values.profile || writeReport,
    plain: values.plain,
    compare: values.compare,
    to: values.to,
    reportOf: values["report-of"],
    show: values.list ? "list" : values["show-configs"] ? "configs" : undefined,
  };
}

/** The names asked for, in the lab's order; `usual` when none is. Throws on one that does not exist. */
function chosen(asked: readonly string[], known: readonly string[], usual: readonly string[]): readonly string[] {
  const wanted = asked.flatMap((list) => list.split(","));
  const unknown = wanted.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`"${unknown}" is none of: ${known.join(", ")}`);
  return wanted.length === 0 ? usual : known.filter((name) => wanted.includes(name));
}
