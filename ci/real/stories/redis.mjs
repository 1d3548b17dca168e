//! Redis behind edgehold with frames = "binary": RESP commands cut at random places into messages. What comes back is,
//! byte for byte, what a direct TCP connection gives for the same commands.

import net from 'node:net';
import { startRedis } from '../lib/brokers.mjs';
import { bytes, generator, size } from '../lib/bodies.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { megabytes, mustBe, mustEqual } from '../lib/expect.mjs';
import { until, within } from '../lib/until.mjs';
import { connect } from '../lib/websocket.mjs';

const COUNT = 10_000;

/** One command in RESP, its arguments as bytes. */
export function command(...parts) {
  const bulk = (part) => [`$${Buffer.byteLength(part)}\r\n`, part, '\r\n'];
  return Buffer.concat([`*${parts.length}\r\n`, ...parts.flatMap(bulk)].map((piece) => Buffer.from(piece)));
}

const END = bytes(generator(6), 32);

/** SET, GET and ECHO of random values; each is answered, the last one with `END`. */
export function commands(count) {
  const random = generator(7);
  const key = () => `key${random(500)}`;
  const makers = [
    () => command('SET', key(), bytes(random, size(random))),
    () => command('GET', key()),
    () => command('ECHO', bytes(random, size(random))),
  ];
  const list = Array.from({ length: count - 2 }, () => makers[random(3)]());
  return Buffer.concat([command('FLUSHALL'), ...list, command('ECHO', END)]);
}

/** Cuts at random places: mostly small pieces, some of many kilobytes. */
function* cut(whole) {
  const random = generator(8);
  for (let at = 0; at < whole.length;) {
    const n = 1 + (random(50) ? random(2000) : random(60_000));
    yield whole.subarray(at, at + n);
    at += n;
  }
}

const complete = (answers) => answers.subarray(-END.length - 2, -2).equals(END);

/** Collects pieces; `whole()` joins them, `ends()` tells whether the last answer is there. */
function collector() {
  const parts = [];
  const whole = () => Buffer.concat(parts);
  // No piece is empty: as many pieces as `END` has bytes, and its frame, hold all of it.
  const ends = () => complete(Buffer.concat(parts.slice(-END.length - 8)));
  return { add: (part) => parts.push(part), whole, ends };
}

/** Sends bytes to Redis over TCP and resolves with its answers. */
export async function direct(port, whole) {
  const answers = collector();
  const socket = net.connect(port, '127.0.0.1').on('data', answers.add);
  socket.write(whole);
  await until('the direct answers', answers.ends, 30_000);
  socket.destroy();
  return answers.whole();
}

/** Sends them in messages through edgehold and resolves with the answers. */
export async function throughEdgehold(url, whole) {
  const answers = collector();
  let [messages, text] = [0, 0];
  const ws = await connect(url, {
    onMessage: (data, isBinary) => {
      answers.add(data);
      text += isBinary ? 0 : 1;
    },
  });
  for (const piece of cut(whole)) {
    ws.send(piece);
    messages += 1;
  }
  await until('the answers through edgehold', answers.ends, 60_000);
  ws.close(1000);
  const { code } = await within('the closing handshake', ws.closed);
  mustBe('close code', code, 1000);
  mustBe('text frames on a route of binary frames', text, 0);
  return { bytes: answers.whole(), messages };
}

export default async function redis(stage) {
  const broker = await startRedis(stage);
  const edgehold = await startEdgehold(stage, {
    routes: [{ path: '/redis', service: 'proxy', upstream: `tcp://127.0.0.1:${broker.port}`, frames: 'binary' }],
  });
  const whole = commands(COUNT);
  const expected = await direct(broker.port, whole);
  const seen = await throughEdgehold(edgehold.ws('/redis'), whole);
  mustEqual('the answers, beside those of a direct connection', seen.bytes, expected);
  stage.note(`${COUNT} commands in ${seen.messages} messages, ${COUNT} answers, ${megabytes(whole.length + expected.length)}`);
}
