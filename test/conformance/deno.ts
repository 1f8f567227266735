// The conformance suite against the seam's implementation on Deno: `deno task test:conformance`. `bun test` runs it too (deno.test.ts).

import { runtime } from "../../src/runtime/deno/deno-runtime.ts";
import { LIMITS } from "../../src/runtime/deno/limits.ts";
import { exemptLines, testExempt } from "./lines.ts";
import { runtimeConformance } from "./runtime-conformance.ts";

exemptLines(LIMITS.flatMap(({ lines = [] }) => lines));
runtimeConformance(runtime);
testExempt();
