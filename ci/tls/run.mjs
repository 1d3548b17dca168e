//! testssl.sh looks at edgehold with a certificate of P-256 and with one of RSA, while conversations.py says what no client says.
//!
//! findings.json has what testssl.sh has found: the severity and the words of each finding, without those that differ from day to
//! day. A finding that is worse than there, or is not there at all and above INFO, fails the step, and so does one of there that is
//! not found any more: it was not looked for. testssl.sh asks nobody outside (it would be --phone-out).

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { authority, shown } from '../real/lib/certificates.mjs';
import { startEdgehold } from '../real/lib/edgehold.mjs';
import { mustBe } from '../real/lib/expect.mjs';
import { start } from '../real/lib/processes.mjs';
import { python } from '../real/lib/python.mjs';
import { Stage } from '../real/lib/stage.mjs';
import { until, within } from '../real/lib/until.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const EXPECTED = path.join(HERE, 'findings.json');
const KINDS = ['P-256', 'RSA'];
const PAGE = 'a page';
const [LOOK_MS, TALK_MS] = [600_000, 300_000];

/** Severities, from the best; WARN is of testssl.sh itself. */
const RANKS = ['OK', 'INFO', 'WARN', 'LOW', 'MEDIUM', 'HIGH', 'CRITICAL', 'FATAL'];
/** Of this machine, of this run, or said by other findings as well (cipherorder). */
const PASSING = /^(engine_problem|scanTime|cert|HTTP_clock_skew|cipher[-_](x|tls).*)$/;
/** Their words are of this run. */
const DATED = /^(cert_(serial|fingerprint|not|expiration|validity)|DROWN_hint)/;
/** Found by `--full` alone. */
const LONG = /^GREASE$/;

const rank = ([severity]) => RANKS.indexOf(severity);

/** Runs testssl.sh to its end; gives `[severity, finding]` by id. */
async function look(stage, kind, port, ca, long) {
  const file = path.join(stage.folder, `testssl-${kind}.json`);
  const options = ['--quiet', '--color', '0', '--warnings', 'off', '--nodns', 'none', '--add-ca', ca, '--jsonfile', file];
  const log = path.join(stage.folder, `testssl-${kind}.log`);
  const testssl = start('testssl', 'testssl', [...options, ...(long ? ['--full'] : []), `localhost:${port}`], { log, cwd: stage.folder });
  stage.defer(() => testssl.kill());
  await within(`testssl.sh, ${kind}`, testssl.exited, LOOK_MS);
  if (!existsSync(file)) throw new Error(`testssl.sh has found nothing:\n${testssl.log().slice(-2000)}`);
  const found = JSON.parse(readFileSync(file, 'utf8')).filter(({ id }) => !PASSING.test(id));
  return Object.fromEntries(found.map(({ id, severity, finding }) => [id, [severity, DATED.test(id) ? '' : finding.trim()]]));
}

/** What `found` of one kind has that is worse than expected, and what is only different. */
function compare(kind, found, expected, long) {
  const [worse, different] = [[], []];
  for (const [id, is] of Object.entries(found)) {
    const was = expected[id] ?? ['INFO', 'nothing'];
    const line = `${kind}, ${id}: ${is.join(', ')} instead of ${was.join(', ')}`;
    // It could not look, as on a machine that is very busy: it says so, and nothing of the server.
    if (is[0] === 'WARN') console.log(`skip: ${line}`);
    else if (rank(is) > rank(was)) worse.push(line);
    else if (expected[id] && `${is}` !== `${was}`) different.push(line);
  }
  // The short run does not look for all that is written.
  const absent = Object.keys(expected).filter((id) => !found[id] && (long || !LONG.test(id)));
  worse.push(...absent.map((id) => `${kind}, ${id}: was not looked for`));
  return { worse, different };
}

async function findings(stage, edgehold, ca, { long, update }) {
  const looks = KINDS.map((kind) => look(stage, kind, edgehold.ports[kind], ca, long || update));
  const found = Object.fromEntries((await Promise.all(looks)).map((each, i) => [KINDS[i], each]));
  if (update) write(found);
  const expected = JSON.parse(readFileSync(EXPECTED, 'utf8'));
  const results = KINDS.map((kind) => compare(kind, found[kind], expected[kind], long || update));
  for (const { worse, different } of results) {
    worse.forEach((line) => console.log(`FAILED worse: ${line}`));
    different.forEach((line) => console.log(`different: ${line}`));
  }
  const counts = KINDS.map((kind) => `${Object.keys(found[kind]).length} with ${kind}`).join(', ');
  console.log(`testssl.sh: findings ${counts}, ${results.flatMap(({ worse }) => worse).length} worse`);
  return results.every(({ worse }) => !worse.length);
}

function write(found) {
  const lines = (each) => Object.entries(each).map(([id, is]) => `    ${JSON.stringify(id)}: ${JSON.stringify(is)}`).join(',\n');
  writeFileSync(EXPECTED, `{\n${KINDS.map((kind) => `  ${JSON.stringify(kind)}: {\n${lines(found[kind])}\n  }`).join(',\n')}\n}\n`);
}

/** What is counted later than it is heard comes to `expected`. */
async function counts(edgehold, metric, expected) {
  const is = async () => (await edgehold.metric(metric)) === expected;
  await until(`${metric} to be ${expected}`, is).catch(async () => mustBe(metric, await edgehold.metric(metric), expected));
}

/** Each is answered as it should be, and counted; then everybody is gone and the next is served. */
async function conversations(stage, edgehold) {
  const port = edgehold.ports['P-256'];
  const { conversations: count, different, refused, faults } = await python(stage, 'tls/conversations.py', [`${port}`], TALK_MS);
  different.forEach((line) => console.log(`FAILED ${line}`));
  if (!different.length) {
    await counts(edgehold, 'edgehold_tls_handshake_failures_total', refused);
    await counts(edgehold, 'edgehold_tls_record_faults_total', faults);
  }
  console.log(`${count} conversations, ${different.length} not as they should be`);
  return !different.length;
}

/** A server of its own for each, with all listeners: what is counted is then one's own. */
async function serve(stage, ours) {
  const listeners = Object.fromEntries(KINDS.map((kind) => [kind, { tls: shown(ours.issue(kind, { key: kind })) }]));
  return startEdgehold(stage, { listeners, routes: [{ path: '/', service: 'files', root: stage.dir('www') }] });
}

async function main(options) {
  const stage = new Stage('tls');
  try {
    const ours = authority(stage, 'ours');
    for (const name of ['page.txt', 'index.html']) stage.file(path.join(path.basename(stage.dir('www')), name), PAGE);
    const [seen, spoken] = [await serve(stage, ours), await serve(stage, ours)];
    const good = await Promise.all([findings(stage, seen, ours.ca, options), conversations(stage, spoken)]);
    return good.every(Boolean);
  } catch (error) {
    stage.fail();
    throw error;
  } finally {
    await stage.end();
  }
}

main({ long: process.argv.includes('--long'), update: process.argv.includes('--update') }).then(
  (good) => process.exit(good ? 0 : 1),
  (error) => {
    console.error(`FAILED tls: ${error.message}`);
    process.exit(1);
  },
);
