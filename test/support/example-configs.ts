// The examples of configs in config/, which also holds rules for Prometheus in YAML.

import { readdirSync } from "node:fs";
import { join } from "node:path";

const DIRECTORY = join(import.meta.dir, "../../config");
const NO_CONFIGS = ["alerts.yaml"];

/** Their file names. */
export function exampleConfigs(): readonly string[] {
  return readdirSync(DIRECTORY).filter((name) => name.endsWith(".yaml") && !NO_CONFIGS.includes(name));
}
