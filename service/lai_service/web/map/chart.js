// The curve of a place as SVG: mean LAI with its interval, gaps as gaps, years on the axis; dashed,
// the series through clouds and gaps. Dates that it rejects are drawn hollow, and so, on the axis,
// are those without a mean (too few usable pixels).

const SIZE = { height: 220, left: 48, right: 14, bottom: 34 }; // px; the lines above come on top of the height
const LINE = 16;
const LETTER = 6.3; // width of a letter, rather more than less, px
const MAX_NAME = 28;
const GAP_DAYS = 45;
const DAY_MS = 86400000;
export const COLOURS = ['#006837', '#1f78b4', '#e6842a', '#6a3d9a', '#b15928', '#e31a1c'];

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

function ticks(first, last, overlaid, width) {
  const month = width / (last - first) * 30.4;
  const step = [1, 3, 6].find(months => months * month >= 45) ?? 12;
  const found = [];
  const start = new Date(first * DAY_MS);
  for (let month = start.getUTCMonth(), year = start.getUTCFullYear(); ; month += 1) {
    const day = Date.UTC(year, month, 1) / DAY_MS;
    if (day > last) break;
    const date = new Date(day * DAY_MS);
    if (day >= first && date.getUTCMonth() % step === 0) {
      const name = date.toLocaleString('en', { month: 'short', timeZone: 'UTC' });
      const own = date.getUTCFullYear();
      const label = overlaid ? name : date.getUTCMonth() === 0 ? String(own) : found.length ? name : `${name} ${own}`;
      found.push([day, label]);
    }
  }
  if (found.length) return found;
  const middle = (first + last) / 2; // no month begins here: name a day
  return [[middle, new Date(middle * DAY_MS).toISOString().slice(0, 10)]];
}

// Lay names out in rows that fit the width: [{text, x, row}].
function layNames(lines, width) {
  let [x, row] = [SIZE.left, 0];
  return lines.filter(line => line.name).map(({ name }) => {
    const text = name.length > MAX_NAME ? `${name.slice(0, MAX_NAME - 1)}…` : name;
    const needed = LETTER * text.length + 16;
    if (x > SIZE.left && x + needed > width - SIZE.right) [x, row] = [SIZE.left, row + 1];
    const at = { text, name, x, row };
    x += needed;
    return at;
  });
}

// Draw series [{name, observations, smoothed}] and return the SVG. Its data attributes give the scales:
// day = x0 + (x - left) / (right - left) * (x1 - x0), LAI = (bottom - y) / (bottom - top) * top LAI.
export function drawChart(series, { overlaid = false, title = '', level, width = 1000 } = {}) {
  const lines = overlaid ? byYear(series) : series;
  const all = lines.flatMap(line => line.observations);
  const place = overlaid ? day => day - yearStart(yearOf(day)) : day => day;
  const days = all.map(one => place(dayOf(one)));
  let [first, last] = overlaid ? [0, 366] : [Math.min(...days) - 5, Math.max(...days) + 5];
  const highest = Math.max(1, ...all.map(one => one.upper ?? one.lai ?? 0));
  const top = Math.ceil(highest);
  const shaded = level ? `${Math.round(100 * level)} % interval` : 'interval';
  const marks = lines.some(line => line.smoothed?.length) ? '● date, ○ rejected or left out, - - through clouds and gaps' : '';
  const notes = [title, `LAI, m² m⁻²; shaded: ${shaded}`, marks].filter(Boolean);
  const oneLine = notes.join(' · ').length * LETTER < width;
  const heads = oneLine ? [notes.join(' · ')] : notes;
  const names = layNames(lines, width);
  const above = LINE * (heads.length + (names.at(-1)?.row ?? -1) + 1) + 10;
  const height = above + SIZE.height;
  const inner = { x0: SIZE.left, x1: width - SIZE.right, y0: height - SIZE.bottom, y1: above };
  const x = day => inner.x0 + (place(day) - first) / (last - first) * (inner.x1 - inner.x0);
  const y = lai => inner.y0 - lai / top * (inner.y0 - inner.y1);
  const svg = node('svg', {
    'font-family': 'system-ui, sans-serif', 'font-size': 12, // in the PNG there is no style sheet
    viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': title,
    'data-first-day': first, 'data-last-day': last, 'data-top-lai': top,
    'data-left': inner.x0, 'data-right': inner.x1, 'data-bottom': inner.y0, 'data-top': inner.y1,
  });
  svg.append(node('rect', { width, height, fill: '#fff' }));
  heads.forEach((text, row) => svg.append(node('text', { x: oneLine ? inner.x0 : 8, y: LINE * (row + 1) }, text)));
  names.forEach(({ text, name, x: at, row }, number) => {
    const label = node('text', { x: at, y: LINE * (heads.length + row + 1), class: 'name', style: `fill:${COLOURS[number % COLOURS.length]}` }, text);
    if (text !== name) label.append(node('title', {}, name));
    svg.append(label);
  });
  for (let lai = 0; lai <= top; lai += top > 6 ? 2 : 1) {
    svg.append(node('line', { x1: inner.x0, x2: inner.x1, y1: y(lai), y2: y(lai), stroke: '#dde4e1' }));
    svg.append(node('text', { x: inner.x0 - 8, y: y(lai) + 4, 'text-anchor': 'end' }, lai));
  }
  const origin = overlaid ? yearStart(2024) : 0;
  for (const [day, label] of ticks(first + origin, last + origin, overlaid, inner.x1 - inner.x0)) {
    const at = inner.x0 + (day - origin - first) / (last - first) * (inner.x1 - inner.x0);
    svg.append(node('line', { x1: at, x2: at, y1: inner.y0, y2: inner.y0 + 5, stroke: '#1c2b25' }));
    svg.append(node('text', { x: at, y: inner.y0 + 19, 'text-anchor': 'middle' }, label));
  }
  lines.forEach((line, number) => drawLine(svg, line, COLOURS[number % COLOURS.length], x, y));
  return svg;
}

function drawLine(svg, line, colour, x, y) {
  for (const piece of splitAtGaps(line.observations)) {
    const banded = piece.filter(one => one.lower !== null && one.upper !== null);
    if (banded.length > 1) {
      const up = banded.map(one => `${x(dayOf(one))},${y(one.upper)}`);
      const down = banded.map(one => `${x(dayOf(one))},${y(one.lower)}`).reverse();
      svg.append(node('polygon', { points: [...up, ...down].join(' '), fill: colour, opacity: 0.15 }));
    } else if (banded.length) { // a date by itself has no band, but a bar
      const [one] = banded;
      const at = x(dayOf(one));
      svg.append(node('line', { x1: at, x2: at, y1: y(one.lower), y2: y(one.upper), stroke: colour, 'stroke-width': 4, opacity: 0.3 }));
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
  const { width, height } = svg.viewBox.baseVal;
  const canvas = Object.assign(document.createElement('canvas'), { width: 2 * width, height: 2 * height });
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise(resolve => canvas.toBlob(resolve, 'image/png'));
}
