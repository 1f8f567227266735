// A program of its own that floods an address with clients which never say what they want: started with an address, how many are to be there at once,
// and how many in all. Half of them are silent, the other half send half a ClientHello. Whoever is thrown out is replaced at once. It
// prints how many it has started, and ends when all of them are over.

export {};

const [address = "", atOnce = "0", total = "0"] = process.argv.slice(2);
const colon = address.lastIndexOf(":");
const target = { hostname: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
/** A record and a ClientHello that both promise more than comes. */
const HALF_HELLO = Buffer.concat([Buffer.from("16030102000100" + "01fc0303", "hex"), Buffer.alloc(100, 7)]);
/** Nobody stays longer. */
const LONGEST_MS = 20_000;

let started = 0;
let present = 0;

function next(): void {
  if (started === Number(total)) {
    if (present === 0) process.exit(0);
    return;
  }
  const index = started++;
  present++;
  if (started % 500 === 0) console.log(started);
  let isOver = false;
  const over = (): void => {
    if (isOver) return;
    isOver = true;
    present--;
    // Not at once, where connecting fails at once.
    setTimeout(next, 1);
  };
  Bun.connect({
    ...target,
    socket: {
      open(socket) {
        if (index % 2 === 1) socket.write(HALF_HELLO);
      },
      data() {},
      end: (socket) => void socket.terminate(),
      close: over,
      connectError: over,
    },
  }).catch(over);
}

setTimeout(() => process.exit(1), LONGEST_MS);
for (let count = 0; count < Number(atOnce); count++) next();
