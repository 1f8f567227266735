// A profile: every sample is put under what the CPU was doing, and the shares become parts of what was measured.
import { expect, test } from "bun:test";
import { readProfile } from "../../../bench/profile.ts";
import { renderProfiles } from "../../../bench/tables.ts";
import { runOf } from "./made-up.ts";

const REPORT = `# To display the perf.data header info, please use --header/--header-only options.
#
# Overhead  Samples  Command  Shared Object  Symbol
    30.00%\t300\tproxy      \tlibc.so.6        \t[.] __memmove_avx512_unaligned_erms
    20.00%\t200\tproxy\t[kernel.kallsyms]\t[k] _copy_to_iter
    15.00%\t150\tproxy\t[kernel.kallsyms]\t[k] tcp_sendmsg_locked
    10.00%\t100\tproxy\tlibcrypto.so.3\t[.] aesni_encrypt
    10.00%\t100\tproxy\tproxy\t[.] 0x000000000183cff1
     8.00%\t80\tproxy\t[JIT] tid 10798\t[.] 0x00007f0000000000
     5.00%\t50\tJITWorker\tproxy\t[.] 0x0000000001b42765
     2.00%\t20\tproxy\tlibc.so.6\t[.] __libc_recv

`;

test("each sample of the busiest thread stands under what it did, and those of the others together", () => {
  const { samples, shares } = readProfile(REPORT);
  expect(samples).toBe(1000);
  expect(shares).toEqual({
    kernelCopies: 0.2,
    kernel: 0.15,
    copies: 0.3,
    tls: 0.1,
    compiled: 0.08,
    program: expect.closeTo(0.12, 6),
    helpers: 0.05,
  });
  expect(readProfile("# nothing\n").samples).toBe(0);
});

test("shares are told as parts of the median, and what nobody did is left out", () => {
  const [workload] = runOf({ bunnel: [1, 2, 3], haproxy: [4] }).workloads;
  if (workload === undefined) throw new Error("there is no workload");
  expect(renderProfiles(workload)).toBe("");
  const zero = { kernelCopies: 0, kernel: 0, copies: 0, tls: 0, compiled: 0, program: 0, helpers: 0 };
  const profiles = [
    { contender: "bunnel", samples: 1000, shares: { ...zero, kernel: 0.75, compiled: 0.25 } },
    { contender: "haproxy", samples: 1000, shares: { ...zero, kernel: 1 } },
  ];
  expect(renderProfiles({ ...workload, profiles })).toBe(
    `| where it goes | figure | bunnel | haproxy |
| --- | --- | ---: | ---: |
| kernel: the rest | CPU seconds per GiB | 1.50 (75 %) | 4.00 (100 %) |
| compiled JavaScript | CPU seconds per GiB | 0.50 (25 %) | – |`,
  );
});
