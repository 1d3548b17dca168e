//! MQTT clients that cannot be shared: mqtt.js and paho-mqtt with sessions that last, No Local, and a session that is taken over, at
//! Mosquitto itself and at edgehold in front of it. What they hear is the same.

import mqtt from 'mqtt';
import { startMosquittoForAll } from '../lib/offloaded.mjs';
import { mustBe } from '../lib/expect.mjs';
import { python } from '../lib/python.mjs';
import { until, within } from '../lib/until.mjs';
import { startMqttOffload } from './offload-mqtt.mjs';

const TALK_MS = 30_000;
const BODIES = ['one', 'two', 'three'];

/** A client in mqtt.js, and what it hears, which it may do before CONNACK. */
async function client(url, options) {
  const heard = [];
  const its = mqtt.connect(url, { reconnectPeriod: 0, ...options });
  its.on('message', (topic, body) => heard.push(`${topic} ${body}`));
  const connack = await within(`CONNECT at ${url}`, new Promise((resolve, reject) => {
    its.on('connect', resolve);
    its.on('error', reject);
  }));
  return { its, heard, isPresent: connack.sessionPresent };
}

const lasting = (version) => ({ protocolVersion: version, clean: false, ...(version === 5 && { properties: { sessionExpiryInterval: 60 } }) });

/** Queued messages of QoS 1 and 2 wait for a client that is away, and come to it whichever way it comes back. */
async function queued(urls, version, name) {
  const options = { clientId: `${name}-lasting`, ...lasting(version) };
  const first = await client(urls[0], options);
  mustBe(`${name}: session present at first`, first.isPresent, false);
  await first.its.subscribeAsync({ [`${name}/1`]: { qos: 1 }, [`${name}/2`]: { qos: 2 } });
  await first.its.endAsync(version === 4);
  const { its: speaker } = await client(urls[1], { protocolVersion: version });
  for (const qos of [1, 2]) for (const body of BODIES) await speaker.publishAsync(`${name}/${qos}`, body, { qos });
  await speaker.endAsync();
  const expected = [1, 2].flatMap((qos) => BODIES.map((body) => `${name}/${qos} ${body}`)).join();
  const again = await client(urls[1], options);
  mustBe(`${name}: session present when it comes back`, again.isPresent, true);
  await until(`${name}: what was queued`, () => again.heard.length >= 6);
  mustBe(`${name}: what was queued`, again.heard.join(), expected);
  const gone = new Promise((resolve) => again.its.on('close', resolve));
  const taker = await client(urls[0], options);
  await within(`${name}: the other one's end`, gone, TALK_MS);
  mustBe(`${name}: session present to who takes it over`, taker.isPresent, true);
  await taker.its.endAsync();
}

/** No Local: a client does not hear itself, and hears others. */
async function noLocal(url, name, burst) {
  const options = { protocolVersion: 5 };
  const one = await client(url, { ...options, clientId: `${name}-one` });
  const [{ qos }] = await one.its.subscribeAsync(`${name}/#`, { qos: 1, nl: true });
  mustBe(`${name}: what No Local is granted`, qos, 1);
  const other = await client(url, { ...options, clientId: `${name}-other` });
  // At the edge more than the broker's window, which mqtt.js does not keep, all at once.
  await Promise.all(Array.from({ length: burst }, (_, n) => one.its.publishAsync(`${name}/own`, `${n}`, { qos: 1 + n % 2 })));
  await other.its.publishAsync(`${name}/other`, 'last', { qos: 1 });
  await until(`${name}: the other's message`, () => one.heard.length > 0);
  mustBe(`${name}: what No Local hears`, one.heard.join(), `${name}/other last`);
  await Promise.all([one.its.endAsync(), other.its.endAsync()]);
}

async function talkAt(stage, side, { tcp, ws, path, burst }) {
  const urls = [`mqtt://127.0.0.1:${tcp}`, `ws://127.0.0.1:${ws}${path}`];
  for (const version of [4, 5]) {
    await queued(urls, version, `${side}-js-${version}`);
    const wanted = { port: tcp, version, name: `${side}-py-${version}`, bodies: BODIES };
    const heard = await python(stage, 'real/clients/mqtt_lasting.py', [JSON.stringify(wanted)], TALK_MS);
    mustBe(`what paho-mqtt heard, ${side} ${version}`, JSON.stringify(heard), JSON.stringify([false, true, ...BODIES]));
  }
  for (const [n, url] of urls.entries()) await noLocal(url, `${side}-local-${n}`, burst);
}

export default async function privateMqtt(stage) {
  const broker = await startMosquittoForAll(stage);
  await talkAt(stage, 'direct', { tcp: broker.ports.mqtt, ws: broker.ports.mqttWs, path: '/', burst: 10 });
  const edgehold = await startMqttOffload(stage, broker.ports.mqtt);
  await talkAt(stage, 'edge', { tcp: edgehold.ports.mqtt, ws: edgehold.port, path: '/mqtt', burst: 100 });
  stage.note('sessions that last, No Local and takeover, mqtt.js and paho-mqtt, 3.1.1 and 5');
}
