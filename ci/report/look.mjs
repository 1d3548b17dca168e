//! Looks at a report page as a reader does: on a desk and on a phone, in the light and in the dark.
//!
//! The page is opened by file://, and anything else that it asks for is a fault. What is drawn is measured in the browser:
//! plots must have lines or bars, and words that are within the drawing, apart from each other and readable.

import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { launch } from './chromium.mjs';
import { seen } from './seen.mjs';

const CACHE = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../.cache');

const READERS = [
  { name: 'report', width: 1280, height: 900, colorScheme: 'light' },
  { name: 'report-phone', width: 390, height: 844, colorScheme: 'light' },
  { name: 'report-dark', width: 1280, height: 900, colorScheme: 'dark' },
  { name: 'report-phone-dark', width: 390, height: 844, colorScheme: 'dark' },
];

/** Chromium fails above 16 384. */
const PICTURE_PX = 16_000;

/** Opens `url` and writes down every request but the page itself, and every complaint. */
async function open(browser, url, { width, height, colorScheme }) {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme });
  const faults = [];
  page.on('request', (request) => request.url() !== url && faults.push(`it asks for ${request.url().slice(0, 200)}`));
  page.on('pageerror', (error) => faults.push(`error: ${error.message}`));
  page.on('console', (message) => message.type() === 'error' && faults.push(`console: ${message.text()}`));
  await page.goto(url, { waitUntil: 'load' });
  return { page, faults };
}

/** What is wrong with the page for one reader, in lines; and how many plots there are. */
export async function inspect(browser, file, reader, titles = [], shots = undefined) {
  const url = pathToFileURL(path.resolve(file)).href;
  const { page, faults } = await open(browser, url, reader);
  try {
    const { plots, faults: visible } = await page.evaluate(seen);
    faults.push(...visible, ...missing(titles, plots));
    if (shots) await picture(page, reader, path.join(shots, `${reader.name}.png`));
    return { plots: plots.length, faults: faults.map((fault) => `${reader.width} px, ${reader.colorScheme}: ${fault}`) };
  } finally {
    await page.close();
  }
}

/** From the top to the end of the page, or as far as Chromium can make a picture of. */
async function picture(page, { width }, file) {
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  const clip = { x: 0, y: 0, width, height: Math.min(height, PICTURE_PX) };
  await page.screenshot({ path: file, fullPage: true, clip });
}

const missing = (titles, plots) => titles.filter((title) => !plots.includes(title)).map((title) => `no plot "${title}"`);

async function main([file, ...titles]) {
  if (!file || !existsSync(file)) {
    console.error(file ? `no page ${file}` : 'usage: ci/report/look PAGE.html [TITLE…]');
    return 2;
  }
  mkdirSync(CACHE, { recursive: true });
  const browser = await launch();
  try {
    const results = [];
    for (const reader of READERS) results.push(await inspect(browser, file, reader, titles, CACHE));
    const faults = results.flatMap((result) => result.faults);
    for (const fault of faults) console.error(`report: ${fault}`);
    console.log(`${results[0].plots} plots for ${READERS.length} readers, ${faults.length} faults`);
    return faults.length ? 1 : 0;
  } finally {
    await browser.close();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = await main(process.argv.slice(2));
}
