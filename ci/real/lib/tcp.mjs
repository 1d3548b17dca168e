//! Small TCP back ends of the stories' own, where it matters exactly when a side sends, stops and ends.

import net from 'node:net';

/** Serves every connection with `serve(socket)` and resolves with the port. Both halves end on their own. */
export async function startTcp(stage, serve) {
  const sockets = new Set();
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    // A peer that is gone shows as missing bytes in the story itself.
    socket.on('error', () => {});
    serve(socket);
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  stage.defer(() => {
    sockets.forEach((socket) => socket.destroy());
    return new Promise((resolve) => { server.close(resolve); });
  });
  return server.address().port;
}

/** Resolves with all bytes up to the end of the stream. */
export function readAll(socket) {
  return new Promise((resolve, reject) => {
    const parts = [];
    socket.on('data', (part) => parts.push(part));
    socket.once('end', () => resolve(Buffer.concat(parts)));
    socket.once('error', reject);
  });
}
