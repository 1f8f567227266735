import { expect, test } from "bun:test";
import { countsOf, jobsOf } from "../../support/suite-jobs.ts";

const ROOT = `${import.meta.dir}/../../..`;

test("every test file is in one job, and in one only", () => {
  const jobs = jobsOf(`${ROOT}/test`);
  const files = [...new Bun.Glob("test/**/*.test.ts").scanSync(ROOT)];
  expect(files.length).toBeGreaterThan(200);
  for (const file of files) {
    const holds = (path: string): boolean => file === path || file.startsWith(`${path}/`);
    expect(`${file}: ${jobs.filter((job) => job.some(holds)).length}`).toBe(`${file}: 1`);
  }
});

test("the summary of bun test is counted", () => {
  const summary = " 12 pass\n 2 skip\n 1 fail\n 99 expect() calls\nRan 15 tests across 1 file. [1.00s]\n";
  expect(countsOf(`3 pass ${"x".repeat(5000)}\n${summary}`, 1)).toEqual({ passed: 12, failed: 1, skipped: 2 });
});

test("who ends badly has failed, whatever it says", () => {
  expect(countsOf(" 12 pass\n 0 fail\n", 1).failed).toBe(1);
  expect(countsOf("", null)).toEqual({ passed: 0, failed: 1, skipped: 0 });
});
