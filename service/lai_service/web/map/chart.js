// The curve of a place as SVG: mean LAI with its interval, gaps as gaps, years on the axis; dashed,
// the series through clouds and gaps. Dates that it rejects are drawn hollow, and so, on the axis,
// are those without a mean (too few usable pixels).

const SIZE = { width: 1000, height: 280, left: 48, right: 12, top: 26, bottom: 34 };
const GAP_DAYS = 45;
const DAY_MS = 86400000;
const COLOURS = ['#006837', '#1f78b4', '#e6842a', '#6a3d9a', '#b15928', '#e31a1c'];

const node = (name, attributes = {}, text) => {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
};

const dayOf = one => Date.parse(one.datetime ?? one.date) / DAY_MS;
const yearStart = year => Date.UTC(year, 0, 1) / DAY_MS;
const yearOf = day => new Date(day * DAY_MS).getUTCFullYear();

// Split observations with a mean where the time between two of them is longer than GAP_DAYS.
export function splitAtGaps(observations) {
  const pieces = [];
  let last = -Infinity;
  for (const observation of observations.filter(one => one.lai !== null && !one.rejected)) {
    const day = dayOf(observation);
    if (day - last > GAP_DAYS || !pieces.length) pieces.push([]);
    pieces.at(-1).push(observation);
    last = day;
  }
  return pieces;
}

function ticks(first, last, overlaid) {
  const step = overlaid || last - first < 500 ? 1 : last - first < 1200 ? 3 : 12;
  const found = [];
  const start = new Date(first * DAY_MS);
  for (let month = start.getUTCMonth(), year = start.getUTCFullYear(); ; month += 1) {
    const day = Date.UTC(year, month, 1) / DAY_MS;
    if (day > last) return found;
    const date = new Date(day * DAY_MS);
    if (day >= first && date.getUTCMonth() % step === 0) {
      const name = date.toLocaleString('en', { month: 'short', timeZone: 'UTC' });
      const own = date.getUTCFullYear();
      const label = overlaid ? name : date.getUTCMonth() === 0 ? String(own) : found.length ? name : `${name} ${own}`;
      found.push([day, label]);
    }
  }
}

// Draw series [{name, observations, smoothed}] and return the SVG. Its data attributes give the scales:
// day = x0 + (x - left) / (right - left) * (x1 - x0), LAI = (bottom - y) / (bottom - top) * top LAI.
export function drawChart(series, { overlaid = false, title = '' } = {}) {
  const lines = overlaid ? byYear(series) : series;
  const all = lines.flatMap(line => line.observations);
  const place = overlaid ? day => day - yearStart(yearOf(day)) : day => day;
  const days = all.map(one => place(dayOf(one)));
  let [first, last] = overlaid ? [0, 366] : [Math.min(...days) - 5, Math.max(...days) + 5];
  const highest = Math.max(1, ...all.map(one => one.upper ?? one.lai ?? 0));
  const top = Math.ceil(highest);
  const inner = { x0: SIZE.left, x1: SIZE.width - SIZE.right, y0: SIZE.height - SIZE.bottom, y1: SIZE.top };
  const x = day => inner.x0 + (place(day) - first) / (last - first) * (inner.x1 - inner.x0);
  const y = lai => inner.y0 - lai / top * (inner.y0 - inner.y1);
  const svg = node('svg', {
    viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: 'img', 'aria-label': title,
    'data-first-day': first, 'data-last-day': last, 'data-top-lai': top,
    'data-left': inner.x0, 'data-right': inner.x1, 'data-bottom': inner.y0, 'data-top': inner.y1,
  });
  svg.append(node('rect', { width: SIZE.width, height: SIZE.height, fill: '#fff' }));
  svg.append(node('text', { x: inner.x0, y: 16 }, title));
  const marks = lines.some(line => line.smoothed?.length) ? ' · ● dates, ○ rejected or left out, - - through clouds and gaps' : '';
  svg.append(node('text', { x: inner.x1, y: 16, 'text-anchor': 'end' }, `LAI, m² m⁻²${marks}`));
  for (let lai = 0; lai <= top; lai += top > 6 ? 2 : 1) {
    svg.append(node('line', { x1: inner.x0, x2: inner.x1, y1: y(lai), y2: y(lai), stroke: '#dde4e1' }));
    svg.append(node('text', { x: inner.x0 - 8, y: y(lai) + 4, 'text-anchor': 'end' }, lai));
  }
  const origin = overlaid ? yearStart(2024) : 0;
  for (const [day, label] of ticks(first + origin, last + origin, overlaid)) {
    const at = inner.x0 + (day - origin - first) / (last - first) * (inner.x1 - inner.x0);
    svg.append(node('line', { x1: at, x2: at, y1: inner.y0, y2: inner.y0 + 5, stroke: '#1c2b25' }));
    svg.append(node('text', { x: at, y: inner.y0 + 19, 'text-anchor': 'middle' }, label));
  }
  lines.forEach((line, number) => drawLine(svg, line, COLOURS[number % COLOURS.length], x, y, number));
  return svg;
}

function drawLine(svg, line, colour, x, y, number) {
  for (const piece of splitAtGaps(line.observations)) {
    const banded = piece.filter(one => one.lower !== null && one.upper !== null);
    if (banded.length > 1) {
      const up = banded.map(one => `${x(dayOf(one))},${y(one.upper)}`);
      const down = banded.map(one => `${x(dayOf(one))},${y(one.lower)}`).reverse();
      svg.append(node('polygon', { points: [...up, ...down].join(' '), fill: colour, opacity: 0.15 }));
    }
    const path = piece.map((one, i) => `${i ? 'L' : 'M'}${x(dayOf(one))} ${y(one.lai)}`).join('');
    svg.append(node('path', { d: path, class: 'mean', fill: 'none', stroke: colour, 'stroke-width': 1.6 }));
  }
  const path = (line.smoothed ?? []).reduce(({ text, pen }, one) => (one.lai === null ? { text, pen: 'M' }
    : { text: `${text}${pen}${x(dayOf(one))} ${y(one.lai)}`, pen: 'L' }), { text: '', pen: 'M' }).text;
  if (path) svg.append(node('path', { d: path, class: 'smoothed', fill: 'none', stroke: colour, 'stroke-dasharray': '4 3' }));
  for (const one of line.observations) {
    const seen = one.lai !== null;
    const kept = seen && !one.rejected;
    const dot = node('circle', {
      cx: x(dayOf(one)), cy: y(seen ? one.lai : 0), r: seen ? 3 + !kept : 2.5,
      fill: kept ? colour : '#fff', stroke: seen ? colour : '#8a9691', opacity: kept ? 0.35 + 0.65 * one.valid_fraction : 1,
    });
    const share = `${Math.round(100 * one.valid_fraction)} % usable`;
    const rejected = one.rejected ? ', rejected: cloud, haze or shadow suspected' : '';
    const text = seen ? `LAI ${one.lai.toFixed(2)}, ${share}${rejected}` : `left out: ${share}`;
    dot.append(node('title', {}, `${one.datetime.slice(0, 10)}: ${text}`));
    svg.append(dot);
  }
  if (line.name) {
    svg.append(node('text', { x: SIZE.left + 8 + 120 * number, y: SIZE.top + 14, style: `fill:${colour}` }, line.name));
  }
}

function byYear(series) {
  return series.flatMap(line => {
    const years = [...new Set(line.observations.map(one => yearOf(dayOf(one))))];
    const within = (all, year) => (all ?? []).filter(one => yearOf(dayOf(one)) === year);
    return years.map(year => ({
      name: series.length > 1 ? `${line.name} ${year}` : String(year),
      observations: within(line.observations, year), smoothed: within(line.smoothed, year),
    }));
  });
}

export function toCsv(series) {
  const columns = ['datetime', 'lai', 'lower', 'upper', 'sd', 'valid_fraction', 'pixels', 'rejected', 'item'];
  const rows = series.flatMap(line =>
    line.observations.map(one => [line.name, ...columns.map(key => one[key] ?? '')].join(',')));
  return [['place', ...columns].join(','), ...rows].join('\n') + '\n';
}

export async function toPng(svg) {
  const text = new XMLSerializer().serializeToString(svg);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = Object.assign(document.createElement('canvas'), { width: 2 * SIZE.width, height: 2 * SIZE.height });
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise(resolve => canvas.toBlob(resolve, 'image/png'));
}
