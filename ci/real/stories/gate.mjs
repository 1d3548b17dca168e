//! Who may come in: curl with passwords and tokens, Python's `websockets`, and pages of two origins in Chromium, which say
//! their token by a cookie or as a subprotocol. A token that ends takes its WebSocket with it, unless another comes in time.

import { execFileSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { cpSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { program, startEdgehold } from '../lib/edgehold.mjs';
import { mustBe } from '../lib/expect.mjs';
import { openPage } from '../lib/page.mjs';
import { freePort } from '../lib/ports.mjs';
import { python } from '../lib/python.mjs';
import { within } from '../lib/until.mjs';

const PAGE = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../page/gate.html');
const SECRET = 'a secret between the story and the edge, of sixty-four bytes....';
const EXPIRED = 4001;

const base64url = (data) => Buffer.from(data).toString('base64url');

/** A token of HS256, made without edgehold's help. */
function token(claims, secret = SECRET) {
  const text = [{ alg: 'HS256', typ: 'JWT' }, { sub: 'ann', roles: ['reader'], aud: 'edge', ...claims }];
  const signed = text.map((part) => base64url(JSON.stringify(part))).join('.');
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

const lasting = (seconds) => ({ exp: Math.floor(Date.now() / 1000) + seconds });

/** The file of users, written by the program itself. */
function users(stage) {
  const file = path.join(stage.folder, 'users');
  for (const [user, role] of [['carol', 'reader'], ['dave', 'clerk']]) {
    execFileSync(program(), ['passwd', '--file', file, '--role', role, user], { input: 'open sesame\n' });
  }
  return file;
}

/** edgehold with two listeners, which are two origins for a browser; only pages of `friend` may use what is gated. */
async function serve(stage) {
  const friend = await freePort();
  const www = stage.dir('www');
  cpSync(PAGE, path.join(www, 'index.html'));
  writeFileSync(path.join(stage.folder, 'secret'), SECRET);
  const gate = {
    allow_origin: [`http://127.0.0.1:${friend}`],
    allow_credentials: true,
    roles: ['reader'],
    auth: {
      expired_code: EXPIRED,
      basic: { users: users(stage), realm: 'story' },
      jwt: {
        keys: path.join(stage.folder, 'secret'), algorithms: ['HS256'], audience: 'edge', leeway: '0s', claims: ['tenant'],
        from: ['header', 'cookie:session', 'query:token', 'subprotocol:bearer.'],
      },
    },
  };
  const channels = ['news', 'user.{user}', '{claim.tenant}.*'];
  const edgehold = await startEdgehold(stage, {
    listeners: { friend: { address: `127.0.0.1:${friend}` } },
    feeds: [{ name: 'http', source: 'http', channel: '*' }],
    routes: [
      { path: '/echo', service: 'echo', ...gate },
      { path: '/feeds', service: 'broadcast', feeds: ['http'], channels, ...gate },
      { path: '/private/', service: 'files', root: www, ...gate },
      { path: '/', service: 'files', root: www },
    ],
  });
  edgehold.ports.friend = friend;
  return edgehold;
}

// ---- programs ----

function curl(edgehold, ...args) {
  const url = edgehold.http('/private/index.html');
  const command = ['-s', '-o', '/dev/null', '-w', '%{http_code} %header{www-authenticate}', ...args];
  return execFileSync('curl', [...command, args.some((it) => it.startsWith('http')) ? '' : url].filter(Boolean)).toString().trim();
}

function byCurl(edgehold) {
  const good = token(lasting(60));
  const asked = {
    'nothing': [],
    'a password': ['-u', 'carol:open sesame'],
    'a wrong password': ['-u', 'carol:close sesame'],
    'a password without the role': ['-u', 'dave:open sesame'],
    'a token': ['--oauth2-bearer', good],
    'a cookie': ['-b', `session=${good}`],
    'a query': [edgehold.http(`/private/index.html?token=${good}`)],
    'a forged token': ['--oauth2-bearer', token(lasting(60), `${SECRET}!`)],
    'a token of the past': ['--oauth2-bearer', token(lasting(-5))],
    'a token for others': ['--oauth2-bearer', token({ ...lasting(60), aud: 'others' })],
  };
  const wanted = [401, 200, 401, 403, 200, 200, 200, 401, 401, 401];
  const heard = Object.values(asked).map((args) => curl(edgehold, ...args));
  Object.keys(asked).forEach((what, i) => mustBe(`the status for ${what}`, Number(heard[i].slice(0, 3)), wanted[i]));
  if (!/Bearer/.test(heard[0])) throw new Error(`the challenge is ${heard[0]}`);
}

async function byPython(stage, edgehold) {
  const asks = (headers) => python(stage, 'real/clients/gated.py', [edgehold.ws('/echo'), JSON.stringify(headers)]);
  const good = await asks({ Authorization: `Bearer ${token(lasting(60))}` });
  mustBe('the echo of who has a token', good.echo, 'hello');
  mustBe('the status of who has none', (await asks({})).status, 401);
  mustBe('the status of a foreign origin', (await asks({ Origin: 'https://evil.example' })).status, 403);
}

// ---- pages ----

async function friendly(stage, edgehold) {
  const { browser, page } = await openPage(stage, `http://127.0.0.1:${edgehold.ports.friend}/index.html`);
  const at = (url) => url.replace(String(edgehold.port), String(edgehold.ports.friend));
  const [echo, feeds] = [at(edgehold.ws('/echo')), at(edgehold.ws('/feeds'))];
  const open = (url, protocols) => within('the page', page.evaluate(([u, p]) => window.open1(u, p), [url, protocols]), 20_000);
  mustBe('a WebSocket without a token', (await open(echo, [])).opened, false);
  const bySubprotocol = await open(echo, ['chat', `bearer.${token(lasting(60))}`]);
  mustBe('a WebSocket with its token as subprotocol', `${bySubprotocol.opened} ${bySubprotocol.protocol}`, 'true chat');
  const cross = (url, options) => page.evaluate(([u, o]) => window.read(u, o), [url, options]);
  await page.evaluate((it) => { document.cookie = `session=${it}`; }, token(lasting(60)));
  mustBe('a WebSocket with its token as cookie', (await open(echo, [])).opened, true);
  const url = edgehold.http('/private/index.html');
  mustBe('what another origin reads with leave', await cross(url, { credentials: 'include' }), 200);
  mustBe('a field that needs a preflight', await cross(url, { headers: { Authorization: `Bearer ${token(lasting(60))}` } }), 200);
  // A cookie goes before a subprotocol.
  await page.evaluate(() => { document.cookie = 'session=; max-age=0'; });
  await expires(page, feeds);
  await browser.close();
}

/** The first connection ends with its token; the second shows another one in time, and outlives the first token. */
async function expires(page, feeds) {
  const protocols = () => ['feeds', `bearer.${token(lasting(3))}`];
  const left = page.evaluate(([url, p]) => window.closes(url, p, null), [feeds, protocols()]);
  const later = token(lasting(8));
  const stayed = page.evaluate(([url, p, t]) => window.closes(url, p, t), [feeds, protocols(), later]);
  const [first, second] = await within('tokens to end', Promise.all([left, stayed]), 30_000);
  mustBe('the code of a token that has ended', first.code, EXPIRED);
  mustBe('the code of the one that came in time', second.code, EXPIRED);
  if (first.ms > 6000 || second.ms < 6000) throw new Error(`closed after ${first.ms} ms, and ${second.ms} ms with a new token`);
}

/** The visitor's cookie is sent along by any page, whoever made it: by the origin it is known, and kept out. */
async function foreign(stage, edgehold) {
  const { browser, page } = await openPage(stage, edgehold.http('/index.html'));
  await page.evaluate((it) => { document.cookie = `session=${it}`; }, token(lasting(60)));
  const opened = await page.evaluate(([u]) => window.open1(u, []), [edgehold.ws('/echo')]);
  mustBe('a WebSocket of a foreign page with the cookie of its visitor', opened.opened, false);
  const url = edgehold.http('/private/index.html').replace(String(edgehold.port), String(edgehold.ports.friend));
  const read = await page.evaluate(([u]) => window.read(u, { credentials: 'include' }), [url]);
  mustBe('what a foreign page reads', read, 'TypeError');
  await browser.close();
}

async function channels(edgehold) {
  const asks = async (channel, claims) => {
    const headers = { Authorization: `Bearer ${token({ ...lasting(60), ...claims })}` };
    const response = await fetch(edgehold.http(`/feeds?channel=${channel}&transport=lines`), { headers });
    await response.body.cancel();
    return response.status;
  };
  const cases = [['news', {}, 200], ['user.ann', {}, 200], ['user.bob', {}, 403], ['user.*', {}, 403],
    ['t1.x', { tenant: 't1' }, 200], ['t2.x', { tenant: 't1' }, 403], ['t1.x', {}, 403]];
  for (const [channel, claims, status] of cases) mustBe(`channel ${channel} of ${claims.tenant}`, await asks(channel, claims), status);
}

export default async function gate(stage) {
  const edgehold = await serve(stage);
  byCurl(edgehold);
  await byPython(stage, edgehold);
  await channels(edgehold);
  await friendly(stage, edgehold);
  await foreign(stage, edgehold);
  const denied = await edgehold.metric('edgehold_auth_denied_total');
  const log = edgehold.process.log();
  if (/eyJ|open sesame|close sesame/.test(log)) throw new Error('the log tells a secret');
  stage.note(`${denied} denied, nothing of a token in the log`);
}
