//! The broker goes again and again under publishers with receipts (STOMP) or QoS 1 (MQTT). They and the subscribers stay connected,
//! and what was confirmed is heard, though perhaps twice.
//!
//! RabbitMQ is killed (kill -9): its queue is durable, its messages persistent. Mosquitto is ended and started again, and keeps
//! the session of the edge (`session = "persistent"`): what it has confirmed it forgets itself when it is killed. Then it is killed
//! with all that it knows: each subscriber with QoS 1 is told so, by the end of its connection, and misses nothing from its next
//! SUBACK on.
//! EDGEHOLD_KILLS=n: how often each goes.

import { startLastingMosquitto } from '../lib/brokers.mjs';
import { startMosquittoForAll, startRabbitmqForAll } from '../lib/offloaded.mjs';
import { openMqtt } from '../lib/raw/mqtt.mjs';
import { openStomp } from '../lib/raw/stomp.mjs';
import { until } from '../lib/until.mjs';
import { startMqttOffload } from './offload-mqtt.mjs';
import { startOffload } from './offload-stomp.mjs';

const KILLS = {
  stomp: Number(process.env.EDGEHOLD_KILLS ?? 2), mqtt: Number(process.env.EDGEHOLD_KILLS ?? 20), loss: Number(process.env.EDGEHOLD_KILLS ?? 5),
};
const SUBSCRIBERS = 10;
const PUBLISHERS = 4;
/** How many are confirmed between two kills, at least. */
const BETWEEN = 25;
/** What a publisher has said and not heard of, at most. */
const WINDOW = 8;

/** Publishes 0, 1, 2, … through `say(n)` until it is ended; `confirmed(n)` is called by whoever hears of it. */
class Publisher {
  constructor(client, say) {
    Object.assign(this, { client, say, next: 0, done: new Set(), ended: false });
  }

  step() {
    while (!this.ended && !this.client.closed && this.next - this.done.size < WINDOW) {
      this.say(this.next);
      this.next += 1;
    }
  }

  confirm(n) {
    this.done.add(n);
    this.step();
  }
}

const total = (publishers) => publishers.reduce((sum, { done }) => sum + done.size, 0);

async function storm(goes, publishers, kills) {
  publishers.forEach((each) => each.step());
  for (let kill = 0; kill < kills; kill += 1) {
    const before = total(publishers);
    await until('messages to be confirmed', () => total(publishers) >= before + BETWEEN, 30_000);
    await goes();
  }
  const before = total(publishers);
  await until('messages to be confirmed at last', () => total(publishers) >= before + BETWEEN, 30_000);
  publishers.forEach((each) => { each.ended = true; });
  await until('all to be confirmed', () => publishers.every(({ next, done }) => done.size === next), 30_000);
  publishers.forEach(({ client }, p) => { if (client.closed) throw new Error(`publisher ${p} was closed`); });
}

/** What was confirmed and not heard; `heard` has `p:n`. */
function missing(publishers, heard) {
  const all = new Set(heard);
  return publishers.flatMap(({ done }, p) => [...done].filter((n) => !all.has(`${p}:${n}`)).map((n) => `${p}:${n}`));
}

async function loggedIn(address) {
  const client = await openStomp(address);
  client.send('CONNECT', { login: 'guest', passcode: 'guest', host: '/', 'accept-version': '1.2', 'heart-beat': '0,0' });
  await client.when('CONNECTED', () => client.frames.length > 0);
  return client;
}

async function stompStorm(stage) {
  const broker = await startRabbitmqForAll(stage);
  const edgehold = await startOffload(stage, broker.ports.stomp);
  const address = `tcp://127.0.0.1:${edgehold.ports.stomp}`;
  const consumer = await loggedIn(address);
  const heard = [];
  watch(consumer, 'frames', ({ command, headers, body }) => {
    if (command !== 'MESSAGE') return;
    heard.push(`${body}`);
    consumer.send('ACK', { id: headers.ack });
  });
  consumer.send('SUBSCRIBE', { id: 'q', destination: '/queue/storm', ack: 'client-individual', receipt: 'sub' });
  const publishers = await Promise.all(Array.from({ length: PUBLISHERS }, async (_, p) => {
    const client = await loggedIn(address);
    const publisher = new Publisher(client, (n) => client.send('SEND', { destination: '/queue/storm', persistent: 'true', receipt: `${n}` }, `${p}:${n}`));
    watch(client, 'frames', ({ command, headers }) => command === 'RECEIPT' && publisher.confirm(Number(headers['receipt-id'])));
    return publisher;
  }));
  await storm(() => broker.kill().then(() => broker.restart()), publishers, KILLS.stomp);
  await until('all that was confirmed', () => missing(publishers, heard).length === 0, 30_000).catch(() => {
    throw new Error(`confirmed and lost: ${missing(publishers, heard).slice(0, 20)}`);
  });
  if (consumer.closed) throw new Error('the consumer was closed');
  stage.note(`RabbitMQ killed ${KILLS.stomp} times: ${total(publishers)} confirmed, ${heard.length - new Set(heard).size} twice, none lost`);
  await edgehold.stop();
}

/** Calls `take` with all that comes to a raw client, once. */
function watch(client, list, take) {
  let taken = 0;
  const wake = client.wake.bind(client);
  client.wake = () => {
    for (; taken < client[list].length; taken += 1) take(client[list][taken]);
    wake();
  };
}

async function mqttClient(port, id) {
  const client = await openMqtt(`tcp://127.0.0.1:${port}`, 4);
  client.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: id, keepalive: 0 });
  await client.when('CONNACK', () => client.packets.length > 0);
  return client;
}

async function mqttPublisher(port, p) {
  const client = await mqttClient(port, `publisher-${p}`);
  // Packet identifiers come round.
  const said = new Map();
  const say = (n) => {
    const messageId = 1 + n % 60_000;
    said.set(messageId, n);
    client.send({ cmd: 'publish', topic: 'storm', payload: Buffer.from(`${p}:${n}`), qos: 1, messageId, retain: false, dup: false });
  };
  const publisher = new Publisher(client, say);
  watch(client, 'packets', ({ cmd, messageId }) => cmd === 'puback' && publisher.confirm(said.get(messageId)));
  return publisher;
}

async function mqttStorm(stage) {
  const broker = await startLastingMosquitto(stage);
  const edgehold = await startMqttOffload(stage, broker.port, { session: 'persistent' });
  const subscriber = await mqttClient(edgehold.ports.mqtt, 'subscriber');
  const heard = [];
  watch(subscriber, 'packets', ({ cmd, payload }) => cmd === 'publish' && heard.push(`${payload}`));
  subscriber.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'storm', qos: 1 }] });
  await subscriber.when('SUBACK', () => subscriber.packets.length > 1);
  const publishers = await Promise.all(Array.from({ length: PUBLISHERS }, (_, p) => mqttPublisher(edgehold.ports.mqtt, p)));
  await storm(() => broker.end().then(() => broker.restart()), publishers, KILLS.mqtt);
  await until('all that was confirmed', () => missing(publishers, heard).length === 0, 20_000).catch(() => {
    const lost = missing(publishers, heard);
    throw new Error(`confirmed and not heard: ${lost.slice(0, 20)} (${lost.length} of ${total(publishers)})`);
  });
  if (subscriber.closed) throw new Error('the subscriber was closed');
  stage.note(`Mosquitto ended ${KILLS.mqtt} times: ${total(publishers)} confirmed, ${heard.length - new Set(heard).size} twice, none lost`);
  await edgehold.stop();
}

/** A subscriber of `storm` that comes back whenever it is closed: `lives` has one entry for each time that it was subscribed. */
async function subscribeAgain(port, name, qos, { lives, publishers, isOver }) {
  while (!isOver()) {
    const client = await mqttClient(port, name);
    const life = { client, heard: [] };
    const ended = new Promise((resolve) => {
      const wake = client.wake.bind(client);
      client.wake = () => {
        if (client.closed) resolve();
        wake();
      };
    });
    watch(client, 'packets', ({ cmd, payload }) => cmd === 'publish' && life.heard.push(`${payload}`));
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'storm', qos }] });
    // What is published may come in front of it, and is promised to nobody then.
    await client.when('SUBACK', () => client.closed || client.packets.some(({ cmd }) => cmd === 'suback'));
    life.from = publishers.map(({ next }) => next);
    lives.push(life);
    if (!client.closed) await ended;
  }
}

async function mqttLoss(stage) {
  const broker = await startMosquittoForAll(stage);
  const edgehold = await startMqttOffload(stage, broker.ports.mqtt);
  const port = edgehold.ports.mqtt;
  let over = false;
  const publishers = [];
  const world = { lives: [], publishers, isOver: () => over };
  const modest = { ...world, lives: [] };
  const all = Array.from({ length: SUBSCRIBERS }, (_, n) => subscribeAgain(port, `bold-${n}`, 1, world));
  all.push(subscribeAgain(port, 'modest', 0, modest));
  await until('all to be subscribed', () => world.lives.length === SUBSCRIBERS && modest.lives.length === 1);
  publishers.push(...await Promise.all(Array.from({ length: PUBLISHERS }, (_, p) => mqttPublisher(port, p))));
  world.lives.forEach((life) => { life.from = publishers.map(() => 0); });
  const closed = () => world.lives.filter(({ client }) => client.closed).length;
  await storm(async () => {
    await broker.kill();
    // One that comes back to a shard before that has heard of the loss is told there once more.
    await until('all who may have missed something to be told', () => closed() === world.lives.length, 20_000);
    await broker.restart();
    await until('all to be subscribed again', () => world.lives.length - closed() === SUBSCRIBERS, 30_000);
  }, publishers, KILLS.loss);
  const lacks = ({ client, heard, from }) => (client.closed ? [] : missing(publishers, heard).filter((name) => {
    const [p, n] = name.split(':').map(Number);
    return n >= from[p];
  }));
  await until('what was published since SUBACK', () => world.lives.every((life) => lacks(life).length === 0), 20_000).catch(() => {
    throw new Error(`confirmed and not heard: ${world.lives.flatMap(lacks).slice(0, 20)}`);
  });
  if (modest.lives.length !== 1 || modest.lives[0].client.closed) throw new Error('a subscriber with QoS 0 was closed');
  stage.note(`Mosquitto killed ${KILLS.loss} times: ${closed()} subscribers with QoS 1 were told, and came back; ${total(publishers)} confirmed`);
  over = true;
  await edgehold.stop();
  await Promise.all(all);
}

export default async function story(stage) {
  await mqttLoss(stage);
  await mqttStorm(stage);
  await stompStorm(stage);
}
