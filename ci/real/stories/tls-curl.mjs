//! curl over https: both versions of TLS, HTTP/1.1 by ALPN, a connection that is kept and a session that is resumed, an event
//! stream; an authority that curl does not know; clear text at the port of TLS, and a listener that sends pages to https.

import { authority, shown } from '../lib/certificates.mjs';
import { curl } from '../lib/curl.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe, mustEqual } from '../lib/expect.mjs';
import { until } from '../lib/until.mjs';

/** A type that no page sends unasked: others are refused. */
const TEXT = { 'Content-Type': 'text/x-message' };

/** curl's exit codes: the certificate is not to be trusted, and the handshake has failed. */
const [UNTRUSTED, NO_HANDSHAKE] = [60, 35];
const VERSIONS = ['1.2', '1.3'];
const OPENING = [
  'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
];
/** More than many records. */
const LARGE = 1_000_000;

class Bench {
  constructor(stage, edgehold, { ca, others, body }) {
    Object.assign(this, { stage, edgehold, ca, others, body });
  }

  curl(path, ...args) {
    return curl(this.stage, '--cacert', this.ca, ...args, this.edgehold.https(path));
  }

  resumed() {
    return this.edgehold.metric('edgehold_tls_handshakes_total', { kind: 'resumed' });
  }

  failures(reason) {
    return this.edgehold.metric('edgehold_tls_handshake_failures_total', { reason });
  }
}

const only = (version) => [`--tlsv${version}`, '--tls-max', version];

/** How often these words stand in what curl has written, also of itself. */
const count = (answer, words) => answer.came().split(words).length - 1;

function mustTell(answer, words) {
  if (!count(answer, words)) throw new Error(`curl does not say ${words}: ${answer.came()}`);
}

/** What ALPN offers besides HTTP/1.1 is not taken. */
async function pages(bench) {
  for (const version of VERSIONS) {
    const answer = await bench.curl('/page.txt', ...only(version), '--http2', '-v').ends();
    mustBe(`pages by TLS ${version}`, count(answer, 'a page'), 1);
    mustTell(answer, `SSL connection using TLSv${version}`);
    mustTell(answer, 'ALPN: server accepted http/1.1');
  }
}

async function large(bench) {
  for (const version of VERSIONS) {
    const answer = await bench.curl('/large.txt', ...only(version)).ends();
    mustEqual(`a large body by TLS ${version}`, Buffer.from(answer.body()), bench.body);
  }
}

/** A connection is kept for three requests, of which the last asks for its end; the fourth resumes the session, for which
 * curl asks in TLS 1.3 only. */
async function again(bench) {
  const url = bench.edgehold.https('/page.txt');
  for (const [version, sessions] of [['1.2', 0], ['1.3', 1]]) {
    const before = await bench.resumed();
    const common = ['-v', '--cacert', bench.ca, ...only(version)];
    const answer = await curl(bench.stage, ...common, url, url, '--next', ...common, '-H', 'Connection: close', url,
      '--next', ...common, url).ends();
    mustBe(`pages by TLS ${version}`, count(answer, 'a page'), 4);
    mustBe(`connections by TLS ${version}`, count(answer, 'SSL connection using'), 2);
    await until(`sessions to be resumed by TLS ${version}`, async () => (await bench.resumed()) === before + sessions);
  }
}

async function events(bench) {
  const heard = bench.curl('/feed/a', '-H', 'Accept: text/event-stream');
  await until('curl to listen', async () => {
    const { channels } = await (await bench.edgehold.ask('/v1/channels/a')).json();
    return channels[0]?.subscribers === 1;
  });
  let expected = 'retry: 2000\n\n';
  for (let n = 0; n < 100; n += 1) {
    const response = await bench.edgehold.ask('/v1/publish/a', { method: 'POST', body: `${n}`, headers: TEXT });
    expected += `id: ${(await response.json()).id}\ndata: ${n}\n\n`;
  }
  await heard.hears(expected);
  await heard.stop();
}

async function strangers(bench) {
  const before = await bench.failures('refused_by_peer');
  await curl(bench.stage, '--cacert', bench.others, bench.edgehold.https('/page.txt')).ends(UNTRUSTED);
  await until('the alert of curl', async () => (await bench.failures('refused_by_peer')) === before + 1);
}

/** A version below `min_version`. */
async function versions(bench) {
  const before = await bench.failures('no_common_version');
  await curl(bench.stage, '--cacert', bench.ca, ...only('1.2'), bench.edgehold.https('/page.txt', 'new')).ends(NO_HANDSHAKE);
  await until('the version to be counted', async () => (await bench.failures('no_common_version')) === before + 1);
  await curl(bench.stage, '--cacert', bench.ca, bench.edgehold.https('/page.txt', 'new')).ends();
}

async function clearText(bench) {
  const before = await bench.failures('plain_http');
  const answer = await curl(bench.stage, `http://localhost:${bench.edgehold.ports.secure}/page.txt`).ends();
  mustBe('status of clear text at the port of TLS', answer.status(), 400);
  mustBe('its body', answer.body(), '400 this port speaks HTTPS; the request came without TLS\n');
  await until('clear text to be counted', async () => (await bench.failures('plain_http')) === before + 1);
}

/** A page is found by https, to which its first listener is known; a WebSocket would not be. */
async function redirects(bench) {
  const url = (query) => `http://localhost:${bench.edgehold.ports.sends}/page.txt${query}`;
  const answer = await curl(bench.stage, url('?a=b')).ends();
  mustBe('status of the redirect', answer.status(), 308);
  answer.mustSay({ Location: bench.edgehold.https('/page.txt?a=b') });
  const followed = await curl(bench.stage, '-L', '--cacert', bench.ca, url('')).ends();
  mustBe('pages behind the redirect', count(followed, 'a page'), 1);
  const opening = OPENING.flatMap((field) => ['-H', field]);
  mustBe('status for a WebSocket', (await curl(bench.stage, ...opening, url('')).ends()).status(), 403);
}

export default async function tlsCurl(stage) {
  const [ours, others] = [authority(stage, 'ours'), authority(stage, 'others')];
  const tls = shown(ours.issue('edge'));
  const body = Buffer.alloc(LARGE, 'large ');
  stage.dir('www');
  stage.file('www/page.txt', 'a page');
  stage.file('www/large.txt', body);
  const edgehold = await startEdgehold(stage, {
    listeners: { secure: { tls }, new: { tls: { ...tls, min_version: '1.3' } }, sends: { redirect_https: true } },
    feeds: [{ name: 'http', source: 'http' }],
    routes: [
      { path: '/feed/{channel}', service: 'broadcast', feeds: ['http'], retry: '2s' },
      { path: '/', service: 'files', root: `${stage.folder}/www` },
    ],
  });
  const bench = new Bench(stage, edgehold, { ca: ours.ca, others: others.ca, body });
  const cases = [pages, large, again, events, strangers, versions, clearText, redirects];
  for (const each of cases) await each(bench);
  stage.note(`${cases.length} groups of requests`);
}
