//! RabbitMQ is ended and started again under the subscribers of a stream, which all share one subscription: each hears the whole stream, in its order,
//! nothing twice, and no gap is told.
//!
//! It is not killed: RabbitMQ 3.10 may lose where a young stream is, and then has it no more for anybody.
//! EDGEHOLD_KILLS=n: how often.

import { rabbitmqTable, startRabbitmqForAll } from '../lib/offloaded.mjs';
import { mustBe } from '../lib/expect.mjs';
import { openStomp } from '../lib/raw/stomp.mjs';
import { until } from '../lib/until.mjs';
import { startOffload } from './offload-stomp.mjs';

const KILLS = Number(process.env.EDGEHOLD_KILLS ?? 2);
const SUBSCRIBERS = 20;
const MESSAGES = 100;
const STREAM = '/amq/queue/trades';
const DECLARED = { 'x-queue-type': 'stream', durable: 'true', 'auto-delete': 'false' };

async function loggedIn(address) {
  const client = await openStomp(address);
  client.send('CONNECT', { login: 'guest', passcode: 'guest', host: '/', 'accept-version': '1.2', 'heart-beat': '0,0' });
  await client.when('CONNECTED', () => client.frames.length > 0);
  return client;
}

/** RabbitMQ makes a stream of what subscribes to it with these headers. */
async function declare(port) {
  const client = await loggedIn(`tcp://127.0.0.1:${port}`);
  client.send('SUBSCRIBE', { id: 's', destination: '/queue/trades', ack: 'client', 'prefetch-count': '1', receipt: 's', ...DECLARED });
  await client.when('the receipt', () => client.frames.some(({ command }) => command === 'RECEIPT'));
  client.drop();
}

async function subscribe(address) {
  const client = await loggedIn(address);
  client.send('SUBSCRIBE', { id: 's', destination: STREAM, receipt: 's' });
  await client.when('the receipt', () => client.frames.length > 1);
  return client;
}

const heard = ({ frames }) => frames.slice(2).map(({ headers }) => headers['edgehold-gap'] ?? headers['x-stream-offset']);

export default async function streams(stage) {
  const broker = await startRabbitmqForAll(stage);
  await declare(broker.ports.stomp);
  const edgehold = await startOffload(stage, broker.ports.stomp, { streams: [STREAM], tell_gaps: true });
  const address = `tcp://127.0.0.1:${edgehold.ports.stomp}`;
  const subscribers = await Promise.all(Array.from({ length: SUBSCRIBERS }, () => subscribe(address)));
  // The session that is shared, and for a while that on which the stream was tried.
  const connections = (await rabbitmqTable(broker, 'list_stomp_connections', 'conn_name')).length;
  if (connections > 2) throw new Error(`${connections} connections for ${SUBSCRIBERS} subscribers`);
  const publisher = await loggedIn(address);
  let said = 0;
  const say = () => {
    for (let n = 0; n < MESSAGES; n += 1, said += 1) publisher.send('SEND', { destination: STREAM, receipt: `${said}` }, `${said}`);
  };
  say();
  for (let kill = 0; kill < KILLS; kill += 1) {
    await until('some of it to be heard', () => subscribers.every(({ frames }) => frames.length > 2 + kill * MESSAGES), 60_000);
    await broker.end();
    say();
    await broker.restart();
  }
  await until('all to be confirmed', () => publisher.frames.length === 1 + said, 60_000);
  // What is said again when the broker is back may stand in the stream twice: each subscriber hears it as it stands.
  await until('every subscriber to hear all', () => subscribers.every(({ frames }) => frames.length >= 2 + said), 30_000).catch(() => {
    throw new Error(`${said} confirmed, and heard: ${subscribers.map((each) => `${heard(each).length} until ${heard(each).at(-1)}`).join(', ')}`);
  });
  const last = heard(subscribers[0]).length;
  await until('all to hear as much', () => subscribers.every(({ frames }) => frames.length >= 2 + last), 30_000);
  const whole = Array.from({ length: last }, (_, offset) => `${offset}`).join();
  subscribers.forEach((each, i) => mustBe(`what subscriber ${i} heard`, heard(each).slice(0, last).join(), whole));
  for (const client of [...subscribers, publisher]) client.drop();
  stage.note(`RabbitMQ ended ${KILLS} times: ${SUBSCRIBERS} subscribers of a stream heard ${last} messages each, of ${said}, by one subscription`);
  await edgehold.stop();
}
