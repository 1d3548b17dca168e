//! A client that does not read holds back its own upstream and nothing else: edgehold's memory does not grow, another
//! client goes on, and the slow one has every byte once it reads again.

import { createHash } from 'node:crypto';
import { bytes, generator } from '../lib/bodies.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { megabytes, mustBe } from '../lib/expect.mjs';
import { startTcp } from '../lib/tcp.mjs';
import { until, within } from '../lib/until.mjs';
import { connect } from '../lib/websocket.mjs';

const TOTAL = 50 * 1000 * 1000;
const CHUNK = Buffer.from(bytes(generator(12), 100_000));
const GROWTH_LIMIT = 8 * 1000 * 1000;
// Nothing moved during so many round trips of the other client: the slow one's upstream is held back.
const QUIET_TRIPS = 500;
// What the sockets' own buffers may take; much less than all.
const HELD_BACK_BELOW = 40 * 1000 * 1000;

/** A server that sends `TOTAL` bytes as fast as they are taken, then ends. */
async function startFlood(stage) {
  const flood = { sha: createHash('sha256') };
  flood.port = await startTcp(stage, async (socket) => {
    flood.socket = socket;
    for (let sent = 0; sent < TOTAL; sent += CHUNK.length) {
      flood.sha.update(CHUNK);
      if (!socket.write(CHUNK)) await new Promise((resolve) => { socket.once('drain', resolve); });
    }
    socket.end();
  });
  flood.taken = () => (flood.socket ? flood.socket.bytesWritten - flood.socket.writableLength : 0);
  return flood;
}

/** A client whose `trip()` resolves when its message has come back. */
async function echoClient(url) {
  let back;
  const ws = await connect(url, { onMessage: (data) => back(data) });
  let longest = 0;
  const trip = async (i) => {
    const from = performance.now();
    const answer = new Promise((resolve) => { back = resolve; });
    ws.send(Buffer.from(`trip ${i}`));
    const data = await within('an echo beside the slow reader', answer, 5000);
    if (data.toString() !== `trip ${i}`) throw new Error(`'${data}' came back instead of 'trip ${i}'`);
    longest = Math.max(longest, performance.now() - from);
  };
  return { ws, trip, longest: () => longest };
}

/** Makes round trips until the flood has stood still for `QUIET_TRIPS` of them; gives the number of trips. */
async function untilHeldBack(flood, echo) {
  let [still, last, trips] = [0, -1, 0];
  const deadline = performance.now() + 30_000;
  while (still < QUIET_TRIPS) {
    if (performance.now() > deadline) throw new Error(`the upstream of the slow reader is not held back: ${flood.taken()} bytes taken`);
    await echo.trip(trips);
    trips += 1;
    still = flood.taken() === last && last > 0 ? still + 1 : 0;
    last = flood.taken();
  }
  return trips;
}

export default async function slow(stage) {
  const flood = await startFlood(stage);
  const echoPort = await startTcp(stage, (socket) => socket.pipe(socket));
  const edgehold = await startEdgehold(stage, {
    routes: [
      { path: '/flood', service: 'proxy', upstream: `tcp://127.0.0.1:${flood.port}`, end_code: 1000 },
      { path: '/echo', service: 'proxy', upstream: `tcp://127.0.0.1:${echoPort}` },
    ],
  });
  const echo = await echoClient(edgehold.ws('/echo'));
  for (let i = 0; i < QUIET_TRIPS; i += 1) await echo.trip(i);
  const before = edgehold.resident();

  const [sha, got] = [createHash('sha256'), { bytes: 0 }];
  const reader = await connect(edgehold.ws('/flood'), {
    onMessage: (data) => {
      sha.update(data);
      got.bytes += data.length;
    },
  });
  reader.pause();
  const trips = await untilHeldBack(flood, echo);
  const [held, growth] = [flood.taken(), edgehold.resident() - before];
  if (held > HELD_BACK_BELOW) throw new Error(`${held} of ${TOTAL} bytes were taken for a client that does not read`);
  if (growth > GROWTH_LIMIT) throw new Error(`resident memory grew by ${growth} bytes, more than ${GROWTH_LIMIT}`);

  reader.resume();
  const { code } = await within('the rest of the bytes', reader.closed, 60_000);
  mustBe('close code', code, 1000);
  mustBe('bytes', got.bytes, TOTAL);
  mustBe('their digest', sha.digest('hex'), flood.sha.digest('hex'));
  await echo.trip(trips);
  echo.ws.close(1000);
  await echo.ws.closed;
  stage.note(`held back at ${megabytes(held)} of ${megabytes(TOTAL)}, memory +${megabytes(growth)}`);
  stage.note(`${trips} echoes meanwhile, the longest ${echo.longest().toFixed(0)} ms`);
}
