// The map page: a mosaic of a day or month, and the curve of what is clicked, drawn or uploaded.
// Everything that is chosen stands in the address (#…), so that it can be shared.

import * as maplibregl from './vendor/maplibre-gl.mjs';
import { drawChart, toCsv, toPng } from './chart.js';
import { NOTHING, ONE_PLACE, boundsOf, featuresOf, outlinesOf, seriesOf, summaryOf, unroll } from './places.js';

const BASE = new URL('../', window.location.href).href;
const HALF_CLICK_DEG = 0.0009; // a click stands for a square of about 200 m
const SMOOTH_DAYS = 5; // of the curve through clouds and gaps
const byId = id => document.getElementById(id);
const HINT = 'Click a field, draw one, or upload GeoJSON.';
const MAX_CHART_PX = 1100;
const state = { collection: null, unit: 'day', date: null, geometry: null, overlay: false, clicked: false, dates: [], level: null };
let series = [];
let drawnWidth;
let map;

async function ask(path, options) {
  const answer = await fetch(new URL(path, BASE), options).catch(() => { throw new Error('the service does not answer'); });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.description ?? `the service answered ${answer.status}`);
  return body;
}

function report(text, isFault = false) {
  byId('message').textContent = text;
  byId('message').classList.toggle('fault', isFault);
}

function readAddress() {
  const given = new URLSearchParams(window.location.hash.slice(1));
  for (const key of ['collection', 'unit', 'date']) if (given.get(key)) state[key] = given.get(key);
  state.overlay = given.get('overlay') === '1';
  try {
    state.geometry = given.get('geometry') ? JSON.parse(given.get('geometry')) : null;
  } catch {
    report('the geometry of the address cannot be read', true);
  }
}

function writeAddress() {
  const kept = new URLSearchParams({ collection: state.collection ?? '', unit: state.unit, date: state.date ?? '' });
  if (state.overlay) kept.set('overlay', '1');
  const text = state.geometry && JSON.stringify(state.geometry);
  if (text && text.length < 4000) kept.set('geometry', text);
  window.history.replaceState(null, '', `#${kept}`);
}

// Dates as the slider offers them: days, or the months that hold them.
function offered() {
  if (state.unit === 'day') return state.dates.map(one => one.date);
  return [...new Set(state.dates.map(one => one.date.slice(0, 7)))];
}

function showDate() {
  const slider = byId('slider');
  const known = offered();
  let at = known.indexOf(state.date);
  if (at < 0) at = known.findLastIndex(date => date <= (state.date ?? '9')) ;
  if (at < 0) at = known.length - 1;
  slider.max = Math.max(known.length - 1, 0);
  slider.value = at;
  state.date = known[at] ?? null;
  byId('date').textContent = state.date ?? 'no data';
  showMosaic();
  writeAddress();
}

function showMosaic() {
  if (!map.isStyleLoaded() && !map.getSource('outlines')) return;
  if (map.getLayer('mosaic')) map.removeLayer('mosaic');
  if (map.getSource('mosaic')) map.removeSource('mosaic');
  if (!state.date) return;
  const query = new URLSearchParams({ collection: state.collection, date: state.date });
  map.addSource('mosaic', {
    type: 'raster', tileSize: 256, minzoom: state.minZoom, maxzoom: 15,
    tiles: [`${BASE}mosaic/tiles/{z}/{x}/{y}.png?${query}`],
  });
  map.addLayer({ id: 'mosaic', type: 'raster', source: 'mosaic' }, 'place-edge');
}

async function chooseCollection(id, keepView) {
  state.collection = id;
  const found = await ask(`map/dates?${new URLSearchParams({ collection: id })}`);
  [state.dates, state.bbox] = [found.dates, found.bbox];
  if (found.unit === 'month') state.unit = 'month';
  byId('unit').value = state.unit;
  byId('unit').disabled = found.unit === 'month';
  showDate();
  if (!keepView) fitDate();
}

// Show where the chosen date has data, else the whole collection.
function fitDate() {
  const boxes = state.dates.filter(one => one.date.startsWith(state.date ?? '') && one.bbox).map(one => one.bbox);
  if (boxes.length === 1) return fit(boxes[0]);
  if (!boxes.length || boxes.some(([west, , east]) => west > east)) return fit(state.bbox);
  fit([0, 1, 2, 3].map(edge => Math[edge < 2 ? 'min' : 'max'](...boxes.map(box => box[edge]))));
}

// Outline the places; fit the view to them if asked to.
function showPlaces(isFitted) {
  map.getSource('place')?.setData(outlinesOf(state.geometry, state.overlay));
  const bounds = isFitted && boundsOf(state.geometry);
  if (bounds) fit(bounds);
}

function fit([west, south, east, north]) {
  map.fitBounds([[west, south], [west > east ? east + 360 : east, north]], { padding: 30, animate: false, maxZoom: 15 });
}

async function showCurve(geometry, { clicked = false, isFitted = false } = {}) {
  state.geometry = geometry;
  state.clicked = clicked;
  showPlaces(isFitted);
  byId('clear').disabled = false;
  writeAddress();
  report('reading …');
  try {
    const body = JSON.stringify({ geometry, collections: [state.collection], format: 'json', smooth: SMOOTH_DAYS });
    const answer = await ask('timeseries', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
    series = seriesOf(answer);
    state.level = answer.settings?.level;
    report(summaryOf(series));
  } catch (error) {
    series = [];
    report(error.message, true);
  }
  showChart();
}

function clearPlaces() {
  setDrawing(false);
  [state.geometry, series] = [null, []];
  showPlaces();
  showChart();
  byId('clear').disabled = true;
  writeAddress();
  report(HINT);
}

function showChart() {
  const filled = series.some(line => line.observations.length);
  byId('csv').disabled = byId('png').disabled = !filled;
  byId('chart').replaceChildren();
  drawnWidth = byId('chart').clientWidth;
  if (!filled) return;
  const width = Math.min(MAX_CHART_PX, drawnWidth);
  const title = byId('collection').selectedOptions[0]?.textContent;
  byId('chart').append(drawChart(series, { overlaid: state.overlay, title, level: state.level, width }));
}

function save(blob, name) {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(blob), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

// Drawing: a click adds a corner, a double click or Enter closes, Escape gives up.
const drawing = { corners: [], active: false };

function setDrawing(active) {
  drawing.active = active;
  drawing.corners = [];
  map.getSource('drawn')?.setData(NOTHING);
  byId('draw').setAttribute('aria-pressed', active);
  map.getCanvas().style.cursor = active ? 'crosshair' : '';
  active ? map.doubleClickZoom.disable() : map.doubleClickZoom.enable();
  if (active) report('click the corners; double click or Enter closes the parcel, Escape gives up');
}

function closeDrawing() {
  const corners = drawing.corners.filter((one, i, all) => !i || String(one) !== String(all[i - 1]));
  setDrawing(false);
  if (corners.length < 3) return report('a parcel needs three corners', true);
  const geometry = { type: 'Polygon', coordinates: [[...corners, corners[0]]] };
  const before = state.clicked ? [] : featuresOf(state.geometry);
  if (!before.length) return showCurve(geometry);
  const features = [...before, { type: 'Feature', properties: {}, geometry }]
    .map((one, number) => ({ ...one, id: one.id ?? `parcel ${number + 1}` }));
  return showCurve({ type: 'FeatureCollection', features });
}

function onClick(event) {
  const { lng, lat } = event.lngLat.wrap();
  if (drawing.active) {
    drawing.corners = unroll([...drawing.corners, [lng, lat]]);
    const line = drawing.corners.length > 1 ? drawing.corners : [...drawing.corners, ...drawing.corners];
    map.getSource('drawn').setData({ type: 'LineString', coordinates: line });
    return;
  }
  const width = HALF_CLICK_DEG / Math.cos(lat * Math.PI / 180);
  const [w, e, s, n] = [lng - width, lng + width, lat - HALF_CLICK_DEG, lat + HALF_CLICK_DEG];
  showCurve({ type: 'Polygon', coordinates: [[[w, s], [e, s], [e, n], [w, n], [w, s]]] }, { clicked: true });
}

async function onUpload(event) {
  const [file] = event.target.files;
  event.target.value = '';
  if (!file) return;
  try {
    const geometry = JSON.parse(await file.text());
    if (!geometry?.type) throw new Error('an object with a type is expected');
    await showCurve(geometry, { isFitted: true });
  } catch (error) {
    report(`${file.name} is no GeoJSON (${error.message})`, true);
  }
}

function addControls() {
  byId('collection').addEventListener('change', event => chooseCollection(event.target.value).then(() => state.geometry && showCurve(state.geometry)));
  byId('unit').addEventListener('change', event => { state.unit = event.target.value; showDate(); });
  byId('slider').addEventListener('input', event => { state.date = offered()[event.target.value]; showDate(); });
  byId('overlay').addEventListener('change', event => { state.overlay = event.target.checked; showPlaces(); showChart(); writeAddress(); });
  byId('fit').addEventListener('click', fitDate);
  byId('clear').addEventListener('click', clearPlaces);
  new ResizeObserver(() => { if (byId('chart').clientWidth !== drawnWidth) showChart(); }).observe(byId('chart'));
  byId('draw').addEventListener('click', () => setDrawing(!drawing.active));
  byId('upload').addEventListener('change', onUpload);
  byId('csv').addEventListener('click', () => save(new Blob([toCsv(series)], { type: 'text/csv' }), 'lai.csv'));
  byId('png').addEventListener('click', async () => save(await toPng(byId('chart').firstChild), 'lai.png'));
  document.addEventListener('keydown', event => {
    if (!drawing.active) return;
    if (event.key === 'Enter') closeDrawing();
    if (event.key === 'Escape') setDrawing(false);
  });
  map.on('click', onClick);
  map.on('dblclick', event => { if (drawing.active) { event.preventDefault(); closeDrawing(); } });
}

function showLegend({ range, unit, colours }) {
  const bar = Object.assign(document.createElement('span'), { className: 'bar' });
  bar.style.background = `linear-gradient(90deg, ${colours.join(',')})`;
  byId('legend').append(`LAI ${range[0]}`, bar, `${range[1]} ${unit} and more; no colour: no data`);
}

async function start() {
  readAddress();
  byId('overlay').checked = state.overlay;
  map = new maplibregl.Map({
    container: 'map', center: [8, 30], zoom: 1.5, attributionControl: { compact: true },
    style: {
      version: 8,
      sources: {
        outlines: { type: 'geojson', data: new URL('vendor/countries.json', import.meta.url).href, attribution: 'Natural Earth' },
        place: { type: 'geojson', data: NOTHING },
        drawn: { type: 'geojson', data: NOTHING },
      },
      layers: [
        { id: 'background', type: 'background', paint: { 'background-color': '#eef2f4' } },
        { id: 'outlines', type: 'line', source: 'outlines', paint: { 'line-color': '#7c8f88', 'line-width': 0.8 } },
        { id: 'place-fill', type: 'fill', source: 'place', paint: { 'fill-color': ['get', 'colour'], 'fill-opacity': 0.08 } },
        { id: 'place-edge', type: 'line', source: 'place', paint: { 'line-color': '#fff', 'line-width': 4 } },
        { id: 'place-line', type: 'line', source: 'place', paint: { 'line-color': ['get', 'colour'], 'line-width': 2 } },
        { id: 'drawn-line', type: 'line', source: 'drawn', paint: { 'line-color': ONE_PLACE, 'line-width': 2 } },
      ],
    },
  });
  map.addControl(new maplibregl.NavigationControl({ showCompass: false }));
  map.addControl(new maplibregl.ScaleControl());
  window.laiMap = map;
  const [colours, listed] = await Promise.all([ask('map/colours'), ask('collections'), new Promise(done => map.once('load', done))]);
  state.minZoom = colours.min_zoom;
  showLegend(colours);
  addControls();
  const known = listed.collections;
  byId('collection').append(...known.map(one => new Option(one.title ?? one.id, one.id)));
  if (!known.length) return report('this service holds no collection yet', true);
  const id = known.some(one => one.id === state.collection) ? state.collection : known[0].id;
  byId('collection').value = id;
  await chooseCollection(id);
  if (state.geometry) await showCurve(state.geometry, { isFitted: true });
  document.body.dataset.ready = 'yes';
}

start().catch(error => report(error.message, true));
