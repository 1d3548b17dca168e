//! 1000 clients on 20 topics: RabbitMQ and Mosquitto see a handful of connections and one subscription for each topic, and every
//! client hears what is published there, once.

import { rabbitmqTable, startMosquittoForAll, startRabbitmqForAll } from '../lib/offloaded.mjs';
import { mustBe } from '../lib/expect.mjs';
import { openMqtt } from '../lib/raw/mqtt.mjs';
import { openStomp } from '../lib/raw/stomp.mjs';
import { until } from '../lib/until.mjs';
import { startMqttOffload } from './offload-mqtt.mjs';
import { startOffload } from './offload-stomp.mjs';

const CLIENTS = 1000;
const TOPICS = 20;
/** Two shards with a session each and one session for what is shared; of MQTT, one that asks for what is kept, for
 * a while. */
const HANDFUL = 4;
const AT_ONCE = 50;

/** `CLIENTS` clients that `join(i)` makes, some of them at a time. */
async function gather(join) {
  const clients = [];
  while (clients.length < CLIENTS) {
    clients.push(...await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => join(clients.length + i))));
  }
  return clients;
}

function mustBeFew(what, count) {
  if (count < 1 || count > HANDFUL) throw new Error(`${what}: ${count} connections for ${CLIENTS} clients`);
}

async function joinStomp(address, i) {
  const client = await openStomp(address);
  client.send('CONNECT', { login: 'guest', passcode: 'guest', host: '/', 'accept-version': '1.2', 'heart-beat': '0,0' });
  client.send('SUBSCRIBE', { id: 's', destination: `/topic/crowd.${i % TOPICS}`, receipt: 's' });
  await client.when('the receipt of SUBSCRIBE', () => client.frames.length === 2);
  return client;
}

async function stompCrowd(stage) {
  const broker = await startRabbitmqForAll(stage);
  const edgehold = await startOffload(stage, broker.ports.stomp);
  const address = `tcp://127.0.0.1:${edgehold.ports.stomp}`;
  const clients = await gather((i) => joinStomp(address, i));
  const speaker = await joinStomp(address, TOPICS);
  for (let topic = 0; topic < TOPICS; topic += 1) speaker.send('SEND', { destination: `/topic/crowd.${topic}`, receipt: `${topic}` }, `told ${topic}`);
  await until('every client to hear', () => clients.every(({ frames }) => frames.length >= 3), 20_000);
  clients.forEach(({ frames }, i) => mustBe(`what client ${i} heard`, frames.slice(2).map(({ body }) => `${body}`).join(), `told ${i % TOPICS}`));
  const connections = (await rabbitmqTable(broker, 'list_stomp_connections', 'conn_name')).length;
  mustBeFew('RabbitMQ', connections);
  mustBe('consumers of RabbitMQ', (await rabbitmqTable(broker, 'list_consumers', 'queue_name')).length, TOPICS);
  for (const client of [...clients, speaker]) client.drop();
  stage.note(`RabbitMQ: ${CLIENTS} clients, ${connections} connections, ${TOPICS} consumers`);
  await edgehold.stop();
}

async function joinMqtt(port, i, name = `crowd-${i}`) {
  const client = await openMqtt(`tcp://127.0.0.1:${port}`, 4);
  client.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: name, keepalive: 0 });
  client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: `crowd/${i % TOPICS}`, qos: 1 }] });
  await client.when('SUBACK', () => client.packets.length === 2);
  return client;
}

/** What Mosquitto says of itself. */
async function sysOf(port, topic) {
  const client = await openMqtt(`tcp://127.0.0.1:${port}`, 4);
  client.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: 'watch', keepalive: 0 });
  client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic, qos: 0 }] });
  await client.when(topic, () => client.packets.some(({ cmd }) => cmd === 'publish'));
  const { payload } = client.packets.find(({ cmd }) => cmd === 'publish');
  client.drop();
  return Number(payload);
}

async function mqttCrowd(stage) {
  const broker = await startMosquittoForAll(stage);
  const edgehold = await startMqttOffload(stage, broker.ports.mqtt);
  const clients = await gather((i) => joinMqtt(edgehold.ports.mqtt, i));
  const speaker = await joinMqtt(edgehold.ports.mqtt, TOPICS, 'speaker');
  for (let topic = 0; topic < TOPICS; topic += 1) {
    speaker.send({ cmd: 'publish', topic: `crowd/${topic}`, payload: Buffer.from(`told ${topic}`), qos: 1, messageId: 2 + topic, retain: false, dup: false });
  }
  await until('every client to hear', () => clients.every(({ packets }) => packets.length >= 3), 20_000);
  clients.forEach(({ packets }, i) => mustBe(`what client ${i} heard`, packets.slice(2).map(({ payload }) => `${payload}`).join(), `told ${i % TOPICS}`));
  // The one who asks is connected, and subscribed, too.
  const connections = await until('Mosquitto to count', async () => {
    const subscriptions = await sysOf(broker.ports.mqtt, '$SYS/broker/subscriptions/count');
    if (subscriptions < TOPICS || subscriptions > TOPICS + 1) throw new Error(`${subscriptions} subscriptions`);
    return sysOf(broker.ports.mqtt, '$SYS/broker/clients/connected');
  });
  mustBeFew('Mosquitto', connections - 1);
  for (const client of [...clients, speaker]) client.drop();
  stage.note(`Mosquitto: ${CLIENTS} clients, at most ${connections} connections, ${TOPICS} subscriptions`);
}

export default async function crowd(stage) {
  await stompCrowd(stage);
  await mqttCrowd(stage);
}
