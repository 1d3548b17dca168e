//! frames = "text": whatever the places are at which the upstream's UTF-8 is cut, every message is valid text of its own.

import { generator, text } from '../lib/bodies.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { megabytes, mustBe, mustEqual } from '../lib/expect.mjs';
import { startTcp } from '../lib/tcp.mjs';
import { until, within } from '../lib/until.mjs';
import { connect } from '../lib/websocket.mjs';

const PACED = 200;
const LARGE_BYTES = 4_000_000;

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const isContinuation = (byte) => (byte & 0xc0) === 0x80;

/** The last position at or before `at` that is not inside a character. */
function boundary(whole, at) {
  while (at < whole.length && isContinuation(whole[at])) at -= 1;
  return at;
}

/** Positions inside characters, about `count` of them. */
function cuts(whole, count) {
  const inside = [];
  const stride = Math.max(1, Math.floor(whole.length / count));
  for (let at = stride; at < whole.length; at += stride) {
    while (at < whole.length && !isContinuation(whole[at])) at += 1;
    if (at < whole.length) inside.push(at);
  }
  return inside;
}

/** Each piece ends inside a character and goes out only when the whole characters of the one before have arrived, so that no
 * two are read as one. */
async function sendPaced(socket, whole, receivedBytes) {
  let from = 0;
  for (const to of cuts(whole, PACED)) {
    socket.write(whole.subarray(from, to));
    await until(`${boundary(whole, to)} bytes of whole characters`, () => receivedBytes() >= boundary(whole, to));
    from = to;
  }
  socket.write(whole.subarray(from));
}

async function sendLarge(socket, whole) {
  const random = generator(10);
  for (let from = 0; from < whole.length;) {
    const to = from + 1 + random(20_000);
    if (!socket.write(whole.subarray(from, to))) await new Promise((resolve) => { socket.once('drain', resolve); });
    from = to;
  }
}

function mustBeText({ data, isBinary }, i) {
  if (isBinary) throw new Error(`message ${i} is binary`);
  try {
    strict.decode(data);
  } catch {
    throw new Error(`message ${i} is not whole UTF-8: …${data.subarray(-8).toString('hex')}`);
  }
}

export default async function story(stage) {
  const random = generator(11);
  const [small, large] = [Buffer.from(text(random, 20_000)), Buffer.from(text(random, LARGE_BYTES))];
  const messages = [];
  let received = 0;
  const sent = [];
  const port = await startTcp(stage, (socket) => {
    const speak = async () => {
      await sendPaced(socket, small, () => received);
      await sendLarge(socket, large);
      socket.end();
    };
    sent.push(speak());
  });
  const edgehold = await startEdgehold(stage, {
    routes: [{ path: '/text', service: 'proxy', upstream: `tcp://127.0.0.1:${port}`, frames: 'text', end_code: 1000 }],
  });
  const ws = await connect(edgehold.ws('/text'), {
    // The client's own check is off: the one below says which message it was.
    skipUTF8Validation: true,
    onMessage: (data, isBinary) => {
      messages.push({ data, isBinary });
      received += data.length;
    },
  });
  const { code } = await within('the whole text', ws.closed, 60_000);
  await Promise.all(sent);
  mustBe('close code', code, 1000);
  messages.forEach(mustBeText);
  const got = Buffer.concat(messages.map(({ data }) => data));
  mustEqual('the whole text', got, Buffer.concat([small, large]));
  stage.note(`${messages.length} messages, ${megabytes(got.length)}`);
  stage.note(`${cuts(small, PACED).length} cuts inside characters, one by one`);
}
