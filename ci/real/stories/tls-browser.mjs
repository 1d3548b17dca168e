//! Headless Chromium, which is told of an authority as its user would: a page by https, messages by wss, events by https.
//! Without the authority the page is not shown.

import { execFileSync } from 'node:child_process';
import { cpSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { bodies } from '../lib/bodies.mjs';
import { authority, shown } from '../lib/certificates.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe } from '../lib/expect.mjs';
import { openPage } from '../lib/page.mjs';
import { until, within } from '../lib/until.mjs';

/** A type that no page sends unasked: others are refused. */
const TEXT = { 'Content-Type': 'text/x-message' };

const PAGE = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../page/secure.html');
const COUNT = 1000;
const EVENTS = 200;
const UNKNOWN = 'net::ERR_CERT_AUTHORITY_INVALID';

/** A home folder whose user believes these authorities. */
function home(stage, name, authorities) {
  const database = `sql:${stage.dir(`${name}/.pki/nssdb`)}`;
  const certutil = (...args) => execFileSync('certutil', ['-d', database, ...args], { stdio: 'pipe' });
  certutil('-N', '--empty-password');
  for (const { name: whose, ca } of authorities) certutil('-A', '-t', 'C,,', '-n', whose, '-i', ca);
  return { HOME: path.join(stage.folder, name) };
}

/** Text, long and short: what `send` takes from this side of the browser. */
const messages = () => bodies(20, 2 * COUNT).filter((_, i) => i % 2 === 0).map((body) => Buffer.from(body).toString());

async function echoes(page) {
  mustBe('echoes by wss', await within('the echoes', page.evaluate((all) => window.echo(all), messages()), 60_000), COUNT);
}

async function events(page, edgehold) {
  await page.evaluate(() => window.listen());
  await until('the page to listen', async () => {
    const { channels } = await (await edgehold.ask('/v1/channels/counted')).json();
    return channels[0]?.subscribers === 1;
  });
  const expected = Array.from({ length: EVENTS }, (_, n) => `event ${n}`);
  for (const body of expected) await edgehold.ask('/v1/publish/counted', { method: 'POST', body, headers: TEXT });
  await until('the events', async () => (await page.evaluate(() => window.heard.length)) >= EVENTS);
  mustBe('events by https', (await page.evaluate(() => window.heard)).join(), expected.join());
}

/** What Chromium says of the connection by which the page came. */
async function security(page, url) {
  const details = await (await page.goto(url)).securityDetails();
  mustBe('the issuer that Chromium names', details.issuer, 'ours');
  return details.protocol;
}

async function believes(stage, edgehold, env) {
  const url = edgehold.https('/secure.html');
  const { browser, page, complaints } = await openPage(stage, url, { env });
  await echoes(page);
  await events(page, edgehold);
  const protocol = await security(page, url);
  if (complaints.length) throw new Error(`the page complains: ${complaints.join('; ')}`);
  stage.note(`${COUNT} messages, ${EVENTS} events, ${protocol}, Chromium ${browser.version()}`);
  await browser.close();
}

async function doesNotBelieve(stage, edgehold, env) {
  const refused = await openPage(stage, edgehold.https('/secure.html'), { env }).then(() => 'the page', (error) => error.message);
  if (!refused.includes(UNKNOWN)) throw new Error(`without the authority: ${refused}`);
}

export default async function tlsBrowser(stage) {
  const ours = authority(stage, 'ours');
  cpSync(PAGE, path.join(stage.dir('www'), 'secure.html'));
  const edgehold = await startEdgehold(stage, {
    listeners: { secure: { tls: shown(ours.issue('edge')) } },
    feeds: [{ name: 'http', source: 'http' }],
    routes: [
      { path: '/echo', service: 'echo' },
      { path: '/feed/{channel}', service: 'broadcast', feeds: ['http'] },
      { path: '/', service: 'files', root: `${stage.folder}/www` },
    ],
  });
  await believes(stage, edgehold, home(stage, 'friend', [ours]));
  await doesNotBelieve(stage, edgehold, home(stage, 'stranger', []));
}
