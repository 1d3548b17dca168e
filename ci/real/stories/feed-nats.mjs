//! NATS as a feed, killed and ended in mid-stream: core NATS is heard again by itself, and of a JetStream stream no number
//! is missing or doubled.

import { connect } from 'nats';
import { startNats } from '../lib/brokers.mjs';
import { back, count, lost, mustHaveCounted, mustNotTell, startCounting } from '../lib/counted.mjs';
import { until } from '../lib/until.mjs';

const [USER, PASSWORD] = ['edge', 's3cr3t-of-nats'];
const PART = 1000;

/** A publisher that comes back by itself. */
async function publisher(stage, broker) {
  const nats = await connect({
    servers: `127.0.0.1:${broker.port}`, user: USER, pass: PASSWORD, maxReconnectAttempts: -1, reconnectTimeWait: 100,
  });
  stage.defer(() => nats.close());
  return nats;
}

const source = (broker) => `nats://${USER}:${PASSWORD}@127.0.0.1:${broker.port}`;

async function core(stage, broker, nats) {
  const counting = await startCounting(stage, { source: source(broker), topics: ['core.>'], channel: 'counted' });
  await count(1, PART, (n) => nats.publish('core.a', `${n}`));
  await mustHaveCounted(counting, PART);
  await broker.kill();
  await lost(counting.edgehold);
  await broker.restart();
  const ms = await back(counting.edgehold);
  await until('the publisher to be back', () => nats.flush().then(() => true));
  await count(PART + 1, 2 * PART, (n) => nats.publish('core.b', `${n}`));
  await mustHaveCounted(counting, 2 * PART);
  await mustNotTell(counting.edgehold, PASSWORD);
  return ms;
}

/** Publishes until the server says that it has it; by its id it is stored once, however often it is sent. */
function put(stream, n) {
  const said = () => stream.publish('counted.a', `${n}`, { msgID: `${n}`, timeout: 1000 }).then(() => true);
  return until(`${n} to be stored`, said, 30_000);
}

async function jetStream(stage, broker, nats) {
  await (await nats.jetstreamManager()).streams.add({ name: 'COUNTED', subjects: ['counted.>'] });
  const feed = { source: source(broker), stream: 'COUNTED', topics: ['counted.>'], channel: 'counted' };
  const counting = await startCounting(stage, feed);
  const stream = nats.jetstream();
  const publishing = count(1, 3 * PART, (n) => put(stream, n));
  for (const [at, leave] of [[PART, 'kill'], [2 * PART, 'end']]) {
    await until(`${at} to be heard`, () => counting.heard.length >= at, 60_000);
    await broker[leave]();
    await lost(counting.edgehold);
    await broker.restart();
  }
  await publishing;
  await mustHaveCounted(counting, 3 * PART);
  await mustNotTell(counting.edgehold, PASSWORD);
}

export default async function nats(stage) {
  const broker = await startNats(stage, USER, PASSWORD);
  const client = await publisher(stage, broker);
  stage.note(`core: ${2 * PART} numbers, back after ${await core(stage, broker, client)} ms`);
  await jetStream(stage, broker, client);
  stage.note(`JetStream: ${3 * PART} numbers over a kill and a restart`);
}
