//! What is on a report page, measured inside the browser.
//!
//! The function is sent to the page as it stands, so that all it uses is within it.

/** The titles of all plots, and what is wrong, in lines. */
export function seen() {
  const faults = [];
  // Neighbours may touch: half a pixel is rounding.
  const SLACK = 0.5;
  const words = (element) => element?.textContent.trim() ?? '';
  const has = (box) => box.width > 0 && box.height > 0;

  const inside = (inner, outer) => inner.left >= outer.left - SLACK && inner.right <= outer.right + SLACK
    && inner.top >= outer.top - SLACK && inner.bottom <= outer.bottom + SLACK;
  const meet = (a, b) => a.left + SLACK < b.right && b.left + SLACK < a.right
    && a.top + SLACK < b.bottom && b.top + SLACK < a.bottom;

  // ---- colours: relative luminance and contrast as WCAG 2 defines them ----
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const contrast = (a, b) => {
    const [low, high] = [luminance(channels(a)), luminance(channels(b))].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    if (!/^rgba\(.*, 0\)$/.test(colour)) return colour;
    return element.parentElement ? ground(element.parentElement) : 'rgb(255, 255, 255)';
  };

  function texts(title, svg, box) {
    const all = [...svg.querySelectorAll('text')].filter((text) => words(text));
    if (!all.length) faults.push(`${title}: no words in the drawing`);
    const boxes = all.map((text) => text.getBoundingClientRect());
    all.forEach((text, i) => {
      if (!inside(boxes[i], box)) faults.push(`${title}: "${words(text)}" is cut off`);
      const over = boxes.findIndex((other, j) => j > i && meet(boxes[i], other));
      if (over > i) faults.push(`${title}: "${words(text)}" and "${words(all[over])}" overlap`);
      const ratio = contrast(getComputedStyle(text).fill, ground(svg));
      if (ratio < 4.5) faults.push(`${title}: "${words(text)}" has a contrast of ${ratio.toFixed(1)}`);
    });
  }

  // Lines of the grid and of the axes are no data: they have the colours of the page.
  function data(title, svg, box) {
    const shapes = [...svg.querySelectorAll('polyline, polygon, rect, path, circle')];
    const page = ['#E3E7EB', '#5B6570', '#24292F'];
    const drawn = shapes.filter((shape) => ![shape.getAttribute('stroke'), shape.getAttribute('fill')]
      .some((colour) => page.includes(colour)));
    const boxes = drawn.map((shape) => shape.getBoundingClientRect());
    if (!boxes.some((shape) => shape.width + shape.height > 0)) faults.push(`${title}: no line and no bar`);
    if (!boxes.every((shape) => inside(shape, box))) faults.push(`${title}: something is drawn outside`);
  }

  function plot(figure, number) {
    const title = words(figure.querySelector('h3'));
    if (!title) faults.push(`plot ${number + 1} has no title`);
    if (!words(figure.querySelector('figcaption'))) faults.push(`${title}: no summary in words`);
    const svg = figure.querySelector('svg');
    const box = svg?.getBoundingClientRect();
    if (!box || !has(box)) {
      faults.push(`${title}: nothing is drawn`);
      return title;
    }
    for (const name of ['aria-labelledby', 'aria-describedby']) {
      const ids = (svg.getAttribute(name) ?? '').split(' ');
      if (!ids.every((id) => words(document.getElementById(id)))) faults.push(`${title}: ${name} leads nowhere`);
    }
    texts(title, svg, box);
    data(title, svg, box);
    return title;
  }

  function width() {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth > clientWidth) faults.push(`the page is ${scrollWidth} px wide, and the window ${clientWidth}`);
    // Tables may be wider: they scroll in their own box.
    const wide = [...document.body.querySelectorAll('*')].filter((element) => !element.closest('table, svg')
      && element.getBoundingClientRect().right > clientWidth + SLACK);
    for (const element of wide.slice(0, 3)) faults.push(`<${element.localName} class="${element.className}"> is too wide`);
  }

  const plots = [...document.querySelectorAll('figure.plot')].map(plot);
  if (!plots.length) faults.push('no plots');
  const strays = document.querySelectorAll('svg').length - document.querySelectorAll('figure.plot > svg').length;
  if (strays) faults.push(`${strays} drawings outside a plot`);
  width();
  return { plots, faults };
}
