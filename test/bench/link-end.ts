import { createConnection, createServer } from 'node:net';

// The other end of a slow link, beside the servers: passes connections to a unix socket on to a TCP port of this machine.
//
//   link-end.ts SOCKET=PORT...

for (const way of process.argv.slice(2)) {
  const [path = '', port = ''] = way.split('=');
  const server = createServer((near) => {
    const server = createConnection({ host: '127.0.0.1', port: Number(port), noDelay: true });
    near.pipe(server).pipe(near);
    near.on('error', () => server.destroy()).on('close', () => server.destroy());
    server.on('error', () => near.destroy());
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
}
process.stdin.on('end', () => process.exit(0)).resume();
console.log('listening');
