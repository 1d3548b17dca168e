//! Pages of other origins in Chromium try to publish at the admin address of somebody who reaches it: by all that a page
//! can send, and by a name of its own that leads there. Nothing is published; for an origin that is allowed, it is.

import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe } from '../lib/expect.mjs';
import { openPage } from '../lib/page.mjs';
import { freePort } from '../lib/ports.mjs';
import { within } from '../lib/until.mjs';

/** What leads to this machine by a name of somebody else's, as a rebound name does. */
const REBOUND = '--host-resolver-rules=MAP rebound.example 127.0.0.1';

/** Runs in the page: every way to send something that needs no answer, and one that needs a preflight. */
async function attack(url) {
  const send = (to, options) => fetch(to, { method: 'POST', mode: 'no-cors', credentials: 'include', ...options });
  const form = new FormData();
  form.set('a', 'b');
  const outcomes = await Promise.allSettled([
    send(`${url}/a`, { body: 'text' }),
    send(`${url}/a`, { body: new Blob(['no type']) }),
    send(`${url}/a`, { body: new URLSearchParams({ a: 'b' }) }),
    send(`${url}/a`, { body: form }),
    send(url, { body: '{"channel":"a","data":"b"}\n' }),
    send(`${url}/a`, { mode: 'cors', headers: { 'Content-Type': 'application/json' }, body: '"json"' }),
  ]);
  navigator.sendBeacon(`${url}/a`, 'beacon');
  await new Promise((resolve) => {
    document.body.innerHTML = `<iframe name="f"></iframe><form method="post" enctype="text/plain" target="f"
      action="${url}/a"><input name="a" value="b"></form>`;
    document.querySelector('iframe').onload = resolve;
    document.querySelector('form').submit();
  });
  return outcomes.map(({ status }) => status);
}

/** edgehold with a page, and with a feed that takes what is published over HTTP. */
async function serve(stage, www, rest = {}) {
  const feeds = [{ name: 'http', source: 'http', channel: '*' }];
  const routes = [
    { path: '/told/{channel}', service: 'broadcast', feeds: ['http'] },
    { path: '/', service: 'files', root: www },
  ];
  return startEdgehold(stage, { routes, feeds, ...rest });
}

const published = (edgehold) => edgehold.metric('edgehold_feed_messages_total', { feed: 'http' });
const publish = (edgehold) => `http://127.0.0.1:${edgehold.admin}/v1/publish`;

async function attackFrom(stage, edgehold, url) {
  const { browser, page } = await openPage(stage, url);
  await within('the attack', page.evaluate(attack, publish(edgehold)), 30_000);
  await browser.close();
}

/** A page whose own name leads to the admin address: its requests are of one origin, and of any type. */
async function rebound(stage, edgehold) {
  const { page } = await openPage(stage, `http://rebound.example:${edgehold.admin}/`, { args: [REBOUND] });
  return page.evaluate(async () => {
    const asked = [
      await fetch('/v1/publish/a', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '1' }),
      await fetch('/v1/status'),
    ];
    return asked.map(({ status }) => status).join();
  });
}

export default async function adminPage(stage) {
  const www = stage.dir('www');
  writeFileSync(path.join(www, 'index.html'), '<!doctype html><title>foreign</title><body>');
  const edgehold = await serve(stage, www);
  await attackFrom(stage, edgehold, edgehold.http('/index.html'));
  mustBe('what a page whose name leads to the admin address is answered', await rebound(stage, edgehold), '403,403');
  mustBe('messages that foreign pages have published', await published(edgehold), 0);
  const body = { method: 'POST', headers: { 'Content-Type': 'text/x-message' }, body: 'a' };
  mustBe('the status of publishing from elsewhere', (await fetch(`${publish(edgehold)}/a`, body)).status, 200);
  const port = await freePort();
  const origin = `http://127.0.0.1:${port}`;
  const listeners = { friend: { address: `127.0.0.1:${port}` } };
  const friend = await serve(stage, www, { listeners, server: { admin_allow_origin: [origin] } });
  await attackFrom(stage, friend, `${origin}/index.html`);
  const count = await published(friend);
  if (count < 5) throw new Error(`of the same page where it may publish, only ${count} messages came`);
  stage.note(`nothing published by foreign pages, ${count} messages by one that may`);
}
