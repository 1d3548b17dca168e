//! A page in headless Chromium with @stomp/stompjs and mqtt.js as npm has them, both at edgehold's services in front of RabbitMQ and
//! Mosquitto: what is published is heard; an edge that stops and comes back is found again by both; a wrong password is told.

import { execFileSync } from 'node:child_process';
import { cpSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { bodies as anyBodies } from '../lib/bodies.mjs';
import { startMosquitto, startRabbitmq } from '../lib/brokers.mjs';
import { program, startEdgehold } from '../lib/edgehold.mjs';
import { mustBe } from '../lib/expect.mjs';
import { openPage } from '../lib/page.mjs';
import { until } from '../lib/until.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const FILES = {
  'index.html': '../page/offload.html',
  'modules/stompjs.js': '../node_modules/@stomp/stompjs/bundles/stomp.umd.min.js',
  'modules/mqtt.js': '../node_modules/mqtt/dist/mqtt.min.js',
};
const CLIENTS = ['stomp', 'mqtt3', 'mqtt5'];
const COUNT = 200;

/** What Chromium itself says of a WebSocket that is not opened, since nobody is there. */
const AWAY = /^WebSocket connection to '.*' failed/;

function root(stage) {
  const www = stage.dir('www');
  for (const [name, source] of Object.entries(FILES)) cpSync(path.resolve(HERE, source), path.join(www, name));
  return www;
}

function users(stage) {
  const file = path.join(stage.folder, 'users');
  execFileSync(program(), ['passwd', '--file', file, 'carol'], { input: 'open sesame\n' });
  return file;
}

async function serve(stage) {
  const [rabbitmq, mosquitto] = await Promise.all([startRabbitmq(stage), startMosquitto(stage)]);
  const credentials = { user: 'guest', password_file: stage.file('broker.pw', 'guest\n'), host: '/' };
  const stomp = { service: 'stomp', upstream: `tcp://127.0.0.1:${rabbitmq.port}`, credentials };
  const mqtt = { service: 'mqtt', upstream: `tcp://127.0.0.1:${mosquitto.port}` };
  const auth = { basic: { users: users(stage) } };
  return startEdgehold(stage, {
    routes: [
      { path: '/stomp', ...stomp },
      { path: '/mqtt', ...mqtt },
      { path: '/members/stomp', ...stomp, auth },
      { path: '/members/mqtt', ...mqtt, auth },
      { path: '/', service: 'files', root: root(stage) },
    ],
  });
}

/** Resolves once the page has seen that of this client. */
const sees = (page, name, what, condition) => until(`${name} ${what}`, async () => {
  const seen = await page.evaluate((it) => window.seen[it], name);
  if (condition(seen)) return seen;
  throw new Error(`the page has seen ${JSON.stringify(seen).slice(0, 300)}`);
});

const isConnected = (page, name, times) => sees(page, name, `to be connected ${times} times`, ({ connected }) => connected === times);

/** Says texts of all sizes, over MQTT with another quality of service in each round; the client hears them in their order. */
async function talks(page, name, round) {
  const texts = anyBodies(40 + round, 2 * COUNT).filter((_, i) => i % 2 === 0).map((body) => Buffer.from(body).toString());
  const before = await page.evaluate((it) => window.seen[it].heard.length, name);
  mustBe(`what ${name} has heard unasked`, before, 0);
  await page.evaluate(([it, all, qos]) => window.say[it](all, qos), [name, texts, round % 3]);
  const { heard } = await sees(page, name, 'to hear all', (seen) => seen.heard.length >= texts.length);
  const wrong = texts.findIndex((text, i) => text !== heard[i]);
  mustBe(`the first message that ${name} has heard as another`, wrong, -1);
  await page.evaluate((it) => { window.seen[it].heard = []; }, name);
}

const refused = async (page, name, words) => {
  const { errors, connected, heard } = await sees(page, name, 'to be refused', (seen) => seen.errors.length > 0);
  if (!words.test(errors[0])) throw new Error(`${name} was told "${errors[0]}"`);
  mustBe(`how often ${name} was connected, and what it has heard`, connected + heard.length, 0);
};

async function members(page) {
  const wrong = (name) => page.evaluate(([it]) => {
    if (it === 'stomp') window.stomp('wrong-stomp', '/members/stomp', { login: 'carol', passcode: 'close sesame' });
    else window.mqttClient(`wrong-${it}`, '/members/mqtt', { protocolVersion: it === 'mqtt5' ? 5 : 4, username: 'carol', password: 'close sesame' });
  }, [name]);
  for (const name of CLIENTS) await wrong(name);
  await refused(page, 'wrong-stomp', /password|passcode|credentials|login/i);
  await refused(page, 'wrong-mqtt3', /Bad username or password|Not authorized/i);
  await refused(page, 'wrong-mqtt5', /Bad User ?name or Password|Not authorized/i);
  await page.evaluate(() => window.stomp('right-stomp', '/members/stomp', { login: 'carol', passcode: 'open sesame' }));
  await page.evaluate(() => window.mqttClient('right-mqtt', '/members/mqtt', { username: 'carol', password: 'open sesame' }));
  for (const name of ['right-stomp', 'right-mqtt']) {
    await isConnected(page, name, 1);
    await talks(page, name, 7);
  }
}

export default async function offloadPage(stage) {
  const edgehold = await serve(stage);
  const { browser, page, complaints } = await openPage(stage, edgehold.http('/index.html'));
  await page.evaluate(() => {
    window.stomp('stomp', '/stomp', {});
    window.mqttClient('mqtt3', '/mqtt', { protocolVersion: 4 });
    window.mqttClient('mqtt5', '/mqtt', { protocolVersion: 5 });
  });
  for (const round of [1, 2, 3]) {
    for (const name of CLIENTS) await isConnected(page, name, round);
    await Promise.all(CLIENTS.map((name) => talks(page, name, round)));
    if (round === 3) break;
    await edgehold.stop();
    for (const name of CLIENTS) await sees(page, name, 'to be closed', ({ closed }) => closed.length >= round);
    await edgehold.startAgain();
  }
  await members(page);
  const unknown = complaints.filter((words) => !AWAY.test(words));
  if (unknown.length) throw new Error(`the page complains: ${unknown.join('; ')}`);
  const codes = await page.evaluate(() => window.seen.stomp.closed);
  stage.note(`${CLIENTS.length} clients, ${3 * COUNT} messages each over two restarts, closed with ${codes[0]}`);
  stage.note(`Chromium ${browser.version()}`);
}
