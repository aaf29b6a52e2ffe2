import { createConnection, createServer, type Socket } from 'node:net';

// One end of a slow link: takes TCP connections at HOST:PORT and passes them on to unix sockets, each direction MILLISECONDS late. Runs in a network
// namespace whose way out is as narrow as the link; a connection costs a round trip more, as shaking hands does. Prints "listening", and the bytes sent to
// clients whenever it reads a line.
//
//   link-relay.ts HOST MILLISECONDS PORT=SOCKET...

const [host = '', delay = '0', ...ways] = process.argv.slice(2);
const late = Number(delay);
let sent = 0;

/** Passes on what comes from one side to the other, `late` milliseconds after it came, and no faster than it is taken. */
function pass(from: Socket, to: Socket, first: number, count: (bytes: number) => void): void {
  const queue: { readonly at: number; readonly data: Buffer | undefined }[] = [];
  let earliest = performance.now() + first;
  let timer: NodeJS.Timeout | undefined;
  let isFull = false;
  const pump = () => {
    timer = undefined;
    while (!isFull) {
      const next = queue[0];
      if (next === undefined) return;
      const wait = next.at - performance.now();
      if (wait > 0.2) {
        timer = setTimeout(pump, wait);
        return;
      }
      queue.shift();
      if (next.data === undefined) {
        to.end();
        return;
      }
      count(next.data.length);
      isFull = !to.write(next.data);
    }
  };
  const add = (data: Buffer | undefined) => {
    earliest = Math.max(earliest, performance.now() + late);
    queue.push({ at: earliest, data });
    // What is on a wire is bounded.
    if (queue.length > 512) from.pause();
    if (timer === undefined && !isFull) pump();
  };
  from.on('data', add).on('end', () => add(undefined));
  to.on('drain', () => {
    isFull = false;
    if (queue.length < 256) from.resume();
    if (timer === undefined) pump();
  });
  setInterval(() => {
    if (queue.length < 256) from.resume();
  }, 5).unref();
  from.on('error', () => to.destroy()).on('close', () => add(undefined));
}

for (const way of ways) {
  const [port = '', path = ''] = way.split('=');
  const server = createServer({ noDelay: true }, (client) => {
    const far = createConnection({ path });
    pass(client, far, 3 * late, () => {});
    pass(far, client, 0, (bytes) => {
      sent += bytes;
    });
  });
  await new Promise<void>((resolve) => server.listen(Number(port), host, resolve));
}
process.stdin.on('data', () => console.log(String(sent)));
process.stdin.on('end', () => process.exit(0));
console.log('listening');
