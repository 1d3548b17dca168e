//! A side that ends its half of the stream still gets all that was sent to it, and all that it sent arrives.

import { bytes, generator } from '../lib/bodies.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe, mustEqual } from '../lib/expect.mjs';
import { readAll, startTcp } from '../lib/tcp.mjs';
import { within } from '../lib/until.mjs';
import { connect } from '../lib/websocket.mjs';

const MIB = Buffer.from(bytes(generator(9), 1 << 20));
const PIECE = 10_000;

const proxy = (path, port, more = {}) => ({ path, service: 'proxy', upstream: `tcp://127.0.0.1:${port}`, ...more });

/** The server speaks 1 MiB, ends its half, and goes on listening. */
async function serverEnds(url, code) {
  const parts = [];
  const ws = await connect(url, { onMessage: (data) => parts.push(data) });
  const closed = await within('the close after the server ended', ws.closed);
  mustEqual('from the server', Buffer.concat(parts), MIB);
  mustBe('close code', closed.code, code);
  if (code !== 1000 && !closed.reason) throw new Error(`close ${code} without a reason`);
}

/** The client speaks 1 MiB and closes; the server has all of it and then the end of the stream. */
async function clientCloses(url, received) {
  const ws = await connect(url);
  for (let at = 0; at < MIB.length; at += PIECE) ws.send(MIB.subarray(at, at + PIECE));
  ws.close(1000, 'done');
  mustEqual('from the client', await within('the end at the server', received), MIB);
  mustBe('close code', (await within('the closing handshake', ws.closed)).code, 1000);
}

/** A server that ends first, after 1 MiB; `ended` resolves when its client's half has ended too. */
async function endingServer(stage) {
  let ended;
  const port = await startTcp(stage, (socket) => {
    socket.end(MIB);
    ended = readAll(socket);
  });
  return { port, ended: () => within('the end of the other half', ended) };
}

/** A server that only listens, and ends when its client has. */
async function listeningServer(stage) {
  let arrived;
  const received = new Promise((resolve) => { arrived = resolve; });
  const port = await startTcp(stage, async (socket) => {
    arrived(await readAll(socket));
    socket.end();
  });
  return { port, received };
}

export default async function halfclose(stage) {
  const [ending, listening] = [await endingServer(stage), await listeningServer(stage)];
  const edgehold = await startEdgehold(stage, {
    routes: [
      proxy('/ends', ending.port),
      proxy('/ends-normally', ending.port, { end_code: 1000 }),
      proxy('/listens', listening.port),
    ],
  });
  await serverEnds(edgehold.ws('/ends'), 1012);
  await ending.ended();
  await serverEnds(edgehold.ws('/ends-normally'), 1000);
  await ending.ended();
  await clientCloses(edgehold.ws('/listens'), listening.received);
  stage.note('1 MiB from a server that ends (1012, and 1000 by end_code), 1 MiB from a client that closes');
}
