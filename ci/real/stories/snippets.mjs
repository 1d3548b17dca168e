//! The browser JavaScript of docs/broadcast.md, as it stands there, in headless Chromium, with the configuration that
//! stands there: each example hears the counted feed, loses its connection, and goes on without a number missing or
//! doubled.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ADMIN, PORT, startDemo } from '../lib/demo.mjs';
import { mustBe } from '../lib/expect.mjs';
import { openPage } from '../lib/page.mjs';
import { startRelay } from '../lib/relay.mjs';
import { until } from '../lib/until.mjs';

const PAGE = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../../docs/broadcast.md');
const EXAMPLES = 4;

/** Numbers that an example hears before its connection is cut, and behind that. */
const SOME = 10;

/** The blocks of a language, each with the heading above it. */
function blocks(text, language) {
  const found = [];
  let [heading, block] = ['', null];
  for (const line of text.split('\n')) {
    if (block === null && line.startsWith('#')) heading = line.replace(/^#+ /, '');
    else if (line === `\`\`\`${language}`) block = [];
    else if (line === '```' && block !== null) {
      found.push({ heading, text: block.join('\n') });
      block = null;
    } else block?.push(line);
  }
  return found;
}

function mustCount(heading, numbers) {
  numbers.forEach((number, i) => mustBe(`a number of "${heading}"`, number, numbers[0] + i));
}

/** Runs an example on a page of its own: cut once, and whole all the same. */
async function run(browser, relay, { heading, text }) {
  const page = await browser.newPage();
  const [numbers, others] = [[], []];
  page.on('console', (message) => {
    if (message.type() !== 'log') return;
    const said = /^\{"n":(\d+),/.exec(message.text());
    if (said) numbers.push(Number(said[1]));
    else others.push(message.text());
  });
  await page.goto(`http://127.0.0.1:${PORT}/empty`);
  await page.addScriptTag({ content: text });
  await until(`"${heading}" to hear ${SOME}`, () => numbers.length >= SOME);
  relay.down();
  const before = numbers.length;
  await until('the feed to go on', async () => (await last()) > numbers.at(-1) + SOME);
  relay.up();
  await until(`"${heading}" to come back`, () => numbers.length >= before + 3 * SOME, 20_000);
  mustCount(heading, numbers);
  mustBe(`what else "${heading}" says`, others.join(), '');
  await page.close();
  return numbers.length;
}

/** The number that the feed has come to. */
async function last() {
  const response = await fetch(`http://127.0.0.1:${PORT}/feed/ticker?after=`);
  return JSON.parse((await response.json()).messages.at(-1).data).n;
}

export default async function snippets(stage) {
  const text = readFileSync(PAGE, 'utf8');
  const [{ text: config }] = blocks(text, 'toml');
  await startDemo(stage, `${config}\n[server]\nadmin = "127.0.0.1:${ADMIN}"\n`);
  const relay = await startRelay(stage);
  const examples = blocks(text, 'js');
  mustBe('examples', examples.length, EXAMPLES);
  const { browser } = await openPage(stage, `http://127.0.0.1:${PORT}/`, { proxy: `socks5://127.0.0.1:${relay.port}` });
  for (const example of examples) {
    stage.note(`${example.heading}: ${await run(browser, relay, example)}`);
  }
}
