// The conformance suite against the seam's implementation on Bun.

import { runtime } from "../../src/runtime/bun/bun-runtime.ts";
import { runtimeConformance } from "./runtime-conformance.ts";

runtimeConformance(runtime);
