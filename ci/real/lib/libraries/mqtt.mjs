//! One conversation over MQTT in three libraries: mqtt.js here, paho-mqtt in clients/mqtt_talk.py, and mosquitto_pub and
//! mosquitto_sub.
//!
//! What is published to `NAME/0`, `NAME/1` and `NAME/2` with the QoS of that number is heard in its order, and the will of a
//! client that is lost; whoever comes late hears what is retained at `NAME/kept`.

import mqtt from 'mqtt';
import path from 'node:path';
import { mustBe } from '../expect.mjs';
import { start } from '../processes.mjs';
import { until, within } from '../until.mjs';

export const BODIES = ['one', 'zwei: Grüße', 'vier \u{1f680}', 'five '.repeat(1000)];

/** What must be heard, by topic. */
export const expected = (name) => ({
  [`${name}/0`]: BODIES, [`${name}/1`]: BODIES, [`${name}/2`]: BODIES, [`${name}/will`]: ['lost'], late: [`${name}/kept kept true`],
});

const hasAll = (heard) => (topic, bodies) => (heard[topic] ?? []).length >= bodies.length;

/** The conversation in mqtt.js, at `mqtt://…` or `ws://…`, in version 4 or 5. */
export async function mqttJs(url, protocolVersion, name) {
  const options = { protocolVersion, reconnectPeriod: 0, clean: true };
  const connect = (more) => within(`CONNECT at ${url}`, mqtt.connectAsync(url, { ...options, ...more }));
  const heard = {};
  const hears = (client, place) => client.on('message', (topic, body, { retain }) => {
    const [at, words] = place ? [place, `${topic} ${body} ${retain}`] : [topic, `${body}`];
    (heard[at] ??= []).push(words);
  });
  const listener = await connect();
  hears(listener);
  await listener.subscribeAsync(`${name}/+`, { qos: 2 });
  const speaker = await connect({ will: { topic: `${name}/will`, payload: 'lost', qos: 1 } });
  for (const qos of [0, 1, 2]) for (const body of BODIES) await speaker.publishAsync(`${name}/${qos}`, body, { qos });
  await until('all that was published', () => [0, 1, 2].every((qos) => hasAll(heard)(`${name}/${qos}`, BODIES)));
  await listener.unsubscribeAsync(`${name}/+`);
  await speaker.publishAsync(`${name}/kept`, 'kept', { qos: 1, retain: true });
  await listener.subscribeAsync(`${name}/will`, { qos: 1 });
  speaker.stream.destroy();
  await until('the will', () => hasAll(heard)(`${name}/will`, ['lost']));
  const late = await connect();
  hears(late, 'late');
  await late.subscribeAsync(`${name}/kept`, { qos: 1 });
  await until('what is retained', () => hasAll(heard)('late', ['kept']));
  await Promise.all([listener.endAsync(), late.endAsync()]);
  const sorted = (object) => JSON.stringify(Object.entries(object).sort());
  mustBe(`what ${name} heard`, sorted(heard), sorted(expected(name)));
}

const NAMES = { 3: 'mqttv31', 4: 'mqttv311', 5: 'mqttv5' };

/** The same, as far as it goes, with mosquitto_sub and mosquitto_pub. */
export async function mosquittoTools(stage, port, version, name) {
  const common = ['-h', '127.0.0.1', '-p', `${port}`, '-V', NAMES[version]];
  const log = path.join(stage.folder, `${name}.log`);
  const run = (program, args, file = log) => {
    // Into a file they would write when much has come together.
    const process = start(program, 'stdbuf', ['-oL', program, ...common, ...args], { log: file });
    stage.defer(() => process.kill());
    return process;
  };
  const publish = async (...args) => mustBe('exit code of mosquitto_pub', (await within('mosquitto_pub', run('mosquitto_pub', args, `${log}.pub`).exited)).code, 0);
  const sub = run('mosquitto_sub', ['-d', '-q', '2', '-t', `${name}/+`, '-F', 'heard %t %q %p']);
  await until('SUBACK', () => sub.log().includes('Subscribed (mid'));
  for (const qos of ['0', '1', '2']) await publish('-q', qos, '-t', `${name}/${qos}`, '-m', `body ${qos}`);
  await publish('-q', '1', '-r', '-t', `${name}/kept`, '-m', 'kept');
  const wanted = ['0', '1', '2'].map((qos) => `heard ${name}/${qos} ${qos} body ${qos}`).concat(`heard ${name}/kept 1 kept`);
  const heard = () => sub.log().split('\n').filter((line) => line.startsWith('heard ')).sort();
  await until('all that was published', () => heard().length >= wanted.length);
  mustBe('what mosquitto_sub heard', heard().join(), wanted.sort().join());
  const late = run('mosquitto_sub', ['-C', '1', '-q', '1', '-t', `${name}/kept`, '-F', 'late %r %p'], `${log}.late`);
  mustBe('exit code of mosquitto_sub', (await within('what is retained', late.exited)).code, 0);
  mustBe('what came late', late.log().trim(), 'late 1 kept');
}
