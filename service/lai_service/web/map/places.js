// Places as GeoJSON: their outlines on the map, their bounds, and what the service answers of them.

import { COLOURS } from './chart.js';

export const NOTHING = { type: 'FeatureCollection', features: [] };
export const ONE_PLACE = '#1f3fbf'; // several have the colours of their curves

export function featuresOf(geometry) {
  if (!geometry) return [];
  if (geometry.type === 'FeatureCollection') return Array.isArray(geometry.features) ? geometry.features : [];
  return [geometry.type === 'Feature' ? geometry : { type: 'Feature', properties: {}, geometry }];
}

function positions(coordinates) {
  if (!Array.isArray(coordinates)) return [];
  return typeof coordinates[0] === 'number' ? [coordinates] : coordinates.flatMap(positions);
}

// Lines that jump from 180° to -180° run on beyond it: the map would draw the jump.
export const unroll = line => line.reduce((done, [x, y]) => (
  [...done, [x + 360 * Math.round(((done.at(-1)?.[0] ?? x) - x) / 360), y]]), []);

function unrolled(node) {
  if (Array.isArray(node)) return typeof node[0]?.[0] === 'number' ? unroll(node) : node.map(unrolled);
  if (node === null || typeof node !== 'object') return node;
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, unrolled(value)]));
}

function shapesOf(geometry) {
  return featuresOf(geometry).map(one => one?.geometry).filter(one => one?.coordinates).map(unrolled);
}

// Outlines of places, several in the colours of their curves, unless the years have those.
export function outlinesOf(geometry, overlaid) {
  const shapes = shapesOf(geometry);
  const colour = number => (shapes.length > 1 && !overlaid ? COLOURS[number % COLOURS.length] : ONE_PLACE);
  const features = shapes.map((shape, number) => ({ type: 'Feature', properties: { colour: colour(number) }, geometry: shape }));
  return { type: 'FeatureCollection', features };
}

// West, south, east, north of places, or null: the service reports what is not in degrees.
export function boundsOf(geometry) {
  const all = shapesOf(geometry).flatMap(shape => positions(shape.coordinates));
  const [xs, ys] = [all.map(one => one[0]), all.map(one => one[1])];
  if (!all.length || !ys.every(y => Math.abs(y) <= 90)) return null;
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

// The answer holds one place, or a list of several, with their ids.
export function seriesOf(answer) {
  return (answer.series ?? [answer]).map(({ place = '', observations, smoothed = [] }) => (
    { name: String(place), observations, smoothed }));
}

export function summaryOf(lines) {
  const all = lines.flatMap(line => line.observations);
  const [left, rejected] = [all.filter(one => one.lai === null), all.filter(one => one.rejected)];
  const empty = lines.filter(line => !line.observations.length).map(line => line.name);
  const what = lines.length > 1 ? `${lines.length} places, ${all.length} means` : `${all.length} ${all.length === 1 ? 'date' : 'dates'}`;
  return `${what}; ${left.length} left out (too few usable pixels), ${rejected.length} rejected (cloud, haze or shadow suspected)${
    empty.length ? `; no data: ${empty.join(', ')}` : ''}`;
}

